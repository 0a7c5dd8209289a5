"""The tables of figures: before, after, change with its interval, and share of tiles improved.

A reader looks for three things: how much, how sure, on how many. They stand in this order, the interval under its
change, to fit a phone. The test, which assumes independent tiles, comes last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bigrestore.report.metrics.columns import Column
from bigrestore.report.page.data import ReportData, in_units
from bigrestore.report.page.markup import (
    Cell,
    escape,
    number,
    number_cell,
    percent,
    share_cell,
    signed,
    table,
)
from bigrestore.report.page.words import verdict_of


def summary_table(data: ReportData, columns: Sequence[Column], identifier: str, caption: str) -> str:
    """Return the tables of some figures: those with a before, and those without.

    Parameters
    ----------
    data : ReportData
        What is shown.
    columns : sequence of Column
        The rows.
    identifier : str
        Of the first table.
    caption : str
        Says what it shows.
    """
    twins = [column for column in columns if data.twin(column)]
    alone = [column for column in columns if not data.twin(column)]
    tables = ""
    if twins:
        tables += _paired(data, twins, identifier, caption)
    if alone:
        text = "Of the image alone: how its tiles are spread." if twins else caption
        tables += _quantile_table(
            alone, data.summary["metrics"], data, identifier + ("-alone" if twins else ""), text
        )
    return tables


def native_table(data: ReportData) -> str:
    """Return the scores of the input on its own grid, empty if it has the output's."""
    native = data.facts.get("before_native")
    if not native:
        return ""
    columns = [column for column in data.group("score", "plain") if column.name in native["metrics"]]
    caption = (
        "The input on its own grid, before it was interpolated to the output's: another size of pixel, so these are no "
        "“before” and are not to be compared with the scores above."
    )
    inner = _quantile_table(columns, in_units(native, columns)["metrics"], data, "native", caption)
    return f"<details><summary>The input on its own grid</summary>{inner}</details>"


def _row_heading(column: Column) -> Cell:
    """Return the heading of a row: the label and the better direction."""
    better = f"<small>{escape(column.note)}</small>" if column.note else ""
    return Cell(
        f'<span title="{escape(column.says)}">{escape(column.label)}</span>{better}',
        column.label,
        numeric=False,
    )


def _paired(data: ReportData, columns: Sequence[Column], identifier: str, caption: str) -> str:
    """Return the table of figures with a before and an after."""
    headings = ["Before", "After", "Change", "Improved", "Tiles", "No value", "p (Holm)"]
    rows = []
    for column in columns:
        change, digits = data.entry(column)["change"], data.decimals[column.name]
        kind = verdict_of(change, column)
        interval = (
            f"<small>{signed(change['low'], digits)} to {signed(change['high'], digits)}</small>"
            if change["low"] is not None
            else "<small>too few tiles</small>"
        )
        # No tile better or worse: a share of 0 improved would read as a loss.
        unchanged = change["share_improved"] == 0 and change["share_worse"] == 0
        rows.append(
            [
                _row_heading(column),
                number_cell(change["median_before"], digits),
                number_cell(change["median_after"], digits),
                Cell(signed(change["median"], digits) + interval, change["median"], kind=kind),
                share_cell(None if unchanged else change["share_improved"]),
                number_cell(change["count"], 0),
                number_cell(change["missing"], 0),
                Cell(_p(change["wilcoxon_p_holm"]), change["wilcoxon_p_holm"]),
            ]
        )
    first = [Cell("Figure", numeric=False)]
    return table(identifier, escape(caption), first + [Cell(text) for text in headings], rows)


def _quantile_table(
    columns: Sequence[Column], metrics: Mapping[str, Any], data: ReportData, identifier: str, caption: str
) -> str:
    """Return the table of quantiles of some figures."""
    shares = {"q05": "5 %", "q25": "25 %", "median": "Median", "q75": "75 %", "q95": "95 %"}
    rows = []
    for column in columns:
        values, digits = metrics[column.name]["image"], data.decimals[column.name]
        rows.append(
            [
                _row_heading(column),
                *(number_cell(values[name], digits) for name in shares),
                number_cell(values["count"], 0),
                number_cell(values["missing"], 0),
            ]
        )
    first = [Cell("Figure", numeric=False)]
    headings = [Cell(text) for text in [*shares.values(), "Tiles", "No value"]]
    return table(identifier, escape(caption), first + headings, rows)


def _p(value: float | None) -> str:
    """Return a p as people write it."""
    if value is None:
        return number(None, 0)
    return "&lt;0.001" if value < 0.001 else f"{value:.3f}"


def interval_note(data: ReportData) -> str:
    """Say in a sentence how the interval was made."""
    bootstrap = data.summary["bootstrap"]
    sides = bootstrap["block_side_tiles"]
    if not sides:
        return ""
    size = (
        f"{sides[0]} × {sides[0]}"
        if sides[0] == sides[1]
        else f"{sides[0]} × {sides[0]} to {sides[1]} × {sides[1]}"
    )
    return (
        f"Interval: {percent(bootstrap['confidence'])}, spatial block bootstrap with {bootstrap['resamples']:,} redrawings "
        f"(seed {bootstrap['seed']}) of squares of {size} tiles; {escape(bootstrap['why'])}. "
        "p: Wilcoxon signed-rank test, corrected by Holm over all figures; it takes neighbouring tiles for independent, so "
        "it is too small, and the interval is what counts."
    )
