// The labeler's page: opens photos, knows what is chosen, and lends its hands to tools and keys.

import { api } from "/static/api.js";
import { Assist } from "/static/assist.js";
import { maskPainter, palette } from "/static/classes.js";
import { ask, say, whileRetrying } from "/static/dialogs.js";
import { Journal } from "/static/journal.js";
import { bindKeys } from "/static/keys.js";
import { Panel } from "/static/panel.js";
import { bindPointer } from "/static/pointer.js";
import { Past } from "/static/past.js";
import { MOST_PIXELS } from "/static/region.js";
import { holdSession, sendOrphans, session, why } from "/static/saver.js";
import { Sheet } from "/static/sheet.js";
import { Statuses } from "/static/statuses.js";
import { TOOLS } from "/static/tools.js";
import { View } from "/static/view.js";

const POLL_MS = 4000, KEPT_SHEETS = 3;
const byId = (id) => document.getElementById(id);

export class App {
  constructor(project, keepers) {
    this.project = project;
    this.keepers = keepers;
    this.photos = project.photos;
    this.classes = project.classes;
    this.table = palette(this.classes);
    this.current = (this.classes.find((c) => c.role === "target") ?? this.classes[0]).id;
    this.size = 3;
    this.tolerance = 12;
    this.sheets = new Map();
    this.sheet = null;
    this.index = -1;
    this.serial = 0;
    this.grey = null;
    this.say = say;
    this.view = new View(byId("stage"), { photo: byId("photo-canvas"), mask: byId("mask-canvas"), top: byId("top-canvas") });
    this.maskLayer = this.view.layer((...args) => this.sheet && maskPainter(this.sheet.raster, this.table)(...args));
    this.assist = new Assist(this);
    this.statuses = new Statuses(project.id, () => this.panel.photos());
    this.view.unreadable = (...found) => this.unreadable(...found);
    this.tool = TOOLS[0];
    this.panel = new Panel(this);
    this.view.drawTop = (context) => this.tool.draw?.(context, this, this.pointer);
    bindPointer(this);
    bindKeys(this);
    setInterval(() => this.poll(), POLL_MS);
    // The computer woke up or the network is back: no need to wait for the next try.
    for (const event of ["online", "focus", "pageshow"]) window.addEventListener(event, () => this.sendWaiting());
  }

  async open(index) {
    const photo = this.photos[index], serial = ++this.serial;
    if (!photo || index === this.index) return;
    if (this.sheet?.drawing) this.sheet.commit();
    this.leaveTool();
    if (photo.problem) return say(photo.problem);
    this.panel.opening(photo);
    const sheet = await whileRetrying(() => this.sheetOf(photo), () => serial === this.serial);
    if (serial !== this.serial) return;
    if (!sheet) return this.sheet && this.panel.opened(); // refused: stay where we are
    this.index = index;
    this.show(sheet);
    history.replaceState(null, "", `#${photo.id}`);
    if (this.tool.name === "threshold") this.assist.start(this.assist.source === "proposal" ? "local" : undefined);
  }

  show(sheet) {
    this.sheet = sheet;
    this.grey = null;
    sheet.raster.changed = (...place) => this.painted(...place);
    this.view.open(sheet.photo);
    this.panel.opened();
    this.panel.saving(sheet.saver);
    if (sheet.locked) say(`${sheet.locked} Painting is off, so that the file stays as it is.`, 12000);
  }

  /** Nothing is painted on what cannot be seen: a photo that only its pixels show to be damaged. */
  unreadable(photo, why) {
    if (photo.problem) return;
    photo.problem = why;
    if (this.sheet?.photo === photo) this.sheet.locked = why;
    this.panel.photos();
    this.panel.options();
    say(why, 12000);
  }

  /** The sheet of a photo: the one that is still open if nobody changed the mask since. */
  async sheetOf(photo) {
    const held = this.sheets.get(photo.id);
    if (held && (held.saver.waiting || (await api.version(photo.id)).version === held.saver.version)) return held;
    const sheet = await Sheet.open(photo, this.keepers, {
      report: (saver) => this.reported(saver),
      conflict: (saver) => this.conflict(photo, saver),
    });
    this.sheets.set(photo.id, sheet);
    for (const [id, old] of this.sheets) {
      if (this.sheets.size <= KEPT_SHEETS) break;
      if (old !== sheet && old !== this.sheet && !old.saver.waiting) this.sheets.delete(id);
    }
    return sheet;
  }

  reported(saver) {
    if (saver.status) this.statuses.learned(saver.photo, saver.status);
    this.panel.saving(this.sheet?.saver ?? saver);
  }

