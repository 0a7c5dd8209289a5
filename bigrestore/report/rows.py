"""Rows of tiles as columns, as a table, and as the few lines printed by a command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bigrestore.report.table.tiles import PLACE, TileRow
from bigrestore.run.profile.words import of_sections

Columns = dict[str, list[Any]]

REASON_COLUMNS = ("reason", "reason_before")


def to_columns(rows: Iterable[TileRow], names: Sequence[str]) -> Columns:
    """Turn rows into columns."""
    columns: Columns = {name: [] for name in names}
    for row in rows:
        for name, values in columns.items():
            values.append(row[name])
    return columns


def extend(columns: Columns, more: Mapping[str, Sequence[Any]], keep: Sequence[int] | None = None) -> None:
    """Add rows to columns: all, or those at the places given."""
    for name, values in columns.items():
        added = more[name]
        values.extend(added if keep is None else [added[index] for index in keep])


def to_table(columns: Columns) -> pa.Table:
    """Return columns as a table in the order of section, row and column, figures as float64."""
    keys = [np.asarray(columns[name], np.int64) for name in ("column", "row", "z")]
    order = np.lexsort(keys)
    arrays: dict[str, pa.Array] = {}
    for name, values in columns.items():
        if name in REASON_COLUMNS:
            arrays[name] = pa.array([values[index] for index in order], pa.string())
        else:
            kind = np.int64 if name in PLACE else np.float64
            arrays[name] = pa.array(np.asarray(values, kind)[order])
    return pa.table(arrays)


def score_rows(summary: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, str]]:
    """Return a summary as names and values for people: the tiles, and a line for each named figure."""
    tiles = summary["tiles"]
    reasons = {**tiles["invalid"]}
    left_out = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    counted = f"{tiles['valid']} of {tiles['total']} tiles scored" + (
        f"; left out: {left_out}" if left_out else ""
    )
    rows = [("score tiles", counted)]
    for name in names:
        entry = summary["metrics"].get(name)
        if entry is not None:
            rows.append((entry["label"], _figure_text(entry)))
    return rows


def blob_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the blobs of a run as a line for people; nothing without any."""
    blobs = facts.get("blobs")
    if not blobs or not blobs["found"]:
        return []
    unsupported_share = blobs["unsupported"] / blobs["found"]
    return [
        (
            "blobs",
            f"{blobs['unsupported']:,} of {blobs['found']:,} without support in the input ({unsupported_share:.2%})",
        )
    ]


def reading_rows(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the readings of a run's sections as a line for people; nothing without any."""
    said = of_sections(facts.get("read", ()))
    return [("read", said)] if said else []


def _figure_text(entry: Mapping[str, Any]) -> str:
    """Return one figure: its median, or the medians before and after, and the median change with its interval."""
    image = entry["image"]
    missing = f"; missing in {image['missing']}" if image["missing"] else ""
    change = entry.get("change")
    if change is None or change["median"] is None:
        return f"median {_number_text(image['median'])}{missing}"
    text = (
        f"median {_number_text(change['median_before'])} before, {_number_text(change['median_after'])} after"
    )
    interval = "too few tiles for an interval"
    if change["low"] is not None:
        interval = f"{_number_text(change['low'])} to {_number_text(change['high'])}"
    text += f"; median change {_number_text(change['median'])} ({interval})"
    if change["share_improved"] is not None:
        text += f"; better in {change['share_improved']:.0%} of tiles"
    return text + missing


def _number_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
