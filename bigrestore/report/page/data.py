"""What every part of the page draws from.

How many figures a column shows is decided once for the whole page, so a number looks the same everywhere in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bigrestore.core.pixels import Doubles
from bigrestore.report.metrics.columns import BEFORE, Column, find_columns
from bigrestore.report.shown import number, signed
from bigrestore.report.table.statistics import as_columns, paired_tiles

if TYPE_CHECKING:
    from bigrestore.report.table.content import Report


def decimals_for(column: Column, values: Doubles) -> int:
    """Return the figures after the point of a column; where it states significant figures, by its large values."""
    if column.digits >= 0:
        return column.digits
    sizes = np.abs(values[np.isfinite(values)]) * column.factor
    magnitude = float(np.quantile(sizes, 0.95)) if sizes.size else 0.0
    return max(0, min(7, -column.digits - 1 - math.floor(math.log10(magnitude)))) if magnitude > 0 else 2


class SummaryData:
    """A report as its summary says it: figures in reading order, and how people read their numbers.

    `columns` are the figures, `twins` those that the image before has as well.
    """

    def __init__(self, summary: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        self.summary, self.facts = summary, facts
        self.pair = bool(summary["pair"])
        self.columns = find_columns(summary["metrics"], facts.get("lower_better"))
        self.twins = [column for column in self.columns if "change" in self.entry(column)]

    @cached_property
    def decimals(self) -> dict[str, int]:
        """Figures after the point of each column."""
        large = {
            column: [self.entry(column)["image"].get("q95") or 0.0, *self._medians(column)]
            for column in self.columns
        }
        return {column.name: decimals_for(column, np.array(values)) for column, values in large.items()}

    def _medians(self, column: Column) -> list[float]:
        change = self.entry(column).get("change") or {}
        return [change[name] for name in ("median_before", "median_after") if change.get(name) is not None]

    def group(self, *names: str) -> list[Column]:
        """Return the columns of some groups."""
        return [column for column in self.columns if column.group in names]

    def entry(self, column: Column) -> Mapping[str, Any]:
        """Return the summary of one column."""
        return dict(self.summary["metrics"][column.name])

    def number(self, column: Column, value: float | None) -> str:
        """Return a value of a column as people read it."""
        return number(None if value is None else value * column.factor, self.decimals[column.name])

    def signed(self, column: Column, value: float | None) -> str:
        """Return a change of a column as people read it."""
        return signed(None if value is None else value * column.factor, self.decimals[column.name])


class ReportData(SummaryData):
    """A report taken apart: its tables, its summary and facts as in `summary.json`, and its pictures.

    `columns` are the figures in reading order, `twins` those that the image before has as well, `paired` marks the tiles
    that count: valid in the image, and in the one before.
    """

    def __init__(self, report: Report, summary: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        super().__init__(summary, facts)
        self.report, self.table = report, as_columns(report.tiles)
        self.paired = paired_tiles(self.table)

    @cached_property
    def decimals(self) -> dict[str, int]:
        """Figures after the point of each column, by its values in the table."""
        return {each.name: decimals_for(each, self.table[each.name]) for each in self.columns}

    @cached_property
    def sections(self) -> list[int]:
        """The z of every section, ascending, those without a tile too."""
        return sorted({*self.table["z"].tolist(), *range(*self.facts.get("sections") or (0, 0))})

    @property
    def shown_z(self) -> int:
        """Section that is shown first: the one with a score nearest to the middle."""
        wanted = int(self.facts.get("thumbnail_z", self.sections[len(self.sections) // 2]))
        scored: list[int] = self.table["z"][self.paired].tolist() or self.sections
        return min(sorted(scored), key=lambda z: abs(z - wanted))

    def same(self, column: Column, values: Doubles) -> str:
        """Return the one number of all values, as the page writes it; empty if they differ or none exists."""
        there = values[~np.isnan(values)]
        ends = (
            {self.number(column, float(end)) for end in (there.min(), there.max())} if there.size else set()
        )
        return ends.pop() if len(ends) == 1 else ""

    def counted(self, column: Column) -> dict[str, Doubles]:
        """Return a column `before`, where it exists, and `after`, NaN for tiles that do not count."""
        names = {"before": column.name + BEFORE} if column in self.twins else {}
        names["after"] = column.name
        return {name: np.where(self.paired, self.table[key], np.nan) for name, key in names.items()}
