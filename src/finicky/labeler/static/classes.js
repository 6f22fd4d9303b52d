// How classes look: colour, pattern and letter, so that nobody has to tell colours apart.

// 8x8 px; 1 = full, 0 = faint. By order of the class: solid, stripes, dots, stripes the other way,
// bricks, grid; then from the start.
const PATTERNS = [
  () => 1,
  (x, y) => ((x + y) & 7) < 4,
  (x, y) => (x & 3) < 2 && (y & 3) < 2,
  (x, y) => ((x - y) & 7) < 4,
  (x, y) => (y & 3) < 2,
  (x, y) => (x & 3) === 0 || (y & 3) === 0,
];
const FAINT = 0x5c, IGNORE = { id: 255, name: "ignore", color: "#CC79A7" };

/** 256 x 64 colours (ABGR, as canvases store them): by class number and place in its pattern. */
export function palette(classes) {
  const table = new Uint32Array(256 * 64);
  [...classes, IGNORE].forEach((entry, order) => {
    const [r, g, b] = rgb(entry.color), pattern = PATTERNS[order % PATTERNS.length];
    // Background often covers nearly all of a photo, which must stay visible under it.
    const [full, faint] = entry.role === "background" ? [0x58, 0x14] : [0xff, FAINT];
    for (let i = 0; i < 64; i++) {
      const alpha = pattern(i & 7, i >> 3) ? full : faint;
      table[entry.id * 64 + i] = ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
    }
  });
  return table;
}

export function rgb(color) {
  return [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
}

/** A square that shows a class as the photo does, with its letter. */
export function swatch(canvas, entry, order) {
  canvas.width = canvas.height = 26;
  const context = canvas.getContext("2d"), pattern = PATTERNS[order % PATTERNS.length];
  const image = context.createImageData(26, 26), [r, g, b] = rgb(entry.color);
  for (let i = 0; i < 26 * 26; i++) {
    const full = pattern((i % 26) & 7, Math.floor(i / 26) & 7);
    image.data.set([r, g, b, full ? 255 : FAINT], 4 * i);
  }
  context.putImageData(image, 0, 0);
  context.font = "bold 15px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 3.5;
  context.strokeStyle = "#000c";
  context.strokeText(entry.name[0].toUpperCase(), 13, 14);
  context.fillStyle = "#fff";
  context.fillText(entry.name[0].toUpperCase(), 13, 14);
}

/** The painter of the mask's layer: the first marked pixel of each block counts. */
export function maskPainter(raster, table) {
  const { data, width, height, used, columns } = raster;
  return (x0, y0, across, down, step, out) => {
    for (let j = 0; j < down; j++) {
      for (let i = 0; i < across; i++) {
        const x = x0 + i * step, y = y0 + j * step;
        if (!used[(y >> 9) * columns + (x >> 9)]) continue;
        const value = step === 1 ? data[y * width + x] : firstOf(data, width, height, x, y, step);
        if (value) out[j * across + i] = table[value * 64 + (((y / step) & 7) << 3) + ((x / step) & 7)];
      }
    }
  };
}

function firstOf(data, width, height, x, y, step) {
  const right = Math.min(x + step, width), bottom = Math.min(y + step, height);
  for (let row = y; row < bottom; row++) {
    for (let i = row * width + x; i < row * width + right; i++) if (data[i]) return data[i];
  }
  return 0;
}
