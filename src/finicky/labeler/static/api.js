// Talking to the server. Refusals become errors with the status and what the server said.

export class Refused extends Error {
  constructor(status, facts) {
    super(facts.error ?? `the server answered ${status}`);
    this.status = status;
    this.facts = facts;
  }
}

async function call(path, options = {}) {
  const answer = await fetch(path, { cache: "no-store", credentials: "same-origin", ...options });
  if (answer.ok) return answer;
  let facts = {};
  const text = await answer.text();
  try {
    facts = JSON.parse(text);
  } catch {
    facts = { error: text.slice(0, 200) };
  }
  throw new Refused(answer.status, facts);
}

// A request that outlived a sleeping computer may never be answered; it is sent again instead.
const PATIENCE_MS = 30_000;

async function write(method, path, body, headers = {}) {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const answer = await call(path, { method, body, signal, headers: { "X-Finicky": "1", ...headers } });
  return answer.json();
}

const photo = (id) => `/api/photos/${id}`;

export const api = {
  project: async () => (await call("/api/project")).json(),
  version: async (id) => (await call(`${photo(id)}/version`)).json(),
  state: (id, value) => write("PUT", `${photo(id)}/state`, JSON.stringify(value)),
  proposals: async () => (await call("/api/proposals")).json(),

  async mask(id) {
    const answer = await call(`${photo(id)}/mask`);
    const value = (name) => answer.headers.get(`x-finicky-${name}`);
    return {
      patch: new Uint32Array(await answer.arrayBuffer()),
      version: value("version"),
      revision: Number(value("revision")),
    };
  },

  save: (id, body, { session, seq, base }) =>
    write("PUT", `${photo(id)}/mask`, body, {
      "X-Finicky-Session": session,
      "X-Finicky-Seq": String(seq),
      "X-Finicky-Base": base,
    }),

  conflict: (id, body, session, whole) =>
    write("POST", `${photo(id)}/conflict?whole=${whole ? 1 : 0}`, body, { "X-Finicky-Session": session }),

  tile: async (id, key) => createImageBitmap(await (await call(`${photo(id)}/tile/${key}`, { cache: "default" })).blob()),

  /** The exact brightness of a part of a photo, one byte a pixel. */
  async grey(shown, { x, y, width, height }) {
    const out = new Uint8Array(width * height), tasks = [];
    for (let row = y >> 9; row << 9 < y + height; row++) {
      for (let column = x >> 9; column << 9 < x + width; column++) tasks.push([column, row]);
    }
    const work = async () => {
      for (let task = tasks.pop(); task; task = tasks.pop()) {
        const [column, row] = task;
        const answer = await call(`${photo(shown.id)}/grey/${column}/${row}`, { cache: "default" });
        const across = Math.min(512, shown.width - (column << 9));
        paste(new Uint8Array(await answer.arrayBuffer()), across, column, row, out, { x, y, width, height });
      }
    };
    await Promise.all([work(), work(), work(), work()]);
    return out;
  },

  /** How sure Finicky is that a pixel is marked, 0 to 255, and as which class, for a part of a photo. */
  async proposal(id, { x, y, width, height }) {
    const answer = await call(`${photo(id)}/proposal?x=${x}&y=${y}&width=${width}&height=${height}`);
    const both = new Uint8Array(await answer.arrayBuffer());
    return { score: both.subarray(0, width * height), classes: both.subarray(width * height) };
  },
};

function paste(tile, across, column, row, out, { x, y, width, height }) {
  const tileX = column << 9, tileY = row << 9, down = tile.length / across;
  const left = Math.max(tileX, x), right = Math.min(tileX + across, x + width);
  for (let py = Math.max(tileY, y); py < Math.min(tileY + down, y + height); py++) {
    const from = (py - tileY) * across + left - tileX;
    out.set(tile.subarray(from, from + right - left), (py - y) * width + left - x);
  }
}
