// One photo after another to the server; what it finds is shown, newest first.

const at = (id) => document.getElementById(id);
const results = at("results");
const waiting = [];
const MOST_TRIES = 150; // some five minutes
let model = null;
let busy = false;

async function start() {
  const answer = await fetch("/api/model", { credentials: "same-origin" });
  if (!answer.ok) {
    say(await answer.text());
    return;
  }
  model = await answer.json();
  at("model").textContent = `${model.model}: looks for ${model.target}`;
  at("limit").textContent = `${(model.max_pixels / 1e6).toFixed(0)} megapixels and ${(model.max_bytes / 1e6).toFixed(0)} MB`;
  for (const word of document.querySelectorAll(".target")) word.textContent = model.target;
}

function say(text) {
  at("status").textContent = text;
}

function take(files) {
  waiting.push(...files);
  work();
}

async function work() {
  if (busy) return;
  busy = true;
  while (waiting.length) {
    const file = waiting.shift();
    say(`Looking at ${file.name}${waiting.length ? `, ${waiting.length} more wait` : ""}…`);
    await one(file);
  }
  busy = false;
  say("");
}

async function one(file) {
  if (model && file.size > model.max_bytes) {
    refused(file, `the file is larger than ${(model.max_bytes / 1e6).toFixed(0)} MB: save it as JPEG, or cut it`);
    return;
  }
  try {
    const answer = await posted(file);
    const text = await answer.text();
    if (answer.ok) shown(file, JSON.parse(text));
    else refused(file, reason(text));
  } catch {
    refused(file, "the server does not answer: is finicky serve still running?");
  }
}

// Where others are looked at first, the server says when to come again.
async function posted(file) {
  for (let tries = 1; ; tries++) {
    const answer = await fetch("/api/photos", {
      method: "POST",
      body: file,
      credentials: "same-origin",
      headers: { "X-Finicky": "1" },
    });
    const wait = Number(answer.headers.get("Retry-After"));
    if (answer.status !== 503 || !wait || tries === MOST_TRIES) return answer;
    say(`${file.name} waits: others are being looked at…`);
    await new Promise((go) => setTimeout(go, wait * 1000));
    say(`Looking at ${file.name}…`);
  }
}

function reason(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return text.slice(0, 300);
  }
}

function card(file) {
  const made = at("card").content.firstElementChild.cloneNode(true);
  made.querySelector("h2").textContent = file.name;
  results.prepend(made);
  return made;
}

function refused(file, why) {
  const made = card(file);
  made.querySelector(".body").remove();
  const verdict = made.querySelector(".verdict");
  verdict.classList.add("failed");
  verdict.textContent = why;
}

function shown(file, found) {
  const made = card(file);
  const verdict = made.querySelector(".verdict");
  verdict.classList.toggle("found", found.found);
  verdict.textContent = found.found
    ? `${found.n_defects} ${found.n_defects === 1 ? "region" : "regions"} with ${found.target}`
    : `no ${found.target} found`;
  made.querySelector("img").alt = `${file.name}: ${verdict.textContent}`;
  const address = (kind) => `/api/results/${found.id}/${kind}`;
  const show = (kind) => {
    made.querySelector("img").src = address(kind);
    made.querySelector(".picture").href = address(kind);
    for (const button of made.querySelectorAll(".views button")) {
      button.setAttribute("aria-pressed", String(button.dataset.kind === kind));
    }
  };
  for (const button of made.querySelectorAll(".views button")) {
    button.addEventListener("click", () => show(button.dataset.kind));
  }
  show("overlay");
  facts(made.querySelector("dl"), found);
  rows(made, found);
  for (const [kind, name] of Object.entries(found.files)) {
    const link = document.createElement("a");
    link.href = address(kind);
    link.download = `${file.name}.${name}`;
    link.textContent = name;
    made.querySelector(".downloads").append(link);
  }
  at("status").scrollIntoView({ block: "nearest" });
}

function facts(list, found) {
  const all = [
    ["photo", `${found.width} × ${found.height} px, ${found.tiles} tiles, ${found.seconds.toFixed(1)} s`],
    ["highest probability", found.probability.toFixed(2)],
    ["share of the photo", `${found.area_pct.toFixed(2)} %`],
    ["length of all", `${found.length_px.toFixed(0)} px`],
  ];
  for (const [name, value] of all) {
    const term = document.createElement("dt");
    const detail = document.createElement("dd");
    term.textContent = name;
    detail.textContent = value;
    list.append(term, detail);
  }
}

function rows(made, found) {
  if (!found.found) {
    made.querySelector(".scroll").remove();
    return;
  }
  const length = (px, mm) => (mm === null ? `${px.toFixed(0)} px` : `${mm.toFixed(1)} mm`);
  for (const defect of found.defects) {
    const row = made.querySelector("tbody").insertRow();
    for (const text of [
      defect.id,
      length(defect.length_px, defect.length_mm),
      defect.width_mm === null ? `${defect.mean_width_px.toFixed(1)} px` : `${defect.width_mm.toFixed(2)} mm`,
      `${defect.area_px} px`,
      defect.score_max.toFixed(2),
    ]) {
      row.insertCell().textContent = text;
    }
  }
  const hidden = found.n_defects - found.defects.length;
  if (hidden > 0) made.querySelector(".more").textContent = `and ${hidden} smaller ones, all in defects.csv`;
}

function help() {
  at("help").hidden = !at("help").hidden;
  at("help-button").setAttribute("aria-expanded", String(!at("help").hidden));
}

function current() {
  return document.activeElement?.closest("article") ?? results.firstElementChild;
}

function step(way) {
  const cards = [...results.children];
  const here = cards.indexOf(document.activeElement?.closest("article"));
  cards[Math.min(cards.length - 1, Math.max(0, here + way))]?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const views = { Digit1: "overlay", Digit2: "map", Digit3: "mask" };
  if (views[event.code]) current()?.querySelector(`[data-kind="${views[event.code]}"]`)?.click();
  else if (event.key === "o") at("choose").click();
  else if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "?") help();
  else return;
  event.preventDefault();
});
at("help-button").addEventListener("click", help);
at("choose").addEventListener("change", () => {
  take(at("choose").files);
  at("choose").value = "";
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) at("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  take([...event.dataTransfer.files]);
});

start();
