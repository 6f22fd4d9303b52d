// The keyboard: one table, from which the help is made too. Digits, brackets, minus and equals are
// taken by their place on the keyboard, because other layouts need Shift for them.

import { element } from "/static/dialogs.js";

const GROUPS = {
  Mark: [
    ["1 … 9", "class; in a list of regions: answer"],
    ["0", "unlabelled: covers and erases"],
    ["Ctrl Z", "undo"],
    ["Ctrl Shift Z · Ctrl Y", "redo"],
    ["Enter", "accept, close the lasso"],
    ["Esc", "drop"],
  ],
  Tools: [
    ["B", "brush"], ["K", "crack pen"], ["E", "eraser"], ["L", "lasso"], ["R", "box"], ["F", "fill"], ["W", "wand"],
    ["T", "threshold"], ["H", "move"],
    ["[ ]", "size, tolerance, threshold ±10"],
    ["- =", "threshold ±1"],
  ],
  "Finicky labels for you": [
    ["P", "propose a mask"], ["Enter", "accept it"], ["S", "go through its regions"], ["[ ] - =", "bolder, more careful"],
    ["Drag", "add what it missed"], ["Alt drag", "draw over it"], ["Shift drag", "cover"], ["Shift click", "take a region away"],
    ["U", "show where it is unsure"], ["Shift P", "label this photo next"],
  ],
  Look: [
    ["Wheel · +", "zoom"], ["Space", "hold to move"], ["Shift F", "whole photo"], ["Shift 0", "one to one"],
    ["Q", "hold to hide the overlay"], ["Shift wheel", "overlay strength"], ["Alt wheel", "brush size"],
  ],
  Photos: [
    ["D · Ctrl →", "next"], ["A · Ctrl ←", "previous"], ["Shift D", "next that is not done"],
    ["Ctrl Enter", "done, and on to the next"], ["N", "write a note"], ["?", "this list"],
  ],
};

export function bindKeys(app) {
  window.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return helpKey(event);
    if (event.target.matches("textarea, input:not([type=range])")) return noteKey(app, event);
    if (press(app, event)) event.preventDefault();
  });
  window.addEventListener("keyup", (event) => {
    if (event.code === "Space") app.spaceDown = false;
    if (event.key.toLowerCase() === "q") app.panel.hideMask(false);
    app.panel.cursor();
  });
  window.addEventListener("blur", () => {
    app.spaceDown = false;
    app.panel.hideMask(false);
  });
}

function helpKey(event) {
  const help = document.getElementById("help");
  if (help.open && event.key === "?") help.close();
}

function noteKey(app, event) {
  if (event.key === "Escape") event.target.blur();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.target.blur();
    app.finishPhoto("done");
  }
}

/** Whether the key meant something. */
function press(app, event) {
  if (event.ctrlKey || event.metaKey) return pressWithControl(app, event);
  if (event.altKey) return false;
  if (app.assist.sorting) return pressSorting(app, event);
  return pressView(app, event) || pressNumber(app, event) || pressAssist(app, event) || pressStep(app, event) || pressLetter(app, event);
}

function pressWithControl(app, event) {
  const key = event.key.toLowerCase();
  const actions = {
    z: () => (event.shiftKey ? app.redo() : app.undo()),
    y: () => app.redo(),
    enter: () => app.finishPhoto("done"),
    arrowright: () => app.step(1),
    arrowleft: () => app.step(-1),
  };
  if (!actions[key]) return false;
  if (app.assist.sorting && key === "z") app.assist.back();
  else actions[key]();
  return true;
}

function classOf(app, event) {
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code)?.[1];
  if (digit === "0") return 0;
  const found = app.classes.find((entry) => entry.key === (digit ?? event.key));
  return digit || found ? (found?.id ?? null) : undefined;
}

function pressSorting(app, event) {
  if (pressView(app, event)) return true;
  if (["Shift", "Alt", "Control", "Meta", "Tab", "CapsLock", "?"].includes(event.key)) return event.key === "?" && showHelp();
  if (event.key === "Escape") app.assist.leave();
  else if (event.key === "Enter") app.assist.rest(app.current);
  else if (event.key === "Backspace") app.assist.back();
  else app.assist.answer(classOf(app, event) || null);
  return true;
}

function pressView(app, event) {
  const { view } = app;
  if (event.code === "Space") app.spaceDown = true;
  else if (event.key.toLowerCase() === "q" && !event.shiftKey) app.panel.hideMask(true);
  else if (event.key === "+" && !event.code.startsWith("Digit")) view.zoom(1.25);
  else if (event.code === "NumpadSubtract") view.zoom(0.8);
  else if (event.shiftKey && event.code === "KeyF") view.fit();
  else if (event.shiftKey && event.code === "Digit0") view.zoom(1 / (view.scale * view.ratio));
  else return false;
  app.panel.cursor();
  return true;
}

function pressNumber(app, event) {
  if (event.shiftKey && !event.code.startsWith("Digit")) return false;
  const id = classOf(app, event);
  if (id === undefined || id === null) return false;
  app.choose(id);
  return true;
}

function pressAssist(app, event) {
  const { assist } = app;
  if (!assist.candidates) return false;
  const key = event.key.toLowerCase();
  if (key === "enter" && (event.shiftKey || assist.source === "proposal")) assist.acceptAll(app.current || 1);
  else if (key === "enter" || key === "s") assist.sort();
  else if (key === "u") assist.toggleDoubt();
  else return false;
  return true;
}

function pressStep(app, event) {
  const step = { Minus: -1, Equal: 1, BracketLeft: -10, BracketRight: 10 }[event.code];
  if (!step || event.shiftKey) return false;
  if (app.tool.name === "threshold") app.assist.nudge(step);
  else if (Math.abs(step) === 1) app.view.zoom(step > 0 ? 1.25 : 0.8);
  else if (app.tool.name === "wand") app.panel.setTolerance(app.tolerance + step / 5);
  else app.panel.setSize(app.size * (step > 0 ? 1.3 : 0.77), Math.sign(step));
  return true;
}

function pressLetter(app, event) {
  const key = (event.shiftKey ? "shift " : "") + event.key.toLowerCase();
  const tools = { b: "brush", k: "pen", e: "eraser", l: "lasso", r: "rectangle", f: "fill", w: "wand", h: "pan" };
  const actions = {
    t: () => app.openThreshold(app.assist.source === "proposal" ? "local" : undefined),
    p: () => app.propose(),
    "shift p": () => app.labelNext(),
    d: () => app.step(1),
    a: () => app.step(-1),
    "shift d": () => app.nextToDo(),
    n: () => document.getElementById("note").focus(),
    enter: () => app.tool.finish?.(app),
    escape: () => app.tool.cancel?.() || (app.assist.drop() && app.setTool("brush")),
    "?": showHelp,
    "shift ?": showHelp,
    f1: showHelp,
  };
  if (tools[key]) app.setTool(tools[key]);
  else if (actions[key]) actions[key]();
  else return false;
  app.view.redraw();
  return true;
}

export function showHelp() {
  const help = document.getElementById("help");
  help.replaceChildren(element("h3", "Keys"), element("div", "", "columns"));
  for (const [title, keys] of Object.entries(GROUPS)) {
    const group = help.lastChild.appendChild(element("div", "", "group"));
    group.append(element("h2", title));
    for (const [key, meaning] of keys) {
      const row = group.appendChild(element("div"));
      row.append(element("span", meaning), element("kbd", key));
    }
  }
  const close = help.appendChild(element("button", "Close (Esc)"));
  close.onclick = () => help.close();
  help.showModal();
  return true;
}
