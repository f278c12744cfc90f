// The script of the portal. Every page works without it: it adds what `shared.js` has, and the height of the frame.

import "./shared.js";

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
