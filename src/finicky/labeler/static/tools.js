// What the pointer does. A tool gets points in photo pixels; it writes runs into the mask.

import { capsule, flood, polygon, rectangle, thinLine } from "/static/geometry.js";
import { pen } from "/static/pen.js";

const FAR = 6; // CSS px between two corners of a lasso that was clicked instead of drawn

function box(x0, y0, x1, y1, pad) {
  return [Math.floor(Math.min(x0, x1) - pad), Math.floor(Math.min(y0, y1) - pad),
    Math.ceil(Math.max(x0, x1) + pad), Math.ceil(Math.max(y0, y1) + pad)];
}

/** Brush and eraser: a disc with a hard edge, drawn as capsules from point to point. */
function brush(name, key, label, icon, valueOf) {
  return {
    name, key, label, icon, sized: true,
    hint: (app) => `${label}, ${app.size} px. [ ] or Alt+wheel: size · Shift+click: straight line · right button: erase`,
    down(app, point, event) {
      if (!app.begin()) return;
      const erase = event.button === 2 || event.buttons === 32;
      this.value = erase ? 0 : valueOf(app);
      this.segment(app, event.shiftKey && this.last ? this.last : point, point);
    },
    move(app, point) {
      if (app.sheet.drawing) this.segment(app, this.last, point);
    },
    up(app) {
      if (app.sheet.drawing) app.commit();
    },
    segment(app, from, to) {
      const { raster } = app.sheet;
      const emit = (y, x0, x1) => raster.setRun(y, x0, x1, this.value);
      if (app.size === 1) thinLine(...from, ...to, raster.width, raster.height, emit);
      else capsule(...from, ...to, app.size / 2, raster.width, raster.height, emit);
      app.painted(...box(...from, ...to, app.size / 2 + 1));
      this.last = to;
    },
    draw(context, app, at) {
      if (!at) return;
      const radius = Math.max(1, (app.size / 2) * app.view.scale);
      ring(context, at[0], at[1], radius);
    },
  };
}

