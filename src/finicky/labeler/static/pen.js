// The crack pen: click along a crack, and the line between two clicks follows what is darkest.
// Intelligent scissors (Mortensen and Barrett 1995) on the darkness itself instead of on edges.

import { capsule, thinLine } from "/static/geometry.js";
import { localScore } from "/static/region.js";

const REACH = 240; // px around the last click that a line can get to
const SNAP = 4; // px around a click in which the darkest place counts
const SIDE = 41; // px around a pixel that it is compared with
const DEAR = 40; // what a pixel costs that is no darker than its surroundings; the darkest cost 1

/** What it costs to cross each pixel of a window, 1 to 1 + DEAR. */
export function costs(grey, width, height) {
  const dark = smooth(localScore(grey, { width, height }, SIDE, false), width, height);
  const counts = new Uint32Array(256);
  for (const value of dark) counts[value]++;
  let top = 255;
  for (let sum = counts[255]; top > 140 && sum < 0.005 * dark.length;) sum += counts[--top];
  const table = Uint8Array.from({ length: 256 }, (_, value) => {
    const missing = 1 - Math.max(0, Math.min(1, (value - 130) / (top - 130)));
    return 1 + Math.round(DEAR * missing * missing);
  });
  return dark.map((value) => table[value]);
}

function smooth(values, width, height) {
  const out = new Uint8Array(values.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      out[y * width + x] = mean3(values, { width, height }, x, y);
    }
  }
  return out;
}

/** Mean of a pixel and its neighbours. */
function mean3(grey, { width, height }, x, y) {
  let sum = 0, count = 0;
  for (let j = Math.max(0, y - 1); j <= Math.min(height - 1, y + 1); j++) {
    for (let i = Math.max(0, x - 1); i <= Math.min(width - 1, x + 1); i++, count++) sum += grey[j * width + i];
  }
  return sum / count;
}

/** For each pixel the one before it on the cheapest way from `start` (Dijkstra with buckets, Dial 1969). */
export function ways(cost, width, height, start) {
  const before = new Int32Array(cost.length).fill(-1), total = new Float64Array(cost.length).fill(Infinity);
  const most = Math.ceil(1.5 * (1 + DEAR)) + 2, buckets = Array.from({ length: most }, () => []);
  total[start] = 0;
  before[start] = start;
  buckets[0].push(start);
  for (let at = 0, empty = 0; empty < most; at++) {
    const bucket = buckets[at % most];
    empty = bucket.length ? 0 : empty + 1;
    for (let k = 0; k < bucket.length; k++) {
      const here = bucket[k], x = here % width, y = (here - x) / width;
      if (Math.floor(total[here]) !== at) continue; // reached more cheaply in the meantime
      for (let j = Math.max(0, y - 1); j <= Math.min(height - 1, y + 1); j++) {
        for (let i = Math.max(0, x - 1); i <= Math.min(width - 1, x + 1); i++) {
          const there = j * width + i, sum = total[here] + cost[there] * (i !== x && j !== y ? Math.SQRT2 : 1);
          if (sum >= total[there]) continue;
          total[there] = sum;
          before[there] = here;
          buckets[Math.floor(sum) % most].push(there);
        }
      }
    }
    bucket.length = 0;
  }
  return before;
}

