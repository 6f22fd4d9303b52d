// The strokes that can be undone, kept by the browser, so that a reload does not end undo. Nothing
// depends on it: where it is missing, cannot be written or does not fit the mask, undo starts anew.
// It has a database of its own, so that it never takes a lock from the journal of unsaved strokes.

import { request } from "/static/journal.js";

const HEADS = "heads", STROKES = "strokes";
const MOST_PHOTOS = 12, MOST_BYTES = 2_000_000; // the browser's room belongs to the journal first

export class Past {
  static async open(project) {
    const past = new Past();
    past.work = Promise.resolve();
    try {
      past.db = await request(indexedDB.open(`finicky-${project}-past`, 1), (opening) => {
        opening.result.createObjectStore(HEADS, { keyPath: "photo" });
        opening.result.createObjectStore(STROKES);
      });
    } catch {
      past.db = null;
    }
    return past;
  }

  /**
   * Strokes {forward, back} of a photo's mask as the server has it: done ones and undone ones.
   * Both are empty if the mask has been changed by anybody else since.
   */
  async load(photo, version) {
    const nothing = { done: [], undone: [] };
    await this.work;
    const head = await this.read((stores) => stores.heads.get(photo));
    if (!head || !version || head.version !== version) return nothing;
    const range = IDBKeyRange.bound([photo, head.session, head.first], [photo, head.session, head.total - 1]);
    const strokes = (await this.read((stores) => stores.strokes.getAll(range))) ?? [];
    if (strokes.length !== head.total - head.first) return nothing;
    const split = head.done - head.first;
    return { done: strokes.slice(0, split), undone: strokes.slice(split).reverse() };
  }

  /** Keep where a sheet stands; `added` are strokes, numbered from `from`, that are new to it. */
  keep({ photo, session, first, done, total, seq }, added = [], from = 0) {
    this.change((heads, strokes) => {
      added.forEach((stroke, i) => strokes.put(stroke, [photo, session, from + i]));
      if (added.some(({ forward, back }) => forward.byteLength + back.byteLength > MOST_BYTES)) heads.delete(photo);
      else heads.put({ photo, session, first, done, total, seq, version: "", time: Date.now() });
      this.tidy(heads, strokes);
    });
  }

  /** The server has all strokes of a session up to number `seq`; the mask is `version` now. */
  settle(photo, session, seq, version) {
    this.change((heads) => {
      heads.get(photo).onsuccess = ({ target: { result: head } }) => {
        if (head?.session === session && head.seq <= seq) heads.put({ ...head, version });
      };
    });
  }

  /** Forget strokes that belong to no head, and the heads that are oldest. */
  tidy(heads, strokes) {
    heads.getAll().onsuccess = ({ target: { result: all } }) => {
      all.sort((a, b) => b.time - a.time);
      for (const old of all.splice(MOST_PHOTOS)) heads.delete(old.photo);
      const kept = new Map(all.map((head) => [head.photo, head]));
      strokes.openKeyCursor().onsuccess = ({ target: { result: cursor } }) => {
        if (!cursor) return;
        const [photo, session, number] = cursor.key, head = kept.get(photo);
        if (!head || head.session !== session || number < head.first || number >= head.total) strokes.delete(cursor.key);
        cursor.continue();
      };
    };
  }

  change(action) {
    if (!this.db) return;
    this.work = this.work.then(
      () =>
        new Promise((resolve) => {
          const transaction = this.db.transaction([HEADS, STROKES], "readwrite");
          transaction.oncomplete = transaction.onabort = transaction.onerror = () => resolve();
          action(transaction.objectStore(HEADS), transaction.objectStore(STROKES));
        }),
    ).catch(() => {});
  }

  async read(ask) {
    if (!this.db) return undefined;
    const transaction = this.db.transaction([HEADS, STROKES]);
    const stores = { heads: transaction.objectStore(HEADS), strokes: transaction.objectStore(STROKES) };
    return request(ask(stores)).catch(() => undefined);
  }
}
