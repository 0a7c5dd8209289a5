"""What the three scores read of one tile, each image and each field made once, when the first score asks for it.

The scores do not look at quite the same image: NIQE rounds to 8 bits and drops what exceeds whole blocks,
BRISQUE does neither, PIQE stretches the tile to its own maximum. In an 8-bit tile of whole blocks, which is
the common case, the first two see the same numbers and share everything but a frame of three pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigrestore.score.mscn import Field, half_size, normalised, zero_edged

WHITE = 255.0
"""Grey level of the upper end of the value range: the scores' constants belong to levels of 0..255."""

_EIGHT_BIT_TOLERANCE = 1e-4
"""Grey levels; an 8-bit level stored as a float32 of 0..1 is off by 1.5e-5 at most."""


class TileFields:
    """The images of one tile and their normalised fields, made on demand.

    Parameters
    ----------
    tile : ndarray of float32 or float64, (height, width)
        Grey values, 0..1 of the value range.
    """

    def __init__(self, tile: NDArray[np.float32]) -> None:
        self._tile = tile.astype(np.float64)
        # By identity; the image is kept beside its result, so that no other can take over its identity.
        self._halves: dict[int, tuple[Field, Field]] = {}
        self._fields: dict[int, tuple[Field, Field]] = {}
        levels = self._tile * WHITE
        rounded = np.rint(levels)
        eight_bit = float(np.abs(levels - rounded).max(initial=0.0)) <= _EIGHT_BIT_TOLERANCE
        self.rounded = rounded
        """Levels 0..255, rounded: what NIQE reads."""
        self.levels = rounded if eight_bit else levels
        """Levels 0..255 as they are: what BRISQUE reads."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the tile."""
        height, width = self._tile.shape
        return height, width

    @property
    def is_constant(self) -> bool:
        """Whether all values are one value, of which no score can say anything."""
        return bool(self._tile.size == 0 or self._tile.min() == self._tile.max())

    @property
    def brightest(self) -> float:
        """Largest value, 0..1."""
        return float(self._tile.max())

    def stretched(self) -> Field:
        """Levels rounded after the tile's maximum was made 255: what PIQE reads."""
        brightest = self.brightest
        if brightest == 1.0 and self.levels is self.rounded:
            return self.rounded
        return np.asarray(np.rint(WHITE * (self._tile / brightest)))

    def half(self, image: Field) -> Field:
        """Reduce an image by two."""
        key = id(image)
        if key not in self._halves:
            self._halves[key] = (image, half_size(image))
        return self._halves[key][1]

    def field(self, image: Field) -> Field:
        """Normalise an image with its borders replicated."""
        key = id(image)
        if key not in self._fields:
            self._fields[key] = (image, normalised(image))
        return self._fields[key][1]

    def zero_field(self, image: Field) -> Field:
        """Normalise an image with zeros around it; cheap where `field` was asked for first."""
        if id(image) in self._fields:
            return zero_edged(image, self.field(image))
        return normalised(image, "zero")
