"""Fill in the templates, and pack the tiles for the script.

The security policy names the one script by its hash and forbids every other and every address, so the page cannot
load anything even if text in it tried to; its links to viewers are only followed when asked. jinja2 is loaded with this
module, which only a report loads.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from bigrestore.core.urls import is_remote
from bigrestore.report.metrics.columns import BEFORE
from bigrestore.report.page import data as written
from bigrestore.report.page.data import ReportData
from bigrestore.report.page.figures import MOST_POINTS, histogram, series
from bigrestore.report.page.pictures import CHANGES, LOSSLESS, VALUES, limits, viewer, views
from bigrestore.report.page.words import verdict
from bigrestore.report.table.statistics import goodness

if TYPE_CHECKING:
    from bigrestore.report.table.write import Report

MOST_HELD = 65_536
"""Tiles whose values are in the page, at most: of more, every so-manyth, so every section has its part."""

MOST_ROWS = 100
"""Tiles in the table, at most; the script sorts all that the page holds."""

NEUROGLANCER = "https://neuroglancer-demo.appspot.com/#!"
SERVED = "http://127.0.0.1:8000/"
"""Where a folder is served for Neuroglancer, which reads no files."""

MEANINGS = {
    "blank": "constant or saturated",
    "flat": "too flat for a score",
    "small": "the image or region is smaller than a tile",
    "background": "too little tissue",
    "failed": "its block, or its scoring, failed",
}
HIDDEN = ("lower_better", "thumbnail_z", "origin_px", "sections", "before_native", "blobs", "read", "opens")


def build_page(report: Report, summary: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return the page of a report as HTML; `summary` and `facts` are of JSON values, as in `summary.json`."""
    data = ReportData.of(report, summary, facts)
    environment = Environment(
        loader=PackageLoader("bigrestore.report.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    names = ("number", "signed", "percent", "plural", "listed", "short_name")
    environment.filters |= {name: getattr(written, name) for name in names}
    script, style = (_package_file(name) for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    shown = viewer(data) if data.table["z"].size else None
    still = shown["pictures"].get(str(data.shown_z)) if shown else ""
    if shown:
        shown["pictures"][str(data.shown_z)] = ""  # it stands in the page already
    pictures, quality = views(data)
    document = _packed_tiles(data) | {"viewer": shown, "pair": data.pair, "volume": len(data.sections) > 1}
    document |= {"mostRows": MOST_ROWS, "scales": {"value": VALUES, "change": CHANGES}}
    return environment.get_template("page.html").render(
        verdict(data),
        data=data,
        policy=Markup(policy),
        script=Markup(script),
        style=Markup(style),
        json=Markup(safe_json(document)),
        viewer=shown,
        still=still,
        views=pictures,
        stored="without loss" if quality == LOSSLESS else f"as WebP of quality {quality}",
        step=document["step"],
        histogram=lambda column: histogram(data, column),
        series=series(data),
        grouped=-(-len(summary.get("sections", ())) // MOST_POINTS),
        worst=_worst(data),
        meanings=MEANINGS,
        links=_links(data),
        facts=[(name.replace("_", " "), _fact(value)) for name, value in facts.items() if name not in HIDDEN],
    )


def _package_file(name: str) -> str:
    return files("bigrestore.report.page").joinpath("templates", name).read_text(encoding="utf-8")


def _packed_tiles(data: ReportData) -> dict[str, Any]:
    """Return the columns of the tiles for the script: float32, so a saved table has seven digits of every value."""
    step = max(1, -(-data.table["z"].size // MOST_HELD))
    table = {name: values[::step] for name, values in data.table.items()}
    in_table = _sortable(data)
    metrics = [
        {name: getattr(column, name) for name in ("name", "label", "direction", "note", "says", "factor")}
        | {"digits": data.decimals[column.name], "image": packed(table[column.name], "<f4")}
        | ({"before": packed(table[column.name + BEFORE], "<f4")} if column in data.twins else {})
        | limits(data, column)
        | {"inTable": column in in_table}
        for column in data.columns
    ]
    places = {name: packed(table[name], "<i4") for name in ("z", "row", "column", "y", "x", "height", "width")}
    reasons = []
    for name in (each for each in ("reason", "reason_before") if each in table):
        known, codes = np.unique(["", *table[name].astype(str)], return_inverse=True)
        reasons.append({"names": known.tolist(), "codes": packed(codes[1:], "u1")})
    tissue = packed(table["tissue"], "<f4")
    return {"step": step, "places": places, "tissue": tissue, "reasons": reasons, "metrics": metrics}


def packed(values: NDArray[Any], kind: str) -> str:
    """Return numbers as base64."""
    return base64.b64encode(np.ascontiguousarray(values.astype(kind)).tobytes()).decode()


def safe_json(document: Any) -> str:
    """Return JSON with `<`, `>` and `&` as escapes: it cannot end its element."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sortable(data: ReportData) -> list[Any]:
    """Return the columns of the table of tiles: the scores, and figures to sort tiles by."""
    return data.group("score", "reference") + [each for each in data.columns if each.name == "blobs_unsupported"]


def _worst(data: ReportData) -> dict[str, Any]:
    """Return the table of the scored tiles: its columns, and the worst tiles by the first of them."""
    columns, there = _sortable(data), np.flatnonzero(data.table["reason"] == "")
    if not columns:
        return {"columns": [], "tiles": [], "scored": 0}
    good = goodness(data.table, columns[0])[there]
    order = there[np.argsort(np.where(np.isfinite(good), good, np.inf), kind="stable")][:MOST_ROWS]
    return {"columns": columns, "tiles": order.tolist(), "scored": there.size}


def _links(data: ReportData) -> dict[str, Any]:
    """Return the command and the address that open the image in viewers; nothing where none can open it."""
    opens = data.facts.get("opens")
    if not opens:
        return {}
    path, remote = str(opens["path"]), is_remote(opens["path"])
    store = path if remote else SERVED + quote(written.short_name(path))
    layers = [{"type": "image", "name": written.short_name(path), "source": f"zarr://{store}"}]
    links = {"napari": f"napari {shlex.quote(path)}", "remote": remote}
    if opens["ome_zarr"]:
        links["neuroglancer"] = NEUROGLANCER + quote(json.dumps({"layers": layers, "layout": "xy"}), safe="")
    return links


def _fact(value: Any) -> str | list[tuple[str, str]]:
    """Return a fact in words, or as names and words."""
    if isinstance(value, Mapping):
        named = ((key.replace("_", " "), _fact(item)) for key, item in value.items() if item not in (None, "", [], {}))
        return [(key, text if isinstance(text, str) else "; ".join(map(": ".join, text))) for key, text in named]
    if isinstance(value, list):
        return ", ".join("unknown" if item is None else f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    return "unknown" if value is None else str(value)
