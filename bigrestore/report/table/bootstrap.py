"""Intervals for a median over tiles that lie side by side.

Neighbouring tiles show the same layer, the same fold and the same stain: a thousand tiles are fewer than a thousand
independent observations, and an interval assuming independence is too narrow. So whole squares of neighbouring tiles
are drawn (a circular moving block bootstrap on the lattice of tiles, section by section), keeping the correlation
inside a square: Lahiri, Resampling Methods for Dependent Data (2003), chapter 12. Missing tiles (background, not
sampled) are not drawn.

The side of a square is one and a half times the fourth root of the number of tiles, the rate with the fastest
shrinking error in two dimensions. It is enlarged if tiles are missing, to hold as many. It is at most half a
section's side: several squares must fit.

From few squares the bootstrap underestimates the spread, so the interval is widened about the median as by Student's
t, with the number of fitting squares. Tiles that overlap, at the border of a section, are fewer than they are: only the
share of them that is distinct counts in both. So it holds the true median of simulated fields, with the correlation of
tissue, nine times in ten or more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from bigrestore.core.sizes import FEWEST_TILES

RESAMPLES = 1000
CONFIDENCE = 0.95
SIDE = 1.5
"""Side of a square of tiles over the fourth root of their number, from simulated fields."""

_CHUNK_CELLS = 4_000_000  # 8 MB of counts at a time
_GROUP = 128  # tiles of a partial sum in `_Ranked.medians`


@attrs.frozen(eq=False)
class Lattice:
    """The tiles of one section on their lattice.

    Attributes
    ----------
    tiles : ndarray of int, (n,)
        Positions of the section's tiles in the table.
    cells : ndarray of int, (n,)
        Cell of each tile, row times `columns` plus column, counted from the section's first.
    rows, columns : int
        Size of the lattice.
    side : int
        Side of a square of tiles drawn as one.
    """

    tiles: NDArray[np.int64]
    cells: NDArray[np.int64]
    rows: int
    columns: int
    side: int

    @property
    def square(self) -> tuple[int, int]:
        """Rows and columns drawn as one: the side, but at most half of the section, and never all of it."""
        rows, columns = _fitted(self.side, self.rows), _fitted(self.side, self.columns)
        if (rows, columns) != (self.rows, self.columns):
            return rows, columns
        return (rows, max(1, columns // 2)) if columns > 1 else (max(1, rows // 2), 1)


def block_side(tiles: int, cells: int) -> int:
    """Return the side, in tiles, of the squares drawn as one.

    Parameters
    ----------
    tiles : int
        Tiles of the section.
    cells : int
        Cells of the lattice that they lie on, those without a tile too.
    """
    return max(1, math.ceil(SIDE * math.sqrt(math.sqrt(tiles) * cells / tiles)))


def lattices(z: NDArray[np.int64], row: NDArray[np.int64], column: NDArray[np.int64]) -> list[Lattice]:
    """Return the lattice of each section, by ascending z, from the position of each tile.

    Sections of one tile each have nothing to draw from within: they make one lattice, a column along z.
    """
    if z.size and np.unique(z).size == z.size:
        first, last = int(z.min()), int(z.max())
        side = block_side(z.size, last - first + 1)
        return [Lattice(np.argsort(z), np.sort(z) - first, last - first + 1, 1, side)]
    sections = []
    for section in np.unique(z):
        tiles = np.flatnonzero(z == section)
        rows = row[tiles] - row[tiles].min()
        columns = column[tiles] - column[tiles].min()
        height, width = int(rows.max()) + 1, int(columns.max()) + 1
        side = block_side(tiles.size, height * width)
        sections.append(Lattice(tiles, rows * width + columns, height, width, side))
    return sections


def median_intervals(
    values: Mapping[str, NDArray[np.float64]],
    sections: list[Lattice],
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
    distinct: float = 1.0,
) -> dict[str, tuple[float, float] | None]:
    """Return the percentile interval of the median of each column under the block bootstrap.

    Parameters
    ----------
    values : mapping of ndarray, (tiles,)
        Columns; NaN counts as a tile that is not there.
    sections : list of Lattice
        Where the tiles lie; each section is drawn anew within itself.
    resamples : int
        Redrawings.
    confidence : float
        Share of them that the interval holds.
    seed : int
        The same seed gives the same interval.
    distinct : float
        Tiles that the area of all tiles would fill side by side, over their number; 1 where none overlap.

    Returns
    -------
    dict
        (low, high) by name; None where fewer than `FEWEST_TILES`, counted as distinct, have a value.
    """
    fewest = FEWEST_TILES / distinct
    ranked = {name: _Ranked(column) for name, column in values.items()}
    medians: dict[str, list[NDArray[np.float64]]] = {name: [] for name in values}
    for counts in _draws(sections, resamples, np.random.default_rng(seed)):
        for name, column in ranked.items():
            if column.order.size >= fewest:
                medians[name].append(column.medians(counts))
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    squares = sum(section.tiles.size / math.prod(section.square) for section in sections)
    wider = widening(distinct * squares, confidence)
    intervals: dict[str, tuple[float, float] | None] = {}
    for name, parts in medians.items():
        drawn = np.concatenate(parts) if parts else np.empty(0)
        drawn = drawn[np.isfinite(drawn)]
        intervals[name] = None
        if drawn.size:
            low, high = (float(end) for end in np.quantile(drawn, tails))
            middle = float(np.median(values[name][np.isfinite(values[name])]))
            intervals[name] = (middle + (low - middle) * wider, middle + (high - middle) * wider)
    return intervals


def widening(squares: float, confidence: float = CONFIDENCE) -> float:
    """Return the widening of an interval from few squares: Student's t over the normal quantile, and the bias.

    Parameters
    ----------
    squares : float
        Squares of tiles that fit into what was scored; fewer than three count as three.
    confidence : float
        Of the interval.
    """
    fitting = max(3.0, squares)
    tail = (1 + confidence) / 2
    return float(stdtrit(fitting - 1, tail) / ndtri(tail) * math.sqrt(fitting / (fitting - 1)))


class _Ranked:
    """A column in ascending order, to read the medians of many redrawings at once."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        finite = np.flatnonzero(np.isfinite(values))
        self.order = finite[np.argsort(values[finite], kind="stable")]
        self.sorted = values[self.order]

    def medians(self, counts: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Return the median of each redrawing of `counts`, (tiles, redrawings); NaN for an empty one.

        Ranks are summed in groups first and looked at one by one only inside the group of the middle: a
        running sum over every tile and redrawing would take most of the time.
        """
        drawn = counts[self.order]
        starts = np.arange(0, drawn.shape[0], _GROUP)
        groups = np.cumsum(np.add.reduceat(drawn, starts, axis=0, dtype=np.int64), axis=0)
        total = groups[-1]
        lower = self._at_rank(drawn, groups, (total - 1) // 2)
        upper = self._at_rank(drawn, groups, total // 2)
        middle = (lower + upper) / 2
        middle[total == 0] = np.nan
        return middle

    def _at_rank(
        self, drawn: NDArray[np.uint16], groups: NDArray[np.int64], rank: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the value of the given rank, from 0, of each redrawing."""
        redrawings = np.arange(drawn.shape[1])
        group = np.minimum((groups <= rank).sum(axis=0), groups.shape[0] - 1)
        before = np.where(group > 0, groups[group - 1, redrawings], 0)
        inside = group * _GROUP + np.arange(_GROUP)[:, None]
        there = inside < drawn.shape[0]
        inside = np.minimum(inside, drawn.shape[0] - 1)
        held = np.where(there, drawn[inside, redrawings], 0)
        running = before + np.cumsum(held, axis=0, dtype=np.int64)
        place = np.minimum((running <= rank).sum(axis=0), _GROUP - 1)
        return np.asarray(self.sorted[inside[place, redrawings]])


def _draws(
    sections: list[Lattice], resamples: int, random: np.random.Generator
) -> Iterator[NDArray[np.uint16]]:
    """Yield how often each tile is drawn, (tiles, redrawings), a bounded number of redrawings at a time."""
    tiles = sum(section.tiles.size for section in sections)
    largest = max((section.rows * section.columns for section in sections), default=1)
    chunk = max(1, min(resamples, _CHUNK_CELLS // max(tiles, largest, 1)))
    for start in range(0, resamples, chunk):
        redrawings = min(chunk, resamples - start)
        counts = np.zeros((tiles, redrawings), np.uint16)
        for section in sections:
            counts[section.tiles] = _draw(section, redrawings, random)
        yield counts


def _draw(section: Lattice, redrawings: int, random: np.random.Generator) -> NDArray[np.uint16]:
    """Draw squares until they cover the lattice once; return how often each tile is in one of them.

    Counting the corners first and adding up shifted copies costs the side, and not the square, of each block.
    """
    cells = section.rows * section.columns
    side_y, side_x = section.square
    squares = -(-cells // (side_y * side_x))
    corners = random.integers(0, cells, (redrawings, squares)) + np.arange(redrawings)[:, None] * cells
    # Offset by redrawing: one bincount counts the corners of all of them.
    starts = np.bincount(corners.ravel(), minlength=redrawings * cells).astype(np.uint16)
    starts = starts.reshape(redrawings, section.rows, section.columns)
    down = sum((np.roll(starts, step, axis=1) for step in range(1, side_y)), start=starts.copy())
    both = sum((np.roll(down, step, axis=2) for step in range(1, side_x)), start=down.copy())
    return np.asarray(both.reshape(redrawings, cells)[:, section.cells].T, np.uint16)


def _fitted(side: int, length: int) -> int:
    """Return at most half of a section's length, but at least two tiles if there are two."""
    return min(side, max(2, length // 2), length)
