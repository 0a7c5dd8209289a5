"""What the three scores read of one tile, each image and each field made once, when the first score asks for it.

The scores do not look at quite the same image: NIQE rounds to 8 bits and drops incomplete blocks, BRISQUE does
neither, PIQE stretches the tile to its own maximum. In an 8-bit tile of whole blocks, the common case, the first two
see the same numbers and share everything but a frame of three pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bigrestore.report.metrics.nss.mscn import (
    FILTER_STRIP_ROWS,
    FINEST_LEVEL,
    RADIUS_PX,
    Field,
    half_size,
    normalised,
    zero_edged,
)
from bigrestore.report.metrics.nss.shapes import Sums, neighbour_sums, whole_sums
from bigrestore.report.metrics.nss.workspace import Workspace

WHITE = 255.0
"""Grey level of the upper end of the value range: the scores' constants belong to levels of 0..255."""

_EIGHT_BIT_TOLERANCE = 1e-4
"""Grey levels; an 8-bit level stored as a float32 of 0..1 is off by 1.5e-5 at most."""


class TileFields:
    """The images of one tile and their normalised fields, made on demand.

    Parameters
    ----------
    tile : ndarray of float32, (height, width)
        Grey values, 0..1 of the value range, finite, not empty.
    workspace : Workspace, optional
        Keeps all arrays; it serves the next tile when this one is done with.
    """

    def __init__(self, tile: NDArray[np.float32], workspace: Workspace | None = None) -> None:
        self.workspace = workspace or Workspace()
        self._tile = tile
        # By identity; the image is kept beside its result, so that no other can take over its identity.
        self._halves: dict[int, tuple[Field, Field]] = {}
        self._fields: dict[int, tuple[Field, Field]] = {}
        self._block_sums: dict[int, tuple[Field, int, Sums]] = {}
        self.darkest, self.brightest = float(tile.min()), float(tile.max())
        """Smallest and largest value, 0..1."""
        levels, rounded = (self.workspace.take(name, tile.shape) for name in ("levels", "rounded"))
        off = _to_levels(tile, levels, rounded)
        self.rounded = rounded
        """Levels 0..255, rounded: what NIQE reads."""
        self.levels = rounded if off <= _EIGHT_BIT_TOLERANCE else _to_fine_levels(levels)
        """Levels 0..255 as they are: what BRISQUE reads."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the tile."""
        height, width = self._tile.shape
        return height, width

    def stretched(self) -> Field:
        """PIQE's levels: scaled to a maximum of 255, then rounded."""
        if self.brightest == 1.0 and self.levels is self.rounded:
            return self.rounded
        levels = self.workspace.take("stretched", self.shape)
        for rows in _strips(self.shape[0]):
            strip = levels[rows]
            np.copyto(strip, self._tile[rows])
            strip /= self.brightest
            strip *= WHITE
            np.rint(strip, out=strip)
        return levels

    def half(self, image: Field) -> Field:
        """Reduce an image by two."""
        if id(image) not in self._halves:
            height, width = (-(-side // 2) for side in image.shape)
            out = self.workspace.take(f"half {len(self._halves)}", (height, width))
            self._halves[id(image)] = (image, half_size(image, out=out, workspace=self.workspace))
        return self._halves[id(image)][1]

    def field(self, image: Field) -> Field:
        """Normalise an image with its borders replicated."""
        if id(image) not in self._fields:
            out = self.workspace.take(f"field {len(self._fields)}", image.shape)
            self._fields[id(image)] = (image, normalised(image, out=out, workspace=self.workspace))
        return self._fields[id(image)][1]

    def block_sums(self, image: Field, block_px: int) -> Sums:
        """Sum over square blocks of the field of an image."""
        if id(image) not in self._block_sums:
            sums = neighbour_sums(self.field(image), (block_px, block_px), self.workspace)
            self._block_sums[id(image)] = (image, block_px, sums)
        return self._block_sums[id(image)][2]

    def zero_sums(self, image: Field) -> Sums:
        """Sum over the whole of the field of an image with zeros around it.

        Cheap after `block_sums`.
        """
        framed = self.zero_field(image)
        if id(image) not in self._block_sums or min(image.shape) <= 4 * RADIUS_PX:
            return neighbour_sums(framed, (framed.shape[0], framed.shape[1]), self.workspace)
        _, block_px, sums = self._block_sums[id(image)]
        return whole_sums(sums, self.field(image), (block_px, block_px), framed, RADIUS_PX)

    def zero_field(self, image: Field) -> Field:
        """Normalise an image with zeros around it; cheap after `field`.

        It overwrites the array of the last call.
        """
        out = self.workspace.take("zero field", image.shape)
        if id(image) in self._fields:
            return zero_edged(image, self.field(image), out=out)
        return normalised(image, "zero", out=out, workspace=self.workspace)


def _strips(height: int) -> Iterator[slice]:
    for top in range(0, height, FILTER_STRIP_ROWS):
        yield slice(top, min(top + FILTER_STRIP_ROWS, height))


def _to_levels(tile: NDArray[np.float32], levels: Field, rounded: Field) -> float:
    """Write the grey levels of a tile as they are and rounded; return the largest difference of the two."""
    largest = 0.0
    for rows in _strips(tile.shape[0]):
        strip, whole = levels[rows], rounded[rows]
        np.copyto(strip, tile[rows])
        strip *= WHITE
        np.rint(strip, out=whole)
        off = strip - whole
        largest = max(largest, float(off.max()), -float(off.min()))
    return largest


def _to_fine_levels(levels: Field) -> Field:
    """Round to four millionths of a level: the filters then add without rounding."""
    for rows in _strips(levels.shape[0]):
        strip = levels[rows]
        strip *= 1.0 / FINEST_LEVEL
        np.rint(strip, out=strip)
        strip *= FINEST_LEVEL
    return levels
