// The script of the portal. Every page works without it: it adds copying, local times, and the height of the frame.

import { announce } from "./keys.js";

// The page that embeds this one learns how high it is, and nothing else. Other pages do not get the message.

if (parent !== window) {
  const allowed = (document.body.dataset.origins ?? "").split(" ").filter(Boolean);
  const ancestors = location.ancestorOrigins ? [...location.ancestorOrigins].slice(0, 1) : allowed;
  const origins = allowed.filter((each) => ancestors.includes(each));
  new ResizeObserver(() => {
    const portalHeight = Math.ceil(document.documentElement.getBoundingClientRect().height);
    for (const origin of origins) parent.postMessage({ portalHeight }, origin);
  }).observe(document.documentElement);
}

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

for (const each of document.querySelectorAll("time[datetime]")) {
  each.title += `\n${local.format(new Date(each.dateTime))} here`;
}

// Outside of a secure context there is no clipboard, only the selection.

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
      announce("Copied");
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Press Ctrl+C";
    }
  });
}
