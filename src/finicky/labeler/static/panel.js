// Everything around the photo: classes, options, the list of photos, and what is saved.

import { api } from "/static/api.js";
import { swatch } from "/static/classes.js";
import { element } from "/static/dialogs.js";
import { showHelp } from "/static/keys.js";
import { optionsOf } from "/static/options.js";
import { TOOLS } from "/static/tools.js";

const MARKS = { done: "✓ done", skipped: "skipped", in_progress: "started", todo: "" };
const byId = (id) => document.getElementById(id);

/** What tells photos apart where there is little room: their folders are in the tooltip. */
const fileName = ({ key }) => key.slice(key.lastIndexOf("/") + 1);

export class Panel {
  constructor(app) {
    this.app = app;
    this.isOpening = false;
    this.makeTools();
    this.makeClasses();
    this.makeFilm();
    this.bind();
    this.toolChanged();
    this.chosen();
    this.photos();
    this.refreshAssist();
  }

  makeTools() {
    for (const tool of TOOLS) {
      const button = byId("tools").appendChild(element("button"));
      const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      icon.setAttribute("viewBox", "0 0 24 24");
      icon.appendChild(document.createElementNS(icon.namespaceURI, "path")).setAttribute("d", tool.icon);
      const name = element("span", `${tool.label} `);
      name.append(element("kbd", tool.key));
      button.append(icon, name);
      button.dataset.tool = tool.name;
      button.title = `${tool.label} (${tool.key})`;
      button.onclick = () => (tool.name === "threshold" ? this.app.openThreshold(this.app.assist.source === "proposal" ? "local" : undefined) : this.app.setTool(tool.name));
    }
  }

  makeClasses() {
    const entries = [...this.app.classes, { id: 0, name: "unlabelled", color: "#5b6672", key: "0" }];
    entries.forEach((entry, order) => {
      const button = byId("classes").appendChild(element("button"));
      const canvas = button.appendChild(document.createElement("canvas"));
      swatch(canvas, entry, order);
      button.append(element("span", entry.name, "name"), element("kbd", entry.key));
      button.dataset.id = entry.id;
      button.setAttribute("role", "radio");
      button.title = entry.id === 0 ? "Erase: nothing is said about these pixels (0)" : `${entry.name} (${entry.key})`;
      button.onclick = () => {
        if (this.app.assist.sorting) this.app.assist.answer(entry.id || null);
        else this.app.choose(entry.id);
      };
    });
  }

  makeFilm() {
    this.app.photos.forEach((photo, index) => {
      const button = byId("film").appendChild(element("button"));
      if (!photo.problem) {
        const image = button.appendChild(document.createElement("img"));
        image.loading = "lazy";
        image.alt = "";
        image.src = `/api/photos/${photo.id}/thumbnail`;
      }
      button.append(element("span", "", "state"), element("span", fileName(photo), "label"));
      button.title = photo.problem || photo.key;
      button.setAttribute("role", "option");
      button.onclick = () => this.app.open(index);
    });
  }

  bind() {
    const { app } = this;
    const clicks = {
      previous: () => app.step(-1), next: () => app.step(1), undo: () => app.undo(), redo: () => app.redo(),
      "help-button": showHelp, propose: () => app.propose(), suggest: () => app.labelNext(),
      done: () => app.finishPhoto("done"), skip: () => app.finishPhoto("skipped"),
    };
    for (const [id, action] of Object.entries(clicks)) byId(id).onclick = action;
    const views = { "zoom-in": () => app.view.zoom(1.4), "zoom-out": () => app.view.zoom(1 / 1.4), fit: () => app.view.fit(), actual: () => app.view.zoom(1 / (app.view.scale * app.view.ratio)) };
    for (const button of document.querySelectorAll("[data-command]")) button.onclick = views[button.dataset.command];
    for (const id of ["opacity", "brightness", "contrast"]) byId(id).oninput = () => this.applyView();
    byId("note").onchange = () => app.sheet && app.statuses.set(app.sheet.photo, { note: byId("note").value });
    // A slider or button that was used must not swallow the next key.
    document.addEventListener("pointerup", (event) => event.target.closest("aside button, aside input[type=range], header button, #tools button, #film button") && byId("stage").focus({ preventScroll: true }));
    this.applyView();
  }

  applyView() {
    byId("mask-canvas").style.opacity = byId("opacity").value / 100;
    byId("photo-canvas").style.filter = `brightness(${byId("brightness").value}%) contrast(${byId("contrast").value}%)`;
  }

  setOpacity(by) {
    byId("opacity").value = Number(byId("opacity").value) + by;
    this.applyView();
  }

