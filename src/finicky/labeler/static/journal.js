// Strokes that the server has not confirmed, kept by the browser. They outlive the server, the tab
// and the power supply, and are sent as soon as a server of the same project answers again.

const STORE = "strokes";

export class Journal {
  /** A journal that works, or one that says it does not (`available`). */
  static async open(project) {
    const journal = new Journal();
    try {
      journal.db = await request(indexedDB.open(`finicky-${project}`, 1), (opening) => {
        opening.result.createObjectStore(STORE, { autoIncrement: true }).createIndex("session", "session");
      });
      journal.available = true;
    } catch {
      journal.available = false;
    }
    return journal;
  }

  /** Resolves when the stroke is on disk. */
  async add(stroke) {
    if (this.available) await this.write((store) => store.add(stroke));
  }

  /** Forget a session's strokes on a photo, up to and with number `seq`. */
  async forget(session, photo, seq) {
    if (!this.available) return;
    await this.write((store) => {
      store.index("session").openCursor(IDBKeyRange.only(session)).onsuccess = (event) => {
        const cursor = event.target.result;
        if (!cursor) return;
        if (cursor.value.photo === photo && cursor.value.seq <= seq) cursor.delete();
        cursor.continue();
      };
    });
  }

  /** What other sessions left, as [{session, photo, strokes}], strokes in order. */
  async orphans(session) {
    if (!this.available) return [];
    const all = await request(this.db.transaction(STORE).objectStore(STORE).getAll());
    const groups = new Map();
    for (const stroke of all) {
      if (stroke.session === session) continue;
      const key = `${stroke.session}/${stroke.photo}`;
      if (!groups.has(key)) groups.set(key, { session: stroke.session, photo: stroke.photo, strokes: [] });
      groups.get(key).strokes.push(stroke);
    }
    for (const group of groups.values()) group.strokes.sort((a, b) => a.seq - b.seq);
    return [...groups.values()];
  }

  write(change) {
    return new Promise((resolve, reject) => {
      const transaction = this.db.transaction(STORE, "readwrite", { durability: "strict" });
      transaction.oncomplete = () => resolve();
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
      change(transaction.objectStore(STORE));
    });
  }
}

export function request(asked, upgrade) {
  return new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
    if (upgrade) asked.onupgradeneeded = () => upgrade(asked);
  });
}
