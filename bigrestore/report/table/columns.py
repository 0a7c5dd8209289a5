"""The columns of a tile table: better direction, format and meaning.

A reader needs to know whether more is better, and three decimals would pretend a precision no score has. Both are
decided here, once, for the page, the summary and the tests alike. The table itself lists its columns: an unknown
metric (any of the adapter's list) is shown too, with a direction named by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import attrs

Direction = Literal["lower", "higher", "zero", "none"]
Group = Literal["score", "reference", "plain", "restored"]

PLACE_COLUMNS = ("z", "row", "column", "y", "x", "height", "width", "tissue", "reason", "reason_before")
"""Columns that say where a tile is and whether it counts; every other column is a figure."""

BEFORE = "_before"
"""Ending of the column that holds the same figure of the image before."""


@attrs.frozen
class Column:
    """One figure of a tile.

    Attributes
    ----------
    name : str
        Of the column in the table.
    label : str
        For people.
    group : {"score", "reference", "plain", "restored"}
        A score without a reference, a comparison with a reference, a figure beside the scores, and a figure of
        restored tiles alone.
    direction : {"lower", "higher", "zero", "none"}
        Which change is an improvement; `zero`: towards zero, `none`: neither.
    digits : int
        Figures after the point for people; negative: number of significant figures.
    says : str
        One sentence on its meaning.
    factor : float
        For people it is multiplied by this; files for machines have it as it is.
    unit : str
        Of the multiplied figure, or nothing.
    """

    name: str
    label: str
    group: Group
    direction: Direction
    digits: int
    says: str
    factor: float = 1.0
    unit: str = ""

    def badness(self, value: float) -> float:
        """Return the value turned to less is better; unchanged without a direction."""
        if self.direction == "higher":
            return -value
        return abs(value) if self.direction == "zero" else value

    @property
    def note(self) -> str:
        """Which way is better and the unit, in words."""
        return ", ".join(part for part in (self.better, self.unit) if part)

    @property
    def better(self) -> str:
        """The better direction in words; empty if neither."""
        return {"lower": "lower is better", "higher": "higher is better", "zero": "0 is best", "none": ""}[
            self.direction
        ]


_PERCENT = "% of the range"

_KNOWN = (
    Column("niqe", "NIQE", "score", "lower", 2, "Distance from the statistics of good photographs."),
    Column("brisque", "BRISQUE", "score", "lower", 1, "Distortion as people rated it; may leave 0 to 100."),
    Column("piqe", "PIQE", "score", "lower", 1, "Blur, blocks and noise where the tile has structure."),
    Column("psnr", "PSNR", "reference", "higher", 2, "Mean squared error against the reference.", unit="dB"),
    Column("ssim", "SSIM", "reference", "higher", 4, "Structural similarity with the reference."),
    Column("ms_ssim", "MS-SSIM", "reference", "higher", 4, "Structural similarity at five scales."),
    Column(
        "sharpness",
        "Sharpness",
        "plain",
        "higher",
        2,
        "Mean squared gradient (Tenengrad); noise raises it too.",
        1e4,
        "× 10⁻⁴",
    ),
    Column("noise", "Noise", "plain", "lower", 2, "Standard deviation of the noise.", 100, _PERCENT),
    Column("stripes_rows", "Stripes, rows", "plain", "lower", 3, "Stripes along the rows.", 100, _PERCENT),
    Column(
        "stripes_columns",
        "Stripes, columns",
        "plain",
        "lower",
        3,
        "Stripes along the columns.",
        100,
        _PERCENT,
    ),
    Column(
        "shading", "Shading", "plain", "lower", 1, "Slow change of brightness across the tile.", 100, _PERCENT
    ),
    Column("clipped", "Clipped", "plain", "lower", 2, "Pixels at the ends of the range.", 100, "% of pixels"),
    Column("mean", "Mean grey", "plain", "none", 2, "Mean grey level.", 100, _PERCENT),
    Column(
        "residual",
        "Residual",
        "restored",
        "lower",
        2,
        "How far the tile, degraded again, is from the input; about 1 is the noise of the input alone.",
        unit="× noise",
    ),
    Column("drift", "Grey drift", "restored", "zero", 2, "Change of the mean grey level.", 100, _PERCENT),
    Column(
        "invented",
        "Invented detail",
        "restored",
        "lower",
        1,
        "Share of the fine detail whose like is not in the input.",
        100,
        "%",
    ),
    Column(
        "blobs",
        "Blobs",
        "restored",
        "none",
        0,
        "Dark blobs of the size of a cell, or of 2 to 5 px.",
        unit="per tile",
    ),
    Column(
        "blobs_unsupported",
        "Blobs without support",
        "restored",
        "lower",
        0,
        "Those that the input does not show at a third of their strength: hidden by blur, or invented.",
        unit="per tile",
    ),
    Column(
        "seam",
        "Seam",
        "restored",
        "lower",
        3,
        "Difference between restorations where they overlap.",
        100,
        _PERCENT,
    ),
)

COLUMNS: dict[str, Column] = {column.name: column for column in _KNOWN}
"""The columns that bigrestore makes itself, in the order in which people read them."""

_GROUPS: tuple[Group, ...] = ("score", "reference", "plain", "restored")


def find_columns(names: Iterable[str], lower_better: Mapping[str, bool] | None = None) -> list[Column]:
    """Return the figures among the columns of a table, in reading order.

    Parameters
    ----------
    names : iterable of str
        Every column of the table.
    lower_better : mapping, optional
        Whether lower is better, of metrics that are not in `COLUMNS`; one that is in neither has no direction.
    """
    there = set(names)
    lower = lower_better or {}
    shown = []
    for name in names:
        twin = name.endswith(BEFORE) and name.removesuffix(BEFORE) in there
        if name in PLACE_COLUMNS or twin:
            continue
        less = lower.get(name)
        direction: Direction = "none" if less is None else "lower" if less else "higher"
        unknown = Column(name, name, "score", direction, -4, "A metric of the engine's own list.")
        shown.append(COLUMNS.get(name, unknown))
    order = list(COLUMNS)
    place = {name: index for index, name in enumerate(order)}
    return sorted(shown, key=lambda column: (_GROUPS.index(column.group), place.get(column.name, len(order))))
