"""Put tiles together: paste those of an exact method, cross-fade the others.

The windows lie on the one global grid and are separable: along each axis a tile fades in over the overlap
with its neighbour before and out over the one behind, and the two weights sum to one at every pixel. Tiles are
blended along x into the strip of their row first, then strips along y into the block. No pixel ever sums more than two
terms per axis, so floating-point addition commutes and the order of tiles cannot change a bit. There is no weight image
to divide by.
"""

from __future__ import annotations

import threading

import numpy as np

from bigrestore.core.geometry import Axis, Box, Grid, Tile
from bigrestore.core.pixels import Floats


def window(axis: Axis, index: int) -> Floats:
    """Return the weights of tile `index` along an axis, over its kept span.

    In an overlap the later tile has (i + 1/2) / overlap at the i-th pixel and the earlier one has one minus this,
    computed once, so the two sum to one.

    Returns
    -------
    ndarray, (stop - start,), float32
    """
    start, stop = axis.keep(index)
    weights = np.ones(stop - start, np.float32)
    if not axis.overlap_px:
        return weights
    rise = (np.arange(axis.overlap_px, dtype=np.float32) + np.float32(0.5)) / np.float32(axis.overlap_px)
    if index > 0:
        length = min(len(rise), len(weights))
        weights[:length] = rise[:length]
    if index < axis.count - 1:
        fade_start = axis.edges[index + 1] - axis.overlap_px // 2 - start
        weights[fade_start:] = 1 - rise[: len(weights) - fade_start]
    return weights


class Fader:
    """Cross-fades the tiles of one block; threads may add tiles at once, in any order.

    Parameters
    ----------
    grid : Grid
        The run's grid.
    box : Box
        Output pixels of the block.
    """

    def __init__(self, grid: Grid, box: Box) -> None:
        self._grid, self._box = grid, box
        columns = grid.x.touching(box.x0, box.x1)
        self._open = {row: len(columns) for row in grid.y.touching(box.y0, box.y1)}
        self._strips: dict[int, Floats] = {}
        self._lock = threading.Lock()
        self.values: Floats = np.zeros((box.height, box.width), np.float32)

    def add(self, tile: Tile, values: Floats | None) -> None:
        """Add a whole tile, (keep.height, keep.width); None adds nothing."""
        wanted = tile.keep.intersect(self._box)
        part = np.float32(0) if values is None else values[wanted.slices(tile.keep)]
        fade_x = window(self._grid.x, tile.column)[wanted.slices(tile.keep)[1]]
        with self._lock:
            strip = self._strips.get(tile.row)
            if strip is None:
                strip = np.zeros((wanted.height, self._box.width), np.float32)
                self._strips[tile.row] = strip
            strip[:, wanted.slices(self._box)[1]] += part * fade_x
            self._open[tile.row] -= 1
            if self._open[tile.row] == 0:
                fade_y = window(self._grid.y, tile.row)[wanted.slices(tile.keep)[0]]
                self.values[wanted.slices(self._box)[0]] += self._strips.pop(tile.row) * fade_y[:, None]
