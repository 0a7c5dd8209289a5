"""Sums per score tile made while restoring: residuals, and seams between overlapping tiles.

Both are there only as long as a restoration tile is, and a score tile is usually covered by parts of several. So they
are kept as sums per score tile. Threads finish tiles in any order, and sums of floating-point numbers depend
on theirs; each part is kept under its own name and the parts are added by name, once the block is done.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from bigrestore.core.geometry import Axis, Box, Grid, Tile
from bigrestore.core.pixels import Floats

TileTotals = dict[tuple[int, int], list[float]]


class TileSums:
    """Sums of several quantities per score tile; threads may add to it at once.

    Parameters
    ----------
    tile_px : int
        Side of a score tile, in output pixels.
    """

    def __init__(self, tile_px: int) -> None:
        self.tile_px = tile_px
        self._parts: dict[Hashable, dict[tuple[int, int], tuple[float, ...]]] = {}
        self._lock = threading.Lock()

    def add(
        self,
        name: Hashable,
        y: NDArray[np.int64],
        x: NDArray[np.int64],
        quantities: Sequence[NDArray[np.floating]],
    ) -> None:
        """Add quantities, each (len(y), len(x)), at output rows y and columns x, both ascending."""
        if not y.size or not x.size:
            return
        rows, row_starts = np.unique(y // self.tile_px, return_index=True)
        columns, column_starts = np.unique(x // self.tile_px, return_index=True)
        sums = [
            np.add.reduceat(
                np.add.reduceat(values, row_starts, axis=0, dtype=np.float64), column_starts, axis=1
            )
            for values in quantities
        ]
        part = {
            (int(row), int(column)): tuple(float(total[i, j]) for total in sums)
            for i, row in enumerate(rows)
            for j, column in enumerate(columns)
        }
        with self._lock:
            self._parts[name] = part

    def totals(self) -> TileTotals:
        """Return the sums by (row, column) of the score tiles."""
        totals: TileTotals = {}
        for name in sorted(self._parts, key=repr):
            for place, values in self._parts[name].items():
                total = totals.setdefault(place, [0.0] * len(values))
                for index, value in enumerate(values):
                    total[index] += value
        return totals


def add_residual(
    sums: TileSums, tile: Tile, core: Box, scale: Fraction, residual: Floats, variance: Floats, step: int
) -> None:
    """Add the residual of a tile: its square, and the square expected of noise alone, both at lattice points.

    Parameters
    ----------
    sums : TileSums
        Taken to.
    tile : Tile
        The restoration tile.
    core : Box
        Output pixels that the tile answers for.
    scale : Fraction
        Output pixels per input pixel.
    residual, variance : ndarray, (n, m)
        At every `step`-th input pixel of the tile, from its first on.
    step : int
        Step of the lattice, in input pixels.
    """

    def inside(start: int, stop: int, first: int, count: int) -> tuple[NDArray[np.int64], slice]:
        output = (first + step * np.arange(count, dtype=np.int64)) * scale.numerator // scale.denominator
        low, high = (int(edge) for edge in np.searchsorted(output, (start, stop)))
        return output[low:high], slice(low, high)

    y, rows = inside(core.y0, core.y1, tile.read.y0, residual.shape[0])
    x, columns = inside(core.x0, core.x1, tile.read.x0, residual.shape[1])
    square = np.square(residual[rows, columns], dtype=np.float64)
    sums.add((core.y0, core.x0), y, x, (square, variance[rows, columns]))


class Seams:
    """Compares neighbouring tiles in the pixels kept by both.

    Whichever of two neighbours comes first leaves its part of the overlap, the other one takes the difference.

    Parameters
    ----------
    grid : Grid
        The run's grid.
    box : Box
        Output pixels of the block.
    tile_px : int
        Side of a score tile.
    """

    def __init__(self, grid: Grid, box: Box, tile_px: int) -> None:
        self._grid, self._box = grid, box
        self._left: dict[tuple[str, int, int], Floats | None] = {}
        self._lock = threading.Lock()
        self.sums = TileSums(tile_px)

    def add(self, tile: Tile, values: Floats | None) -> None:
        """Take in a whole tile, (keep.height, keep.width); None for a skipped one."""
        y, x, keep = self._grid.y, self._grid.x, tile.keep
        self._side("x", tile.row, tile.column - 1, x, (keep.y0, keep.y1), keep, values)
        self._side("x", tile.row, tile.column, x, (keep.y0, keep.y1), keep, values)
        self._side("y", tile.row - 1, tile.column, y, (keep.x0, keep.x1), keep, values)
        self._side("y", tile.row, tile.column, y, (keep.x0, keep.x1), keep, values)

    def _side(
        self,
        way: str,
        row: int,
        column: int,
        axis: Axis,
        across: tuple[int, int],
        keep: Box,
        values: Floats | None,
    ) -> None:
        """Deal with the overlap of tile (row, column) with the next one along an axis."""
        index = column if way == "x" else row
        if not 0 <= index < axis.count - 1:
            return
        along = axis.keep(index + 1)[0], axis.keep(index)[1]
        overlap = (Box(*across, *along) if way == "x" else Box(*along, *across)).intersect(self._box)
        if not overlap.pixels:
            return
        own = None if values is None else values[overlap.slices(keep)]
        name = (way, row, column)
        with self._lock:
            if name not in self._left:
                self._left[name] = None if own is None else own.copy()
                return
            other = self._left.pop(name)
        if own is not None and other is not None:
            square = np.square(own - other, dtype=np.float64)
            spans = np.arange(overlap.y0, overlap.y1), np.arange(overlap.x0, overlap.x1)
            self.sums.add(name, *spans, (square, np.ones_like(square)))
