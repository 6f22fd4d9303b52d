// Status and note of each photo. Changes wait in the browser until the server has taken them.

import { api } from "/static/api.js";

export class Statuses {
  constructor(project, changed) {
    this.key = `finicky-states-${project}`;
    this.changed = changed;
    this.waiting = JSON.parse(localStorage.getItem(this.key) ?? "{}");
    this.sending = null;
    if (Object.keys(this.waiting).length) this.send();
  }

  of(photo) {
    return this.waiting[photo.id]?.status ?? photo.status;
  }

  noteOf(photo) {
    return this.waiting[photo.id]?.note ?? photo.note;
  }

  /** The server said so. */
  learned(photo, status) {
    if (photo.status === status) return;
    photo.status = status;
    this.changed();
  }

  set(photo, value) {
    Object.assign(photo, value);
    this.waiting[photo.id] = { ...this.waiting[photo.id], ...value };
    this.keep();
    this.changed();
    return this.send();
  }

  keep() {
    localStorage.setItem(this.key, JSON.stringify(this.waiting));
  }

  send() {
    this.sending ??= this.work().finally(() => (this.sending = null));
    return this.sending;
  }

  async work() {
    for (let id = Object.keys(this.waiting)[0]; id; id = Object.keys(this.waiting)[0]) {
      const value = this.waiting[id];
      try {
        await api.state(id, value);
        if (this.waiting[id] === value) delete this.waiting[id];
        this.keep();
      } catch (error) {
        if (error.status === 400) delete this.waiting[id]; // a photo that is no longer there
        setTimeout(() => this.send(), 2000);
        return;
      }
    }
  }
}
