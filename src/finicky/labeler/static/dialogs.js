// Short messages, questions, and patience with a server that is away.

let hiding = 0;

export function say(text, ms = 3500) {
  const toast = document.getElementById("toast");
  toast.textContent = text;
  toast.classList.toggle("shown", Boolean(text));
  clearTimeout(hiding);
  hiding = setTimeout(() => toast.classList.remove("shown"), ms);
}

/** A question with buttons; gives the name of the chosen one. It cannot be dismissed by accident. */
export function ask(title, text, answers) {
  const dialog = document.getElementById("question");
  dialog.replaceChildren(element("h3", title), element("p", text));
  const row = dialog.appendChild(element("div", "", "row"));
  return new Promise((resolve) => {
    answers.forEach(([name, label], order) => {
      const button = row.appendChild(element("button", label, order === 0 ? "primary" : ""));
      button.dataset.answer = name;
      button.onclick = () => (dialog.close(), resolve(name));
    });
    dialog.oncancel = (event) => event.preventDefault();
    dialog.showModal();
  });
}

export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Try until it works or is not wanted any more; a refusal that no patience helps is shown. */
export async function whileRetrying(action, wanted = () => true) {
  for (let pause = 300; wanted(); pause = Math.min(3000, pause * 2)) {
    try {
      return await action();
    } catch (error) {
      if (error.status && ![401, 507].includes(error.status)) {
        say(error.message, 10000);
        return null;
      }
      say(error.status ? error.message : "The labeler is not answering; start finicky label again.", pause + 1000);
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
  return null;
}
