// What pages of the site do besides being read: search, a random page, pictures with their facts, transparency, tables.
"use strict";
const root = document.documentElement.dataset.root;
const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const say = (text) => { $(".said").textContent = text; };

// --- The index: a script a part, because a page that was opened as a file may load nothing else. ---
const parts = window.FEATVIS_PARTS || [];
const loaded = new Map();
function part(number) {
  if (!loaded.has(number)) {
    loaded.set(number, new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = `${root}index/${parts[number].file}`;
      script.onload = () => done(window[parts[number].name].map((row) => ({ network: parts[number].network, kind: row[0], text: row[1], key: row[2], parts: row[3] })));
      script.onerror = failed;
      document.head.append(script);
    }));
  }
  return loaded.get(number);
}
const plain = (text) => text.normalize("NFD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
const page = (row, rest = "") => `${root}${row.network}/${row.kind}/${row.key}${rest}.html`;

// Rows are classes and layers; their concepts and units follow from how many they have.
function hits(row, query) {
  const words = plain(query).split(/[\s:]+/).filter((w) => w && w !== "concept" && w !== "unit");
  const numbers = words.filter((w) => /^\d+$/.test(w)).map(Number);
  const text = plain(row.text);
  const whole = words.every((w) => text.includes(w) || row.network.includes(w));
  const rest = words.filter((w) => !/^\d+$/.test(w));
  const found = [];
  if (whole) found.push({ text: row.text, what: row.kind, row, href: page(row) });
  if (rest.length && rest.every((w) => text.includes(w) || row.network.includes(w))) {
    for (const n of numbers) {
      if (row.kind === "class" && n >= 1 && n <= row.parts) found.push({ text: `${row.text}, concept ${n}`, what: "concept", row, href: `${page(row)}#concept-${n}` });
      if (row.kind === "layer" && n < row.parts) found.push({ text: `${row.text}:${n}`, what: "unit", row, href: `${root}${row.network}/unit/${row.key}-${n}.html` });
    }
    if (whole && !numbers.length && /concept/.test(query)) for (let n = 1; n <= row.parts && row.kind === "class"; n++) found.push({ text: `${row.text}, concept ${n}`, what: "concept", row, href: `${page(row)}#concept-${n}` });
  }
  return found;
}

const MOST = 30;
const field = $("#search"), list = $("#hits");
let asked = 0, chosen = -1;
async function search() {
  const query = field.value.trim(), turn = ++asked;
  if (!query) return show([]);
  let found = [];
  for (let i = 0; i < parts.length && found.length < MOST; i++) {
    const rows = await part(i);
    if (turn !== asked) return;
    found = found.concat(rows.flatMap((row) => hits(row, query)));
  }
  const start = plain(query);
  found.sort((a, b) => !plain(a.text).startsWith(start) - !plain(b.text).startsWith(start) || a.text.length - b.text.length);
  show(found.slice(0, MOST), query);
}
function show(found, query) {
  chosen = -1;
  list.replaceChildren(...found.map((hit, i) => {
    const item = document.createElement("li"), what = document.createElement("small");
    item.id = `hit-${i}`; item.setAttribute("role", "option"); item.setAttribute("aria-selected", "false");
    item.dataset.href = hit.href;
    what.textContent = `${hit.what} · ${hit.row.network}`;
    item.append(hit.text, what);
    item.onmousedown = () => { location.href = hit.href; };
    return item;
  }));
  list.hidden = !found.length;
  field.setAttribute("aria-expanded", String(!list.hidden));
  field.removeAttribute("aria-activedescendant");
  if (query) say(found.length ? `${found.length}${found.length === MOST ? " or more" : ""} hits` : `nothing found for ${query}`);
}
function choose(step) {
  const items = $$("li", list);
  if (!items.length) return;
  chosen = (chosen + step + items.length) % items.length;
  items.forEach((item, i) => item.setAttribute("aria-selected", String(i === chosen)));
  items[chosen].scrollIntoView({ block: "nearest" });
  field.setAttribute("aria-activedescendant", items[chosen].id);
}
if (field) {
  field.addEventListener("input", search);
  field.addEventListener("focus", () => { if (parts.length) part(0); });
  field.addEventListener("blur", () => show([]));
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); choose(event.key === "ArrowDown" ? 1 : -1); }
    if (event.key === "Escape") { field.value = ""; show([]); }
  });
  field.form.addEventListener("submit", (event) => {
    event.preventDefault();
    const item = $$("li", list)[Math.max(0, chosen)];
    if (item) location.href = item.dataset.href;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(document.activeElement.tagName)) { event.preventDefault(); field.focus(); }
  });
}
$$("[data-focus-search]").forEach((button) => button.addEventListener("click", () => field.focus()));
$$("[data-random]").forEach((button) => button.addEventListener("click", async () => {
  const total = parts.reduce((sum, p) => sum + p.classes, 0);
  let at = Math.floor(Math.random() * total);
  for (let i = 0; i < parts.length; at -= parts[i++].classes) {
    if (at < parts[i].classes) { location.href = page((await part(i)).filter((row) => row.kind === "class")[at]); return; }
  }
}));

