"""The plain figures of a tile, unseen by the three scores: sharpness, noise, stripes, shading, clipped pixels, mean grey.

NIQE, BRISQUE and PIQE stay the same, or improve, when a tile gets stripes, shading or another contrast, and a median
filter pleases them. These figures can be read as they stand. Each is relative to the value range, in float64, and
takes a few passes over the tile: together they cost a fraction of one score.
"""

from __future__ import annotations

import math
from functools import cache, cached_property

import numpy as np

from bigrestore.core.pixels import Doubles, Floats

NOISE_CELL_PX = 16
STRIPE_STRIPS = 8
"""Parts of a row that must agree before a change of its mean counts as a stripe."""

STRIPE_SMOOTH_PX = 31
"""Rows over which the profile of a stripe is compared with its surroundings."""

SHADING_CELLS = 10
"""Cells along each side of a tile to which the surface of the shading is fitted."""


class Greys:
    """The grey values of one tile, and the differences shared by several figures.

    Parameters
    ----------
    tile : ndarray, (h, w), float32
        0..1 of the value range; at least 48 pixels a side.
    """

    def __init__(self, tile: Floats) -> None:
        self.tile = tile
        self.values: Doubles = tile.astype(np.float64)

    @cached_property
    def _differences(self) -> tuple[float, float]:
        return _differences(self.values)

    @property
    def tenengrad(self) -> float:
        """See the function."""
        return self._differences[0]

    @property
    def noise_sigma(self) -> float:
        """See the function."""
        return self._differences[1]

    @property
    def clipped_share(self) -> float:
        """Share of the pixels at the ends of the range, 0..1."""
        return float(np.count_nonzero((self.tile <= 0.0) | (self.tile >= 1.0)) / self.tile.size)


def tenengrad(values: Doubles) -> float:
    """Return the mean squared gradient by Sobel's masks, in (0..1 per pixel) squared.

    The masks are divided by 8: a ramp of g per pixel has the gradient g. It is Tenenbaum's focus measure with the
    mean in place of the sum, independent of the size of the tile; noise raises it as well.
    """
    return _differences(values)[0]


def tile_noise_sigma(values: Doubles) -> float:
    """Return the standard deviation of white noise, robustly: the median over cells of Immerkaer's estimate.

    The mask [1 -2 1; -2 4 -2; 1 -2 1] leaves no plane and little structure; for normal noise the mean of its absolute
    answer is 6 sigma sqrt(2 / pi) (Immerkaer, Computer Vision and Image Understanding, 1996). The mean is taken in
    cells of 16 pixels and the median over the cells: edges in less than half of them do not count as noise. Where
    everything is texture it is an upper bound.
    """
    return _differences(values)[1]


def _differences(values: Doubles) -> tuple[float, float]:
    """Return `tenengrad` and `tile_noise_sigma`; their masks share the differences along y.

    Computed in strips of one cell's height: intermediate arrays stay in the processor's cache.
    """
    height, width = values.shape[0] - 2, values.shape[1] - 2
    side = min(NOISE_CELL_PX, height, width)
    wide = width // side
    energy, cells = 0.0, []
    for top in range(0, height, side):
        part = values[top : top + side + 2]
        outer, middle = part[:-2] + part[2:], 2 * part[1:-1]
        down = part[2:] - part[:-2]
        gradient = down[:, :-2] + down[:, 2:]
        gradient += 2 * down[:, 1:-1]  # [1 2 1] along the rows
        energy += float(np.einsum("ij,ij->", gradient, gradient))
        rows = outer - middle
        outer += middle
        gradient = outer[:, 2:] - outer[:, :-2]
        energy += float(np.einsum("ij,ij->", gradient, gradient))
        if part.shape[0] == side + 2:
            answer = rows[:, :-2] + rows[:, 2:]
            answer -= 2 * rows[:, 1:-1]
            total = np.abs(answer, out=answer).sum(axis=0)
            cells.append(total[: wide * side].reshape(wide, side).sum(axis=1))
    noise = float(np.median(np.concatenate(cells))) / (side * side) * math.sqrt(math.pi / 2) / 6
    return energy / 64 / (height * width), noise  # 64: both masks are divided by 8, then squared


def stripes(values: Doubles) -> float:
    """Return the amplitude of stripes along the rows, root mean square, 0..1; hand in the transpose for columns.

    A stripe changes a whole row alike, tissue does not. The tile is cut into eight strips side by side; the profile
    of a strip is the mean of each of its rows, less the mean over the 31 rows around it. The mean product of the
    profiles of two different strips is their common energy, without bias from a single strip. Its root is returned, 0
    if negative. Layers of tissue exactly along the rows of the whole tile count as stripes.
    """
    height, width = values.shape
    wide = width // STRIPE_STRIPS
    strips = values[:, : wide * STRIPE_STRIPS].reshape(height, STRIPE_STRIPS, wide).mean(axis=2)
    profiles = strips - _running_mean(strips, min(STRIPE_SMOOTH_PX, height - 1 + height % 2))
    together = profiles.sum(axis=1)
    shared = float(together @ together) - float(np.einsum("ij,ij->", profiles, profiles))
    return math.sqrt(max(0.0, shared / height / (STRIPE_STRIPS * (STRIPE_STRIPS - 1))))


def _running_mean(strips: Doubles, length: int) -> Doubles:
    """Return the mean over `length` (odd) rows around each row, fewer at the borders."""
    half = length // 2
    total = np.concatenate([np.zeros((1, strips.shape[1])), np.cumsum(strips, axis=0)])
    at = np.arange(strips.shape[0])
    first, last = np.maximum(0, at - half), np.minimum(strips.shape[0], at + half + 1)
    return np.asarray((total[last] - total[first]) / (last - first)[:, None])


def shading(values: Doubles) -> float:
    """Return how far the brightness of the ground changes across the tile, 0..1.

    The ground of a cell (a tenth of the tile's side) is the brightest of its means over 8 x 8 pixels, unmoved by dark
    cells of tissue. A quadratic surface is fitted to the ground of all cells, by least squares; the result is its
    highest value less its lowest, at the cells' centres. A border between layers of tissue shades like a lamp does:
    compare the same tile before and after.
    """
    step = min(values.shape) // SHADING_CELLS // 8 * 8
    small = 8 if step else max(1, min(values.shape) // SHADING_CELLS)
    step = step or small
    side = step * SHADING_CELLS
    rows = (
        values[:side].reshape(side // small, small, -1).sum(axis=1)[:, :side]
    )  # whole rows first: they are long
    means = rows.reshape(side // small, side // small, small).sum(axis=2) / small**2
    per = step // small
    ground = means.reshape(SHADING_CELLS, per, SHADING_CELLS, per).max(axis=3).max(axis=1)
    surface = _surface_fit() @ ground.ravel()
    return float(surface.max() - surface.min())


@cache
def _surface_fit() -> Doubles:
    """Return the matrix from the ground of all cells to its quadratic surface at their centres."""
    at = (np.arange(SHADING_CELLS) + 0.5) / SHADING_CELLS * 2 - 1
    y, x = (axis.ravel() for axis in np.meshgrid(at, at, indexing="ij"))
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    return np.asarray(terms @ np.linalg.pinv(terms))