  hideMask(hidden) {
    byId("mask-canvas").style.visibility = hidden ? "hidden" : "";
  }

  setSize(size, direction = 0) {
    const rounded = Math.round(size);
    const next = rounded === this.app.size ? rounded + direction : rounded;
    this.app.size = Math.max(1, Math.min(400, next));
    this.options();
    this.app.view.redraw();
  }

  setTolerance(value) {
    this.app.tolerance = Math.max(0, Math.min(128, Math.round(value)));
    this.options();
    TOOLS.find((tool) => tool.name === "wand").again(this.app);
  }

  toolChanged() {
    for (const button of byId("tools").children) button.setAttribute("aria-pressed", button.dataset.tool === this.app.tool.name);
    this.options();
    this.cursor();
  }

  cursor() {
    const { app } = this;
    byId("stage").style.cursor = app.spaceDown || app.tool.pans ? "grab" : app.tool.sized ? "none" : "crosshair";
  }

  options() {
    byId("hint").textContent = this.app.sheet?.locked ? `This photo${this.app.sheet.photo.problem ? "" : "'s mask"} cannot be read; painting is off.` : (this.app.tool.hint?.(this.app) ?? "");
    optionsOf(this.app, byId("tool-options"));
  }

  chosen() {
    for (const button of byId("classes").children) button.setAttribute("aria-checked", Number(button.dataset.id) === this.app.current);
    this.options();
  }

  history() {
    byId("undo").disabled = !this.app.sheet?.history.length;
    byId("redo").disabled = !this.app.sheet?.undone.length;
  }

  name(photo, facts) {
    byId("photo-name").textContent = fileName(photo);
    byId("photo-name").title = photo.key;
    byId("photo-facts").textContent = facts;
  }

  opening(photo) {
    this.isOpening = true;
    this.name(photo, "opening…");
  }

  opened() {
    const { app } = this, { photo } = app.sheet;
    this.isOpening = false;
    this.name(photo, `${app.index + 1} of ${app.photos.length} · ${photo.width} × ${photo.height} px`);
    byId("note").value = app.statuses.noteOf(photo);
    [...byId("film").children].forEach((button, index) => button.setAttribute("aria-selected", index === app.index));
    byId("film").children[app.index].scrollIntoView({ block: "nearest", inline: "center" });
    this.history();
    this.options();
    this.photos();
  }

  /** Status of every photo, and how many are finished. */
  photos() {
    const { photos, statuses } = this.app;
    let finished = 0, all = 0;
    photos.forEach((photo, index) => {
      const button = byId("film").children[index], status = statuses.of(photo);
      button.dataset.status = photo.problem ? "skipped" : status;
      button.querySelector(".state").textContent = photo.problem ? "unreadable" : MARKS[status];
      if (photo.problem) return;
      all++;
      if (["done", "skipped"].includes(status)) finished++;
    });
    byId("bar").style.width = `${(100 * finished) / Math.max(1, all)}%`;
    byId("progress-text").textContent = `${finished} of ${all} finished`;
  }

  saving(saver) {
    const pill = byId("save"), waiting = this.app.unsaved;
    const strokes = waiting === 1 ? "1 stroke" : `${waiting} strokes`;
    if (saver.problem) {
      pill.dataset.state = "offline";
      const kept = this.app.safe ? "kept in this browser" : "in this tab only, leave it open";
      pill.textContent = waiting ? `Not saved: ${strokes} ${kept}` : "The labeler is away";
      pill.title = saver.problem;
      this.app.say(`${saver.problem[0].toUpperCase()}${saver.problem.slice(1)}`, 3000);
    } else if (waiting) {
      pill.dataset.state = "saving";
      pill.textContent = `Saving ${strokes}…`;
    } else {
      pill.dataset.state = "saved";
      const at = saver.savedAt?.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
      pill.textContent = saver.revision ? `Saved${at ? ` ${at}` : ""}, revision ${saver.revision}` : "Nothing marked yet";
      pill.title = "";
    }
    pill.dataset.revision = saver.revision;
    this.history();
  }

  pointed([x, y]) {
    const { raster, photo } = this.app.sheet;
    const inside = x >= 0 && y >= 0 && x < photo.width && y < photo.height;
    const px = Math.floor(x), py = Math.floor(y);
    byId("readout").textContent = inside ? `${this.app.className(raster.at(px, py))} · x ${px}, y ${py} · ${Math.round(this.app.view.scale * 100)} %` : "";
  }

  assisting(standing) {
    byId("assist-text").textContent = standing.text ?? "";
    if (standing.training) setTimeout(() => this.refreshAssist(), 1500);
  }

  async refreshAssist() {
    this.assisting(await api.proposals().catch(() => ({})));
  }
}
