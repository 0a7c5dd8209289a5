"""Fill in the templates, and pack the tiles for the script.

The security policy names the one script by its hash and forbids every other and every address, so the page loads nothing
even if text in it tried to. jinja2 is loaded with this module, which only a report loads.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import shlex
from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from numpy.typing import NDArray

from bigrestore.core.host.names import name_bytes
from bigrestore.core.urls import is_remote
from bigrestore.report import shown as written
from bigrestore.report.metrics.columns import BEFORE
from bigrestore.report.page.data import ReportData
from bigrestore.report.page.figures import plots
from bigrestore.report.page.pictures import CHANGES, VALUES, viewer, views
from bigrestore.report.page.words import verdict
from bigrestore.report.shown import short_name
from bigrestore.report.table.statistics import goodness
from bigrestore.report.table.tiles import PLACE

if TYPE_CHECKING:
    from bigrestore.report.table.content import Report

MOST_HELD, MOST_ROWS = 65_536, 100
"""Tiles in the page and in its table, at most: of more, every so-manyth, so every section has its part."""

METRIC = ("name", "label", "direction", "note", "says", "factor")
FILTERS = ("number", "signed", "percent", "plural", "listed", "short_name")
NEUROGLANCER = "https://neuroglancer-demo.appspot.com/#!"
SERVED = "http://127.0.0.1:8000/"
"""Where a folder is served for Neuroglancer, which reads no files."""

HIDDEN = ("lower_better", "thumbnail_z", "origin_px", "sections", "before_native", "blobs", "read", "opens")


def build_page(report: Report, summary: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return the page of a report as HTML; `summary` and `facts` are of JSON values, as in `summary.json`."""
    data = ReportData(report, summary, facts)
    folder = files("bigrestore.report.page").joinpath("templates")
    script, style = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    shown, still = viewer(data)
    document = packed_tiles(data) | {"viewer": shown, "mostRows": MOST_ROWS}
    document |= {"values": VALUES, "changes": CHANGES}
    pictures, stored = views(data)
    spread, over_z = plots(data)
    context = verdict(data) | {"data": data, "viewer": shown, "still": still, "step": document["step"]}
    context |= {"views": pictures, "stored": stored, "spread_of": spread, "over_z": over_z}
    context |= {"worst": _worst(data), "links": _links(data)}
    context["facts"] = _fact({name: fact for name, fact in facts.items() if name not in HIDDEN})
    trusted = {"policy": policy, "script": script, "style": style, "json": safe_json(document)}
    context |= {name: Markup(text) for name, text in trusted.items()}
    return _template().render(context)


@functools.cache
def _template() -> Template:
    """Return the compiled template; compiling takes 0.3 s."""
    loader = PackageLoader("bigrestore.report.page")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {name: getattr(written, name) for name in FILTERS}
    return environment.get_template("page.html")


def packed_tiles(data: ReportData) -> dict[str, Any]:
    """Return the columns of the tiles for the script: float32, so a saved table has seven digits of every value."""
    step = max(1, -(-data.table["z"].size // MOST_HELD))
    table = {name: values[::step] for name, values in data.table.items()}
    metrics = []
    for column in data.columns:
        metric = {name: getattr(column, name) for name in METRIC}
        metric |= {"digits": data.decimals[column.name], "inTable": column in _sortable(data)}
        for key, name in (("image", column.name), ("before", column.name + BEFORE)):
            metric |= {key: packed(table[name], "<f4")} if name in table else {}
        metrics.append(metric)
    reasons = []
    for name in (each for each in ("reason", "reason_before") if each in table):
        known, codes = np.unique(["", *table[name].astype(str)], return_inverse=True)
        reasons.append({"names": known.tolist(), "codes": packed(codes[1:], "u1")})
    places = {name: packed(table[name], "<i4") for name in PLACE}
    named = {"pair": data.pair, "volume": len(data.sections) > 1, "places": places, "reasons": reasons}
    return named | {"step": step, "tissue": packed(table["tissue"], "<f4"), "metrics": metrics}


def packed(values: NDArray[Any], kind: str) -> str:
    """Return numbers as base64."""
    return base64.b64encode(np.ascontiguousarray(values.astype(kind)).tobytes()).decode()


def safe_json(document: Any) -> str:
    """Return JSON with `<`, `>` and `&` as escapes: it cannot end its element."""
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sortable(data: ReportData) -> list[Any]:
    """Return the columns of the table of tiles: the scores, and a figure to sort tiles by."""
    others = [column for column in data.columns if column.name == "blobs_unsupported"]
    return data.group("score", "reference") + others


def _worst(data: ReportData) -> dict[str, Any]:
    """Return the columns of the table of tiles, the scored tiles worst by the first of them, and the number of scored."""
    columns, there = _sortable(data), np.flatnonzero(data.table["reason"] == "")
    good = goodness(data.table, columns[0])[there] if columns else np.zeros(there.size)
    order = there[np.argsort(np.where(np.isfinite(good), good, np.inf), kind="stable")][:MOST_ROWS]
    return {"columns": columns, "tiles": order.tolist() if columns else [], "scored": there.size}


def _links(data: ReportData) -> dict[str, Any]:
    """Return the command and the address that open the image in viewers; nothing where none can open it."""
    opens = data.facts.get("opens")
    if not opens:
        return {}
    path, remote, name = opens["path"], is_remote(opens["path"]), short_name(opens["path"])
    layer = {
        "type": "image",
        "name": name,
        "source": f"zarr://{path if remote else SERVED + quote(name_bytes(name))}",
    }
    state = quote(json.dumps({"layers": [layer], "layout": "xy"}), safe="")
    address = NEUROGLANCER + state if opens["ome_zarr"] else ""
    return {"napari": f"napari {shlex.quote(path)}", "neuroglancer": address, "remote": remote}


def _fact(value: Any) -> Any:
    """Return a fact in words, or as names and facts."""
    if isinstance(value, Mapping):
        known = {key: item for key, item in value.items() if item not in (None, "", [], {})}
        return [(str(key).replace("_", " "), _fact(item)) for key, item in known.items()]
    if isinstance(value, list):
        return ", ".join(map(str, map(_fact, value)))
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
