// Candidates: pixels that a threshold or Finicky itself suggests, before anybody has agreed.
// Each source gives one score a pixel; what scores at least the cut is a candidate. The result is
// always exactly those pixels, in connected regions, never their outlines filled.

import { components } from "/static/geometry.js";

// Larger areas are looked at in parts: the score of a whole 100 Mpx photo would not be lively.
export const MOST_PIXELS = 13_000_000;
export const MOST_PROPOSED = 4_000_000;
const COUNT_AT_ONCE = 3_000_000;
const OWN_SHARE = 0.15; // of a region, from which another class in it is a region of its own

export class Candidates {
  constructor(box, score, cut, classes = null) {
    this.box = box; // {x, y, width, height} in the photo
    this.classes = classes; // the likeliest class of each pixel, where the source tells
    this.score = score;
    this.cut = cut;
    this.covered = new Uint8Array(score.length);
    this.bits = new Uint8Array(score.length);
    this.smallest = 1;
    this.count = 0;
    this.regions = null;
    this.update();
  }

  /** Take another score for the same area, or another cut; covered pixels stay covered. */
  update(score = this.score, cut = this.cut) {
    this.score = score;
    this.cut = cut;
    const { bits, covered } = this;
    // By what was dragged over a pixel: nothing, a cover, a loose stroke that lowers the cut, or
    // a line that was drawn.
    const least = [cut, 256, Math.ceil(cut / 2), 0];
    let count = 0;
    for (let i = 0; i < bits.length; i++) count += bits[i] = score[i] >= least[covered[i]] ? 1 : 0;
    this.count = count;
    this.regions = null;
    if (this.smallest > 1 && bits.length <= COUNT_AT_ONCE) this.find();
  }

  /** The regions, largest first. Those that are too small are no candidates any more. */
  find() {
    if (this.regions) return this.regions;
    const all = components(this.bits, this.box.width, this.box.height);
    this.regions = all.filter((region) => region.size >= this.smallest).flatMap((region) => this.byClass(region)).sort((a, b) => b.size - a.size);
    for (const region of all) {
      if (region.size >= this.smallest) continue;
      this.each(region, (y, x0, x1) => this.bits.fill(0, y * this.box.width + x0, y * this.box.width + x1));
      this.count -= region.size;
    }
    return this.regions;
  }

  /** A region of which a good part is of another class falls into two: a crack through a stain. */
  byClass(region) {
    if (!this.classes) return [region];
    const counts = new Uint32Array(256), { box, classes } = this;
    this.each(region, (y, x0, x1) => {
      for (let i = y * box.width + x0; i < y * box.width + x1; i++) counts[classes[i]]++;
    });
    const main = counts.indexOf(Math.max(...counts));
    const other = [...counts.keys()].filter((id) => id !== main && counts[id] >= Math.max(this.smallest, OWN_SHARE * region.size));
    if (!other.length) return [{ ...region, value: main }];
    return [main, ...other].map((value) => this.part(region, (id) => (other.includes(id) ? id : main) === value, value));
  }

  part(region, belongs, value) {
    const found = { size: 0, x0: Infinity, y0: Infinity, x1: -1, y1: -1, runs: [], value }, { box, classes } = this;
    this.each(region, (y, x0, x1) => {
      for (let x = x0; x < x1;) {
        const mine = belongs(classes[y * box.width + x]), from = x++;
        while (x < x1 && belongs(classes[y * box.width + x]) === mine) x++;
        if (!mine) continue;
        found.runs.push(y, from, x);
        found.size += x - from;
        [found.x0, found.y0] = [Math.min(found.x0, from), Math.min(found.y0, y)];
        [found.x1, found.y1] = [Math.max(found.x1, x), Math.max(found.y1, y + 1)];
      }
    });
    return found;
  }

  /** How far a point of the box is from a region, in px. */
  distance(region, x, y) {
    let least = Infinity;
    this.each(region, (row, x0, x1) => {
      const across = Math.max(x0 - x, 0, x - x1), down = Math.max(row - y, 0, y - row - 1);
      least = Math.min(least, Math.hypot(across, down));
    });
    return least;
  }

