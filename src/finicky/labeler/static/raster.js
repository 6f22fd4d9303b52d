// The mask of the open photo: one class number a pixel. Everything that is shown or sent comes
// from here; nothing that is shown ever flows back.

export const TILE = 512;
const KEEP = 1 << 23, LENGTH = KEEP - 1;

export class Raster {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.data = new Uint8Array(width * height);
    this.columns = Math.ceil(width / TILE);
    // Tiles in which something may be marked; empty ones need not be looked at.
    this.used = new Uint8Array(this.columns * Math.ceil(height / TILE));
    this.changed = () => {};
    this.touched = null;
  }

  at(x, y) {
    return x < 0 || y < 0 || x >= this.width || y >= this.height ? 0 : this.data[y * this.width + x];
  }

  /** Start to record what a stroke changes. */
  begin() {
    this.touched = new Map();
  }

  /** Set the pixels x0 to x1 (not included) of a row; within begin() and end(). */
  setRun(y, x0, x1, value) {
    const row = Math.floor(y / TILE);
    for (let column = Math.floor(x0 / TILE); column * TILE < x1; column++) {
      const index = row * this.columns + column;
      const from = Math.max(x0, column * TILE), to = Math.min(x1, (column + 1) * TILE);
      const part = this.touched.get(index) ?? this.remember(index, column, row);
      part.x0 = Math.min(part.x0, from);
      part.x1 = Math.max(part.x1, to);
      part.y0 = Math.min(part.y0, y);
      part.y1 = Math.max(part.y1, y + 1);
      if (value) this.used[index] = 1;
    }
    this.data.fill(value, y * this.width + x0, y * this.width + x1);
  }

  remember(index, column, row) {
    const x = column * TILE, y = row * TILE;
    const w = Math.min(TILE, this.width - x), h = Math.min(TILE, this.height - y);
    const before = new Uint8Array(w * h);
    for (let i = 0; i < h; i++) {
      const start = (y + i) * this.width + x;
      before.set(this.data.subarray(start, start + w), i * w);
    }
    const part = { x, y, w, before, x0: Infinity, y0: Infinity, x1: -1, y1: -1 };
    this.touched.set(index, part);
    return part;
  }

  /** End the stroke: {forward, back}, two patches that do and undo it; null if nothing changed. */
  end() {
    const forward = [], back = [];
    for (const part of this.touched.values()) {
      const w = part.x1 - part.x0, h = part.y1 - part.y0;
      const now = new Uint8Array(w * h), old = new Uint8Array(w * h);
      for (let i = 0; i < h; i++) {
        const start = (part.y0 + i) * this.width + part.x0;
        now.set(this.data.subarray(start, start + w), i * w);
        const was = (part.y0 - part.y + i) * part.w + part.x0 - part.x;
        old.set(part.before.subarray(was, was + w), i * w);
      }
      const runs = runsOf(now, old);
      if (!runs) continue;
      forward.push(rectangleOf(part, w, h, runs));
      back.push(rectangleOf(part, w, h, runsOf(old, now)));
    }
    this.touched = null;
    return forward.length ? { forward: join(forward), back: join(back) } : null;
  }

  /** Write a patch and say which rectangles changed. Within begin() and end() it is recorded. */
  apply(patch) {
    const recording = this.touched !== null;
    if (!recording) this.begin();
    for (const { x, y, w, h, runs } of rectangles(patch)) {
      let at = 0;
      for (const run of runs) {
        const length = run & LENGTH;
        if (!(run & KEEP)) this.setWrapped(x, y, w, at, length, run >>> 24);
        at += length;
      }
      this.changed(x, y, x + w, y + h);
    }
    if (!recording) this.touched = null;
  }

  setWrapped(x, y, w, at, length, value) {
    while (length > 0) {
      const column = at % w, take = Math.min(length, w - column);
      this.setRun(y + Math.floor(at / w), x + column, x + column + take, value);
      at += take;
      length -= take;
    }
  }

  /** All that is marked, as a patch on an empty mask. */
  whole() {
    const found = [];
    for (let index = 0; index < this.used.length; index++) {
      if (!this.used[index]) continue;
      const column = index % this.columns, row = Math.floor(index / this.columns);
      const part = this.remembered(index, column, row);
      const runs = runsOf(part.before, null);
      found.push(rectangleOf({ x0: part.x, y0: part.y }, part.w, part.before.length / part.w, runs));
    }
    return join(found);
  }

  remembered(index, column, row) {
    const held = this.touched;
    this.touched = new Map();
    const part = this.remember(index, column, row);
    this.touched = held;
    return part;
  }
}

/** Runs of `now`, with pixels that equal `old` marked as untouched; null if all of them do. */
function runsOf(now, old) {
  const runs = [];
  let any = false;
  for (let i = 0; i < now.length;) {
    const value = now[i], same = old !== null && value === old[i];
    const start = i++;
    if (same) while (i < now.length && now[i] === old[i]) i++;
    else while (i < now.length && now[i] === value && (old === null || old[i] !== value)) i++;
    any ||= !same;
    runs.push(((same ? 0 : value << 24) | (same ? KEEP : 0) | (i - start)) >>> 0);
  }
  return any ? runs : null;
}

function rectangleOf(part, w, h, runs) {
  const out = new Uint32Array(5 + runs.length);
  out.set([part.x0, part.y0, w, h, runs.length]);
  out.set(runs, 5);
  return out;
}

/** Several patches after one another are a patch. */
export function join(patches) {
  const out = new Uint32Array(patches.reduce((sum, patch) => sum + patch.length, 0));
  let at = 0;
  for (const patch of patches) {
    out.set(patch, at);
    at += patch.length;
  }
  return out;
}

export function* rectangles(patch) {
  for (let at = 0; at < patch.length;) {
    const [x, y, w, h, count] = patch.subarray(at, at + 5);
    yield { x, y, w, h, runs: patch.subarray(at + 5, at + 5 + count) };
    at += 5 + count;
  }
}
