// Sorting, the values under the pointer and the strength of the colours. Everything else on the page works without.
"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const NONE = "\u2013", MINUS = "\u2212";
  document.documentElement.classList.add("scripted");

  function bytes(text) {
    const raw = atob(text), found = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
    return new DataView(found.buffer);
  }
  function integers(text) {
    const view = bytes(text), found = new Int32Array(data.n);
    for (let i = 0; i < data.n; i++) found[i] = view.getInt32(4 * i, true);
    return found;
  }
  function figures(packed) {
    const view = bytes(packed.codes), found = new Float64Array(data.n), span = packed.high - packed.low;
    for (let i = 0; i < data.n; i++) {
      const code = view.getUint16(2 * i, true);
      found[i] = code === 65535 ? NaN : code === 65534 ? Infinity : packed.low + (code / 65533) * span;
    }
    return found;
  }
  function reasons(packed) {
    const view = bytes(packed.codes);
    return (i) => packed.names[view.getUint8(i)];
  }

  const tiles = { z: integers(data.z), row: integers(data.row), column: integers(data.column),
    y: integers(data.y), x: integers(data.x), tissue: figures(data.tissue) };
  const why = { image: reasons(data.reasons.image), before: data.pair ? reasons(data.reasons.before) : () => "" };
  const metrics = data.metrics.map((metric) => Object.assign({}, metric, {
    image: figures(metric.image), before: metric.before ? figures(metric.before) : null }));

  function text(value, decimals) {
    if (Number.isNaN(value)) return NONE;
    if (!Number.isFinite(value)) return "\u221e";
    const size = Math.abs(value).toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    return (value < 0 && /[1-9]/.test(size) ? MINUS : "") + size;
  }
  function signed(value, decimals) {
    const found = text(value, decimals);
    return value > 0 && /[1-9\u221e]/.test(found) ? "+" + found : found;
  }
  function add(parent, name, content, kind) {
    const found = document.createElement(name);
    if (content !== undefined) found.textContent = content;
    if (kind) found.className = kind;
    parent.append(found);
    return found;
  }

  // ---- the values of a tile, under the pointer or for the arrow keys
  const places = new Map();
  for (let i = 0; i < data.n; i++) {
    if (tiles.z[i] === data.shownZ) places.set(tiles.row[i] + "," + tiles.column[i], i);
  }
  let firstRow = Infinity, firstColumn = Infinity, lastRow = -Infinity, lastColumn = -Infinity;
  for (const i of places.values()) {
    firstRow = Math.min(firstRow, tiles.row[i]); lastRow = Math.max(lastRow, tiles.row[i]);
    firstColumn = Math.min(firstColumn, tiles.column[i]); lastColumn = Math.max(lastColumn, tiles.column[i]);
  }

  function describe(tile, current) {
    tip.replaceChildren();
    const z = data.volume ? "z " + tiles.z[tile] + ", " : "";
    add(tip, "b", z + "row " + tiles.row[tile] + ", column " + tiles.column[tile] +
      " (y " + tiles.y[tile] + ", x " + tiles.x[tile] + "), tissue " + Math.round(100 * tiles.tissue[tile]) + " %");
    const now = why.image(tile), then = why.before(tile);
    if (now) add(tip, "div", (data.pair ? "After: not" : "Not") + " scored, " + now);
    if (then) add(tip, "div", "Before: not scored, " + then);
    if (now && (then || !data.pair)) return;
    const table = add(tip, "table");
    metrics.forEach((metric, index) => {
      const row = add(table, "tr", undefined, index === current ? "now" : "");
      add(row, "th", metric.label);
      if (data.pair) add(row, "td", metric.before && !then ? text(metric.before[tile], metric.decimals) : "", "n");
      add(row, "td", text(metric.image[tile], metric.decimals), "n");
      if (data.pair) add(row, "td", metric.before && !then ?
        signed(metric.image[tile] - metric.before[tile], metric.decimals) : "", "n");
    });
  }
  function placeTip(x, y) {
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, x + 18 + box.width > innerWidth ? x - box.width - 18 : x + 18) + "px";
    tip.style.top = Math.max(8, Math.min(y + 14, innerHeight - box.height - 8)) + "px";
  }
  const spot = document.createElement("div");
  spot.className = "spot";
  function hide() { tip.hidden = true; spot.remove(); }

  document.querySelectorAll(".map").forEach((map) => {
    const [left, top, pitch] = map.dataset.grid.split(",").map(Number);
    const svg = map.querySelector("svg"), width = svg.viewBox.baseVal.width, height = svg.viewBox.baseVal.height;
    let chosen = null;
    function show(row, column, x, y) {
      const tile = places.get(row + "," + column);
      if (tile === undefined) { hide(); return false; }
      chosen = [row, column];
      describe(tile, Number(map.dataset.metric));
      const at = { left: (left + (column - firstColumn) * pitch) / width, top: (top + (row - firstRow) * pitch) / height };
      spot.style.left = 100 * at.left + "%"; spot.style.top = 100 * at.top + "%";
      spot.style.width = 100 * pitch / width + "%"; spot.style.height = 100 * pitch / height + "%";
      map.append(spot);
      const box = map.getBoundingClientRect();
      placeTip(x === undefined ? box.left + (at.left + pitch / width) * box.width : x,
        y === undefined ? box.top + at.top * box.height : y);
      return true;
    }
    function point(event) {
      const box = map.getBoundingClientRect();
      const column = Math.floor(((event.clientX - box.left) / box.width * width - left) / pitch) + firstColumn;
      const row = Math.floor(((event.clientY - box.top) / box.height * height - top) / pitch) + firstRow;
      show(row, column, event.clientX, event.clientY);
    }
    map.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") point(event); });
    map.addEventListener("click", point);
    map.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    map.tabIndex = 0;
    map.addEventListener("blur", hide);
    map.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { hide(); return; }
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      let [row, column] = chosen || [firstRow - step[0], firstColumn - step[1]];
      do { row += step[0]; column += step[1]; }
      while (row >= firstRow && row <= lastRow && column >= firstColumn && column <= lastColumn && !places.has(row + "," + column));
      if (places.has(row + "," + column)) show(row, column);
    });
  });
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest(".map")) hide(); });

  // ---- how strong the colours lie over the section
  const maps = document.querySelector(".maps .tabs");
  if (maps) {
    const label = document.createElement("label");
    label.className = "strength";
    label.append("Section");
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: 0, max: 100, value: 82 });
    slider.setAttribute("aria-label", "Strength of the colours");
    slider.addEventListener("input", () => document.documentElement.style.setProperty("--heat", slider.value / 100));
    label.append(slider, "Colours");
    maps.after(label);
  }

  // ---- a table that is wider than the screen says so
  const wider = new ResizeObserver((found) => found.forEach(({ target }) =>
    target.classList.toggle("wider", target.scrollWidth > target.clientWidth + 1)));
  document.querySelectorAll(".scroll").forEach((frame) => wider.observe(frame));

  // ---- tables sort by any heading, with the pointer and the keyboard
  function headings(table, sort) {
    const cells = [...table.tHead.rows[0].cells];
    cells.forEach((cell, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...cell.childNodes);
      cell.append(button);
      cell.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const falling = cell.getAttribute("aria-sort") === "ascending";
        cells.forEach((each) => each.setAttribute("aria-sort", "none"));
        cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
        sort(index, falling ? -1 : 1, button.textContent);
      });
    });
  }
  function compare(a, b, sign) {
    const noA = a === null || Number.isNaN(a), noB = b === null || Number.isNaN(b);
    if (noA || noB) return noA - noB;
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  }
  document.querySelectorAll("table[data-sortable]").forEach((table) => {
    const body = table.tBodies[0];
    function key(cell) {
      const value = cell.dataset.v;
      if (cell.classList.contains("n")) return value === undefined ? null : Number(value);
      return value === undefined ? cell.textContent : value;
    }
    headings(table, (index, sign) => {
      const rows = [...body.rows].map((row) => [key(row.cells[index]), row]);
      rows.sort((a, b) => compare(a[0], b[0], sign));
      body.replaceChildren(...rows.map((pair) => pair[1]));
    });
  });

  // ---- the table of tiles sorts all tiles and shows the first of them
  const table = document.querySelector("table[data-tiles]");
  if (table) {
    const columns = [];
    const plain = (values) => ({ value: (i) => values[i], show: (i) => String(values[i]) });
    if (data.volume) columns.push(plain(tiles.z));
    columns.push(plain(tiles.row), plain(tiles.column));
    columns.push({ value: (i) => tiles.tissue[i], show: (i) => Math.round(100 * tiles.tissue[i]) + " %" });
    metrics.filter((metric) => metric.inTable).forEach((metric) => {
      const before = (i) => (why.before(i) ? NaN : metric.before[i]), after = (i) => metric.image[i];
      if (metric.before) columns.push({ value: before, show: (i) => text(before(i), metric.decimals) });
      columns.push({ value: after, show: (i) => text(after(i), metric.decimals) });
      if (metric.before) {
        const change = (i) => after(i) - before(i);
        columns.push({ value: change, show: (i) => signed(change(i), metric.decimals) });
      }
    });
    const scored = [];
    for (let i = 0; i < data.n; i++) if (!why.image(i)) scored.push(i);
    headings(table, (index, sign, name) => {
      const value = columns[index].value;
      scored.sort((a, b) => compare(value(a), value(b), sign) || a - b);
      const body = table.tBodies[0];
      body.replaceChildren();
      scored.slice(0, data.mostTiles).forEach((tile) => {
        const row = add(body, "tr");
        columns.forEach((column, place) => add(row, place ? "td" : "th", column.show(tile), "n"));
        row.cells[0].scope = "row";
      });
      const shown = document.getElementById("tiles-shown"), total = scored.length.toLocaleString("en");
      shown.textContent = (scored.length > data.mostTiles ? "The first " + data.mostTiles + " of " + total : "All " + total) +
        " scored tiles, sorted by " + name + (sign < 0 ? ", largest first" : ", smallest first");
    });
  }
})();