function ring(context, x, y, radius) {
  for (const [color, width] of [["#000", 3], ["#fff", 1.2]]) {
    context.strokeStyle = color;
    context.lineWidth = width;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}

function outline(context, view, points, closed) {
  context.setLineDash([6, 4]);
  for (const [color, offset] of [["#000", 0], ["#fff", 5]]) {
    context.strokeStyle = color;
    context.lineWidth = 1.6;
    context.lineDashOffset = offset;
    context.beginPath();
    for (const [x, y] of points) context.lineTo(view.x + x * view.scale, view.y + y * view.scale);
    if (closed) context.closePath();
    context.stroke();
  }
}

const lasso = {
  name: "lasso", key: "L", label: "Lasso", icon: "M5 14c-2-5 2-9 8-9s8 3 7 7-6 6-10 5-5 0-5 2 3 3 4 1",
  hint: () => "Lasso: drag around an area, or click corner after corner · Enter or double click: close · Esc: drop",
  points: null,
  down(app, point) {
    if (!app.mayPaint()) return;
    this.points ??= [];
    this.points.push(point);
    this.dragged = false;
    this.dragging = true;
  },
  move(app, point) {
    if (!this.points || !this.dragging) return;
    const [x, y] = this.points.at(-1);
    if (Math.hypot(point[0] - x, point[1] - y) * app.view.scale > (this.dragged ? 1.5 : FAR)) {
      this.points.push(point);
      this.dragged = true;
    }
  },
  up(app) {
    this.dragging = false;
    if (this.dragged) this.finish(app);
  },
  double(app) {
    this.finish(app);
  },
  finish(app) {
    const points = this.points;
    this.points = null;
    this.dragged = false;
    if (!points || points.length < 3) return false;
    app.fillRuns((emit, raster) => polygon(points, raster.width, raster.height, emit));
    return true;
  },
  cancel() {
    const had = this.points !== null;
    this.points = null;
    this.dragging = false;
    return had;
  },
  draw(context, app, at) {
    if (!this.points) return;
    const shown = at ? [...this.points, app.view.toPhoto(...at)] : this.points;
    outline(context, app.view, shown, true);
  },
};

const rectangleTool = {
  name: "rectangle", key: "R", label: "Box", icon: "M4 6h16v12H4z",
  hint: (app) => `Box: drag to mark a rectangle as ${app.className(app.current)} · 0 first: cover it as unlabelled`,
  start: null,
  down(app, point) {
    if (app.mayPaint()) this.start = this.end = point;
  },
  move(app, point) {
    if (this.start) this.end = point;
  },
  up(app) {
    const { start, end } = this;
    this.start = null;
    if (!start) return;
    app.fillRuns((emit, raster) => rectangle(...start, ...end, raster.width, raster.height, emit));
  },
  cancel() {
    const had = this.start !== null;
    this.start = null;
    return had;
  },
  draw(context, app) {
    if (this.start) drawBox(context, app.view, this.start, this.end);
  },
};

export function drawBox(context, view, [ax, ay], [bx, by]) {
  outline(context, view, [[ax, ay], [bx, ay], [bx, by], [ax, by]], true);
}

const fill = {
  name: "fill", key: "F", label: "Fill", icon: "M5 12l7-7 7 7-7 7zM9 8L6 5M20 17c0 2 2 2 2 0s-1-2-1-3c0 1-1 1-1 3",
  hint: () => "Fill: click an area of one class, or the unlabelled inside of an outline",
  down(app, [x, y]) {
    if (!app.mayPaint()) return;
    const { raster } = app.sheet, { data, width, height } = raster;
    const from = raster.at(Math.floor(x), Math.floor(y));
    if (from === app.current) return;
    const runs = flood(width, height, Math.floor(x), Math.floor(y), (index) => data[index] === from);
    const count = app.fillFlat(runs);
    if (count > 0.25 * width * height) {
      app.say(`Filled ${Math.round((100 * count) / (width * height))} % of the photo. Ctrl+Z takes it back.`);
    }
  },
};

const wand = {
  name: "wand", key: "W", label: "Wand", icon: "M4 20L15 9M17 3v4M15 5h4M20 10v2M19 11h2M11 3v2M10 4h2",
  hint: (app) => `Wand: click to mark the connected area of similar brightness (±${app.tolerance}) · [ ]: tolerance`,
  last: null,
  async down(app, point) {
    if (!app.mayPaint()) return;
    this.last = { sheet: app.sheet, x: Math.floor(point[0]), y: Math.floor(point[1]) };
    await this.apply(app);
  },
  async apply(app) {
    const { sheet, x, y } = this.last, area = await app.greyAround();
    if (!area || sheet !== app.sheet) return;
    const { box: { x: left, y: top, width, height }, grey } = area;
    if (x < left || y < top || x >= left + width || y >= top + height) return;
    const seed = grey[(y - top) * width + x - left], { tolerance } = app;
    const runs = flood(width, height, x - left, y - top, (i) => Math.abs(grey[i] - seed) <= tolerance);
    for (let i = 0; i < runs.length; i += 3) {
      runs[i] += top;
      runs[i + 1] += left;
      runs[i + 2] += left;
    }
    app.fillFlat(runs);
    this.mark = sheet.history.at(-1);
  },
  /** Another tolerance for the area that was just marked. */
  async again(app) {
    const { last } = this;
    if (!last || last.sheet !== app.sheet || this.mark !== app.sheet.history.at(-1)) return;
    app.undo();
    await this.apply(app);
  },
};

const pan = {
  name: "pan", key: "H", label: "Move", icon: "M12 3v18M3 12h18M9 6l3-3 3 3M9 18l3 3 3-3M6 9l-3 3 3 3M18 9l3 3-3 3",
  hint: () => "Move: drag the photo · wheel: zoom · with any tool: hold Space",
  pans: true,
};

const clicked = ({ view }, [ax, ay], [bx, by]) => Math.hypot(bx - ax, by - ay) * view.scale < 4;

const threshold = {
  name: "threshold", key: "T", label: "Threshold", icon: "M3 19h18M4 19V9M8 19V5M12 19v-8M16 19v-3M20 19v-6",
  hint: (app) => app.assist.hint(),
  start: null,
  trail: null,
  redraws: false,
  down(app, point, event) {
    if (!app.assist.candidates) return;
    this.trail = ["add", "redraw"].includes(app.assist.drag) && !event.shiftKey && event.button !== 2 ? [point] : null;
    this.redraws = (event.altKey || app.assist.drag === "redraw") && app.current !== 0;
    if (!this.trail) this.start = this.end = point;
  },
  move(app, point) {
    if (this.trail) {
      if (!this.redraws) app.assist.addAlong(this.trail.at(-1), point);
      this.trail.push(point);
    } else if (this.start) {
      this.end = point;
    }
  },
  up(app) {
    const { start, end, trail } = this;
    this.start = this.trail = null;
    if (trail && this.redraws) app.assist.redrawAlong(trail);
    if (trail) app.assist.dragged();
    else if (start && clicked(app, start, end) && app.assist.drag !== "keep") app.assist.coverRegion(start);
    else if (start) app.assist.cover(start, end);
  },
  cancel() {
    this.start = this.trail = null;
    return false;
  },
  draw(context, app) {
    if (this.start) drawBox(context, app.view, this.start, this.end);
    if (this.trail) outline(context, app.view, this.trail, false);
  },
};

export const TOOLS = [
  brush("brush", "B", "Brush", "M20 4L10 14M7 13c-3 0-2 4-5 5 2 3 8 2 8-2 0-2-1-3-3-3z", (app) => app.current),
  pen,
  brush("eraser", "E", "Eraser", "M8 20h12M5 16l9-10 6 5-8 9H8z", () => 0),
  lasso,
  rectangleTool,
  fill,
  wand,
  threshold,
  pan,
];
