// The options of the tool in hand, in the panel at the right.

import { element } from "/static/dialogs.js";

export function optionsOf(app, parent) {
  const { tool } = app;
  const parts = tool.sized ? brushParts(app) : tool.name === "wand" ? wandParts(app) : tool.name === "threshold" ? thresholdParts(app) : null;
  const key = JSON.stringify([tool.name, app.assist.source, Boolean(app.assist.candidates), Boolean(app.assist.sorting), app.assist.drag, app.assist.bright, app.assist.doubt.shown]);
  if (parent.dataset.shown === key) return refresh(parent, parts ?? []);
  parent.dataset.shown = key;
  parent.replaceChildren();
  if (!parts) return;
  parent.append(element("h2", tool.name === "threshold" && app.assist.source === "proposal" ? "Proposal" : tool.label));
  for (const part of parts) parent.append(part.make());
  refresh(parent, parts);
}

function refresh(parent, parts) {
  for (const part of parts) part.update?.(parent);
}

function slider(id, label, min, max, value, change, shown = value) {
  return {
    make() {
      const row = element("label", `${label} `), input = element("input"), out = element("output");
      Object.assign(input, { type: "range", min, max, id });
      out.id = `${id}-value`;
      row.append(input, out);
      input.oninput = () => change(Number(input.value));
      return row;
    },
    update(parent) {
      const input = parent.querySelector(`#${id}`);
      if (document.activeElement !== input || Number(input.value) !== value) input.value = value;
      parent.querySelector(`#${id}-value`).textContent = shown;
    },
  };
}

function choice(label, current, answers, pick, named = false) {
  return {
    make() {
      const row = element("div", "", "choice");
      row.setAttribute("role", "group");
      row.setAttribute("aria-label", label);
      if (named) row.append(element("span", label));
      for (const [name, text] of answers) {
        const button = row.appendChild(element("button", text));
        button.dataset.pick = name;
        button.setAttribute("aria-pressed", name === current);
        button.onclick = () => pick(name);
      }
      return row;
    },
  };
}

function buttons(list, primary = true) {
  return {
    make() {
      const row = element("div", "", "row");
      list.forEach(([id, label, key, action], order) => {
        const button = row.appendChild(element("button", `${label} `, primary && order === 0 ? "primary" : ""));
        button.id = id;
        if (key) button.append(element("kbd", key));
        button.onclick = action;
      });
      return row;
    },
  };
}

function text(id, value) {
  return { make: () => Object.assign(element("p", "", "small"), { id }), update: (parent) => (parent.querySelector(`#${id}`).textContent = value) };
}

function brushParts(app) {
  return [slider("size", "Size", 1, 100, Math.min(100, app.size), (value) => app.panel.setSize(value), `${app.size} px`)];
}

function wandParts(app) {
  return [slider("tolerance", "Tolerance", 0, 128, app.tolerance, (value) => app.panel.setTolerance(value))];
}

function thresholdParts(app) {
  const { assist } = app, { candidates } = assist;
  if (assist.sorting) {
    return [
      text("sorting-text", `${assist.sorting.regions.length - assist.sorting.index} regions left. Press a class number.`),
      buttons([["sort-skip", "Skip", "", () => assist.answer(null)], ["sort-back", "Back", "⌫", () => assist.back()]], false),
      buttons([["sort-rest", `Rest: ${app.className(app.current)}`, "↵", () => assist.rest(app.current)], ["sort-leave", "Leave", "Esc", () => assist.leave()]], false),
    ];
  }
  const proposal = assist.source === "proposal";
  const parts = [
    choice("Source", assist.source, [["local", "Local"], ["global", "Global"], ["proposal", "Finicky"]], (name) => (name === "proposal" ? app.propose() : assist.start(name))),
    slider("cut", proposal ? "Boldness" : "Threshold", 0, assist.most, assist.cuts[assist.source], (value) => assist.nudge(value - assist.cuts[assist.source])),
  ];
  if (assist.source === "local") parts.push(slider("side", "Window", 5, 201, assist.side, (value) => ((assist.side = value | 1), assist.rescore()), `${assist.side} px`));
  parts.push(slider("smallest", "Smallest", 1, 400, assist.smallest, (value) => assist.setSmallest(value), `${assist.smallest} px`));
  if (!proposal) parts.push(choice("Looks for", assist.bright ? "bright" : "dark", [["dark", "Dark"], ["bright", "Bright"]], (name) => ((assist.bright = name === "bright"), assist.rescore())));
  parts.push(choice("A drag", assist.drag, [...(proposal ? [["add", "adds"], ["redraw", "redraws"]] : []), ["cover", "covers"], ["keep", "keeps"]], (name) => ((assist.drag = name), assist.changed()), true));
  parts.push(text("candidate-text", candidates ? `${candidates.count.toLocaleString("en")} px in question` : "…"));
  const all = ["accept-all", proposal ? "Accept" : `All: ${app.className(app.current)}`, proposal ? "↵" : "⇧↵", () => assist.acceptAll(app.current || 1)];
  const sort = ["sort", "One by one", proposal ? "S" : "↵", () => assist.sort()];
  parts.push(buttons(proposal ? [all, sort] : [sort, all]));
  if (proposal) parts.push(buttons([["doubt", assist.doubt.shown ? "Hide doubt" : "Where unsure?", "U", () => assist.toggleDoubt()]], false));
  return parts;
}