  sendWaiting() {
    for (const sheet of this.sheets.values()) sheet.saver.send();
    this.statuses.send();
  }

  get unsaved() {
    return [...this.sheets.values()].reduce((sum, sheet) => sum + sheet.saver.waiting, 0);
  }

  get safe() {
    return [...this.sheets.values()].every((sheet) => sheet.saver.safe);
  }

  // Painting ---------------------------------------------------------------------------------

  mayPaint() {
    return Boolean(this.sheet && !this.sheet.locked && !this.panel.isOpening);
  }

  begin() {
    if (!this.mayPaint()) return false;
    this.sheet.raster.begin();
    return true;
  }

  /** The mask's pixels from (x0, y0) to (x1, y1) have changed: show it. */
  painted(x0, y0, x1, y1) {
    this.maskLayer.spoil(x0, y0, x1, y1);
    this.view.redraw();
  }

  commit() {
    this.sheet.commit();
    this.panel.history();
  }

  fillRuns(shape) {
    if (!this.begin()) return;
    const { raster } = this.sheet, place = [Infinity, Infinity, -1, -1];
    shape((y, x0, x1) => {
      raster.setRun(y, x0, x1, this.current);
      [place[0], place[1]] = [Math.min(place[0], x0), Math.min(place[1], y)];
      [place[2], place[3]] = [Math.max(place[2], x1), Math.max(place[3], y + 1)];
    }, raster);
    this.painted(...place);
    this.commit();
  }

  /** Mark flat runs [y, x0, x1, ...]; gives the number of pixels. */
  fillFlat(runs) {
    let count = 0;
    this.fillRuns((emit) => {
      for (let i = 0; i < runs.length; i += 3) {
        emit(runs[i], runs[i + 1], runs[i + 2]);
        count += runs[i + 2] - runs[i + 1];
      }
    });
    return count;
  }

  undo() {
    if (this.sheet && !this.sheet.undo()) say("Nothing to undo.");
    else this.tool.undone?.(this);
    this.panel.history();
  }

  redo() {
    if (this.sheet && !this.sheet.redo()) say("Nothing to redo.");
    this.panel.history();
  }

  // What thresholds and the wand look at ------------------------------------------------------

  /** All of the photo, or, if that is too much at once, what is in sight of it. */
  workBox(most = MOST_PIXELS) {
    const { width, height } = this.sheet.photo;
    if (width * height <= most) return { x: 0, y: 0, width, height };
    const seen = this.view.visible();
    if (seen.width * seen.height <= most) return seen;
    throw Object.assign(new Error("This photo is too large to look at as a whole: zoom in first."), { status: 400 });
  }

  /** The brightness of what is worked on: {photo, box, grey}; null if another photo was opened meanwhile. */
  async greyHere() {
    const { photo } = this.sheet, box = this.workBox();
    const same = this.grey && ["x", "y", "width", "height"].every((side) => this.grey.box[side] === box[side]);
    if (!same) this.grey = { photo, box, grey: await api.grey(photo, box) };
    return this.grey.photo === this.sheet.photo ? this.grey : null;
  }

  /** As greyHere; null, and a message, if it cannot be had. */
  async greyAround() {
    try {
      return await this.greyHere();
    } catch (error) {
      say(error.status ? error.message : "The labeler is not answering.");
      return null;
    }
  }

  // Choices ----------------------------------------------------------------------------------

  className(id) {
    return id === 0 ? "unlabelled" : (this.classes.find((c) => c.id === id)?.name ?? `class ${id}`);
  }

  choose(id) {
    this.current = id;
    this.panel.chosen();
  }

  leaveTool() {
    this.tool.cancel?.();
    this.assist.drop();
  }

  setTool(name) {
    const tool = TOOLS.find((one) => one.name === name);
    if (tool !== this.tool) {
      this.leaveTool();
      this.tool = tool;
    }
    this.panel.toolChanged();
    this.view.redraw();
  }

  openThreshold(source) {
    this.setTool("threshold");
    this.assist.start(source);
  }

  async propose() {
    const standing = await api.proposals().catch(() => ({}));
    this.panel.assisting(standing);
    if (!standing.ready) return say(standing.text ?? "The labeler is not answering.", 6000);
    this.openThreshold("proposal");
  }

  async labelNext() {
    const standing = await api.proposals().catch(() => ({}));
    this.panel.assisting(standing);
    const index = this.photos.findIndex((photo) => photo.id === standing.next);
    if (index < 0) return say(standing.text ?? "Every photo is labelled.", 6000);
    say(`Finicky learns most from ${this.photos[index].key}.`);
    await this.open(index);
  }

  refreshOptions() {
    this.panel.options();
  }

  // Photos -----------------------------------------------------------------------------------

