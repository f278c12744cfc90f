// Searches the static index of the documentation. Nothing that is typed leaves the browser.
const words = (text) => text.toLowerCase().split(/[^\p{L}\p{N}_/.-]+/u).filter((word) => /[\p{L}\p{N}]/u.test(word));

// What a word has in common with its other forms, as far as a search needs it: retry, retries, retried.
const stem = (word) => (word.length > 4 ? word.replace(/(?:ies|ied|ying|ing|ed|y|s)$/, "") : word);

const whole = (word) => new RegExp(`${word.replace(/[/.]/g, "\\$&")}(?![\\p{L}\\p{N}_/-])`, "u");

// Every word must occur. It counts more in a title, at the beginning of a word, and whole, as it was typed.
const search = (entries, query, most = 20) => {
  const wanted = words(query).map((word) => [stem(word), whole(word)]);
  if (!wanted.length) return [];
  const points = (text, [part, typed]) => {
    const at = text.indexOf(part);
    return at < 0 ? 0 : 1 + !/[\p{L}\p{N}]/u.test(text[at - 1] ?? " ") + typed.test(text);
  };
  const rank = ({ path, title, page, text }) => {
    const shown = [[8, title], [4, page], [1, text]].map(([weight, each]) => [weight, each.toLowerCase()]);
    const found = wanted.map((word) => shown.reduce((sum, [weight, each]) => sum + weight * points(each, word), 0));
    // Few look for how it works inside.
    const share = path.startsWith("docs/architecture") ? 0.3 : 1;
    return found.includes(0) ? 0 : share * found.reduce((sum, each) => sum + each);
  };
  return entries
    .map((entry) => [rank(entry), entry])
    .filter(([total]) => total)
    .sort(([one], [other]) => other - one)
    .slice(0, most)
    .map(([, entry]) => entry);
};

// The text around the first word that is found, in three parts: before it, the word to its end, after it.
const excerpt = (entry, query) => {
  const [at, word] = words(query)
    .map((each) => [entry.text.toLowerCase().indexOf(stem(each)), stem(each)])
    .filter(([index]) => index >= 0)
    .sort(([one], [other]) => one - other)[0] ?? [0, ""];
  const from = Math.max(0, entry.text.lastIndexOf(" ", Math.max(0, at - 40)) + 1);
  const end = at + word.length + (word && /^[\p{L}\p{N}_]*/u.exec(entry.text.slice(at + word.length))[0]).length;
  const after = entry.text.slice(end, end + 90);
  return [
    (from ? "… " : "") + entry.text.slice(from, at),
    entry.text.slice(at, end),
    end + after.length < entry.text.length ? after.replace(/\S*$/, "…") : after,
  ];
};

const start = (box) => {
  const input = box.querySelector("input");
  const found = box.querySelector(".found");
  const state = found.querySelector("p");
  const list = found.querySelector("ol");
  let index;
  const load = () => (index ??= fetch(box.dataset.base + box.dataset.index).then((answer) => {
    if (!answer.ok) throw new Error(answer.statusText);
    return answer.json();
  }));
  const element = (name, text) => Object.assign(document.createElement(name), { textContent: text });
  const shown = (entry) => {
    const link = document.createElement("a");
    link.href = box.dataset.base + entry.path;
    const [before, word, after] = excerpt(entry, input.value);
    const line = element("span", before);
    line.append(element("mark", word), after);
    link.append(element("strong", entry.title), " ", element("em", entry.page === entry.title ? "" : entry.page), line);
    const item = document.createElement("li");
    item.append(link);
    return item;
  };
  const show = async () => {
    const query = input.value;
    found.hidden = !query.trim();
    if (found.hidden) return;
    if (!list.children.length) state.textContent = "Searching…";
    try {
      const { entries } = await load();
      if (query !== input.value) return;
      const results = search(entries, query);
      list.replaceChildren(...results.map(shown));
      state.textContent = results.length ? "" : `Nothing found for “${query}”.`;
    } catch {
      index = undefined;
      list.replaceChildren();
      state.textContent = "The search index could not be loaded. Try again.";
    }
  };
  const links = () => [...list.querySelectorAll("a")];
  input.addEventListener("focus", () => load().catch(() => (index = undefined)));
  input.addEventListener("input", show);
  box.addEventListener("keydown", (event) => {
    const at = links().indexOf(document.activeElement);
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) {
      event.preventDefault();
      (at + move < 0 ? input : links()[Math.min(at + move, links().length - 1)] ?? input).focus();
    } else if (event.key === "Enter" && document.activeElement === input) {
      links()[0]?.click();
    } else if (event.key === "Escape") {
      found.hidden = true;
      input.focus();
    }
  });
  box.addEventListener("focusout", (event) => {
    if (!box.contains(event.relatedTarget)) found.hidden = true;
  });
  input.addEventListener("focus", show);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !/^(INPUT|TEXTAREA)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      input.focus();
    }
  });
  box.hidden = false;
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

if (typeof document !== "undefined") {
  start(document.querySelector("search"));
  document.querySelectorAll("table").forEach(label);
  follow(document.querySelector("#contents"));
  chooseTheme(document.querySelector("#theme"));
  addEventListener("hashchange", unfold);
  unfold();
}
