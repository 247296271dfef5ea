"use strict";
(function () {
  // Colors: the system's, or what the reader chose last.
  const theme = document.getElementById("theme");
  const remembered = function (value) {
    try { // a page in a file may have no storage
      if (value === undefined) return localStorage.getItem("mobilenext-theme") || "";
      localStorage.setItem("mobilenext-theme", value);
    } catch (error) { /* then the choice holds for this visit */ }
    return value || "";
  };
  const paint = function (value) {
    if (value) document.documentElement.dataset.theme = value;
    else delete document.documentElement.dataset.theme;
  };
  theme.parentElement.hidden = false;
  theme.value = remembered();
  paint(theme.value);
  theme.addEventListener("change", function () { paint(remembered(theme.value)); });

  // Long tables and lists begin with some of their rows; a button shows the others. On paper they are whole.
  const narrow = window.matchMedia("(max-width: 40rem)");
  const NARROW_ROWS = 8;
  const rowsOf = function (list) { return Array.from(list.tBodies ? list.tBodies[0].rows : list.children); };
  const fold = function (list) {
    const shown = narrow.matches ? Math.min(list.dataset.narrow || NARROW_ROWS, list.dataset.shown) : list.dataset.shown;
    const rows = rowsOf(list), whole = "whole" in list.dataset || rows.length <= Number(shown) + 2;
    rows.forEach(function (row, place) { row.classList.toggle("folded", !whole && place >= shown); });
    list.button.hidden = whole;
  };
  const lists = Array.from(document.querySelectorAll("[data-shown]"));
  for (const list of lists) {
    const box = list.closest(".scroll") || list;
    const button = list.button = document.createElement("button");
    button.type = "button";
    button.className = "all";
    button.textContent = "Show all " + rowsOf(list).length;
    button.addEventListener("click", function () { list.dataset.whole = ""; fold(list); });
    box.after(button);
    fold(list);
  }
  narrow.addEventListener("change", function () { lists.forEach(fold); });

  // On a phone the rows of wide tables are short lists: each cell is named.
  for (const table of document.querySelectorAll(".scroll > table")) {
    const names = Array.from(table.tHead.rows[0].cells, function (heading) { return heading.textContent; });
    if (names.length < 3 || names.length > 14) continue;
    table.classList.add("stacked");
    for (const row of table.tBodies[0].rows) {
      for (let place = 1; place < names.length; place += 1) row.cells[place].dataset.label = names[place];
    }
  }

  // Runs beside each other: the first is open on a phone, and those that are marked are closed everywhere.
  const runs = Array.from(document.querySelectorAll("details.run"));
  const close = function () {
    for (const run of runs) {
      const first = !run.previousElementSibling;
      run.open = first || !(narrow.matches || "folded" in run.dataset);
      run.addEventListener("toggle", function () { window.dispatchEvent(new Event("resize")); }); // charts have a width
    }
  };
  window.addEventListener("beforeprint", function () { for (const run of runs) run.open = true; });

  // Tables: a button in each heading sorts, a field above searches.
  const valueOf = function (row, column) {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    return cell.textContent.trim();
  };
  const compare = function (one, other) {
    const missing = (one === "-") - (other === "-");
    if (missing) return missing * Infinity; // at the end, whatever the direction
    if (typeof one === "number" && typeof other === "number") return one - other;
    return String(one).localeCompare(String(other), undefined, { numeric: true });
  };
  const sort = function (table, heading, column) {
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, function (row, place) { return { row, place, value: valueOf(row, column) }; });
    rows.sort(function (a, b) {
      const order = compare(a.value, b.value);
      if (Math.abs(order) === Infinity) return order > 0 ? 1 : -1;
      return (down ? -order : order) || a.place - b.place;
    });
    body.append.apply(body, rows.map(function (entry) { return entry.row; }));
    fold(table);
  };
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    Array.from(table.tHead.rows[0].cells).forEach(function (heading, column) {
      if (heading.tagName !== "TH") return;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      heading.textContent = "";
      heading.append(button);
      button.addEventListener("click", function () { sort(table, heading, column); });
    });
  }
  for (const field of document.querySelectorAll(".search input")) {
    const table = document.getElementById(field.getAttribute("aria-controls")), rows = rowsOf(table);
    const texts = rows.map(function (row) { return row.textContent.toLowerCase(); });
    const said = field.parentElement.querySelector("output");
    field.parentElement.hidden = false;
    field.addEventListener("input", function () {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let found = 0;
      rows.forEach(function (row, place) {
        const fits = words.every(function (word) { return texts[place].includes(word); });
        row.hidden = !fits;
        row.classList.remove("folded"); // what is searched is shown
        found += fits;
      });
      if (!words.length) fold(table);
      else table.button.hidden = true;
      said.textContent = words.length ? found + " of " + rows.length + " rows" : rows.length + " rows";
    });
  }

  // Charts: Vega draws SVG; its expressions are interpreted, since the page's policy allows no generated code.
  const tip = document.getElementById("tip");
  const showTip = function (handler, event, item, value) {
    const text = value && (typeof value === "object" ? value.tip : value);
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 14, window.innerWidth - box.width - 8);
    const above = event.clientY + 18 + box.height > window.innerHeight;
    tip.style.left = Math.max(8, left) + "px";
    tip.style.top = (above ? event.clientY - box.height - 12 : event.clientY + 18) + "px";
  };
  const font = getComputedStyle(document.body).fontFamily;
  const muted = { labelColor: "var(--muted)", titleColor: "var(--ink)", labelFont: font, titleFont: font };
  const config = {
    background: "transparent",
    font: font,
    view: { stroke: null },
    axis: Object.assign({
      gridColor: "var(--line)", domainColor: "var(--muted)", tickColor: "var(--muted)",
      labelFontSize: 12, titleFontSize: 12.5, titleFontWeight: 600, gridOpacity: 0.7,
      labelFlush: false, labelSeparation: 6,
    }, muted),
    legend: Object.assign({ labelFontSize: 12, titleFontSize: 12, symbolBaseFillColor: "var(--muted)" }, muted),
    text: { font: font, fontSize: 12 },
  };
  const merge = function (spec, changes) {
    for (const [name, value] of Object.entries(changes)) {
      if (typeof value === "object" && spec[name]) merge(spec[name], value);
      else spec[name] = value;
    }
  };
  const draw = async function () {
    for (const script of document.querySelectorAll("script.chart-spec")) {
      const place = document.getElementById(script.dataset.for);
      const spec = JSON.parse(script.textContent);
      if (place.clientWidth < 500) merge(spec, (spec.usermeta || {}).narrow || {}); // what it changes where it is narrow
      await vegaEmbed(place, spec, {
        actions: false, ast: true, config: config, defaultStyle: false, renderer: "svg", tooltip: showTip,
        loader: { load: function () { return Promise.reject(new Error("this page loads nothing")); } },
      });
    }
    close();
    document.documentElement.dataset.drawn = "yes";
  };
  draw();
})();
