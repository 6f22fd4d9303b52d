// What is seen: the photo in tiles, the mask and the candidates over it, zoom and pan.

import { api } from "/static/api.js";
import { TILE } from "/static/raster.js";

const PHOTO_TILES = 160, LAYER_TILES = 96;
const MAX_SCALE = 40;

/** A picture computed from data, tile by tile and only where it is looked at. */
class Layer {
  constructor(paint) {
    this.paint = paint; // (x0, y0, x1, y1, step, out32, width) fills one pixel for each block
    this.tiles = new Map();
  }

  clear() {
    this.tiles.clear();
  }

  /** The pixels x0..x1, y0..y1 of the photo have changed. */
  spoil(x0, y0, x1, y1) {
    for (const tile of this.tiles.values()) {
      const side = TILE << tile.level;
      if (x0 < tile.x + side && x1 > tile.x && y0 < tile.y + side && y1 > tile.y) {
        tile.x0 = Math.min(tile.x0, Math.max(x0, tile.x));
        tile.y0 = Math.min(tile.y0, Math.max(y0, tile.y));
        tile.x1 = Math.max(tile.x1, Math.min(x1, tile.x + side));
        tile.y1 = Math.max(tile.y1, Math.min(y1, tile.y + side));
      }
    }
  }

  tile(level, column, row, width, height) {
    const key = (level * 4096 + row) * 4096 + column;
    let tile = this.tiles.get(key);
    if (!tile) {
      tile = this.make(level, column, row, width, height);
      this.tiles.set(key, tile);
      if (this.tiles.size > LAYER_TILES) this.tiles.delete(this.tiles.keys().next().value);
    }
    if (tile.x0 < tile.x1) this.refresh(tile);
    return tile.canvas;
  }

  make(level, column, row, width, height) {
    const side = TILE << level, x = column * side, y = row * side;
    const canvas = document.createElement("canvas");
    canvas.width = Math.ceil(Math.min(side, width - x) / (1 << level));
    canvas.height = Math.ceil(Math.min(side, height - y) / (1 << level));
    const x1 = Math.min(x + side, width), y1 = Math.min(y + side, height);
    return { canvas, context: canvas.getContext("2d"), level, x, y, x0: x, y0: y, x1, y1 };
  }

  refresh(tile) {
    const step = 1 << tile.level;
    const left = Math.floor((tile.x0 - tile.x) / step), top = Math.floor((tile.y0 - tile.y) / step);
    const right = Math.ceil((tile.x1 - tile.x) / step), bottom = Math.ceil((tile.y1 - tile.y) / step);
    const image = new ImageData(right - left, bottom - top);
    const out = new Uint32Array(image.data.buffer);
    this.paint(tile.x + left * step, tile.y + top * step, right - left, bottom - top, step, out);
    tile.context.putImageData(image, left, top);
    [tile.x0, tile.y0, tile.x1, tile.y1] = [Infinity, Infinity, -1, -1];
  }
}

export class View {
  constructor(stage, { photo, mask, top }) {
    this.stage = stage;
    this.canvases = [photo, mask, top];
    [this.photoContext, this.maskContext, this.topContext] = this.canvases.map((c) => c.getContext("2d"));
    this.photo = null;
    this.fitted = false;
    this.scale = 1;
    this.x = 0; // of the photo's corner on the stage, in CSS px
    this.y = 0;
    this.images = new Map();
    this.layers = [];
    this.drawTop = () => {};
    this.unreadable = () => {}; // told of a photo and why its pixels cannot be had
    this.asked = false;
    new ResizeObserver(() => this.resize()).observe(stage);
    this.resize();
  }

  layer(paint) {
    const layer = new Layer(paint);
    this.layers.push(layer);
    return layer;
  }

