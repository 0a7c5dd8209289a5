"""What every part of the page draws from: the columns, the summary, and how each figure is written.

How many figures a column shows is decided once for the whole page, from its large values: a number looks the same in
the verdict, in a table and under the pointer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bigrestore.core.pixels import GreyBytes
from bigrestore.report.metrics.columns import BEFORE, Column, find_columns
from bigrestore.report.page.markup import decimals_for, number
from bigrestore.report.table.statistics import as_columns, paired_tiles, valid_tiles


@attrs.frozen(eq=False)
class ReportData:
    """Everything the page shows of a scoring.

    Attributes
    ----------
    table : dict of ndarray
        The columns of the tiles.
    columns : list of Column
        The figures among them, in reading order.
    decimals : dict of int
        Figures after the point by column.
    summary, facts : dict
        As in `summary.json`; figures in display units, as in `table`.
    thumbnails : dict of ndarray, uint8
        `image`, `before`, `reference`.
    thumbnail_px : float
        Output pixels per thumbnail pixel.
    pictures : callable
        Tiles at full size.
    valid, paired : ndarray of bool
        Tiles valid in the image, and in both.
    """

    table: dict[str, NDArray[Any]]
    columns: list[Column]
    decimals: dict[str, int]
    summary: Mapping[str, Any]
    facts: Mapping[str, Any]
    thumbnails: Mapping[str, GreyBytes]
    thumbnail_px: float
    pictures: Callable[[int, int, int, int, int], tuple[GreyBytes | None, GreyBytes, GreyBytes | None]]
    valid: NDArray[np.bool_]
    paired: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        tiles: pa.Table,
        summary: Mapping[str, Any],
        facts: Mapping[str, Any],
        thumbnails: Mapping[str, GreyBytes],
        thumbnail_px: float,
        pictures: Callable[[int, int, int, int, int], tuple[GreyBytes | None, GreyBytes, GreyBytes | None]],
    ) -> ReportData:
        """Take a report apart."""
        table = as_columns(tiles)
        columns = find_columns(table, facts.get("lower_better"))
        for column in columns:
            for name in {column.name, column.name + BEFORE} & table.keys():
                table[name] = table[name] * column.factor
        return cls(
            table=table,
            columns=columns,
            decimals={column.name: _decimals(column, table[column.name]) for column in columns},
            summary=in_units(summary, columns),
            facts=facts,
            thumbnails=thumbnails,
            thumbnail_px=thumbnail_px,
            pictures=pictures,
            valid=valid_tiles(table),
            paired=paired_tiles(table),
        )

    @property
    def pair(self) -> bool:
        """Whether there is an image before."""
        return "reason_before" in self.table

    @property
    def sampled(self) -> bool:
        """Whether only some of the tiles were looked at."""
        lattice = np.unique(self.table["row"]).size * np.unique(self.table["column"]).size
        return self.table["z"].size < lattice * self.sections.size

    @property
    def sections(self) -> NDArray[np.int64]:
        """The z of every section, ascending."""
        return np.unique(self.table["z"])

    @property
    def thumbnail_z(self) -> int:
        """Section of the thumbnails."""
        there = self.sections
        return int(self.facts.get("thumbnail_z", there[there.size // 2] if there.size else 0))

    def group(self, *names: str) -> list[Column]:
        """Return the columns of some groups."""
        return [column for column in self.columns if column.group in names]

    def twin(self, column: Column) -> bool:
        """Whether the column exists of the image before as well."""
        return column.name + BEFORE in self.table

    def entry(self, column: Column) -> Mapping[str, Any]:
        """Return the summary of one column."""
        return dict(self.summary["metrics"][column.name])

    def in_every_tile(self, column: Column, values: NDArray[np.float64]) -> str:
        """Return the one number of all values, as the page writes it; empty if they differ or none exists."""
        there = values[~np.isnan(values)]
        if not there.size:
            return ""
        ends = {number(float(end), self.decimals[column.name]) for end in (there.min(), there.max())}
        return ends.pop() if len(ends) == 1 else ""

    def of_image(self, column: Column) -> NDArray[np.float64]:
        """Return a column of the image, NaN for tiles not counted: in a pair, invalid in either image."""
        return np.where(self.paired, self.table[column.name], np.nan)

    def own_image(self, column: Column) -> NDArray[np.float64]:
        """Return a column of the image, NaN only for tiles invalid in the image itself."""
        return np.where(self.valid, self.table[column.name], np.nan)

    def own_before(self, column: Column) -> NDArray[np.float64]:
        """Return a column of the image before, NaN only for tiles invalid in it."""
        there = self.table["reason_before"] == "" if self.pair else self.valid
        return np.where(there, self.table[column.name + BEFORE], np.nan)

    def of_before(self, column: Column) -> NDArray[np.float64]:
        """Return a column of the image before, NaN for tiles not counted."""
        return np.where(self.paired, self.table[column.name + BEFORE], np.nan)


def in_units(summary: Mapping[str, Any], columns: Sequence[Column]) -> dict[str, Any]:
    """Return a summary with its figures in display units; grey levels in percent of the range."""
    factors = {column.name: column.factor for column in columns}
    shown = dict(summary)
    shown["metrics"] = {
        name: {
            part: _scaled(figures, factors.get(name, 1.0)) if isinstance(figures, dict) else figures
            for part, figures in entry.items()
        }
        for name, entry in summary["metrics"].items()
    }
    if "sections" in summary:
        shown["sections"] = [_section_in_units(entry, factors) for entry in summary["sections"]]
        shown["grey_jumps"] = {
            name: _scaled(figures, 100.0) | {"marked": [_scaled(jump, 100.0) for jump in figures["marked"]]}
            for name, figures in summary["grey_jumps"].items()
        }
    return shown


def _section_in_units(entry: Mapping[str, Any], factors: Mapping[str, float]) -> dict[str, Any]:
    """Return the summary of a section in display units."""
    metrics = {}
    for name, figures in entry["metrics"].items():
        metrics[name] = {
            part: values and [value * factors.get(name, 1.0) for value in values]
            for part, values in figures.items()
        }
    grey = {name: entry[name] and entry[name] * 100.0 for name in ("grey", "grey_before") if name in entry}
    return {**entry, **grey, "metrics": metrics}


_AS_THEY_ARE = (
    "count",
    "missing",
    "z",
    "from_z",
    "share_improved",
    "share_worse",
    "wilcoxon_p",
    "wilcoxon_p_holm",
)


def _scaled(figures: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Multiply figures, but no counts, shares or places."""
    return {
        name: value * factor if isinstance(value, float) and name not in _AS_THEY_ARE else value
        for name, value in figures.items()
    }


def _decimals(column: Column, values: NDArray[np.float64]) -> int:
    """Return the decimals of a column."""
    sizes = np.abs(values[np.isfinite(values)])
    return decimals_for(column.digits, float(np.quantile(sizes, 0.95)) if sizes.size else 0.0)
