// From shapes to runs of pixels with hard edges. A run is (y, x0, x1), x1 not included; nothing
// here knows about colours, canvases or class numbers.

/** A capsule: all pixels whose centres lie within `radius` of the segment. Row by row. */
export function capsule(ax, ay, bx, by, radius, width, height, emit) {
  const dx = bx - ax, dy = by - ay, length2 = dx * dx + dy * dy, r2 = radius * radius;
  const top = Math.max(0, Math.ceil(Math.min(ay, by) - radius - 0.5));
  const bottom = Math.min(height - 1, Math.floor(Math.max(ay, by) + radius - 0.5));
  for (let y = top; y <= bottom; y++) {
    const cy = y + 0.5;
    let low = Infinity, high = -Infinity;
    for (const [px, py] of [[ax, ay], [bx, by]]) {
      const rest = r2 - (cy - py) * (cy - py);
      if (rest < 0) continue;
      low = Math.min(low, px - Math.sqrt(rest));
      high = Math.max(high, px + Math.sqrt(rest));
    }
    if (length2 > 0) [low, high] = withBand(low, high, ax, ay, dx, dy, length2, cy, radius);
    if (low > high) continue;
    const x0 = Math.max(0, Math.ceil(low - 0.5)), x1 = Math.min(width, Math.floor(high - 0.5) + 1);
    if (x0 < x1) emit(y, x0, x1);
  }
}

// Where the row at cy crosses the straight part: 0 <= t <= 1 and |distance| <= radius.
function withBand(low, high, ax, ay, dx, dy, length2, cy, radius) {
  const length = Math.sqrt(length2), ry = cy - ay;
  let from = -Infinity, to = Infinity;
  const limit = (slope, offset, least, most) => {
    if (Math.abs(slope) < 1e-12) {
      if (offset < least || offset > most) from = Infinity;
      return;
    }
    const a = (least - offset) / slope, b = (most - offset) / slope;
    from = Math.max(from, Math.min(a, b));
    to = Math.min(to, Math.max(a, b));
  };
  limit(dx / length2, (ry * dy) / length2, 0, 1);
  limit(-dy / length, (ry * dx) / length, -radius, radius);
  return from > to ? [low, high] : [Math.min(low, from + ax), Math.max(high, to + ax)];
}

/** A line one pixel wide (Bresenham). */
export function thinLine(ax, ay, bx, by, width, height, emit) {
  let x = Math.floor(ax), y = Math.floor(ay);
  const endX = Math.floor(bx), endY = Math.floor(by);
  const dx = Math.abs(endX - x), dy = -Math.abs(endY - y);
  const sx = x < endX ? 1 : -1, sy = y < endY ? 1 : -1;
  let error = dx + dy;
  for (;;) {
    if (x >= 0 && y >= 0 && x < width && y < height) emit(y, x, x + 1);
    if (x === endX && y === endY) return;
    const twice = 2 * error;
    if (twice >= dy) { error += dy; x += sx; }
    if (twice <= dx) { error += dx; y += sy; }
  }
}

/** All pixels whose centres a closed polygon winds around. `points` is [[x, y], ...]. */
export function polygon(points, width, height, emit) {
  const ys = points.map((p) => p[1]);
  const top = Math.max(0, Math.floor(Math.min(...ys)));
  const bottom = Math.min(height - 1, Math.ceil(Math.max(...ys)));
  for (let y = top; y <= bottom; y++) {
    const cy = y + 0.5, crossings = [];
    for (let i = 0; i < points.length; i++) {
      const [ax, ay] = points[i], [bx, by] = points[(i + 1) % points.length];
      if ((ay <= cy) === (by <= cy)) continue;
      crossings.push([ax + ((cy - ay) / (by - ay)) * (bx - ax), by > ay ? 1 : -1]);
    }
    crossings.sort((a, b) => a[0] - b[0]);
    let winding = 0;
    for (let i = 0; i + 1 < crossings.length; i++) {
      winding += crossings[i][1];
      if (winding === 0) continue;
      const x0 = Math.max(0, Math.ceil(crossings[i][0] - 0.5));
      const x1 = Math.min(width, Math.ceil(crossings[i + 1][0] - 0.5));
      if (x0 < x1) emit(y, x0, x1);
    }
  }
}

