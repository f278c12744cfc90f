// The script of the documentation. Every page works without it: it shows results of a search as one types, and more.

const WAIT_MS = 120;

const element = (name, values) => Object.assign(document.createElement(name), values);

// The service searches: these are the results of its page for the same query.
const start = (form) => {
  const input = form.querySelector("input");
  const found = form.querySelector(".found");
  const [state, list] = found.children;
  let timer;
  const load = async (query) => {
    const response = await fetch(`${form.action}?${new URLSearchParams({ q: query })}`, { headers: { accept: "text/html" } });
    if (!response.ok) throw new Error(response.statusText);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    // Links are relative to the page of the search.
    for (const link of page.querySelectorAll("#results a")) link.href = new URL(link.getAttribute("href"), form.action);
    return page;
  };
  const show = async () => {
    const query = input.value.trim();
    found.hidden = !query;
    if (found.hidden) return;
    if (!list.children.length) state.textContent = "Searching…";
    try {
      const page = await load(query);
      if (query !== input.value.trim()) return;
      list.replaceChildren(...page.querySelectorAll("#results li"));
      state.textContent = page.querySelector("#results p").textContent;
      state.className = list.children.length ? "sr" : "soft";
    } catch {
      list.replaceChildren();
      state.className = "soft";
      state.textContent = "The search failed. Try again.";
    }
  };
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, WAIT_MS);
  });
  form.addEventListener("keydown", (event) => {
    const links = [...list.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move && !found.hidden) {
      event.preventDefault();
      (at + move < 0 ? input : links[Math.min(at + move, links.length - 1)] ?? input).focus();
    } else if (event.key === "Escape") {
      found.hidden = true;
      input.focus();
    }
  });
  form.addEventListener("focusout", (event) => {
    if (!form.contains(event.relatedTarget)) found.hidden = true;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      input.focus();
    }
  });
  form.querySelector("kbd").hidden = false;
};

// Code can be copied. Outside of a secure context there is no clipboard, only the selection.
const offerCopy = (code) => {
  const button = element("button", { type: "button", className: "copy", textContent: "Copy" });
  const box = element("div", { className: "code" });
  button.addEventListener("click", async () => {
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(code.textContent.trimEnd());
    } catch {
      getSelection().selectAllChildren(code);
      said = "Press Ctrl+C";
    }
    button.textContent = said;
    document.querySelector("#announcer").textContent = said;
    setTimeout(() => {
      button.textContent = "Copy";
      document.querySelector("#announcer").textContent = "";
    }, 1_600);
  });
  code.replaceWith(box);
  box.append(code, button);
};

// The contents show the current page at once, and on a small screen get out of the way of a section.
const follow = (contents) => {
  const current = contents.querySelector("[aria-current]");
  const menu = document.querySelector(".burger");
  const show = () => current && (contents.scrollTop = current.offsetTop - contents.offsetTop - contents.clientHeight / 3);
  menu.addEventListener("toggle", show);
  contents.addEventListener("click", (event) => {
    if (event.target.closest("a")) menu.open = false;
  });
  show();
};

// The theme is that of the dashboard, too.
const chooseTheme = (button) => {
  const following = { auto: "dark", dark: "light", light: "auto" };
  button.hidden = false;
  button.addEventListener("click", () => {
    const theme = following[document.documentElement.dataset.theme];
    document.cookie = `discue-theme=${theme}; Path=/; SameSite=Lax; Max-Age=31536000`;
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  });
};

// On a small screen, the cells of wide rows stand below each other, each with the name of its column.
const label = (table) => {
  const names = [...table.rows[0].cells].map((cell) => cell.textContent);
  if (names.length < 3) return;
  table.className = "labelled";
  for (const cell of table.querySelectorAll("td:not(:first-child)")) cell.dataset.name = names[cell.cellIndex];
};

// A link to an operation unfolds it.
const unfold = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target?.tagName === "DETAILS") target.open = true;
};

start(document.querySelector("form.find"));
document.querySelectorAll("main pre").forEach(offerCopy);
document.querySelectorAll("table").forEach(label);
follow(document.querySelector("#contents"));
chooseTheme(document.querySelector("#theme"));
addEventListener("hashchange", unfold);
unfold();
