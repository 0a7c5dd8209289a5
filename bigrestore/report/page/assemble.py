"""The parts of the page in the order in which people read them, put into one file.

What changed comes first, then how sure that is, then where, then what it looks like, then what the scores cannot
see, and where the numbers come from last. The security policy names the one script by its hash and
forbids every other and every address, so the page cannot load anything even if text in it tried to.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bigrestore.report.page.embed import embedded
from bigrestore.report.page.figures.heatmaps import heatmaps, map_note, switch_styles, thumbnail_styles
from bigrestore.report.page.figures.histograms import histograms
from bigrestore.report.page.figures.pictures import pictures
from bigrestore.report.page.figures.series import volume
from bigrestore.report.page.markup import escape, short_name
from bigrestore.report.page.material import Material
from bigrestore.report.page.provenance import provenance
from bigrestore.report.page.summary import interval_note, native_table, summary_table
from bigrestore.report.page.tables import invalid_tables, tile_table
from bigrestore.report.page.words import verdict

Grey = NDArray[np.uint8]


def build_page(
    tiles: pa.Table,
    summary: Mapping[str, Any],
    facts: Mapping[str, Any],
    thumbnails: Mapping[str, Grey],
    thumbnail_px: float,
    pictures_of: Callable[[int, int, int, int, int], tuple[Grey | None, Grey, Grey | None]],
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
    material = Material.of(tiles, summary, facts, thumbnails, thumbnail_px, pictures_of)
    script = _read("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "policy": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        "title": escape(f"Scores of {short_name(facts.get('image', 'an image'))}"),
        "style": _read("page.css") + thumbnail_styles(material) + switch_styles(len(material.columns)),
        "script": script,
        "data": embedded(material),
        "verdict": verdict(material),
        "body": "\n".join(_sections(material)),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _read("template.html"))


def _sections(material: Material) -> list[str]:
    """Return the parts after the verdict."""
    scores = material.group("score", "reference")
    beside = material.group("plain", "restored")
    note = f'<p class="note">{interval_note(material)}</p>' if material.pair else ""
    noted = f'<p class="note">{map_note(material)}</p>'
    before = (
        "Medians over the tiles valid in both images." if material.pair else "How the valid tiles are spread."
    )
    found = [
        _section(
            "summary",
            "The scores",
            summary_table(material, scores, "scores", before) + note + native_table(material),
        ),
        _section("spread", "How the tiles are spread", histograms(material, scores)),
        _section("maps", "Where", noted + heatmaps(material)),
        _section("pictures", "Best, median and worst tiles", pictures(material)),
    ]
    if beside:
        text = "Stripes, shading, contrast and a change of grey level leave the scores as they were or make them better."
        spread = (
            f"<details><summary>How the tiles are spread</summary>{histograms(material, beside)}</details>"
        )
        content = summary_table(material, beside, "beside", before) + spread
        found.append(_section("unseen", "What the scores cannot see", f'<p class="note">{text}</p>{content}'))
    series = volume(material)
    if series:
        found.append(_section("volume", "Over the sections", series))
    found += [
        _section("alltiles", "Tiles", tile_table(material)),
        _section("left", "Tiles without a score", invalid_tables(material)),
        _section("facts", "Where the numbers come from", provenance(material)),
    ]
    return found


def _section(identifier: str, title: str, content: str) -> str:
    """Return one part of the page."""
    return f'<section id="s-{identifier}"><h2>{escape(title)}</h2>\n{content}\n</section>'


def _read(name: str) -> str:
    """Return a file of this package."""
    return files("bigrestore.report.page").joinpath(name).read_text(encoding="utf-8")
