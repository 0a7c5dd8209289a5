"""The table of scores: each column of the tiles, its function, its direction and its words.

Adding a score is its function and one row here: engine, report, page and summary read the rest from the row. `group` says
who measures it: the native engine (`score`), a comparison with a reference, the plain figures, or the restoring itself.

A table of tiles may have columns beyond these rows, any metric of pyiqa's list. They are shown, too; whoever wrote the
table states their direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import attrs
import numpy as np

from bigrestore.core.pixels import Floats
from bigrestore.report.metrics.measures import Greys, shading, stripes
from bigrestore.report.metrics.nss.brisque import brisque, brisque_parameters
from bigrestore.report.metrics.nss.niqe import niqe, niqe_parameters
from bigrestore.report.metrics.nss.piqe import piqe
from bigrestore.report.metrics.reference import ms_ssim, psnr, ssim

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
        A score without a reference, a comparison with a reference, a plain figure beside the scores, and a figure
        of restored tiles alone.
    direction : {"lower", "higher", "zero", "none"}
        The better direction; `zero`: towards zero, `none`: neither.
    digits : int
        Figures after the point for people; negative: significant figures instead.
    says : str
        One sentence on its meaning.
    factor : float
        For people it is multiplied by this; files for machines have it as it is.
    unit : str
        Of the multiplied figure, or nothing.
    measure : callable, optional
        `score`: of `TileFields` and the `NiqeModel`; `reference`: of the tile and the reference, float64; `plain`: of
        `Greys`; None: measured by the run itself.
    lacking : str
        Why a valid tile may have no value; empty: no known reason.
    parameters : callable, optional
        Name and hashes of a score's parameters, given the `NiqeModel`; None: it has none.
    """

    name: str
    label: str
    group: Group
    direction: Direction
    digits: int
    says: str
    factor: float = 1.0
    unit: str = ""
    measure: Callable[..., float] | None = None
    parameters: Callable[..., dict[str, Any]] | None = None
    lacking: str = ""

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

# NIQE stands before BRISQUE, which takes its fields over and changes only their frame.
_ROWS = (
    Column(
        "niqe",
        "NIQE",
        "score",
        "lower",
        2,
        "Distance from the statistics of good photographs.",
        measure=niqe,
        parameters=niqe_parameters,
        lacking="it needs tiles of 192 px, with structure",
    ),
    Column(
        "brisque",
        "BRISQUE",
        "score",
        "lower",
        1,
        "Distortion as people rated it; may leave 0 to 100.",
        measure=lambda fields, _: brisque(fields),
        parameters=brisque_parameters,
    ),
    Column(
        "piqe",
        "PIQE",
        "score",
        "lower",
        1,
        "Blur, blocks and noise where the tile has structure.",
        measure=lambda fields, _: piqe(fields),
    ),
    Column(
        "rankiqa",
        "RankIQA",
        "score",
        "lower",
        1,
        "Orders distortions of tissue; not LIVE's scale.",
    ),
    Column(
        "rankiqa_median",
        "RankIQA, median",
        "score",
        "lower",
        1,
        "The same, median of nine crops in place of the mean.",
    ),
    Column(
        "rankiqa_256", "RankIQA at 256 px", "score", "lower", 1, "The same of the tile resized to 256 px."
    ),
    Column(
        "psnr",
        "PSNR",
        "reference",
        "higher",
        2,
        "Mean squared error against the reference.",
        unit="dB",
        measure=psnr,
    ),
    Column(
        "ssim", "SSIM", "reference", "higher", 4, "Structural similarity with the reference.", measure=ssim
    ),
    Column(
        "ms_ssim",
        "MS-SSIM",
        "reference",
        "higher",
        4,
        "Structural similarity at five scales.",
        measure=ms_ssim,
        lacking="it needs tiles of 161 px",
    ),
    Column(
        "lpips",
        "LPIPS",
        "reference",
        "lower",
        4,
        "Distance from the reference in the features of a network for photographs.",
    ),
    Column(
        "sharpness",
        "Sharpness",
        "plain",
        "higher",
        2,
        "Mean squared gradient (Tenengrad); noise raises it too.",
        1e4,
        "× 10⁻⁴",
        measure=lambda greys: greys.tenengrad,
    ),
    Column(
        "noise",
        "Noise",
        "plain",
        "lower",
        2,
        "Standard deviation of the noise.",
        100,
        _PERCENT,
        measure=lambda greys: greys.noise_sigma,
    ),
    Column(
        "stripes_rows",
        "Stripes, rows",
        "plain",
        "lower",
        3,
        "Stripes along the rows.",
        100,
        _PERCENT,
        measure=lambda greys: stripes(greys.values),
    ),
    Column(
        "stripes_columns",
        "Stripes, columns",
        "plain",
        "lower",
        3,
        "Stripes along the columns.",
        100,
        _PERCENT,
        measure=lambda greys: stripes(greys.values.T),
    ),
    Column(
        "shading",
        "Shading",
        "plain",
        "lower",
        1,
        "Slow change of brightness across the tile.",
        100,
        _PERCENT,
        measure=lambda greys: shading(greys.values),
    ),
    Column(
        "clipped",
        "Clipped",
        "plain",
        "lower",
        2,
        "Pixels at the ends of the range.",
        100,
        "% of pixels",
        measure=lambda greys: greys.clipped_share,
    ),
    Column(
        "mean",
        "Mean grey",
        "plain",
        "none",
        2,
        "Mean grey level.",
        100,
        _PERCENT,
        measure=lambda greys: float(greys.values.mean()),
    ),
    Column(
        "residual",
        "Residual",
        "restored",
        "lower",
        2,
        "How far the tile, degraded again, is from the input; about 1 is the noise of the input alone.",
        unit="× noise",
        lacking="no noise was read or stated to compare with",
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
        lacking="they have no fine detail",
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
        "likelihood",
        "Likelihood",
        "restored",
        "lower",
        2,
        "What the input says beyond the image; it refutes, and does not rank sharpness.",
        unit="bits/px",
    ),
    Column(
        "likelihood_excess",
        "Likelihood, above the noise",
        "restored",
        "lower",
        2,
        "The same less the entropy of the section's noise; a bit or more contradicts the image.",
        unit="bits/px",
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
        lacking="no two restorations overlap in them",
    ),
)

