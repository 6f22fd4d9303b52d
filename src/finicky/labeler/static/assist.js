// Threshold and proposals: from candidates to marked pixels, all at once or region by region.

import { api } from "/static/api.js";
import { rgb } from "/static/classes.js";
import { capsule, rectangle } from "/static/geometry.js";
import { MOST_PROPOSED, Candidates, globalScore, localScore } from "/static/region.js";

// ABGR. Candidates are magenta, which no class is; the region in question is bright yellow.
const MAGENTA = 0xf0ff2fe0, YELLOW = 0xff33ffff;
// A first threshold marks this share of a photo: a little more than most cracks cover.
const FIRST_SHARE = 0.02;
const FIRST_LEAST = 40; // grey levels below the surroundings that a first threshold always marks
// What the local threshold reaches from: 0 marks what is so many grey levels darker than its
// surroundings, which spares the shadows of coarse asphalt; the most marks what is 40 brighter.
const STRICTEST = 100;
const MOST = { global: 255, local: 140, proposal: 255 };
const CLICK = 6; // CSS px beside a region within which a click still means it
const EDGE = 3; // px around a region that is taken away
const LOOSE = 6; // px to either side that a loose stroke reaches

function abgr(color) {
  const [r, g, b] = rgb(color);
  return ((0xff << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

export class Assist {
  constructor(app) {
    this.app = app;
    this.source = "local"; // global | local | proposal
    this.cuts = { global: 80, local: 84, proposal: 156 };
    this.guessed = ""; // photo and source for which a first cut was guessed
    this.side = 51;
    this.bright = false;
    this.smallest = 20;
    this.drag = "cover"; // or "keep", or "add" or "redraw" (of a proposal)
    this.candidates = null;
    this.sorting = null;
    this.layer = app.view.layer((...args) => this.candidates?.painter([0, MAGENTA, YELLOW], this.otherColors)(...args));
    this.doubt = app.view.layer((...args) => this.paintDoubt(...args));
    this.doubt.shown = false;
    this.serial = 0;
    this.trouble = ""; // why there is nothing to be seen
    // What is looked for is magenta; the other classes that Finicky proposes have their colours.
    const others = app.classes.filter((entry) => entry.role !== "target");
    this.otherColors = new Map(others.map(({ id, color }) => [id, abgr(color)]));
  }

  hint() {
    if (!this.candidates) return this.trouble ? `${this.trouble} Then press ${this.source === "proposal" ? "P" : "T"} again.` : "Looking at the photo…";
    if (this.sorting) {
      const { regions, index } = this.sorting, { value } = regions[index];
      const guess = value ? ` looks like ${this.app.className(value)};` : "";
      return `Region ${index + 1} of ${regions.length}:${guess} press its class number · other key: skip · Backspace: back · Enter: all the rest · Esc: leave`;
    }
    const noise = { cover: "drag: cover noise, click: a region", keep: "drag: look only there", add: "drag along a crack: add it · Alt+drag: redraw it · Shift+drag: cover, Shift+click: a region", redraw: "drag: draw over what is proposed · Shift+drag: cover" }[this.drag];
    const next = this.source === "proposal" ? "Enter: accept · S: region by region" : "Enter: region by region · Shift+Enter: mark all";
    return `− = and [ ]: less or more · ${noise} · ${next} · Esc: drop`;
  }

  /** Show candidates of the chosen source, for the whole photo or, if it is huge, what is in sight. */
  async start(source = this.source) {
    const { app } = this, serial = ++this.serial, { sheet } = app;
    this.source = source;
    this.trouble = "";
    this.drop();
    if (source === "proposal") this.drag = "add";
    else if (["add", "redraw"].includes(this.drag)) this.drag = "cover";
    app.refreshOptions();
    if (!sheet || sheet.locked) return;
    try {
      const area = source === "proposal" ? await this.proposed() : await app.greyHere();
      if (!area || serial !== this.serial || sheet !== app.sheet) return;
      this.area = area;
      const score = this.score();
      this.guess(score, `${sheet.photo.id}/${source}`);
      this.candidates = new Candidates(area.box, score, this.cut(), area.classes);
      this.setSmallest(this.smallest);
    } catch (error) {
      if (serial !== this.serial) return;
      this.trouble = error.status ? error.message : "The labeler is not answering.";
      app.say(this.trouble);
    }
    app.refreshOptions();
  }

  /** Once a photo: a first threshold that fits its contrast. */
  guess(score, what) {
    if (this.source === "proposal" || this.guessed === what) return;
    this.guessed = what;
    const counts = new Uint32Array(256);
    for (const value of score) counts[value]++;
    let cut = 255;
    for (let sum = counts[255]; cut > 1 && sum + counts[cut - 1] < FIRST_SHARE * score.length;) sum += counts[--cut];
    this.cuts[this.source] = this.source === "global" ? 255 - cut : Math.max(STRICTEST - FIRST_LEAST, Math.min(MOST.local, 128 + STRICTEST - cut));
  }

  async proposed() {
    const box = this.app.workBox(MOST_PROPOSED);
    this.app.say("Finicky is looking at this photo…");
    const found = await api.proposal(this.app.sheet.photo.id, box);
    this.app.say("");
    this.app.panel.refreshAssist();
    return { box, ...found };
  }

  score() {
    const { grey, box, score } = this.area;
    if (this.source === "proposal") return score;
    return this.source === "global" ? globalScore(grey, this.bright) : localScore(grey, box, this.side, this.bright);
  }

  /** The least score of a candidate. More of the number that is shown always marks more. */
  cut() {
    const value = this.cuts[this.source];
    if (this.source === "global") return 255 - value;
    return this.source === "local" ? 128 + STRICTEST - value : 256 - value;
  }

  get most() {
    return MOST[this.source];
  }

  nudge(by) {
    if (this.sorting) return;
    this.cuts[this.source] = Math.max(0, Math.min(this.most, this.cuts[this.source] + by));
    this.candidates?.update(undefined, this.cut());
    this.changed();
  }

  /** Another way to score (window, dark or bright). */
  rescore() {
    this.candidates?.update(this.score(), this.cut());
    this.changed();
  }

  setSmallest(size) {
    this.smallest = size;
    if (!this.candidates) return;
    this.candidates.smallest = size;
    this.candidates.update();
    this.changed();
  }

  /** A loose stroke along a crack that was missed: what is half believed there is a candidate. */
  addAlong(from, to) {
    const { candidates, app } = this, { raster } = app.sheet;
    if (!candidates || this.sorting) return;
    capsule(...from, ...to, LOOSE, raster.width, raster.height, (y, x0, x1) => candidates.cover(y, x0, x1, 2));
  }

  /** Draw over a proposal: what it says near the stroke goes, the stroke itself is a candidate. */
  redrawAlong(trail) {
    const { candidates, app } = this, { raster } = app.sheet;
    if (!candidates || this.sorting) return;
    for (const [radius, value] of [[LOOSE + app.size / 2, 1], [app.size / 2, 3]]) {
      trail.forEach((to, i) => capsule(...trail[Math.max(0, i - 1)], ...to, radius, raster.width, raster.height, (y, x0, x1) => candidates.cover(y, x0, x1, value, app.current)));
    }
  }

  dragged() {
    this.candidates?.update();
    this.changed();
  }

  cover(start, end) {
    const { candidates, app } = this, { raster } = app.sheet;
    if (!candidates || this.sorting) return;
    const runs = [];
    rectangle(...start, ...end, raster.width, raster.height, (y, x0, x1) => runs.push([y, x0, x1]));
    if (this.drag === "keep") candidates.keepOnly(runs);
    else for (const [y, x0, x1] of runs) candidates.cover(y, x0, x1, 1);
    candidates.update();
    this.changed();
  }

  /** Take the region at a point away, and what little of it a bolder cut would add. */
  coverRegion([px, py]) {
    const { candidates, app } = this;
    if (!candidates || this.sorting) return;
    const { box } = candidates, slack = Math.ceil(CLICK / app.view.scale);
    const regions = candidates.find(), at = [px - box.x, py - box.y];
    const distances = regions.map((region) => candidates.distance(region, ...at));
    const nearest = distances.indexOf(Math.min(...distances));
    if (nearest < 0 || distances[nearest] > slack) return app.say("There is no region here: drag to cover an area.");
    candidates.each(regions[nearest], (y, x0, x1) => {
      for (let row = y - EDGE; row <= y + EDGE; row++) candidates.cover(row + box.y, x0 - EDGE + box.x, x1 + EDGE + box.x, 1);
    });
    this.dragged();
  }

  changed() {
    this.layer.clear();
    this.app.view.redraw();
    this.app.refreshOptions();
  }

  drop() {
    const had = this.candidates !== null;
    this.candidates = null;
    this.sorting = null;
    this.layer.clear();
    this.doubt.clear();
    this.app.view.redraw();
    return had;
  }

  /** Mark every candidate at once. */
  acceptAll(value) {
    const { candidates, app } = this;
    if (!candidates || !app.begin()) return;
    const regions = candidates.find();
    for (const region of regions) this.write(region, region.value ?? value);
    const names = [...new Set(regions.map((region) => app.className(region.value ?? value)))];
    this.finish(`${regions.length} regions marked as ${names.join(", ") || app.className(value)}.`);
  }

  finish(text) {
    const { app } = this, { box } = this.candidates;
    app.commit();
    app.painted(box.x, box.y, box.x + box.width, box.y + box.height);
    this.drop();
    app.setTool("brush");
    app.say(text);
  }

  write(region, value) {
    const { box } = this.candidates, { raster } = this.app.sheet;
    this.candidates.each(region, (y, x0, x1) => raster.setRun(y + box.y, x0 + box.x, x1 + box.x, value));
  }

  /** Go through the regions, largest first. */
  sort() {
    if (!this.candidates) return;
    const regions = this.candidates.find();
    if (regions.length === 0) {
      this.app.say("No candidates: press = to mark more.");
      return;
    }
    const { x, y, scale } = this.app.view;
    this.sorting = { regions, index: 0, answers: [], before: { x, y, scale } };
    this.point();
  }

  point() {
    const { regions, index } = this.sorting, { box } = this.candidates, region = regions[index];
    this.setBits(region, 2);
    const place = { x0: region.x0 + box.x, y0: region.y0 + box.y, x1: region.x1 + box.x, y1: region.y1 + box.y };
    if (!this.comfortable(place)) this.app.view.show(place);
    this.app.refreshOptions();
  }

  // Jumping about is tiring: the view moves only if a region is out of sight or too small to judge.
  comfortable({ x0, y0, x1, y1 }) {
    const { x, y, scale, width, height } = this.app.view;
    const inside = x + x0 * scale > 8 && y + y0 * scale > 8 && x + x1 * scale < width - 8 && y + y1 * scale < height - 8;
    return inside && Math.max(x1 - x0, y1 - y0) * scale > 36;
  }

  setBits(region, value) {
    const { box, bits } = this.candidates;
    this.candidates.each(region, (y, x0, x1) => bits.fill(value, y * box.width + x0, y * box.width + x1));
    this.layer.spoil(box.x + region.x0, box.y + region.y0, box.x + region.x1, box.y + region.y1);
    this.app.view.redraw();
  }

  /** Answer for the region in question; null skips it. */
  answer(value) {
    const { regions, index, answers } = this.sorting, region = regions[index];
    if (value !== null) this.mark([region], value);
    answers.push(value);
    this.setBits(region, 0);
    if (index + 1 < regions.length) {
      this.sorting.index++;
      this.point();
    } else {
      this.leave();
    }
  }

  mark(regions, value) {
    const { app } = this, { box } = this.candidates;
    if (!app.begin()) return;
    for (const region of regions) {
      this.write(region, value ?? region.value);
      app.painted(region.x0 + box.x, region.y0 + box.y, region.x1 + box.x, region.y1 + box.y);
    }
    app.commit();
  }

  back() {
    const { sorting, app } = this;
    if (sorting.index === 0) return;
    this.setBits(sorting.regions[sorting.index], 1);
    if (sorting.answers.pop() !== null) app.sheet.undo();
    sorting.index--;
    this.point();
  }

  /** All that are left: as proposed, or, of a threshold, as `value`. */
  rest(value) {
    const { regions, index, answers } = this.sorting, left = regions.slice(index);
    this.mark(left, left[0].value ? null : value);
    for (const region of left) answers.push(region.value ?? value);
    this.leave();
  }

  leave() {
    const marked = this.sorting.answers.filter((answer) => answer !== null).length;
    const all = this.sorting.regions.length;
    Object.assign(this.app.view, this.sorting.before);
    this.drop();
    this.app.setTool("brush");
    this.app.say(`${marked} of ${all} regions marked.`);
  }

  /** Yellow where Finicky cannot tell. */
  paintDoubt(x0, y0, across, down, step, out) {
    const { candidates } = this;
    if (!candidates || this.source !== "proposal") return;
    const { box, score } = candidates;
    for (let j = 0; j < down; j++) {
      for (let i = 0; i < across; i++) {
        const x = x0 + i * step - box.x, y = y0 + j * step - box.y;
        if (x < 0 || y < 0 || x >= box.width || y >= box.height) continue;
        const doubt = 1 - Math.abs(score[y * box.width + x] - 128) / 128;
        if (doubt > 0.3) out[j * across + i] = ((Math.round(doubt * 200) << 24) | 0x00e6ff) >>> 0;
      }
    }
  }

  toggleDoubt() {
    this.doubt.shown = !this.doubt.shown;
    this.doubt.clear();
    this.app.view.redraw();
    this.app.refreshOptions();
  }
}
