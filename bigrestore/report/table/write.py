"""The report of a scoring: a table for machines, a summary for both, a page for people.

The three are written in this order, each whole or not at all: a page never exists without its numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pyarrow as pa

from bigrestore.core.host.names import printable
from bigrestore.core.pixels import GreyBytes
from bigrestore.report.page import build_page
from bigrestore.report.table.statistics import summarise
from bigrestore.report.table.tables import plain, write_atomically, write_summary, write_tiles

Pictures = Callable[[int, int, int, int, int], "tuple[GreyBytes | None, GreyBytes, GreyBytes | None]"]


@attrs.frozen(eq=False)
class Report:
    """The content of a report.

    Attributes
    ----------
    tiles : pyarrow.Table
        One row per tile: place (`z`, `row`, `column`, `y`, `x`, `height`, `width` in output pixels, `tissue` 0..1),
        `reason` (empty where valid), `reason_before` for pairs, and the figures with their twins `NAME_before`.
    facts : dict
        Provenance: `image`, `before`, `reference` (names), `engine` (its own description), `tile_px`, `value_range`,
        `scale`, `voxel_size_um`, `sampling`, `method`, `model`, `versions`. `read` has the profile of each section
        (`bigrestore.run.profile.words.reading`). `lower_better` gives the direction of foreign metrics, `thumbnail_z`
        the section of the thumbnails (the middle one if it is not there), `origin_px` the (y, x) output pixel of
        their first pixel (0, 0 if it is not there).
    thumbnails : dict of ndarray, (h, w), uint8
        `image` and optionally `before` and `reference`: the whole section, longest side at most 1200.
    thumbnail_px : float
        Output pixels per pixel of a thumbnail.
    pictures : callable
        Gives for (z, y, x, height, width) the tile at full size: (before or None, image, reference or None), uint8.
    """

    tiles: pa.Table
    facts: dict[str, Any]
    thumbnails: dict[str, GreyBytes]
    thumbnail_px: float
    pictures: Pictures


def write_report(report: Report, folder: Path, *, csv: bool = False) -> dict[str, Any]:
    """Write `tiles.parquet`, `summary.json` and `report.html` into a folder, created if missing.

    Parameters
    ----------
    report : Report
        What is shown.
    folder : Path
        Of the report; files of an earlier one are replaced.
    csv : bool
        Whether `tiles.csv` is written too.

    Returns
    -------
    dict
        The summary as in `summary.json`: that of `summarise`, and the provenance under `facts`.

    Raises
    ------
    OutputError
        Where the folder cannot be written.
    """
    summary = plain(summarise(report.tiles, lower_better=report.facts.get("lower_better")))
    document: dict[str, Any] = {**summary, "facts": plain(report.facts)}
    write_tiles(folder, report.tiles, report.facts, csv=csv)
    write_summary(folder / "summary.json", document)
    page = build_page(
        report.tiles, summary, document["facts"], report.thumbnails, report.thumbnail_px, report.pictures
    )
    write_atomically(folder / "report.html", printable(page).encode())
    return document
