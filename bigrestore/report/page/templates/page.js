// The slider, the maps of every section, sorting and saving. Verdict, tables, figures and pictures show without it.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent), view = data.viewer;
  const get = (id) => document.getElementById(id), tip = get("tip"), root = document.documentElement;
  root.classList.add("scripted");
  const decode = (text, Kind) => text && new Kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const place = Object.fromEntries(Object.entries(data.places).map(([name, text]) => [name, decode(text, Int32Array)]));
  const tissue = decode(data.tissue, Float32Array), all = [...tissue.keys()];
  const [after, before] = data.reasons.map(({ names, codes }) => [...decode(codes, Uint8Array)].map((code) => names[code]));
  const metrics = data.metrics.map((metric) =>
    ({ ...metric, image: decode(metric.image, Float32Array), before: decode(metric.before, Float32Array) }));
  const kinds = (metric) => metric.before ? ["before", "image", "change"] : ["image"];
  const why = (kind, tile) => (kind !== "before" && after[tile]) || (kind !== "image" && before && before[tile]) || "";
  const value = (metric, kind, tile) => why(kind, tile) ? NaN :
    metric.factor * (kind === "change" ? metric.image[tile] - metric.before[tile] : metric[kind][tile]);

  function text(number, digits, plus = "") {
    if (Number.isNaN(number)) return "\u2013";
    const size = !Number.isFinite(number) ? "\u221e" :
      Math.abs(number).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    return (/[1-9\u221e]/.test(size) ? number < 0 ? "\u2212" : plus : "") + size;
  }
  const write = (metric, kind, number) => text(number, metric.digits, kind === "change" ? "+" : "");
  const share = (part) => Number.isNaN(part) ? "\u2013" : Math.round(100 * part) + " %";
  function add(parent, tag, content, properties) {
    const element = Object.assign(document.createElement(tag), properties);
    if (content !== undefined) element.textContent = content;
    parent.append(element);
    return element;
  }

  // ---- before and after in one frame
  document.addEventListener("input", ({ target }) => target.parentElement.style.setProperty("--split", target.value + "%"));

  // ---- the maps of a section
  const panels = get("panels"), select = get("layer"), range = get("section"), still = get("still");
  const spot = Object.assign(document.createElement("div"), { className: "spot" });
  const bySection = {};
  all.forEach((tile) => (bySection[place.z[tile]] ??= []).push(tile));
  const stripes = Object.assign(document.createElement("canvas"), { width: 8, height: 8 }), stripe = stripes.getContext("2d");
  for (let i = 0; i < 8; i++) { stripe.fillStyle = "#8d877a"; stripe.fillRect(i, 7 - i, 2, 1); }
  function hide() { tip.hidden = true; spot.remove(); }
  function colour(anchors, position) {
    const along = Math.min(1, Math.max(0, position)) * (anchors.length - 1), first = Math.min(Math.floor(along), anchors.length - 2);
    const [one, other] = [first, first + 1].map((i) => [1, 3, 5].map((at) => parseInt(anchors[i].slice(at, at + 2), 16)));
    return `rgb(${one.map((part, i) => Math.round(part + (along - first) * (other[i] - part)))})`;
  }
  function quantiles(values, ...shares) {
    const sorted = Float64Array.from(values.filter((number) => !Number.isNaN(number))).sort(), last = sorted.length - 1;
    return shares.map((part) => last < 0 ? NaN : (sorted[Math.floor(part * last)] + sorted[Math.ceil(part * last)]) / 2);
  }
  const gain = (metric, tile) => metric.direction !== "zero" ? (metric.direction === "lower" ? -1 : 1) * value(metric, "change", tile) :
    Math.abs(value(metric, "before", tile)) - Math.abs(value(metric, "image", tile));
  function scale(metric, kind) { // its ends, of all sections: 2 and 98 %, or the extremes; none where all tiles are one number
    const written = (number) => write(metric, kind, number), change = kind === "change";
    const values = all.flatMap((tile) => change ? Math.abs(gain(metric, tile)) : kinds(metric).slice(0, 2).map((each) => value(metric, each, tile)));
    const [least, low, high, most] = quantiles(values, 0, 0.02, 0.98, 1), end = /[1-9]/.test(written(high)) ? high : most;
    if (change) return /[1-9]/.test(written(end)) ? [-end, end] : null;
    return written(least) === written(most) ? null : written(low) === written(high) ? [least, most] : [low, high];
  }
  function show() {
    const index = range ? range.value : 0, z = view.z[index], tiles = bySection[z] || [];
    const [total, scored] = view.counts[index], [layer, name] = select.value.split(":"), counts = {};
    tiles.map((tile) => why("change", tile)).filter(Boolean).forEach((reason) => { counts[reason] = (counts[reason] || 0) + 1; });
    const reasons = Object.entries(counts).map(([reason, count]) => `${count} ${reason}`).join(", ");
    get("says").textContent = (data.volume ? `z = ${z}: ` : "") + (!total ? "no tile of it was looked at" :
      scored ? `${scored} of ${total} tiles have a score` : `no tile has a score (${reasons})`) +
      (z in view.pictures ? "" : "; the page has no picture of it");
    panels.replaceChildren();
    if (layer === "map") {
      const map = view.maps[name], box = panel(z, name, z in view.pictures ? "" : "no picture of this section");
      if (z in map.pictures) add(box, "img", undefined, { src: map.pictures[z], className: "heat", alt: "" });
      bar(box, data.values, ["0", "", `\u2265 ${text(100 * map.high, 2)} % of the range`]);
      get("meaning").textContent = map.says;
      return;
    }
    get("meaning").textContent = `${metrics[name].label}: ${metrics[name].says} ${metrics[name].note}`;
    kinds(metrics[name]).forEach((kind) => heat(z, tiles, metrics[name], kind));
  }
  function panel(z, title, note, metric) {
    const figure = add(panels, "figure"), caption = add(figure, "figcaption", `${title}: ${note}`);
    const box = add(figure, "div", undefined, { className: "map", tabIndex: 0, role: "img", ariaLabel: caption.textContent });
    box.style.aspectRatio = `${view.width} / ${view.height}`;
    if (z in view.pictures) add(box, "img", undefined, { src: view.pictures[z] || still.src, alt: "" });
    watch(box, z, metric);
    return box;
  }
  function bar(box, anchors, ends) {
    const element = add(box.parentElement, "div", undefined, { className: "bar" });
    add(element, "i").style.background = `linear-gradient(90deg,${anchors})`;
    ends.forEach((end) => add(element, "span", end));
  }
  function heat(z, tiles, metric, kind) {
    const change = kind === "change", [middle] = quantiles(tiles.map((tile) => value(metric, kind, tile)), 0.5);
    const ends = scale(metric, kind), [low, high] = ends || [], sign = change && metric.direction === "lower" ? -1 : 1;
    const note = Number.isNaN(middle) ? "no value here" : ends ? `median ${write(metric, kind, middle)}` : `${write(metric, kind, middle)} in every tile`;
    const box = panel(z, { before: "Before", image: metric.before ? "After" : "Image", change: "Change" }[kind], note, metric);
    const zoom = Math.min(1, 1200 / Math.max(view.width, view.height)), side = view.tile * zoom;
    const canvas = add(box, "canvas", undefined, { className: "heat", width: view.width * zoom, height: view.height * zoom });
    const pen = canvas.getContext("2d"), anchors = change ? data.changes : data.values, hatched = pen.createPattern(stripes, "repeat");
    tiles.forEach((tile) => {
      const x = place.column[tile] * side - view.origin[1] * zoom, y = place.row[tile] * side - view.origin[0] * zoom;
      const shown = change ? gain(metric, tile) : value(metric, kind, tile);
      pen.fillStyle = why(kind, tile) ? hatched : !ends || Number.isNaN(shown) ? "#0000" : colour(anchors, (shown - low) / (high - low));
      pen.fillRect(x, y, side, side);
    });
    if (!ends) return;
    const [left, right] = !change ? ["\u2264 ", "\u2265 "] : metric.direction === "none" ? ["less ", "more "] : ["worse ", "better "];
    bar(box, anchors, [left + write(metric, kind, sign * low), write(metric, kind, (low + high) / 2), right + write(metric, kind, sign * high)]);
  }

  // ---- the values of a tile, under the pointer or for the arrow keys
  function watch(box, z, metric) {
    const cells = new Map((bySection[z] || []).map((tile) => [[place.row[tile], place.column[tile]].join(), tile]));
    let chosen = null;
    function choose(row, column, x, y) {
      const tile = cells.get([row, column].join());
      if (tile === undefined) return hide();
      chosen = [row, column];
      describe(tile, metric);
      const at = { left: place.x[tile] - view.origin[1], width: place.width[tile], top: place.y[tile] - view.origin[0], height: place.height[tile] };
      Object.entries(at).forEach(([name, px]) => { spot.style[name] = 100 * px / (/left|width/.test(name) ? view.width : view.height) + "%"; });
      box.append(spot);
      tip.hidden = false;
      const frame = spot.getBoundingClientRect(), size = tip.getBoundingClientRect(), left = x ?? frame.right;
      tip.style.left = Math.max(8, left + 18 + size.width > innerWidth ? left - size.width - 18 : left + 18) + "px";
      tip.style.top = Math.max(8, Math.min((y ?? frame.top) + 14, innerHeight - size.height - 8)) + "px";
    }
    function point(event) {
      const frame = box.getBoundingClientRect();
      const cell = (position, extent, whole, origin) => Math.floor((position / extent * whole + origin) / view.tile);
      choose(cell(event.clientY - frame.y, frame.height, view.height, view.origin[0]),
        cell(event.clientX - frame.x, frame.width, view.width, view.origin[1]), event.clientX, event.clientY);
    }
    [["mousemove", point], ["click", point], ["mouseleave", hide], ["blur", hide]].forEach((each) => box.addEventListener(...each));
    box.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (event.key === "Escape") hide();
      if (!step || !cells.size) return;
      event.preventDefault();
      const from = chosen || [...cells.keys()][0].split(",").map((at, i) => at - step[i]);
      for (let far = 1; far < 1000; far++) {
        const [row, column] = from.map((at, i) => at + far * step[i]);
        if (cells.has([row, column].join())) return choose(row, column);
      }
    });
  }
  function describe(tile, current) {
    tip.replaceChildren();
    add(tip, "b", `${data.volume ? `z ${place.z[tile]}, ` : ""}row ${place.row[tile]}, column ${place.column[tile]} ` +
      `(y ${place.y[tile]}, x ${place.x[tile]}), tissue ${share(tissue[tile])}`);
    [["After", after], ["Before", before]].forEach(([name, reasons]) => reasons?.[tile] && add(tip, "div", `${name}: not scored, ${reasons[tile]}`));
    const table = add(tip, "table");
    metrics.forEach((metric) => {
      const row = add(table, "tr", undefined, { className: metric === current ? "now" : "" });
      add(row, "th", metric.label);
      (before ? ["before", "image", "change"] : ["image"]).forEach((kind) => add(row, "td",
        kinds(metric).includes(kind) ? write(metric, kind, value(metric, kind, tile)) : "", { className: "n" }));
    });
  }
  if (view) {
    [select, range].forEach((control) => control?.addEventListener("input", show));
    get("strength").addEventListener("input", (event) => root.style.setProperty("--heat", event.target.value / 100));
    show();
  }

  // ---- tables sort by any heading; that of the tiles sorts all of them and shows the first
  const wider = new ResizeObserver((frames) => frames.forEach(({ target }) =>
    target.classList.toggle("wider", target.scrollWidth > target.clientWidth + 1)));
  document.querySelectorAll(".scroll").forEach((frame) => wider.observe(frame));
  function compare(a, b, sign) {
    const noA = a === null || Number.isNaN(a), noB = b === null || Number.isNaN(b);
    return noA || noB ? noA - noB : sign * (typeof a === "number" ? a - b : a.localeCompare(b));
  }
  function headings(table, sort) {
    const cells = [...table.tHead.rows[0].cells];
    cells.forEach((cell, index) => {
      const nodes = [...cell.childNodes], button = add(cell, "button", undefined, { type: "button" });
      button.append(...nodes);
      cell.ariaSort = "none";
      button.addEventListener("click", () => {
        const way = cell.ariaSort === "ascending" ? "descending" : "ascending";
        cells.forEach((each) => { each.ariaSort = each === cell ? way : "none"; });
        sort(index, way === "ascending" ? 1 : -1, button.textContent);
      });
    });
  }
  document.querySelectorAll("table[data-sortable]").forEach((table) => headings(table, (index, sign) => {
    const key = ({ cells: { [index]: cell } }) => !cell.matches(".n") ? cell.textContent : cell.dataset.v ? Number(cell.dataset.v) : null;
    table.tBodies[0].replaceChildren(...[...table.tBodies[0].rows].sort((a, b) => compare(key(a), key(b), sign)));
  }));
  document.querySelectorAll("table[data-tiles]").forEach((table) => {
    const places = [...(data.volume ? ["z"] : []), "row", "column"].map((name) => [(tile) => place[name][tile], String]);
    const figures = metrics.filter((metric) => metric.inTable).flatMap((metric) => kinds(metric).map((kind) =>
      [(tile) => value(metric, kind, tile), (number) => write(metric, kind, number)]));
    const columns = [...places, [(tile) => tissue[tile], share], ...figures];
    const scored = all.filter((tile) => !after[tile]), most = data.mostRows, total = scored.length.toLocaleString("en");
    headings(table, (index, sign, name) => {
      const [key] = columns[index];
      scored.sort((a, b) => compare(key(a), key(b), sign) || a - b);
      table.tBodies[0].replaceChildren();
      scored.slice(0, most).forEach((tile) => {
        const row = add(table.tBodies[0], "tr");
        columns.forEach(([of, shown], i) => add(row, i ? "td" : "th", shown(of(tile)), { className: "n", scope: "row" }));
      });
      get("tiles-shown").textContent = `${scored.length > most ? `The first ${most} of ${total}` : `All ${total}`} scored tiles, ` +
        `sorted by ${name}, ${sign < 0 ? "largest" : "smallest"} first`;
    });
  });

  // ---- figures are saved as SVG, the tiles as CSV
  const save = (download, content, type) =>
    Object.assign(document.createElement("a"), { download, href: URL.createObjectURL(new Blob([content], { type })) }).click();
  document.querySelectorAll("button[data-figure]").forEach((button) => button.addEventListener("click", () => save(button.dataset.figure + ".svg",
    button.closest("figure").querySelector("svg").outerHTML.replace(/var\(--\w+, (#\w+)\)/g, "$1"), "image/svg+xml")));
  get("csv").addEventListener("click", () => {
    const named = [...Object.entries(place), ["tissue", tissue], ["reason", after], ...(before ? [["reason_before", before]] : [])];
    metrics.forEach(({ name, image, before: former }) => named.push([name, image], ...(former ? [[`${name}_before`, former]] : [])));
    const quoted = (item) => typeof item === "string" ? `"${item.replace(/"/g, '""')}"` : Number.isInteger(item) ? item : Number.isNaN(item) ? "" : Number(item.toPrecision(7));
    const rows = all.map((tile) => named.map(([, values]) => quoted(values[tile])).join());
    save("tiles.csv", [named.map(([name]) => quoted(name)).join(), ...rows, ""].join("\n"), "text/csv");
  });
})();