  each({ runs }, visit) {
    for (let i = 0; i < runs.length; i += 3) visit(runs[i], runs[i + 1], runs[i + 2]);
  }

  /**
   * Cover a run of the photo (1), uncover it (0), have candidates there more readily (2), or have
   * it all as candidates of a class (3).
   */
  cover(y, x0, x1, value, id = 0) {
    const { box } = this, row = y - box.y;
    const from = Math.max(0, x0 - box.x), to = Math.min(box.width, x1 - box.x);
    if (row < 0 || row >= box.height || from >= to) return;
    this.covered.fill(value, row * box.width + from, row * box.width + to);
    if (value === 3) this.classes?.fill(id, row * box.width + from, row * box.width + to);
  }

  /** Cover everything outside of the given runs [y, x0, x1]. */
  keepOnly(runs) {
    const keep = new Uint8Array(this.covered.length), { box } = this;
    for (const [y, x0, x1] of runs) {
      const row = y - box.y, from = Math.max(0, x0 - box.x), to = Math.min(box.width, x1 - box.x);
      if (row >= 0 && row < box.height && from < to) keep.fill(1, row * box.width + from, row * box.width + to);
    }
    for (let i = 0; i < keep.length; i++) if (!keep[i]) this.covered[i] = 1;
  }

  /** The painter of the candidates' layer; `chosen` is a bitmap of the region in question. */
  painter(colors, classColors = null) {
    const { box, bits, classes } = this;
    const colorAt = (x, y) => {
      const at = classes ? classes[Math.max(0, y - box.y) * box.width + Math.max(0, x - box.x)] : 0;
      return classColors?.get(at) ?? colors[1];
    };
    return (x0, y0, across, down, step, out) => {
      for (let j = 0; j < down; j++) {
        for (let i = 0; i < across; i++) {
          const value = strongest(bits, box, x0 + i * step - box.x, y0 + j * step - box.y, step);
          if (value) out[j * across + i] = value === 1 ? colorAt(x0 + i * step, y0 + j * step) : colors[value];
        }
      }
    };
  }
}

function strongest(bits, box, x, y, step) {
  let found = 0;
  for (let row = Math.max(0, y); row < Math.min(y + step, box.height); row++) {
    for (let column = Math.max(0, x); column < Math.min(x + step, box.width); column++) {
      found = Math.max(found, bits[row * box.width + column]);
    }
  }
  return found;
}

/** Score for a global threshold: dark pixels (or bright ones) score higher. */
export function globalScore(grey, bright) {
  return bright ? grey : grey.map((value) => 255 - value);
}

/**
 * Score for a local threshold: 128 plus how much darker (or brighter) a pixel is than the mean of
 * the square of `side` px around it, cut at the border of the area. Bradley and Roth, "Adaptive
 * thresholding using the integral image", 2007; a difference in grey levels instead of per cent.
 */
export function localScore(grey, { width, height }, side, bright) {
  const sums = integral(grey, width, height), out = new Uint8Array(grey.length), half = side >> 1;
  for (let y = 0; y < height; y++) {
    const top = Math.max(0, y - half), bottom = Math.min(height, y + half + 1);
    for (let x = 0; x < width; x++) {
      const left = Math.max(0, x - half), right = Math.min(width, x + half + 1);
      const sum = (sums[bottom * (width + 1) + right] - sums[top * (width + 1) + right]
        - sums[bottom * (width + 1) + left] + sums[top * (width + 1) + left]) >>> 0;
      const mean = Math.floor(sum / ((bottom - top) * (right - left)));
      const by = bright ? grey[y * width + x] - mean : mean - grey[y * width + x];
      out[y * width + x] = Math.max(0, Math.min(255, 128 + by));
    }
  }
  return out;
}

// Sums wrap around at 2**32, which differences of them undo as long as a window stays below it.
function integral(grey, width, height) {
  const sums = new Uint32Array((width + 1) * (height + 1));
  for (let y = 0; y < height; y++) {
    let row = 0;
    for (let x = 0; x < width; x++) {
      row += grey[y * width + x];
      sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1] + row;
    }
  }
  return sums;
}