/** A rectangle between two corners, both included. */
export function rectangle(ax, ay, bx, by, width, height, emit) {
  const x0 = Math.max(0, Math.floor(Math.min(ax, bx))), x1 = Math.min(width, Math.floor(Math.max(ax, bx)) + 1);
  const y0 = Math.max(0, Math.floor(Math.min(ay, by))), y1 = Math.min(height, Math.floor(Math.max(ay, by)) + 1);
  if (x0 >= x1) return;
  for (let y = y0; y < y1; y++) emit(y, x0, x1);
}

/**
 * The 4-connected area around (x, y) in which `inside(index)` holds, as flat runs [y, x0, x1, ...].
 */
export function flood(width, height, x, y, inside) {
  const runs = [];
  if (x < 0 || y < 0 || x >= width || y >= height || !inside(y * width + x)) return runs;
  const seen = new Uint8Array(width * height), stack = [x, y];
  while (stack.length) {
    const cy = stack.pop(), cx = stack.pop(), row = cy * width;
    if (seen[row + cx]) continue;
    let x0 = cx, x1 = cx + 1;
    while (x0 > 0 && !seen[row + x0 - 1] && inside(row + x0 - 1)) x0--;
    while (x1 < width && !seen[row + x1] && inside(row + x1)) x1++;
    seen.fill(1, row + x0, row + x1);
    runs.push(cy, x0, x1);
    for (const ny of [cy - 1, cy + 1]) {
      if (ny < 0 || ny >= height) continue;
      const next = ny * width;
      for (let i = x0; i < x1; i++) {
        if (seen[next + i] || !inside(next + i)) continue;
        stack.push(i, ny);
        while (i + 1 < x1 && !seen[next + i + 1] && inside(next + i + 1)) i++;
      }
    }
  }
  return runs;
}

/**
 * The 8-connected regions of a bitmap, largest first: {size, x0, y0, x1, y1, runs}, runs flat.
 * Every region is exactly its pixels: holes stay holes, and no outline is ever filled.
 */
export function components(bits, width, height) {
  const runs = [], parent = [];
  const find = (i) => {
    while (parent[i] !== i) { parent[i] = parent[parent[i]]; i = parent[i]; }
    return i;
  };
  let above = [0, 0], first = 0, candidate = 0, y = -1;
  for (let at = bits.indexOf(1); at >= 0;) {
    const row = Math.floor(at / width), x = at - row * width, me = parent.length;
    if (row !== y) {
      above = row === y + 1 ? [first, me] : [0, 0];
      [first, candidate, y] = [me, above[0], row];
    }
    let end = x + 1;
    while (end < width && bits[row * width + end]) end++;
    runs.push(row, x, end);
    parent.push(me);
    while (candidate < above[1] && runs[3 * candidate + 2] < x) candidate++;
    for (let i = candidate; i < above[1] && runs[3 * i + 1] <= end; i++) {
      const a = find(i), b = find(me);
      if (a !== b) parent[Math.max(a, b)] = Math.min(a, b);
    }
    at = row * width + end < width * height ? bits.indexOf(1, row * width + end) : -1;
  }
  return gather(runs, parent.length, find);
}

function gather(runs, count, find) {
  const found = new Map();
  for (let i = 0; i < count; i++) {
    const root = find(i), y = runs[3 * i], x0 = runs[3 * i + 1], x1 = runs[3 * i + 2];
    let region = found.get(root);
    if (!region) found.set(root, (region = { size: 0, x0, y0: y, x1, y1: y + 1, runs: [] }));
    region.runs.push(y, x0, x1);
    region.size += x1 - x0;
    region.x0 = Math.min(region.x0, x0);
    region.x1 = Math.max(region.x1, x1);
    region.y1 = y + 1;
  }
  return [...found.values()].sort((a, b) => b.size - a.size);
}