export const pen = {
  name: "pen", key: "K", label: "Pen", icon: "M4 20c3-8 5 1 8-6s4-4 6-10M3 21h2M17 3h2", sized: true,
  hint: (app) => `Crack pen, ${app.size} px: click along a crack, the line follows it · [ ]: size · Enter or double click: end · Esc: drop`,
  anchors: [], // the ends of the line's pieces, in px of the photo
  field: null,
  points: null, // where the pointer is; not null while a line is open, so that moves are told

  async down(app, point, event) {
    if (event.button === 2) return void this.finish();
    if (!app.mayPaint()) return;
    if (this.sheet !== app.sheet) this.cancel();
    this.sheet = app.sheet;
    const from = this.anchors.at(-1), area = await app.greyAround();
    if (!area || this.sheet !== app.sheet) return;
    if (!from) return this.anchor(app, area, this.snapped(area, point));
    const path = this.path(point);
    if (path === null) return app.say("That is too far from the last click: click closer.");
    if (path.length < 2 || !app.begin()) return;
    this.mark(app, path);
    app.commit();
    this.anchor(app, area, path.at(-1));
  },

  anchor(app, area, point) {
    const { box, grey } = area;
    const x0 = Math.max(box.x, point[0] - REACH), y0 = Math.max(box.y, point[1] - REACH);
    const width = Math.min(box.x + box.width, point[0] + REACH + 1) - x0;
    const height = Math.min(box.y + box.height, point[1] + REACH + 1) - y0;
    const part = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) {
      const row = (y0 + y - box.y) * box.width + x0 - box.x;
      part.set(grey.subarray(row, row + width), y * width);
    }
    const start = (point[1] - y0) * width + point[0] - x0;
    this.field = { x0, y0, width, height, before: ways(costs(part, width, height), width, height, start), area };
    this.anchors.push(point);
    this.points = [point];
    app.view.redraw();
  },

  /** The darkest pixel near a click. */
  snapped({ box, grey }, [px, py]) {
    let best = [Math.floor(px), Math.floor(py)], least = Infinity;
    for (let y = Math.floor(py) - SNAP; y <= py + SNAP; y++) {
      for (let x = Math.floor(px) - SNAP; x <= px + SNAP; x++) {
        if (x < box.x || y < box.y || x >= box.x + box.width || y >= box.y + box.height) continue;
        const value = mean3(grey, box, x - box.x, y - box.y) + 1.5 * Math.hypot(x + 0.5 - px, y + 0.5 - py);
        if (value < least) [least, best] = [value, [x, y]];
      }
    }
    return best;
  },

  /** The way from the last click to a point, both snapped; null if that is out of reach. */
  path(point) {
    const { x0, y0, width, height, before, area } = this.field, [x, y] = this.snapped(area, point);
    if (x < x0 || y < y0 || x >= x0 + width || y >= y0 + height) return null;
    const found = [];
    for (let at = (y - y0) * width + x - x0; ; at = before[at]) {
      found.push([x0 + (at % width), y0 + Math.floor(at / width)]);
      if (before[at] === at) return found.reverse();
    }
  },

  mark(app, path) {
    const { raster } = app.sheet, centre = ([x, y]) => [x + 0.5, y + 0.5];
    let [x0, y0, x1, y1] = [Infinity, Infinity, -1, -1];
    const emit = (y, from, to) => {
      raster.setRun(y, from, to, app.current);
      [x0, y0, x1, y1] = [Math.min(x0, from), Math.min(y0, y), Math.max(x1, to), Math.max(y1, y + 1)];
    };
    const shape = app.size === 1 ? thinLine : (ax, ay, bx, by, ...rest) => capsule(ax, ay, bx, by, app.size / 2, ...rest);
    for (let i = 1; i < path.length; i++) shape(...centre(path[i - 1]), ...centre(path[i]), raster.width, raster.height, emit);
    app.painted(x0, y0, x1, y1);
  },

  move(app, point) {
    if (this.points) this.points = [point];
  },

  double() {
    this.finish();
  },

  /** The last piece was undone: go on from where it began. */
  async undone(app) {
    if (!this.anchors.length) return;
    this.anchors.pop();
    const last = this.anchors.pop(), area = last && (await app.greyAround());
    if (area) this.anchor(app, area, last);
    else this.cancel();
  },

  finish() {
    return this.cancel();
  },

  cancel() {
    const had = this.anchors.length > 0;
    this.anchors = [];
    this.field = this.points = null;
    return had;
  },

  draw(context, app, at) {
    if (!this.points || this.sheet !== app.sheet) return;
    const { view } = app, path = (at && this.path(view.toPhoto(...at))) || [this.anchors.at(-1)];
    context.lineCap = context.lineJoin = "round";
    for (const [color, width] of [["#000", 4], ["#ffff33", 2]]) {
      context.strokeStyle = color;
      context.lineWidth = width;
      context.beginPath();
      for (const [x, y] of path) context.lineTo(view.x + (x + 0.5) * view.scale, view.y + (y + 0.5) * view.scale);
      context.stroke();
      context.beginPath();
      const [x, y] = this.anchors.at(-1);
      context.arc(view.x + (x + 0.5) * view.scale, view.y + (y + 0.5) * view.scale, 4, 0, 2 * Math.PI);
      context.stroke();
    }
  },
};
