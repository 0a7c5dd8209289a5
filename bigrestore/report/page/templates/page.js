// The slider, the maps of every section, sorting and saving. Verdict, tables, figures and pictures show without it.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent), view = data.viewer;
  const get = (id) => document.getElementById(id), tip = get("tip"), NONE = "\u2013";
  document.documentElement.classList.add("scripted");

  const decoded = (text, Kind) => text && new Kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const place = Object.fromEntries(Object.entries(data.places).map(([name, text]) => [name, decoded(text, Int32Array)]));
  const tissue = decoded(data.tissue, Float32Array), count = place.z.length;
  const reasons = data.reasons.map(({ names, codes }) => [...decoded(codes, Uint8Array)].map((code) => names[code]));
  const why = (tile, kind) => kind === "image" ? reasons[0][tile] : kind === "before" ? reasons[1][tile] : reasons[0][tile] || reasons[1][tile];
  const metrics = data.metrics.map((metric) => ({ ...metric, image: decoded(metric.image, Float32Array), before: decoded(metric.before, Float32Array) }));
  const value = (metric, kind, tile) => why(tile, kind) ? NaN :
    metric.factor * (kind === "change" ? metric.image[tile] - metric.before[tile] : metric[kind][tile]);

  function text(number, digits) {
    if (Number.isNaN(number)) return NONE;
    if (!Number.isFinite(number)) return "\u221e";
    const size = Math.abs(number).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    return (number < 0 && /[1-9]/.test(size) ? "\u2212" : "") + size;
  }
  const signed = (number, digits) => (number > 0 && /[1-9\u221e]/.test(text(number, digits)) ? "+" : "") + text(number, digits);
  const write = (metric, kind, number) => (kind === "change" ? signed : text)(number, metric.digits);
  function add(parent, tag, content, properties) {
    const element = Object.assign(document.createElement(tag), properties);
    if (content !== undefined) element.textContent = content;
    parent.append(element);
    return element;
  }

  // ---- before and after in one frame
  document.querySelectorAll(".compare input").forEach((slider) => slider.addEventListener("input", () =>
    slider.parentElement.style.setProperty("--split", slider.value + "%")));

  // ---- the maps of a section
  const panels = get("panels"), select = get("layer"), range = get("section"), still = get("still").src;
  const bySection = new Map(view.z.map((z) => [z, []]));
  for (let tile = 0; tile < count; tile++) bySection.get(place.z[tile]).push(tile);
  const mix = (anchors, at) => {
    const along = Math.min(1, Math.max(0, at)) * (anchors.length - 1), first = Math.min(Math.floor(along), anchors.length - 2);
    const part = (colour, i) => parseInt(colour.slice(i, i + 2), 16);
    return `rgb(${[1, 3, 5].map((i) => Math.round(part(anchors[first], i) + (along - first) * (part(anchors[first + 1], i) - part(anchors[first], i))))})`;
  };
  const median = (values) => { const sorted = values.filter((v) => !Number.isNaN(v)).sort((a, b) => a - b), half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2; };

  function show() {
    const index = range ? Number(range.value) : 0, z = view.z[index], tiles = bySection.get(z), layer = select.value;
    const invalid = {};
    tiles.forEach((tile) => { const reason = why(tile, data.pair ? "change" : "image"); if (reason) invalid[reason] = (invalid[reason] || 0) + 1; });
    const listed = Object.entries(invalid).map(([name, n]) => n + " " + name).join(", ");
    const [total, scored] = view.counts[index];
    const said = !total ? "no tile of it was looked at" : scored ? `${scored} of ${total} tiles have a score` : `no tile has a score (${listed})`;
    const pictured = view.pictures[z] !== undefined;
    get("says").textContent = (data.volume ? `z = ${z}: ` : "") + said + (pictured ? "" : "; the page holds no picture of it");
    panels.replaceChildren();
    hide();
    const [kind, name] = layer.split(":");
    if (kind === "map") {
      const map = view.maps[name], uri = map.pictures[z];
      const box = panel(z, `${name} <small>${uri ? "" : "no picture of this section"}</small>`, null);
      if (uri) add(box, "img", undefined, { src: uri, className: "heat", alt: "" });
      bar(box, data.scales.value, ["0", "", "\u2265 " + text(100 * map.high, 2) + " % of the range"], ["", ""]);
      get("meaning").textContent = map.says;
      return;
    }
    const metric = metrics[Number(name)];
    get("meaning").textContent = `${metric.label}: ${metric.says} ${metric.note}`;
    for (const which of metric.before ? ["before", "image", "change"] : ["image"]) heat(z, tiles, metric, which);
  }
  function panel(z, caption, layer) {
    const figure = add(panels, "figure"), heading = add(figure, "figcaption");
    const [title, small] = caption.split(" <small>");
    heading.append(title + " ");
    if (small) add(heading, "small", small.replace("</small>", ""));
    const box = add(figure, "div", undefined, { className: "map", tabIndex: 0 });
    box.style.aspectRatio = view.width + " / " + view.height;
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", heading.textContent);
    const uri = view.pictures[z];
    if (uri !== undefined) add(box, "img", undefined, { src: uri || still, alt: "" });
    watch(box, z, layer);
    return box;
  }
  function bar(box, anchors, ends, sides) {
    const element = add(box.parentElement, "div", undefined, { className: "bar" });
    add(element, "i").style.background = `linear-gradient(90deg,${anchors})`;
    ends.forEach((end, i) => { const span = add(element, "span", end + " "); if (i !== 1) add(span, "b", sides[i / 2]); });
  }
  function heat(z, tiles, metric, kind) {
    const values = tiles.map((tile) => value(metric, kind, tile)), middle = median(values), change = kind === "change";
    const title = { before: "Before", image: metric.before ? "After" : "Image", change: "Change" }[kind];
    const { low, high, same } = change ? { low: -metric.reach, high: metric.reach, same: metric.sameChange } : metric;
    const small = Number.isNaN(middle) || middle === undefined ? "no value here" : same ? same + " in every tile" : "median " + write(metric, kind, middle);
    const box = panel(z, `${title} <small>${small}</small>`, metric), canvas = add(box, "canvas", undefined, { className: "heat" });
    const zoom = Math.min(1, 1200 / Math.max(view.width, view.height));
    Object.assign(canvas, { width: Math.ceil(view.width * zoom), height: Math.ceil(view.height * zoom) });
    const pen = canvas.getContext("2d"), anchors = change ? data.scales.change : data.scales.value, side = view.tile * zoom;
    const sign = change && metric.direction === "lower" ? -1 : 1;
    tiles.forEach((tile, i) => {
      const x = (place.column[tile] * view.tile - view.origin[1]) * zoom, y = (place.row[tile] * view.tile - view.origin[0]) * zoom;
      let shown = values[i];
      if (change && metric.direction === "zero") shown = metric.factor * (Math.abs(metric.before[tile]) - Math.abs(metric.image[tile]));
      if (why(tile, kind)) hatch(pen, x, y, side);
      else if (!same && !Number.isNaN(shown)) {
        pen.fillStyle = mix(anchors, sign * (shown - (low + high) / 2) / (high - low) + 0.5);
        pen.fillRect(x, y, side, side);
      }
    });
    if (same || high === null || high === undefined) return;
    const ends = change ? [-sign * high, 0, sign * high] : [low, (low + high) / 2, high];
    const beyond = (number, i) => i === 0 && Math.min(...values) < low ? "\u2264 " : i === 2 && Math.max(...values) > high ? "\u2265 " : "";
    bar(box, anchors, ends.map((end, i) => (change ? "" : beyond(end, i)) + write(metric, kind, end)),
      !change ? ["", ""] : metric.direction === "none" ? ["less", "more"] : ["worse", "better"]);
  }
  function hatch(pen, x, y, side) {
    pen.save();
    pen.beginPath(); pen.rect(x, y, side, side); pen.clip();
    pen.fillStyle = "#f1efeaaa"; pen.fillRect(x, y, side, side);
    pen.strokeStyle = "#8d877a"; pen.lineWidth = 1.5;
    for (let at = -side; at < side; at += 8) { pen.moveTo(x + at, y + side); pen.lineTo(x + at + side, y); }
    pen.stroke(); pen.restore();
  }

  // ---- the values of a tile, under the pointer or for the arrow keys
  const spot = Object.assign(document.createElement("div"), { className: "spot" });
  function hide() { tip.hidden = true; spot.remove(); }
  function watch(box, z, layer) {
    const cells = new Map(bySection.get(z).map((tile) => [place.row[tile] + "," + place.column[tile], tile]));
    let chosen = null;
    function choose(row, column, x, y) {
      const tile = cells.get(row + "," + column);
      if (tile === undefined) { hide(); return; }
      chosen = [row, column];
      describe(tile, layer);
      [["left", place.x[tile] - view.origin[1], view.width], ["top", place.y[tile] - view.origin[0], view.height],
        ["width", place.width[tile], view.width], ["height", place.height[tile], view.height]].forEach(([side, at, whole]) => {
        spot.style[side] = 100 * at / whole + "%"; });
      box.append(spot);
      const at = spot.getBoundingClientRect();
      x ??= at.right; y ??= at.top;
      tip.hidden = false;
      const size = tip.getBoundingClientRect();
      tip.style.left = Math.max(8, x + 18 + size.width > innerWidth ? x - size.width - 18 : x + 18) + "px";
      tip.style.top = Math.max(8, Math.min(y + 14, innerHeight - size.height - 8)) + "px";
    }
    const point = (event) => {
      const frame = box.getBoundingClientRect();
      const at = (position, extent, whole, origin) => Math.floor((position / extent * whole + origin) / view.tile);
      choose(at(event.clientY - frame.y, frame.height, view.height, view.origin[0]),
        at(event.clientX - frame.x, frame.width, view.width, view.origin[1]), event.clientX, event.clientY);
    };
    box.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") point(event); });
    box.addEventListener("click", point);
    box.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
    box.addEventListener("blur", hide);
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step || !cells.size) return;
      event.preventDefault();
      let [row, column] = chosen || [...cells.keys()][0].split(",").map(Number);
      for (let tries = chosen ? 1 : 0; tries < 999; tries++) {
        if (chosen) { row += step[0]; column += step[1]; }
        if (cells.has(row + "," + column)) { choose(row, column); return; }
      }
    });
  }
  function describe(tile, current) {
    tip.replaceChildren();
    add(tip, "b", (data.volume ? `z ${place.z[tile]}, ` : "") + `row ${place.row[tile]}, column ${place.column[tile]} ` +
      `(y ${place.y[tile]}, x ${place.x[tile]}), tissue ${Number.isNaN(tissue[tile]) ? NONE : Math.round(100 * tissue[tile]) + " %"}`);
    const now = why(tile, "image"), then = data.pair ? why(tile, "before") : "";
    if (now) add(tip, "div", (data.pair ? "After: not" : "Not") + " scored, " + now);
    if (then) add(tip, "div", "Before: not scored, " + then);
    if (now && (then || !data.pair)) return;
    const table = add(tip, "table");
    metrics.forEach((metric) => {
      const row = add(table, "tr", undefined, { className: metric === current ? "now" : "" });
      add(row, "th", metric.label);
      (data.pair ? ["before", "image", "change"] : ["image"]).forEach((kind) =>
        add(row, "td", kind === "image" || metric.before ? write(metric, kind, value(metric, kind, tile)) : "", { className: "n" }));
    });
  }
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest(".map")) hide(); });
  [select, range].forEach((control) => control && control.addEventListener("input", show));
  get("strength").addEventListener("input", (event) => document.documentElement.style.setProperty("--heat", event.target.value / 100));
  show();

  // ---- tables sort by any heading; that of the tiles sorts all of them and shows the first
  new ResizeObserver((frames) => frames.forEach(({ target }) => target.classList.toggle("wider", target.scrollWidth > target.clientWidth + 1)));
  function compare(a, b, sign) {
    const noA = a === null || Number.isNaN(a), noB = b === null || Number.isNaN(b);
    return noA || noB ? noA - noB : sign * (typeof a === "number" ? a - b : a.localeCompare(b));
  }
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
  const wider = new ResizeObserver((frames) => frames.forEach(({ target }) => target.classList.toggle("wider", target.scrollWidth > target.clientWidth + 1)));
  document.querySelectorAll(".scroll").forEach((frame) => wider.observe(frame));
  document.querySelectorAll("table[data-sortable]").forEach((table) => headings(table, (index, sign) => {
    const key = ({ cells: { [index]: cell } }) => !cell.classList.contains("n") ? cell.textContent : cell.dataset.v === undefined ? null : Number(cell.dataset.v);
    table.tBodies[0].replaceChildren(...[...table.tBodies[0].rows].sort((a, b) => compare(key(a), key(b), sign)));
  }));
  const table = document.querySelector("table[data-tiles]");
  if (table) {
    const columns = [...(data.volume ? ["z"] : []), "row", "column"].map((name) => [(tile) => place[name][tile], String]);
    columns.push([(tile) => tissue[tile], (share) => Math.round(100 * share) + " %"]);
    metrics.filter((metric) => metric.inTable).forEach((metric) => (metric.before ? ["before", "image", "change"] : ["image"]).forEach((kind) =>
      columns.push([(tile) => value(metric, kind, tile), (number) => write(metric, kind, number)])));
    const scored = [...tissue.keys()].filter((tile) => !reasons[0][tile]);
    headings(table, (index, sign, name) => {
      const key = columns[index][0];
      scored.sort((a, b) => compare(key(a), key(b), sign) || a - b);
      table.tBodies[0].replaceChildren();
      scored.slice(0, data.mostRows).forEach((tile) => {
        const row = add(table.tBodies[0], "tr");
        columns.forEach(([of, shown], i) => add(row, i ? "td" : "th", shown(of(tile)), { className: "n", scope: "row" }));
      });
      const total = scored.length.toLocaleString("en");
      get("tiles-shown").textContent = (scored.length > data.mostRows ? `The first ${data.mostRows} of ${total}` : "All " + total) +
        ` scored tiles, sorted by ${name}, ${sign < 0 ? "largest" : "smallest"} first`;
    });
  }

  // ---- figures are saved as SVG, the tiles as CSV
  function save(name, content, type) {
    const link = Object.assign(document.createElement("a"), { download: name, href: URL.createObjectURL(new Blob([content], { type })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  document.querySelectorAll("button[data-figure]").forEach((button) => button.addEventListener("click", () =>
    save(button.dataset.figure + ".svg", button.closest("figure").querySelector("svg").outerHTML.replace(/var\(--\w+, (#\w+)\)/g, "$1"), "image/svg+xml")));
  get("csv").addEventListener("click", () => {
    const named = [...Object.entries(place), ["tissue", tissue], ["reason", reasons[0]], ...(data.pair ? [["reason_before", reasons[1]]] : [])];
    metrics.forEach((metric) => named.push([metric.name, metric.image], ...(metric.before ? [[metric.name + "_before", metric.before]] : [])));
    const quoted = (item) => typeof item === "number" ? (Number.isNaN(item) ? "" : String(Number(item.toPrecision(7)))) : `"${item.replace(/"/g, '""')}"`;
    const rows = [named.map(([name]) => quoted(name)).join()];
    for (let tile = 0; tile < count; tile++) rows.push(named.map(([, values]) => quoted(values[tile])).join());
    save("tiles.csv", rows.join("\n") + "\n", "text/csv");
  });
})();
