"""The report of a scoring: a table for machines, a summary for both, a page for people.

The three are written in this order, so that a page is never there without the numbers that it shows, and
each of them whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bigrestore.report.page import build_page
from bigrestore.report.table.statistics import summarise
from bigrestore.report.table.tables import plain, write_atomically, write_json, write_tiles

Grey = NDArray[np.uint8]
Pictures = Callable[[int, int, int, int, int], "tuple[Grey | None, Grey, Grey | None]"]


@attrs.frozen(eq=False)
class Report:
    """What a report is made of.

    Attributes
    ----------
    tiles : pyarrow.Table
        One row per tile: place (`z`, `row`, `column`, `y`, `x`, `height`, `width` in output pixels, `tissue` 0..1),
        `reason` (empty where valid), `reason_before` for pairs, and the figures with their twins `NAME_before`.
    facts : dict
        Provenance: `image`, `before`, `reference` (names), `engine` (what the engine says of itself), `tile_px`,
        `value_range`, `scale`, `voxel_size_um`, `sampling`, `method`, `model`, `versions`. `read` has what a run read of
        each section (`bigrestore.run.profile.words.reading`). `lower_better` gives the
        direction of foreign metrics, `thumbnail_z` the section of the thumbnails (the middle one if it is not
        there), `origin_px` the (y, x) output pixel of their first pixel (0, 0 if it is not there).
    thumbnails : dict of ndarray, (h, w), uint8
        `image` and, where there are such, `before` and `reference`: the whole section, longest side at most 1200.
    thumbnail_px : float
        Output pixels per pixel of a thumbnail.
    pictures : callable
        Gives for (z, y, x, height, width) the tile at full size: (before or None, image, reference or None), uint8.
    """

    tiles: pa.Table
    facts: dict[str, Any]
    thumbnails: dict[str, Grey]
    thumbnail_px: float
    pictures: Pictures


def write_report(report: Report, folder: Path, *, csv: bool = False) -> dict[str, Any]:
    """Write `tiles.parquet`, `summary.json` and `report.html` into a folder, made where it is not there.

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
    write_json(folder / "summary.json", document)
    page = build_page(
        report.tiles, summary, document["facts"], report.thumbnails, report.thumbnail_px, report.pictures
    )
    write_atomically(folder / "report.html", page.encode())
    return document
