// The script of the dashboard. Every page works without it: it adds what `shared.js` has, dialogs and live updates.

import { DOES, announce, localize, picked, showCount } from "./shared.js";

const base = document.body.dataset.base;
const main = document.getElementById("main");

// Relative times stay true while a page is open.

const UNITS = [[86_400, "d"], [3_600, "h"], [60, "min"], [1, "s"]];

// The clock of this machine may be wrong: times are relative to the clock of the service.
const ahead = Date.now() - Number(document.body.dataset.now);

function relative(then) {
  const seconds = Math.round((Date.now() - ahead - then) / 1_000);
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

function onClick(event) {
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

// Live updates. One tab of the browser listens to the stream of events, holding a lock, and tells the others. A hidden
// tab lets go of the lock. The page then loads itself again, and only what differs is changed.

const LOCK = `discue-live ${new URL(base, location.href).pathname}`;
const REFRESH_MS = 2_000;
const POLL_MS = 5_000;
const IDLE_POLL_MS = 60_000;
const SIGNED_OUT = "Signed out";
const RECONNECTS = "Reconnecting";
const liveButton = document.querySelector("[data-action=pause]");
const channel = new BroadcastChannel(LOCK);
let release = null;
let refreshing = false;
let changedSince = false;
let refreshedAt = 0;
let usedAt = Date.now();

let paused = localStorage.getItem(LOCK) === "paused";
// Why updates stopped without being paused; "" while they continue.
let trouble = "";

function setTrouble(text) {
  if (text === trouble) return;
  trouble = text;
  if (text) announce(text);
  follow();
}

function setPaused(wanted) {
  if (trouble === SIGNED_OUT) {
    location.reload();
    return;
  }
  paused = wanted;
  localStorage.setItem(LOCK, paused ? "paused" : "live");
  channel.postMessage(paused ? "paused" : "live");
  announce(paused ? "Live updates are paused" : "Live updates go on");
  follow();
}

// The service gives each row a key that is unique within its table or list.
function keyOf(node) {
  return node.dataset?.key;
}

// Change the children of an element into those of the new page. Elements stay open, chosen or focused.
function morph(from, to) {
  const kept = new Map([...from.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let at = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const key = wanted.nodeType === Node.ELEMENT_NODE && keyOf(wanted);
    const same = key ? kept.get(key) : at && at.nodeName === wanted.nodeName && !keyOf(at) ? at : null;
    if (!same) {
      from.insertBefore(wanted, at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else from.insertBefore(same, at);
    if (same.nodeType !== Node.ELEMENT_NODE) {
      if (same.nodeValue !== wanted.nodeValue) same.nodeValue = wanted.nodeValue;
    } else if (!same.isEqualNode(wanted)) {
      update(same, wanted);
    }
  }
  while (at) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

const OWN = new Set(["open", "data-local"]);

function update(element, wanted) {
  for (const { name, value } of [...wanted.attributes]) {
    if (!OWN.has(name) && element.getAttribute(name) !== value) element.setAttribute(name, value);
  }
  for (const { name } of [...element.attributes]) {
    if (!OWN.has(name) && name !== "hidden" && !wanted.hasAttribute(name)) element.removeAttribute(name);
  }
  if (element.matches("time")) delete element.dataset.local;
  // What the user types stays.
  if (!element.matches("input,select,textarea")) morph(element, wanted);
}

async function refresh() {
  changedSince = true;
  const wait = refreshedAt + REFRESH_MS - Date.now();
  if (refreshing || document.hidden || paused || picked().length
    || main.contains(document.activeElement?.closest("form:not([data-picks]),dialog"))) return;
  if (wait > 0) {
    setTimeout(() => { if (changedSince) refresh(); }, wait);
    return;
  }
  refreshing = true;
  changedSince = false;
  try {
    const response = await fetch(location.href, { headers: { "x-discue-live": "true" }, redirect: "manual" });
    if (response.type === "opaqueredirect") setTrouble(SIGNED_OUT);
    if (response.ok) {
      setTrouble("");
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.getElementById("main");
      if (fresh?.hasAttribute("data-live")) {
        const row = document.querySelector(".at");
        fresh.querySelector(".note.good")?.remove();
        const notice = main.querySelector(".note.good");
        if (notice) fresh.prepend(notice.cloneNode(true));
        morph(main, fresh);
        morph(document.querySelector(".side nav"), page.querySelector(".side nav"));
        row?.classList.add("at");
        for (const each of main.querySelectorAll("[data-copy],[data-all]")) each.hidden = false;
        showCount();
        localize(main);
        refreshTimes();
      }
    }
  } catch {
    // The service is away: the page shows what it has.
  }
  refreshedAt = Date.now();
  refreshing = false;
  // What has changed meanwhile may be missing in the page that has just come.
  if (changedSince) refresh();
}

// Listen while the lock is held. Where the stream is refused, look now and then instead.
function listen() {
  return new Promise((resolve) => {
    const events = new EventSource(`${base}/live`);
    let timer = 0;
    const tell = () => { channel.postMessage("changed"); refresh(); };
    const poll = () => {
      tell();
      timer = setTimeout(poll, Date.now() - usedAt < 60_000 ? POLL_MS : IDLE_POLL_MS);
    };
    events.addEventListener("changed", tell);
    const told = (text) => { channel.postMessage(text || "found"); setTrouble(text); };
    events.addEventListener("open", () => {
      if (trouble) tell();
      told("");
    });
    events.addEventListener("error", () => {
      if (events.readyState === EventSource.CONNECTING) told(RECONNECTS);
      if (events.readyState === EventSource.CLOSED && !timer) timer = setTimeout(poll, POLL_MS);
    });
    release = () => { events.close(); clearTimeout(timer); release = null; resolve(); };
  });
}

let asking = null;

function follow() {
  if (!liveButton) return;
  liveButton.textContent = trouble || (paused ? "Paused" : "Live");
  liveButton.classList.toggle("off", Boolean(trouble));
  liveButton.setAttribute("aria-pressed", String(paused));
  if (paused || document.hidden || trouble === SIGNED_OUT) {
    asking?.abort();
    asking = null;
    release?.();
  } else if (!asking) {
    asking = new AbortController();
    const { signal } = asking;
    // Outside of a secure context there are no locks: then each tab listens for itself.
    const held = navigator.locks ? navigator.locks.request(LOCK, { signal }, listen) : listen();
    held.catch((error) => { if (error.name !== "AbortError") throw error; });
  }
}

channel.addEventListener("message", ({ data }) => {
  if (data === "changed") {
    refresh();
  } else if (data === "found" || data === RECONNECTS) {
    setTrouble(data === "found" ? "" : data);
  } else {
    paused = data === "paused";
    follow();
  }
});
document.addEventListener("visibilitychange", () => {
  follow();
  if (!document.hidden && liveButton) refresh();
});
for (const name of ["pointermove", "keydown"]) {
  document.addEventListener(name, () => { usedAt = Date.now(); }, { passive: true });
}
addEventListener("pagehide", () => release?.());
addEventListener("pageshow", ({ persisted }) => { if (persisted) { asking = null; follow(); } });

Object.assign(DOES, {
  search: () => (main.querySelector("[data-search]") ?? document.getElementById("find")).focus(),
  find: () => document.getElementById("find").focus(),
  pause: () => setPaused(!paused),
  theme: () => document.getElementById("theme")?.requestSubmit(),
});

setInterval(refreshTimes, 1_000);
document.addEventListener("click", onClick);
follow();
