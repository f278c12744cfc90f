// Of the dashboard. Every page works without it: it adds keys, dialogs, copying, and local times.

const base = document.body.dataset.base;
const main = document.getElementById("main");
const announcer = document.getElementById("announcer");

function announce(text) {
  announcer.textContent = text;
}

// Local times, in addition to UTC.

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function localize(root) {
  for (const each of root.querySelectorAll("time[datetime]:not([data-local])")) {
    each.dataset.local = "";
    each.title += `\n${local.format(new Date(each.dateTime))} here`;
  }
}

// Relative times stay true while a page is open.

const UNITS = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];

function relative(then) {
  const seconds = Math.round((Date.now() - then) / 1_000);
  if (Math.abs(seconds) < 1) return "just now";
  const [unit, name] = UNITS.find(([each]) => Math.abs(seconds) >= each);
  const text = `${Math.floor(Math.abs(seconds) / unit)}\u202f${name}`;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

function refreshTimes() {
  if (document.hidden) return;
  for (const each of document.querySelectorAll("time[datetime]")) {
    if (/ago$|^in |^just/.test(each.textContent)) each.textContent = relative(new Date(each.dateTime));
  }
}

// Copying. Outside of a secure context there is no clipboard, only the selection.

async function copy(button) {
  const text = button.previousElementSibling;
  const said = button.textContent;
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
    announce("Copied");
  } else {
    getSelection().selectAllChildren(text);
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = said; }, 1_600);
}

// Confirmations are pages of their own. With a script, their form is shown over the page.

async function confirmed(link) {
  const response = await fetch(link.href, { headers: { accept: "text/html" } });
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  const form = page.querySelector("form.confirm");
  if (!response.ok || !form) {
    location.assign(link.href);
    return;
  }
  const dialog = document.getElementById("confirm");
  dialog.replaceChildren(document.adoptNode(form));
  dialog.showModal();
}

// Keys. The list in the page, which `?` shows, says which there are.

const targets = new Map();
const actions = new Map();
for (const each of document.querySelectorAll("[data-keys]")) {
  if (each.dataset.target) targets.set(each.dataset.keys, base + (each.dataset.target === "/" ? "" : each.dataset.target));
  else actions.set(each.dataset.keys, each.dataset.does);
}

function rows() {
  return [...document.querySelectorAll("[data-rows] tbody tr")];
}

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("at"));
  const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + step))];
  for (const row of all) row.classList.toggle("at", row === next);
  next.querySelector("a")?.focus();
  next.scrollIntoView({ block: "nearest" });
}

const DOES = {
  next: () => move(1),
  previous: () => move(-1),
  open: () => document.querySelector("tr.at a")?.click(),
  older: () => document.querySelector("a[rel=next]")?.click(),
  search: () => (main.querySelector("[data-search]") ?? document.getElementById("find")).focus(),
  find: () => document.getElementById("find").focus(),
  reload: () => location.reload(),
  theme: () => document.getElementById("theme")?.requestSubmit(),
  help: () => document.getElementById("help").showModal(),
};

let before = "";

function onKey(event) {
  const typing = event.target.closest("input,textarea,select,[contenteditable]");
  if (event.key === "Escape" && typing) typing.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const both = before ? `${before} ${event.key}` : event.key;
  before = event.key === "g" && !before ? "g" : "";
  if (targets.has(both)) {
    event.preventDefault();
    location.assign(targets.get(both));
  } else if (actions.has(both)) {
    // Enter on a link or a button does what it says.
    if (event.key === "Enter" && event.target.closest("a,button,summary")) return;
    event.preventDefault();
    DOES[actions.get(both)]();
  }
}

function onClick(event) {
  const button = event.target.closest("button");
  if (button?.matches("[data-copy]")) copy(button);
  if (button?.matches("[data-action]")) DOES[button.dataset.action]();
  const link = event.target.closest("a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (link.matches("[data-confirm]")) {
    event.preventDefault();
    confirmed(link);
  } else if (link.matches("dialog [data-close]")) {
    event.preventDefault();
    link.closest("dialog").close();
  }
}

for (const each of document.querySelectorAll("[data-copy],[data-action]")) each.hidden = false;
localize(document);
setInterval(refreshTimes, 1_000);
document.addEventListener("keydown", onKey);
document.addEventListener("click", onClick);
