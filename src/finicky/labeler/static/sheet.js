// One open photo: its mask, its history, and the saver that brings both to the server.

import { api } from "/static/api.js";
import { Raster, join } from "/static/raster.js";
import { Saver, session } from "/static/saver.js";

const HISTORY = 200;

export class Sheet {
  constructor(photo, raster, stored, { journal, past }, { report, conflict, locked = "" }) {
    this.photo = photo;
    this.raster = raster;
    this.locked = locked; // why nothing may be painted; empty if it may
    this.past = past;
    this.undone = [];
    this.history = [];
    this.first = 0; // number of the oldest stroke that can be undone
    this.seq = 0; // of the last patch that went to the saver
    this.saver = new Saver(photo, stored, journal, (saver) => (this.settled(saver), report(saver)), conflict);
  }

  /** Load a photo's mask. One that cannot be read is shown as locked, and never written over. */
  static async open(photo, keepers, handlers) {
    const raster = new Raster(photo.width, photo.height);
    try {
      const stored = await api.mask(photo.id);
      raster.apply(stored.patch);
      const sheet = new Sheet(photo, raster, stored, keepers, handlers);
      await sheet.remember();
      return sheet;
    } catch (error) {
      if (error.status !== 422) throw error;
      const nothing = { version: "", revision: 0 };
      return new Sheet(photo, raster, nothing, keepers, { ...handlers, locked: error.message });
    }
  }

  /** Take over what an earlier page of this browser could undo. */
  async remember() {
    const { done, undone } = await this.past.load(this.photo.id, this.saver.version);
    if (!done.length && !undone.length) return;
    [this.history, this.undone] = [done, undone];
    this.keep([...done, ...[...undone].reverse()], 0);
    this.past.settle(this.photo.id, session, this.seq, this.saver.version);
  }

  keep(added = [], from = 0) {
    const done = this.first + this.history.length, total = done + this.undone.length;
    this.past.keep({ photo: this.photo.id, session, first: this.first, done, total, seq: this.seq }, added, from);
  }

  settled({ waiting, version }) {
    if (waiting || version === this.settledAs || !this.seq) return;
    this.settledAs = version;
    this.past.settle(this.photo.id, session, this.seq, version);
  }

  get drawing() {
    return this.raster.touched !== null;
  }

  /** End the stroke that raster.begin() started. Gives the stroke, or null if nothing changed. */
  commit() {
    const stroke = this.raster.end();
    if (!stroke) return null;
    this.history.push(stroke);
    if (this.history.length > HISTORY) this.history.shift(), this.first++;
    this.undone = [];
    this.seq = this.saver.add(stroke.forward);
    this.keep([stroke], this.first + this.history.length - 1);
    return stroke;
  }

  /** Drop the stroke that raster.begin() started. */
  abandon() {
    const stroke = this.raster.end();
    if (stroke) this.raster.apply(stroke.back);
  }

  undo() {
    const stroke = this.drawing ? null : this.history.pop();
    if (!stroke) return false;
    this.raster.apply(stroke.back);
    this.seq = this.saver.add(stroke.back);
    this.undone.push(stroke);
    this.keep();
    return true;
  }

  redo() {
    const stroke = this.drawing ? null : this.undone.pop();
    if (!stroke) return false;
    this.raster.apply(stroke.forward);
    this.seq = this.saver.add(stroke.forward);
    this.history.push(stroke);
    this.keep();
    return true;
  }

  /** Show what is stored instead of what is here. Gives the strokes that were not stored. */
  async takeStored(stored) {
    this.replace(stored.patch);
    this.history = [];
    this.undone = [];
    return this.saver.restart(stored);
  }

  replace(patch) {
    const { raster } = this;
    raster.data.fill(0);
    raster.used.fill(0);
    raster.apply(patch);
    raster.changed(0, 0, raster.width, raster.height);
  }

  /** Add a patch as one stroke that can be undone. */
  add(patch) {
    this.raster.begin();
    this.raster.apply(patch);
    return this.commit();
  }

  /** Make the mask what `whole` (a patch on an empty mask) says, as one stroke. */
  become(whole) {
    const { raster } = this;
    raster.begin();
    for (let y = 0; y < raster.height; y++) raster.setRun(y, 0, raster.width, 0);
    raster.apply(whole);
    raster.changed(0, 0, raster.width, raster.height);
    return this.commit();
  }

  strokesWaiting() {
    return join(this.saver.queue.map((stroke) => stroke.patch));
  }
}