  resize() {
    const { width, height } = this.stage.getBoundingClientRect();
    this.ratio = window.devicePixelRatio || 1;
    this.width = width;
    this.height = height;
    for (const canvas of this.canvases) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
    }
    if (this.fitted) this.fit();
    else this.redraw();
  }

  open(photo) {
    this.photo = photo;
    this.images.clear();
    for (const layer of this.layers) layer.clear();
    this.levels = 1;
    while (Math.max(photo.width, photo.height) / 2 ** (this.levels - 1) > TILE) this.levels++;
    this.fit();
  }

  fit() {
    if (!this.photo) return;
    const margin = 16;
    this.scale = Math.min(
      (this.width - 2 * margin) / this.photo.width,
      (this.height - 2 * margin) / this.photo.height,
      8,
    );
    this.x = (this.width - this.photo.width * this.scale) / 2;
    this.y = (this.height - this.photo.height * this.scale) / 2;
    this.fitted = true; // and stays so when the window changes
    this.redraw();
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    if (!this.photo) return;
    const least = Math.min(1, 100 / Math.max(this.photo.width, this.photo.height));
    const scale = Math.min(MAX_SCALE, Math.max(least, this.scale * factor));
    this.x = x - ((x - this.x) * scale) / this.scale;
    this.y = y - ((y - this.y) * scale) / this.scale;
    this.scale = scale;
    this.keepInside();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.keepInside();
  }

  // Some of the photo always stays in sight.
  keepInside() {
    this.fitted = false;
    const slack = 80;
    this.x = Math.min(this.width - slack, Math.max(slack - this.photo.width * this.scale, this.x));
    this.y = Math.min(this.height - slack, Math.max(slack - this.photo.height * this.scale, this.y));
    this.redraw();
  }

  /** Bring a rectangle of the photo into sight, enlarged if that helps. */
  show({ x0, y0, x1, y1 }) {
    const room = 0.55;
    const wanted = Math.min((this.width * room) / (x1 - x0), (this.height * room) / (y1 - y0), 6);
    this.scale = Math.max(wanted, Math.min(this.width / this.photo.width, this.height / this.photo.height) * 0.9);
    this.x = this.width / 2 - ((x0 + x1) / 2) * this.scale;
    this.y = this.height / 2 - ((y0 + y1) / 2) * this.scale;
    this.keepInside();
  }

  /** From the stage to the photo, in px of the photo. */
  toPhoto(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  /** The part of the photo that is in sight: {x, y, width, height}. */
  visible() {
    const [ax, ay] = this.toPhoto(0, 0), [bx, by] = this.toPhoto(this.width, this.height);
    const x = Math.max(0, Math.floor(ax)), y = Math.max(0, Math.floor(ay));
    return {
      x,
      y,
      width: Math.max(1, Math.min(this.photo.width, Math.ceil(bx)) - x),
      height: Math.max(1, Math.min(this.photo.height, Math.ceil(by)) - y),
    };
  }

  redraw() {
    if (this.asked || !this.photo) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  draw() {
    const level = Math.min(this.levels - 1, Math.max(0, Math.floor(-Math.log2(this.scale * this.ratio) + 0.25)));
    const crisp = this.scale * this.ratio >= 1;
    for (const context of [this.photoContext, this.maskContext, this.topContext]) {
      context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      context.clearRect(0, 0, this.width, this.height);
      context.imageSmoothingEnabled = !crisp;
    }
    // While finer tiles are on their way, the smallest copy of the photo stands in for them.
    if (level < this.levels - 1) this.drawPhoto(this.levels - 1);
    this.drawPhoto(level);
    for (const layer of this.layers) {
      if (layer.shown === false) continue;
      this.eachTile(level, (column, row, side) => {
        const canvas = layer.tile(level, column, row, this.photo.width, this.photo.height);
        this.place(this.maskContext, canvas, column, row, side, level);
      });
    }
    this.topContext.save();
    this.drawTop(this.topContext, this);
    this.topContext.restore();
  }

  drawPhoto(level) {
    this.eachTile(level, (column, row, side) => {
      const image = this.image(level, column, row);
      if (image) this.place(this.photoContext, image, column, row, side, level);
    });
  }

  place(context, image, column, row, side, level) {
    const unit = this.scale * (1 << level);
    context.drawImage(
      image,
      this.x + column * side * this.scale,
      this.y + row * side * this.scale,
      image.width * unit,
      image.height * unit,
    );
  }

  eachTile(level, visit) {
    const side = TILE << level, { x, y, width, height } = this.visible();
    for (let row = Math.floor(y / side); row * side < y + height; row++) {
      for (let column = Math.floor(x / side); column * side < x + width; column++) visit(column, row, side);
    }
  }

  image(level, column, row) {
    const key = `${level}/${column}/${row}`, photo = this.photo;
    if (!this.images.has(key)) {
      this.images.set(key, null);
      api.tile(photo.id, key).then(
        (image) => {
          if (this.photo !== photo) return;
          this.images.set(key, image);
          this.redraw();
        },
        (error) => {
          if (error.status === 422) this.unreadable(photo, error.message);
          else this.images.delete(key); // asked for again with the next frame
        },
      );
      if (this.images.size > PHOTO_TILES) {
        for (const old of this.images.keys()) {
          if (old.startsWith(`${this.levels - 1}/`)) continue; // the stand-in stays
          this.images.delete(old);
          break;
        }
      }
    }
    return this.images.get(key);
  }
}
