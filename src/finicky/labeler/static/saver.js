// Brings strokes to the server, one request at a time, and says where each of them is. A stroke is
// first written to the browser's journal and leaves it only when the server has confirmed it.

import { api } from "/static/api.js";
import { join } from "/static/raster.js";

const MOST_BYTES = 8_000_000, MOST_STROKES = 200;
const RETRY_MS = [400, 800, 1500, 3000];

export const session = newSession();
let lastSeq = 0;

function newSession() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, "0")).join("");
}

/** Held as long as this tab lives, so that no other tab sends its strokes for it. */
export function holdSession() {
  return new Promise((resolve) => {
    if (!navigator.locks) resolve();
    else navigator.locks.request(`finicky-${session}`, () => (resolve(), new Promise(() => {})));
  });
}

export class Saver {
  /**
   * @param photo {id}
   * @param stored {version, revision} of the mask that was loaded
   * @param report called with the saver whenever something changes
   * @param conflict called with the saver and the server's facts when the mask changed elsewhere
   */
  constructor(photo, stored, journal, report, conflict) {
    this.photo = photo;
    this.version = stored.version;
    this.revision = stored.revision;
    this.journal = journal;
    this.report = report;
    this.conflict = conflict;
    this.queue = [];
    this.problem = "";
    this.savedAt = null;
    this.sending = false;
    this.failures = 0;
    this.stuck = false; // until a conflict is decided
  }

  get waiting() {
    return this.queue.length;
  }

  /** Whether the tab may be closed without losing what waits. */
  get safe() {
    return this.queue.every((stroke) => stroke.safe);
  }

  /** Take a stroke and give its number. The pixels are in the raster; from here on it cannot get lost. */
  add(patch) {
    const stroke = { photo: this.photo.id, session, seq: ++lastSeq, base: this.version, patch, time: Date.now() };
    this.queue.push(stroke);
    const kept = () => ((stroke.safe = true), this.report(this));
    stroke.kept = this.journal.add({ ...stroke }).then(kept, (error) => {
      this.problem = `this browser cannot keep strokes (${error?.name ?? "unknown"}): leave the tab open`;
    });
    this.report(this);
    this.send();
    return stroke.seq;
  }

  async send() {
    if (this.sending || this.stuck || this.queue.length === 0) return;
    this.sending = true;
    const batch = firstBatch(this.queue);
    await Promise.all(batch.map((stroke) => stroke.kept));
    try {
      const answer = await api.save(this.photo.id, join(batch.map((s) => s.patch)), {
        session,
        seq: batch.at(-1).seq,
        base: this.version,
      });
      await this.confirmed(batch, answer);
    } catch (error) {
      this.failed(error);
    }
    this.sending = false;
    this.report(this);
    if (this.failures === 0) this.send();
  }

  async confirmed(batch, answer) {
    this.version = answer.version;
    this.revision = answer.revision;
    this.status = answer.status;
    this.savedAt = new Date();
    this.problem = "";
    this.failures = 0;
    this.queue.splice(0, batch.length);
    await this.journal.forget(session, this.photo.id, batch.at(-1).seq).catch(() => {});
  }

  failed(error) {
    if (error.status === 409) {
      this.stuck = true;
      this.conflict(this, error.facts);
      return;
    }
    this.problem = why(error);
    const pause = RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)];
    setTimeout(() => this.send(), pause);
  }

  /** After a conflict: go on from the server's mask, with nothing waiting. */
  async restart(stored) {
    const dropped = this.queue.splice(0);
    this.version = stored.version;
    this.revision = stored.revision;
    this.stuck = false;
    this.problem = "";
    if (dropped.length) await this.journal.forget(session, this.photo.id, dropped.at(-1).seq).catch(() => {});
    this.report(this);
    return dropped;
  }
}

/** As many of the first strokes as travel together. */
function firstBatch(queue) {
  let bytes = 0, count = 0;
  for (const stroke of queue) {
    bytes += stroke.patch.byteLength;
    if (count > 0 && (bytes > MOST_BYTES || count >= MOST_STROKES)) break;
    count++;
  }
  return queue.slice(0, count);
}

export function why(error) {
  if (error.status === 401) return "the labeler was restarted: open the link that it printed; nothing is lost";
  if (error.status) return error.message;
  return "the labeler is not answering; start finicky label again";
}

/**
 * Send what earlier sessions could not. Gives {sent, conflicts: [{photo, patch, kept}]}; strokes
 * whose tab is still open are left to it.
 */
export async function sendOrphans(journal, past) {
  const result = { sent: 0, conflicts: [] };
  for (const group of await journal.orphans(session)) {
    await ifFree(group.session, () => sendGroup(group, journal, past, result));
  }
  return result;
}

async function sendGroup({ session: author, photo, strokes }, journal, past, result) {
  const { base } = strokes[0];
  for (let rest = strokes; rest.length;) {
    const batch = firstBatch(rest), patch = join(batch.map((s) => s.patch)), seq = batch.at(-1).seq;
    try {
      const { version } = await api.save(photo, patch, { session: author, seq, base });
      past.settle(photo, author, seq, version);
      result.sent += batch.length;
    } catch (error) {
      if (error.status !== 409) return; // kept for the next start
      const { kept } = await api.conflict(photo, patch, author, false);
      result.conflicts.push({ photo, patch, kept });
    }
    await journal.forget(author, photo, seq);
    rest = rest.slice(batch.length);
  }
}

function ifFree(name, action) {
  if (!navigator.locks) return action();
  return navigator.locks.request(`finicky-${name}`, { ifAvailable: true }, (lock) => lock && action());
}
