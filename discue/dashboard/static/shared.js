// What pages of the dashboard and of the portal share: local times, copying, keys and selected rows.

const base = document.body.dataset.base ?? "";
const main = document.getElementById("main");
const announcer = document.getElementById("announcer");

export function announce(text) {
  announcer.textContent = text;
}

// Local times, in addition to UTC.

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export function localize(root) {
  for (const each of root.querySelectorAll("time[datetime]:not([data-local])")) {
    each.dataset.local = "";
    each.title += `\n${local.format(new Date(each.dateTime))} here`;
  }
}

// Copying. Outside of a secure context there is no clipboard, and a user may refuse it: then there is only the selection.

async function copy(button) {
  const text = button.previousElementSibling;
  const said = button.textContent;
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
    announce("Copied");
  } catch {
    getSelection().selectAllChildren(text);
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = said; }, 1_600);
}

// Keys. The list in the page, which `?` shows, says which there are.

const targets = new Map();
const actions = new Map();
for (const each of document.querySelectorAll("[data-keys]")) {
  if (each.dataset.target) targets.set(each.dataset.keys, base + (each.dataset.target === "/" ? "" : each.dataset.target));
  else actions.set(each.dataset.keys, each.dataset.does);
}

function rows() {
  return [...document.querySelectorAll("[data-rows] tbody tr, details[data-row]")];
}

// The row that the keyboard is at: the one with the focus, or where it was last.
function here() {
  const all = rows();
  const focused = all.find((row) => row.contains(document.activeElement));
  if (focused) for (const row of all) row.classList.toggle("at", row === focused);
  return all.find((row) => row.classList.contains("at"));
}

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(here());
  const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + step))];
  for (const row of all) row.classList.toggle("at", row === next);
  next.querySelector("a,summary")?.focus();
  next.scrollIntoView({ block: "nearest" });
}

// Selected rows. Their checkboxes are in a form, so they need no script; `x` and the menu do.

export function picked() {
  return [...main.querySelectorAll("[data-pick]:checked")];
}

export function showCount() {
  const [count, all] = [picked().length, main.querySelectorAll("[data-pick]").length];
  for (const each of main.querySelectorAll("[data-bulk]")) each.disabled = !count;
  for (const each of main.querySelectorAll("[data-count]")) each.textContent = count ? `${count} selected` : "";
  const box = main.querySelector("[data-all] input");
  if (!box) return;
  box.checked = count === all;
  box.indeterminate = count > 0 && count < all;
}

function pick(wanted) {
  if (!here()) move(1);
  const box = here()?.querySelector("[data-pick]");
  if (!box) return;
  box.checked = wanted ?? !box.checked;
  showCount();
  announce(`${picked().length} selected`);
}

// Do an action on the selected rows; on the row at the keyboard if none is selected.
function actOnPicked(name) {
  const button = main.querySelector(`[data-bulk=${name}]`);
  if (button && !picked().length && here()) pick(true);
  if (!button || !picked().length) return false;
  button.form.requestSubmit(button);
  return true;
}

function openMenu() {
  const row = here();
  const several = picked().length || row?.querySelector("[data-pick]") ? main.querySelectorAll("[data-bulk]") : [];
  const own = picked().length ? [] : row?.querySelectorAll("a.button") ?? [];
  const sources = [...several, ...own, ...main.querySelectorAll(".head .actions :is(a,button)")];
  const menu = document.getElementById("menu");
  menu.lastElementChild.replaceChildren(...sources.map((source) => {
    const item = document.createElement("button");
    item.className = "button";
    item.textContent = source.textContent.trim();
    item.addEventListener("click", () => {
      menu.close();
      if (source.dataset.bulk) actOnPicked(source.dataset.bulk);
      else source.click();
    });
    return item;
  }));
  if (sources.length) menu.showModal();
  else announce("There are no actions here");
}

function moveInMenu(event) {
  const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const items = [...document.querySelectorAll("#menu .menu button")];
  items.at((items.indexOf(document.activeElement) + step) % items.length).focus();
}

// The effects of keys, by the names of actions. The script of the dashboard adds those of its frame.
export const DOES = {
  next: () => move(1),
  previous: () => move(-1),
  open: () => here()?.querySelector("a,summary")?.click(),
  older: () => document.querySelector("a[rel=next]")?.click(),
  select: () => pick(),
  redeliver: () => { if (!actOnPicked("redeliver")) location.reload(); },
  menu: openMenu,
  help: () => document.getElementById("help").showModal(),
};

let before = "";

function onKey(event) {
  if (document.querySelector("#menu[open]")) moveInMenu(event);
  const typing = event.target.closest("input:not([type=checkbox]),textarea,select,[contenteditable]");
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

function onChange(event) {
  if (event.target.matches("[data-all] input")) {
    for (const each of main.querySelectorAll("[data-pick]")) each.checked = event.target.checked;
  }
  if (event.target.matches("[data-pick],[data-all] input")) showCount();
}

document.addEventListener("keydown", onKey);
document.addEventListener("change", onChange);
document.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (button?.matches("[data-action]")) DOES[button.dataset.action]();
  if (button?.matches("[data-copy]")) copy(button);
});
for (const each of document.querySelectorAll("[data-action],[data-all],[data-copy]")) each.hidden = false;
showCount();
localize(document);
