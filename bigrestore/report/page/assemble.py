"""Put the parts of the page into one file, in reading order.

The changes come first, then their certainty, maps, pictures, the figures beside the scores, and the provenance last.
The security policy names the one script by its hash and forbids every other and every address, so the page cannot
load anything even if text in it tried to.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import pyarrow as pa

from bigrestore.core.pixels import GreyBytes
from bigrestore.report.page.data import ReportData
from bigrestore.report.page.embed import embedded
from bigrestore.report.page.figures.heatmaps import heatmaps, map_note, switch_styles, thumbnail_styles
from bigrestore.report.page.figures.histograms import histograms
from bigrestore.report.page.figures.pictures import pictures
from bigrestore.report.page.figures.series import volume
from bigrestore.report.page.markup import escape, short_name
from bigrestore.report.page.provenance import provenance_list
from bigrestore.report.page.summary import interval_note, native_table, summary_table
from bigrestore.report.page.tables import invalid_tables, tile_table
from bigrestore.report.page.words import verdict


def build_page(
    tiles: pa.Table,
    summary: Mapping[str, Any],
    facts: Mapping[str, Any],
    thumbnails: Mapping[str, GreyBytes],
    thumbnail_px: float,
    pictures_of: Callable[[int, int, int, int, int], tuple[GreyBytes | None, GreyBytes, GreyBytes | None]],
) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    tiles : pyarrow.Table
        One row per tile; see `bigrestore.report.table.write.Report`.
    summary, facts : mapping
        Of JSON values, as in `summary.json`.
    thumbnails : mapping of ndarray, (h, w), uint8
        `image` and, where there are such, `before` and `reference`.
    thumbnail_px : float
        Output pixels per thumbnail pixel.
    pictures_of : callable
        Gives for (z, y, x, height, width) the tile at full size: before or None, image, reference or None.
    """
    data = ReportData.of(tiles, summary, facts, thumbnails, thumbnail_px, pictures_of)
    script = _package_file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        "title": escape(f"Scores of {short_name(facts.get('image', 'an image'))}"),
        "style": _package_file("page.css") + thumbnail_styles(data) + switch_styles(len(data.columns)),
        "script": script,
        "data": embedded(data),
        "verdict": verdict(data),
        "body": "\n".join(_page_parts(data)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _package_file("template.html"))


def _page_parts(data: ReportData) -> list[str]:
    """Return the parts after the verdict."""
    scores = data.group("score", "reference")
    beside = data.group("plain", "restored")
    note = f'<p class="note">{interval_note(data)}</p>' if data.pair else ""
    noted = f'<p class="note">{map_note(data)}</p>'
    before = (
        "Medians over the tiles valid in both images." if data.pair else "How the valid tiles are spread."
    )
    parts = [
        _page_part(
            "summary",
            "The scores",
            summary_table(data, scores, "scores", before) + note + native_table(data),
        ),
        _page_part("spread", "How the tiles are spread", histograms(data, scores)),
        _page_part("maps", "Where", noted + heatmaps(data)),
        _page_part("pictures", "Best, median and worst tiles", pictures(data)),
    ]
    if beside:
        text = "Stripes, shading, contrast and a change of grey level leave the scores as they were or make them better."
        spread = f"<details><summary>How the tiles are spread</summary>{histograms(data, beside)}</details>"
        content = summary_table(data, beside, "beside", before) + spread
        parts.append(
            _page_part("unseen", "What the scores cannot see", f'<p class="note">{text}</p>{content}')
        )
    series = volume(data)
    if series:
        parts.append(_page_part("volume", "Over the sections", series))
    parts += [
        _page_part("alltiles", "Tiles", tile_table(data)),
        _page_part("left", "Tiles without a score", invalid_tables(data)),
        _page_part("facts", "Where the numbers come from", provenance_list(data)),
    ]
    return parts


def _page_part(identifier: str, title: str, content: str) -> str:
    """Return one part of the page."""
    return f'<section id="s-{identifier}"><h2>{escape(title)}</h2>\n{content}\n</section>'


def _package_file(name: str) -> str:
    """Return a file of this package."""
    return files("bigrestore.report.page").joinpath(name).read_text(encoding="utf-8")