COLUMNS: dict[str, Column] = {column.name: column for column in _ROWS}
"""The columns that bigrestore makes itself, in the order in which people read them."""


def measured_names(group: Group) -> tuple[str, ...]:
    """Return the columns of a group that have a function here: those of judges have none."""
    return tuple(column.name for column in _ROWS if column.group == group and column.measure)


def names_of(group: Group) -> tuple[str, ...]:
    """Return the columns of a group, in reading order."""
    return tuple(column.name for column in _ROWS if column.group == group)


PLAIN = names_of("plain")
REFERENCE = measured_names("reference")
NATIVE_METRICS = tuple(sorted(measured_names("score")))
"""What the native engine computes, and every engine unless told otherwise."""


def measured(group: Group, *given: Any) -> dict[str, float]:
    """Return every figure of a group; `given` are the arguments of its functions."""
    rows = (column for column in _ROWS if column.group == group)
    return {column.name: column.measure(*given) for column in rows if column.measure}


def plain_measures(tile: Floats) -> dict[str, float]:
    """Return every figure of `PLAIN` for one tile.

    Parameters
    ----------
    tile : ndarray, (h, w), float32
        Grey values, 0..1 of the value range; at least 48 pixels a side.

    Returns
    -------
    dict of float
    """
    return measured("plain", Greys(tile))


def reference_measures(tile: Floats, reference: Floats) -> dict[str, float]:
    """Return every figure of `REFERENCE` of one tile, (h, w), both 0..1; NaN if a tile is too small."""
    return measured("reference", tile.astype(np.float64), reference.astype(np.float64))


_GROUPS: tuple[Group, ...] = ("score", "reference", "plain", "restored")


def find_columns(names: Iterable[str], lower_better: Mapping[str, bool] | None = None) -> list[Column]:
    """Return the figures among the columns of a table, in reading order.

    Parameters
    ----------
    names : iterable of str
        Every column of the table.
    lower_better : mapping, optional
        Whether lower is better, of metrics beyond `COLUMNS`; all others have no direction.
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
