"use strict";
(() => {
  const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));
  const root = document.documentElement;
  const layers = all("nav [data-layer]");
  let layer = layers.length ? layers[0].dataset.layer : "";
  let locked = null;
  let shown = [];
  let current = null;
  let pointed = [];
  let active = [];

  // The marks of every feature, by layer and id, found once.
  const marks = new Map();
  for (const mark of all("[data-f]")) {
    const key = mark.closest("[data-of]").dataset.of + ":" + mark.dataset.f;
    if (!marks.has(key)) marks.set(key, []);
    marks.get(key).push(mark);
  }

  function light(key) {
    if (key === current) return;
    current = key;
    for (const mark of shown) mark.classList.remove("hit");
    shown = key === null ? [] : marks.get(key) || [];
    for (const mark of shown) mark.classList.add("hit");
    root.classList.toggle("lit", shown.length > 0);
    // In the text every token that has the feature is marked, not only those where it is the strongest.
    for (const token of active) token.classList.remove("active");
    active = shown.flatMap(tokensOf);
    for (const token of active) token.classList.add("active");
  }
  const keyOf = (target) => {
    const mark = target.closest && target.closest("[data-f]");
    return mark ? mark.closest("[data-of]").dataset.of + ":" + mark.dataset.f : null;
  };

  // The pieces of a sentence's text that belong to the token of a mark.
  function tokensOf(target) {
    const mark = target.closest && target.closest("[data-t]");
    const section = mark && mark.closest("section.sentence");
    const at = mark ? Number(mark.dataset.t) : -1;
    const holds = (token) => at >= Number(token.dataset.t) && at < Number(token.dataset.t) + Number(token.dataset.n);
    return section ? all(".token", section).filter(holds) : [];
  }

  // A token that is pointed at in one chart of a sentence is marked in its text.
  function point(target) {
    for (const token of pointed) token.classList.remove("on");
    pointed = tokensOf(target);
    for (const token of pointed) token.classList.add("on");
  }

  function choose(next) {
    layer = next;
    for (const button of layers) button.setAttribute("aria-pressed", String(button.dataset.layer === layer));
    for (const part of all("[data-of]")) part.hidden = part.dataset.of !== layer && part.dataset.of !== "all";
    locked = null;
    light(null);
  }

  document.addEventListener("mouseover", (event) => {
    if (locked === null) light(keyOf(event.target));
    point(event.target);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("nav [data-layer]");
    if (button) return choose(button.dataset.layer);
    const key = keyOf(event.target);
    locked = key === locked ? null : key;
    light(locked);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      locked = null;
      light(null);
    }
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.key === "]" ? 1 : event.key === "[" ? -1 : 0;
    if (step && layers.length) {
      const at = layers.findIndex((button) => button.dataset.layer === layer);
      choose(layers[(at + step + layers.length) % layers.length].dataset.layer);
    }
    if (event.key === "/") {
      event.preventDefault();
      document.getElementById("find").focus();
    }
  });

  // Search in the text of the sentences, and in ids, labels and contexts of features.
  const find = document.getElementById("find");
  const count = document.getElementById("count");
  const searched = all("section.sentence, tr.feature").map((part) => [part, part.textContent.toLowerCase()]);
  find.addEventListener("input", () => {
    const needle = find.value.trim().toLowerCase();
    let left = 0;
    for (const [part, text] of searched) {
      const match = text.includes(needle);
      part.hidden = !match;
      if (match && part.tagName === "SECTION") left += 1;
    }
    count.textContent = needle ? left + (left === 1 ? " sentence" : " sentences") : "";
  });

  // A click on a heading sorts the table.
  for (const heading of all("th[data-sort]")) {
    heading.addEventListener("click", () => {
      const body = heading.closest("table").tBodies[0];
      const column = heading.cellIndex;
      const rows = Array.from(body.rows);
      const down = heading.getAttribute("aria-sort") !== "descending";
      const value = (row) => Number(row.cells[column].dataset.v);
      rows.sort((a, b) => (down ? value(b) - value(a) : value(a) - value(b)));
      for (const other of all("th[data-sort]", heading.parentNode)) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...rows);
    });
    heading.tabIndex = 0;
    heading.addEventListener("keydown", (event) => {
      if (event.key === "Enter") heading.click();
    });
  }
  if (layers.length) choose(layers[layers.length - 1 >> 1].dataset.layer);
})();
