"""The grid of the score tiles, and the sample of them.

The size of a tile is part of its score (NIQE of one image reads 8.8 at 96 px and 3.3 at 512), so one scoring has one
size (`bigrestore.core.sizes.fitting_score_tile` where none is asked for). The grid begins at the section's first pixel,
whatever the blocks and tiles of the restoration and whatever region of it was asked for. A tile crossing the border is
moved inward to it, so it overlaps the tile before; `tile_worth` counts shared pixels once. Only where the region is
smaller than a tile is a tile cut, and not scored.

Of very large volumes a sample is scored. It is systematic: the tiles with tissue are put in an order, by section,
then by the share of tissue in four steps, then along the rows, back and forth; every k-th of them is taken, from a
random start on. So every section and every kind of tile has its proportional part, and neighbours are
spread. The order and the start depend on nothing but the image and the seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.geometry import Box
from bigrestore.core.pixels import Doubles
from bigrestore.core.sizes import SCORE_TILE_PX
from bigrestore.report.metrics.validity import SMALLEST_TISSUE

STRIP_TILES = 8
"""Tiles side by side that are read and scored at once: as many as a default block of the output has."""


@attrs.frozen(order=True)
class ScoreTile:
    """A tile of the grid, by section, row and column, and its pixels inside the region."""

    z: int
    row: int
    column: int
    box: Box


@attrs.frozen
class TileGrid:
    """The score tiles of a section or volume.

    Attributes
    ----------
    z0, z1 : int
        Sections.
    region : Box
        Existing pixels; the grid begins at pixel (0, 0), inside or not.
    tile_px : int
        Side of a tile.
    anchored : bool
        Whether a tile crossing the border is moved inward to it; else it is cut.
    """

    z0: int
    z1: int
    region: Box
    tile_px: int = SCORE_TILE_PX
    anchored: bool = True

    @property
    def count(self) -> int:
        """Tiles, whole or not, of all sections."""
        rows, columns = self._spans(self.region)
        return (self.z1 - self.z0) * len(rows) * len(columns)

    def places(self, z: int, inside: Box | None = None) -> Iterator[ScoreTile]:
        """Yield the tiles of a section touching the region, row by row; optionally only those wholly inside a box."""
        rows, columns = self._spans(inside or self.region)
        for row in rows:
            for column in columns:
                place = self.place(z, row, column)
                if inside is None or place.box.intersect(inside) == place.box:
                    yield place

    def place(self, z: int, row: int, column: int) -> ScoreTile:
        """Return one tile, inside the region."""
        region = self.region
        y, x = self._span(row, region.y0, region.y1), self._span(column, region.x0, region.x1)
        return ScoreTile(z, row, column, Box(*y, *x))

    def whole(self, place: ScoreTile) -> bool:
        """Tell whether a tile has its full size."""
        return (place.box.height, place.box.width) == (self.tile_px, self.tile_px)

    def _spans(self, box: Box) -> tuple[range, range]:
        """Return the rows and columns of the tiles whose cells touch a box."""
        region = self.region
        y = self._indices((box.y0, box.y1), (region.y0, region.y1))
        return y, self._indices((box.x0, box.x1), (region.x0, region.x1))

    def _indices(self, touched: tuple[int, int], region: tuple[int, int]) -> range:
        side = self.tile_px
        if self.anchored and region[1] - region[0] == side:
            # All tiles crossing its borders are moved to one place: the first of them stands for all.
            touched = region[0], region[0] + 1
        return range(touched[0] // side, -(-touched[1] // side))

    def _span(self, index: int, low: int, high: int) -> tuple[int, int]:
        """Return the first pixel of a tile along an axis, and the first beyond it."""
        side = self.tile_px
        start = index * side
        if self.anchored and high - low >= side:
            start = min(max(start, low), high - side)
            return start, start + side
        return max(start, low), min(start + side, high)


def tile_worth(
    z: NDArray[np.int64],
    y: NDArray[np.int64],
    x: NDArray[np.int64],
    height: NDArray[np.int64],
    width: NDArray[np.int64],
) -> Doubles:
    """Return how much of each tile is its own, 0..1: pixels of several tiles are shared out among them.

    Parameters
    ----------
    z, y, x, height, width : ndarray, (n,)
        Section, first pixel and size of each tile; the tiles of a section lie on one lattice.
    """
    worth = np.ones(z.size)
    for section in np.unique(z):
        tiles = np.flatnonzero(z == section)
        for first, size in ((y[tiles], height[tiles]), (x[tiles], width[tiles])):
            starts, index, place = np.unique(first, return_index=True, return_inverse=True)
            sizes = size[index]
            shared = np.maximum(0, starts[:-1] + sizes[:-1] - starts[1:])
            own = sizes - (np.append(shared, 0) + np.append(0, shared)) / 2
            worth[tiles] *= (own / sizes)[place]
    return worth


def strips(places: Sequence[ScoreTile]) -> Iterator[list[ScoreTile]]:
    """Group neighbouring tiles of one row, to be read at once; the order is kept."""
    group: list[ScoreTile] = []
    for place in places:
        if group:
            first = group[0]
            near = place.column < first.column + STRIP_TILES
            if (place.z, place.row) != (first.z, first.row) or not near:
                yield group
                group = []
        group.append(place)
    if group:
        yield group


def bounding_box(places: Sequence[ScoreTile]) -> Box:
    """Return the smallest box around all tiles."""
    box = places[0].box
    for place in places[1:]:
        box = box.union(place.box)
    return box


def draw_sample(
    places: Sequence[ScoreTile], tissue: NDArray[np.float64], count: int, seed: int
) -> list[ScoreTile]:
    """Draw a sample of tiles, stratified over sections and tissue.

    Parameters
    ----------
    places : sequence of ScoreTile
        Whole tiles, of any sections.
    tissue : ndarray, (n,)
        Share of tissue in each, 0..1, as a small picture of the section shows it.
    count : int
        Tiles wanted, 0 or more; all that hold tissue are taken where there are no more.
    seed : int
        Of the start.

    Returns
    -------
    list of Place
        In the order of the grid.
    """
    steps = np.minimum(3, np.floor(4 * tissue)).astype(int)
    smallest = SMALLEST_TISSUE / 2  # a small picture errs: what may be tissue is a candidate
    candidates = [index for index in range(len(places)) if tissue[index] >= smallest]

    def order(index: int) -> tuple[int, int, int, int]:
        place = places[index]
        return place.z, int(steps[index]), place.row, place.column if place.row % 2 == 0 else -place.column

    if not count:
        return []
    if len(candidates) <= count:
        return [places[index] for index in candidates]
    candidates.sort(key=order)
    start = float(np.random.default_rng(seed).uniform())
    picked = ((np.arange(count) + start) * (len(candidates) / count)).astype(int)
    return sorted(places[candidates[index]] for index in picked)
