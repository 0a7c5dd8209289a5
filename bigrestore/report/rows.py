"""Rows of tiles as columns, as a table, and as the few lines printed by a command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bigrestore.report.metrics.columns import Column
from bigrestore.report.page.data import SummaryData
from bigrestore.report.page.words import LIMITS, done_words, headline, read_words, score_words, sentences
from bigrestore.report.table.tiles import PLACE, TileRow

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


def score_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a summary as names and values for people: tiles, what was read and done, scores, and what they mean."""
    data = SummaryData(summary, summary["facts"])
    said = [sentence for sentence in sentences(data) if sentence.topic not in ("read", "done")]
    rows = [("score tiles", _counted(summary["tiles"]))]
    rows += [
        (name, words) for name, words in (("read", read_words(data)), ("done", done_words(data))) if words
    ]
    rows.append(("verdict", headline(data)))
    for column in data.group("score", "reference") + ([] if data.pair else _plain(data)):
        rows.append((column.label, score_words(data, column)))
        rows += [(column.label, sentence.text) for sentence in said if sentence.topic == column.label]
    labels = {column.label for column in data.columns}
    rows += [(each.mark or each.topic, each.text) for each in said if each.topic not in labels]
    return rows + ([("scores", LIMITS)] if data.group("score") else [])


def _counted(tiles: Mapping[str, Any]) -> str:
    """Return how many tiles were scored, and why the others were not."""
    left_out = ", ".join(f"{count} {reason}" for reason, count in tiles["invalid"].items())
    return f"{tiles['valid']} of {tiles['total']} tiles scored" + (
        f"; left out: {left_out}" if left_out else ""
    )


def _plain(data: SummaryData) -> list[Column]:
    """Return the plain figures that are shown of an image without another."""
    return [column for column in data.columns if column.name in ("sharpness", "noise")]