// --- Pictures. ---
const viewer = $("#viewer");
document.addEventListener("click", (event) => {
  const link = event.target.closest("a.pic");
  if (!link || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  const small = $("img", link), told = $("dl", viewer), line = $(".line", viewer);
  const clear = small.hasAttribute("data-transparent") && document.documentElement.dataset.transparency === "on";
  const href = clear ? link.getAttribute("href").replace(".webp", "-t.webp") : link.getAttribute("href");
  $("img", viewer).src = href; $("img", viewer).alt = small.alt;
  $("img", viewer).width = small.width; $("img", viewer).height = small.height;
  $(".alt", viewer).textContent = small.alt;
  told.replaceChildren(...Object.entries(JSON.parse(link.dataset.facts)).flatMap(([name, value]) => {
    const dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name; dd.textContent = value;
    return [dt, dd];
  }));
  line.hidden = !link.dataset.command;
  $("pre", line).textContent = link.dataset.command || "";
  $(".file", viewer).href = href;
  viewer.showModal();
});
if (viewer) {
  viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  $(".copy", viewer).addEventListener("click", async () => {
    try { await navigator.clipboard.writeText($("pre", viewer).textContent); say("copied"); } catch { getSelection().selectAllChildren($("pre", viewer)); }
  });
}
$$("[data-toggle=transparency]").forEach((button) => button.addEventListener("click", () => {
  const on = document.documentElement.dataset.transparency !== "on";
  document.documentElement.dataset.transparency = on ? "on" : "off";
  $$("[data-toggle=transparency]").forEach((b) => b.setAttribute("aria-pressed", String(on)));
  const swap = (text) => on ? text.replaceAll(/(-s)?\.webp/g, "-t$1.webp") : text.replaceAll(/-t(-s)?\.webp/g, "$1.webp");
  $$("img[data-transparent]").forEach((img) => { img.srcset = swap(img.getAttribute("srcset")); img.src = swap(img.getAttribute("src")); });
}));
const hover = $(".hover");
$$("[data-preview]").forEach((dot) => {
  const place = () => {
    const box = dot.getBoundingClientRect(), frame = hover.parentElement.getBoundingClientRect();
    hover.src = dot.dataset.preview; hover.hidden = false;
    hover.style.left = `${Math.min(Math.max(0, box.x - frame.x + 16), frame.width - 150)}px`;
    hover.style.top = `${box.y - frame.y + 16}px`;
  };
  for (const name of ["mouseenter", "focus"]) dot.addEventListener(name, place);
  for (const name of ["mouseleave", "blur"]) dot.addEventListener(name, () => { hover.hidden = true; });
});

// --- The leaderboard: what is shown stands in the address, so that it can be sent to somebody. ---
const filters = $(".filters");
function state() { return new URLSearchParams(location.hash.slice(1)); }
function apply() {
  const wanted = state();
  $$("select", filters).forEach((select) => { select.value = wanted.get(select.name) || ""; if (select.selectedIndex < 0) select.value = ""; });
  let shown = 0;
  $$(".board").forEach((board) => {
    const fits = (element, names) => names.every((name) => !wanted.get(name) || element.dataset[name] === wanted.get(name));
    let rows = 0;
    $$("tbody tr", board).forEach((row) => { row.hidden = !fits(row, ["budget", "sees"]); rows += !row.hidden; });
    board.hidden = !fits(board, ["suite", "target"]) || !rows;
    shown += board.hidden ? 0 : rows;
    sort(board, wanted.get("sort"), wanted.get("order"));
  });
  say(`${shown} rows`);
}
function sort(board, metric, order) {
  const heads = $$("thead th", board), column = heads.findIndex((th) => th.dataset.metric === metric);
  heads.forEach((th) => th.removeAttribute("aria-sort"));
  const rows = $$("tbody tr", board);
  const value = (row) => { const text = row.cells[column].dataset.value; return text === "" ? NaN : text; };
  if (column < 0) rows.sort((a, b) => a.dataset.order - b.dataset.order);
  else {
    const sign = order === "descending" ? -1 : 1;
    heads[column].setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
    rows.sort((a, b) => {
      const x = value(a), y = value(b), no = Number.isNaN(x), nor = Number.isNaN(y);
      if (no || nor) return no - nor;
      return sign * (metric === "method" ? String(x).localeCompare(y) : x - y);
    });
  }
  $("tbody", board).append(...rows);
}
function change(name, value) {
  const wanted = state();
  if (value) wanted.set(name, value); else wanted.delete(name);
  history.replaceState(null, "", `#${wanted}`);
}
if (filters) {
  filters.addEventListener("change", (event) => { change(event.target.name, event.target.value); apply(); });
  $$("thead button").forEach((button) => button.addEventListener("click", () => {
    const th = button.closest("th"), was = th.getAttribute("aria-sort"), first = th.dataset.first;
    change("order", was ? (was === "ascending" ? "descending" : "ascending") : first);
    change("sort", th.dataset.metric);
    apply();
  }));
  $("[data-csv]").addEventListener("click", () => {
    const lines = [["suite", "target", "method", "metric", "value"]];
    $$(".board").filter((b) => !b.hidden).forEach((board) => $$("tbody tr", board).filter((r) => !r.hidden).forEach((row) => $$("thead th", board).forEach((th, i) => {
      if (i) lines.push([board.dataset.suite, board.dataset.target, row.dataset.method, th.dataset.metric, row.cells[i].dataset.value]);
    })));
    const text = lines.map((line) => line.map((cell) => `"${cell.replaceAll('"', '""')}"`).join(",")).join("\n");
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(new Blob([`${text}\n`], { type: "text/csv" })), download: "leaderboard.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
  });
  $("[data-link]").addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(location.href); say("the link is copied"); } catch { say(location.href); }
  });
  addEventListener("hashchange", apply);
  apply();
}