  step(by) {
    let index = this.index + by;
    while (this.photos[index]?.problem) index += by;
    if (this.photos[index]) this.open(index);
    else say(by > 0 ? "This is the last photo." : "This is the first photo.");
  }

  nextToDo() {
    const order = [...this.photos.keys()].map((i) => (this.index + 1 + i) % this.photos.length);
    const open = order.find((i) => !this.photos[i].problem && !["done", "skipped"].includes(this.statuses.of(this.photos[i])));
    if (open === undefined) say("All photos are done. Well done.", 6000);
    else this.open(open);
  }

  async finishPhoto(status) {
    if (!this.sheet) return;
    if (this.assist.candidates) this.assist.drop();
    await this.statuses.set(this.sheet.photo, { status });
    this.nextToDo();
    setTimeout(() => this.panel.refreshAssist(), 500);
  }

  // Others -----------------------------------------------------------------------------------

  /** Look whether another tab or program has changed the mask. */
  async poll() {
    const { sheet } = this;
    if (!sheet || document.hidden || sheet.drawing || sheet.saver.waiting || sheet.saver.stuck || sheet.locked) return;
    try {
      const { version, session: author } = await api.version(sheet.photo.id);
      if (sheet.saver.problem) (sheet.saver.problem = ""), this.panel.saving(sheet.saver);
      const quiet = () => sheet === this.sheet && !sheet.drawing && !sheet.saver.waiting && !sheet.saver.sending;
      if (version === sheet.saver.version || author === session || !quiet()) return;
      const stored = await api.mask(sheet.photo.id);
      if (!quiet()) return;
      await sheet.takeStored(stored);
      this.assist.drop();
      say("This photo was changed in another window; you see the newer version.", 6000);
    } catch (error) {
      if (error.status === 422) return;
      sheet.saver.problem = why(error);
      this.panel.saving(sheet.saver);
    }
  }

  /** Both sides of a conflict are kept as files before anybody is asked anything. */
  async conflict(photo, saver) {
    const sheet = this.sheets.get(photo.id);
    await whileRetrying(async () => {
      const mine = sheet.raster.whole(), { kept } = await api.conflict(photo.id, mine, session, true);
      const stored = await api.mask(photo.id);
      const choice = await ask(
        "This photo was changed elsewhere while you worked on it",
        `Another window or person saved ${photo.key} (revision ${stored.revision}). Your version is kept as ${kept}; nothing is lost. How do you want to go on?`,
        [["merge", "Put my strokes on top"], ["theirs", "Take the other version"], ["mine", "Take my version"]],
      );
      if (choice === "mine") await api.conflict(photo.id, stored.patch, session, true);
      const strokes = sheet.strokesWaiting();
      await sheet.takeStored(stored);
      if (choice === "merge") sheet.add(strokes);
      if (choice === "mine") sheet.become(mine);
    });
    this.panel.saving(saver);
    this.panel.history();
  }
}

async function start() {
  await holdSession();
  const project = await whileRetrying(() => api.project());
  const journal = await Journal.open(project.id), past = await Past.open(project.id);
  const orphans = await whileRetrying(() => sendOrphans(journal, past));
  const app = new App(project, { journal, past });
  await app.open(firstOf(project.photos));
  if (orphans.sent) say(`${orphans.sent} strokes that the server had not seen were kept here and are saved now.`, 8000);
  for (const lost of orphans.conflicts) await offerOrphan(app, lost);
  if (!journal.available) say("This browser keeps no data, so unsaved strokes live in this tab only: leave it open.", 10000);
  window.addEventListener("beforeunload", (event) => app.unsaved && event.preventDefault());
  window.labeler = app; // for the browser's console, and for tests
  document.body.dataset.ready = "1";
}

/** The photo to begin with: the one in the address, else one to do, else one that can be read. */
function firstOf(photos) {
  const readable = [...photos.keys()].filter((index) => !photos[index].problem);
  const wanted = readable.find((index) => `#${photos[index].id}` === location.hash);
  return wanted ?? readable.find((index) => !["done", "skipped"].includes(photos[index].status)) ?? readable[0] ?? 0;
}

async function offerOrphan(app, { photo, patch, kept }) {
  const index = app.photos.findIndex((one) => one.id === photo);
  const choice = await ask(
    "Strokes from an earlier session",
    `Strokes on ${app.photos[index]?.key ?? "a photo"} did not reach the server before, and the photo has changed since. They are kept as ${kept}.`,
    [["add", "Put them on top"], ["leave", "Leave them out"]],
  );
  if (choice !== "add" || index < 0) return;
  await app.open(index);
  app.sheet.add(patch);
}

start();
