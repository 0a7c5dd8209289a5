"""The tables of tiles: scored ones, the worst first, and unscored ones, with the reason.

A page with 30,000 rows does not open on a phone, so a table shows a limited number of rows and says of how many. The
script sorts all tiles by any heading and shows the first of them; without it the most interesting rows are shown.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigrestore.report.metrics.columns import BEFORE, Column
from bigrestore.report.page.data import ReportData
from bigrestore.report.page.markup import (
    Cell,
    count,
    escape,
    number,
    number_cell,
    plural,
    signed,
    table,
    text_cell,
)
from bigrestore.report.table.statistics import improvement

MOST_TILES = 100
MOST_INVALID = 200

REASONS = {
    "blank": "constant or saturated",
    "flat": "too flat for a score",
    "small": "cut by the edge of the image or region",
    "background": "too little tissue",
    "failed": "its block, or its scoring, failed",
}


def tile_columns(data: ReportData) -> list[Column]:
    """Return the columns of the table of tiles: the scores, and figures to sort tiles by."""
    blobs = [column for column in data.columns if column.name == "blobs_unsupported"]
    return data.group("score", "reference") + blobs


def tile_table(data: ReportData) -> str:
    """Return the table of the scored tiles, the worst first."""
    columns, there = tile_columns(data), np.flatnonzero(data.valid)
    if not there.size or not columns:
        return "<p>No tile has a score.</p>"
    first = columns[0]
    goodness = _goodness(data, first)[there]
    order = there[np.argsort(np.where(np.isfinite(goodness), goodness, np.inf), kind="stable")][:MOST_TILES]
    volume = data.sections.size > 1
    headings = [Cell("z")] if volume else []
    headings += [Cell("Row"), Cell("Column"), Cell("Tissue")]
    for column in columns:
        if data.twin(column):
            headings += [
                *(Cell(f"{escape(column.label)} <br>{word}") for word in ("before", "after", "change"))
            ]
        else:
            headings.append(Cell(escape(column.label).replace(" ", " <br>")))
    rows = [_row(data, columns, int(tile), volume=volume) for tile in order]
    by = f"{'change of ' if data.pair and data.twin(first) else ''}{escape(first.label)}"
    shown = f"The {count(order.size)} worst by {by}, of {plural(there.size, 'scored tile')}"
    if order.size == there.size:
        shown = f"All {plural(there.size, 'scored tile')}, the worst by {by} first"
    caption = f'<span id="tiles-shown">{shown}</span>; every tile with every figure is in tiles.parquet.'
    return table("tiles", caption, headings, rows, kind="data-tiles", tall=True)


def _goodness(data: ReportData, column: Column) -> NDArray[np.float64]:
    """Return a sort key: the worst tile first."""
    if data.pair and data.twin(column):
        return improvement(data.table, column)
    return -np.array([column.badness(value) for value in data.own_image(column)], np.float64)


def _row(data: ReportData, columns: list[Column], tile: int, *, volume: bool) -> list[Cell]:
    """Return the row of one tile."""
    values = data.table
    row = [Cell(str(values[name][tile]), float(values[name][tile])) for name in ("z", "row", "column")]
    row = row if volume else row[1:]
    row.append(Cell(f"{100 * values['tissue'][tile]:.0f} %", float(values["tissue"][tile])))
    for column in columns:
        digits, after = data.decimals[column.name], float(values[column.name][tile])
        if not data.twin(column):
            row.append(number_cell(after, digits))
            continue
        before = (
            float(values[column.name + BEFORE][tile]) if values["reason_before"][tile] == "" else float("nan")
        )
        row += [
            Cell(number(before, digits), before),
            Cell(number(after, digits), after),
            Cell(signed(after - before, digits), after - before),
        ]
    return row


def invalid_tables(data: ReportData) -> str:
    """Return the tables of unscored tiles: counts by reason, and a list."""
    tiles = data.summary["tiles"]
    reasons = sorted({*tiles["invalid"], *tiles.get("invalid_before", {})})
    if not reasons:
        return f"<p>Every one of the {plural(tiles['total'], 'tile')} could be scored.</p>{_undefined(data)}"
    headings = [Cell("Reason", numeric=False)]
    headings += [Cell("Before"), Cell("After")] if data.pair else [Cell("Tiles")]
    headings.append(Cell("Meaning", numeric=False))
    rows = []
    for reason in reasons:
        counts = [tiles["invalid"].get(reason, 0)]
        if data.pair:
            counts = [tiles["invalid_before"].get(reason, 0), *counts]
        meaning = Cell(escape(REASONS.get(reason, "")), numeric=False, kind="wrap")
        rows.append([text_cell(reason), *(number_cell(n, 0) for n in counts), meaning])
    return (
        table("reasons", "Tiles without a score, by reason.", headings, rows)
        + _undefined(data)
        + f"<details><summary>Which tiles</summary>{_invalid_list(data)}</details>"
    )


def _undefined(data: ReportData) -> str:
    """List the figures missing in valid tiles."""
    lines = []
    for column in data.columns:
        missing = data.entry(column)["image"]["missing"]
        if missing:
            lines.append(f"<li>{escape(column.label)}: {plural(missing, 'valid tile')} without a value.</li>")
    return f'<ul class="plainlist">{"".join(lines)}</ul>' if lines else ""


def _invalid_list(data: ReportData) -> str:
    """Return the table of the unscored tiles."""
    values = data.table
    chosen = np.flatnonzero(~data.paired)
    headings = [Cell(text) for text in ("z", "Row", "Column", "y", "x", "Tissue")]
    headings += [Cell("Reason before", numeric=False)] if data.pair else []
    headings.append(Cell("Reason", numeric=False))
    rows = []
    for tile in chosen[:MOST_INVALID]:
        row = [
            Cell(str(values[name][tile]), float(values[name][tile]))
            for name in ("z", "row", "column", "y", "x")
        ]
        row.append(Cell(f"{100 * values['tissue'][tile]:.0f} %", float(values["tissue"][tile])))
        row += [text_cell(values["reason_before"][tile])] if data.pair else []
        rows.append([*row, text_cell(values["reason"][tile])])
    capped = (
        f" The first {count(MOST_INVALID)}; all are in tiles.parquet." if chosen.size > MOST_INVALID else ""
    )
    caption = f"{plural(chosen.size, 'tile')} without a score.{capped}"
    return table("invalid", caption, headings, rows, tall=True)
