"""What every part of the page draws from, and how numbers are written: a true minus sign, commas between thousands.

How many figures a column shows is decided once for the whole page, from its large values: a number looks the same in
the verdict, in a table and under the pointer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.pixels import Doubles
from bigrestore.report.metrics.columns import BEFORE, Column, find_columns
from bigrestore.report.table.statistics import as_columns, paired_tiles

if TYPE_CHECKING:
    from bigrestore.report.table.write import Report


NOTHING = "–"
"""Where there is no number."""

MINUS = "\N{MINUS SIGN}"


def number(value: float | None, decimals: int) -> str:
    """Return a number with a true minus sign and commas between thousands; a dash for None."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else MINUS + "∞"
    text = f"{abs(value):,.{decimals}f}"
    return (MINUS if value < 0 and float(text.replace(",", "")) else "") + text


def signed(value: float | None, decimals: int) -> str:
    """Return a change: a number with its plus or minus, neither at zero."""
    text = number(value, decimals)
    rises = value is not None and value > 0 and any(digit in "123456789∞" for digit in text)
    return "+" + text if rises else text


def percent(share: float | None) -> str:
    """Return a share as whole percents; 0 and 100 only if exact."""
    if share is None or math.isnan(share):
        return NOTHING
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def plural(value: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: a, b and c."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1] if names else "") if part)


def short_name(path: object) -> str:
    """Return the last part of a path: the file's name."""
    return str(path).rstrip("/").rsplit("/", 1)[-1] or str(path)


def decimals_for(column: Column, values: Doubles) -> int:
    """Return the figures after the point of a column; where it states significant figures, by its large values."""
    if column.digits >= 0:
        return column.digits
    sizes = np.abs(values[np.isfinite(values)]) * column.factor
    magnitude = float(np.quantile(sizes, 0.95)) if sizes.size else 0.0
    return max(0, min(7, -column.digits - 1 - math.floor(math.log10(magnitude)))) if magnitude > 0 else 2


@attrs.frozen(eq=False)
class ReportData:
    """Everything the page shows of a scoring.

    Attributes
    ----------
    report : Report
        Its pictures and overviews.
    summary, facts : dict
        As in `summary.json`.
    table : dict of ndarray
        The columns of the tiles.
    columns, twins : list of Column
        The figures among them, in reading order, and those that the image before has as well.
    decimals : dict of int
        Figures after the point by column.
    paired : ndarray of bool
        Tiles that count: valid in the image, and in the one before.
    """

    report: Report
    summary: Mapping[str, Any]
    facts: Mapping[str, Any]
    table: dict[str, NDArray[Any]]
    columns: list[Column]
    twins: list[Column]
    decimals: dict[str, int]
    paired: NDArray[np.bool_]

    @classmethod
    def of(cls, report: Report, summary: Mapping[str, Any], facts: Mapping[str, Any]) -> ReportData:
        """Take a report apart."""
        table = as_columns(report.tiles)
        columns = find_columns(table, facts.get("lower_better"))
        twins = [column for column in columns if column.name + BEFORE in table]
        decimals = {column.name: decimals_for(column, table[column.name]) for column in columns}
        return cls(report, summary, facts, table, columns, twins, decimals, paired_tiles(table))

    @property
    def pair(self) -> bool:
        """Whether there is an image before."""
        return "reason_before" in self.table

    @property
    def sections(self) -> list[int]:
        """The z of every section, ascending, those without a tile too."""
        return sorted({*self.table["z"].tolist(), *range(*self.facts.get("sections") or (0, 0))})

    @property
    def shown_z(self) -> int:
        """Section that is shown first."""
        there = self.sections
        return int(self.facts.get("thumbnail_z", there[len(there) // 2] if there else 0))

    @property
    def changes(self) -> dict[str, float]:
        """The median change of each figure, 0 where there is none."""
        return {column.name: self.entry(column)["change"]["median"] or 0.0 for column in self.twins}

    def group(self, *names: str) -> list[Column]:
        """Return the columns of some groups."""
        return [column for column in self.columns if column.group in names]

    def entry(self, column: Column) -> Mapping[str, Any]:
        """Return the summary of one column."""
        return dict(self.summary["metrics"][column.name])

    def median(self, name: str) -> float | None:
        """Return the median of a figure of the image; None without one."""
        value: float | None = self.summary["metrics"].get(name, {}).get("image", {}).get("median")
        return value

    def number(self, column: Column, value: float | None) -> str:
        """Return a value of a column as the page writes it."""
        return number(None if value is None else value * column.factor, self.decimals[column.name])

    def signed(self, column: Column, value: float | None) -> str:
        """Return a change of a column as the page writes it."""
        return signed(None if value is None else value * column.factor, self.decimals[column.name])

    def same(self, column: Column, values: Doubles) -> str:
        """Return the one number of all values, as the page writes it; empty if they differ or none exists."""
        there = values[~np.isnan(values)]
        ends = {self.number(column, float(end)) for end in (there.min(), there.max())} if there.size else set()
        return ends.pop() if len(ends) == 1 else ""

    def counted(self, column: Column) -> dict[str, Doubles]:
        """Return a column `before`, where it exists, and `after`, NaN for tiles that do not count."""
        names = {"before": column.name + BEFORE, "after": column.name}
        there = {name: self.table[key] for name, key in names.items() if key in self.table}
        return {name: np.where(self.paired, values, np.nan) for name, values in there.items()}
