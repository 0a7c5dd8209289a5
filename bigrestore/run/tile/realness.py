"""The user's map of realness: read per block, checked, and recognised as blank before any work.

The map has the input's shape, so a tile reads the same window of both, halo included, and its result does not depend on
the cut. An all-zero map asks for a run at realness 0, and gets it: the prior looks further than the rest of the
network, so the mere size of its tiles would show in the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import numpy as np

from bigrestore.core.geometry import Box
from bigrestore.core.pixels import Floats, to_unit
from bigrestore.errors import InputError
from bigrestore.io.drawn_inputs import open_realness
from bigrestore.io.section import Section
from bigrestore.settings.values import AUTO_MAP

CHECKED_PX = 1 << 28
"""Maps of up to this many pixels are read whole before the run, so that a bad value is answered at once."""

STRIP_PX = 1 << 24
"""What is read of a map at once, in pixels."""


@attrs.frozen(eq=False)
class RealnessMap:
    """A map of the input's shape.

    Attributes
    ----------
    section : Section
        The map, uint8 or float32.
    """

    section: Section

    @classmethod
    def open(cls, path: str, shape: tuple[int, int, int]) -> RealnessMap:
        """Open a map and check its shape.

        Raises
        ------
        InputError
            For another shape than the input's (z, y, x), unreadable pixels, or values outside 0..1.
        """
        realness = open_realness(path)
        if realness.shape != shape:
            raise InputError(
                f"the realness map {path} has shape {realness.shape} (z, y, x), the input {shape}; give one of the "
                "input's shape."
            )
        return cls(realness)

    @classmethod
    def asked_for(cls, path: str | None, shape: tuple[int, int, int]) -> RealnessMap | None:
        """Open the map of the setting `realness_map`; None without one, or where the method learned it."""
        return None if path is None or path == AUTO_MAP else cls.open(path, shape)

    def read(self, z: int, box: Box) -> Floats:
        """Return the shares in a box of input pixels, (h, w), 0..1.

        Raises
        ------
        InputError
            Where a value is none, or cannot be read.
        """
        section = self.section
        shares = to_unit(section.read(z, box.y0, box.y1, box.x0, box.x1), (0.0, self._one))
        low, high = float(shares.min()), float(shares.max())
        if low < 0 or high > 1:
            raise InputError(
                f"the realness map {section.source} holds {low if low < 0 else high:g} at z={z}, "
                f"y={box.y0}:{box.y1}, x={box.x0}:{box.x1}; its values must lie from 0 to 1."
            )
        return shares

    @property
    def _one(self) -> float:
        return 255.0 if self.section.dtype == np.uint8 else 1.0

    def blank(self) -> bool:
        """Return whether the map is 0 all over; one of moderate size is checked on the way.

        Raises
        ------
        InputError
            As for `read`.
        """
        depth, height, width = self.section.shape
        whole = depth * height * width <= CHECKED_PX and self.section.dtype.kind == "f"
        step = 1.5 / self._one if self._one > 1 else 0.0  # more than 1 of 255, whatever the rounding
        largest = 0.0
        for z, box in self._strips():
            largest = max(largest, float(self.read(z, box).max()))
            if largest > step and not whole:
                return False
        if 0 < largest <= step:
            raise InputError(
                f"the realness map {self.section.source} is uint8 and holds nothing but 0 and 1, where 255 stands for 1; "
                "give it as 0 and 255, or as float32."
            )
        return largest == 0

    def _strips(self) -> Iterator[tuple[int, Box]]:
        depth, height, width = self.section.shape
        rows = max(1, STRIP_PX // width)
        for z in range(depth):
            for y in range(0, height, rows):
                yield z, Box(y, min(y + rows, height), 0, width)
