"""A section with black in place of its unreadable parts.

A volume of thousands of sections has a torn chunk somewhere. The blocks over it fail and are listed. But the section
is profiled as a whole before its first block; a failure there would fail all its blocks. This is for profiling and
for small pictures only: restoring and scoring never read through it.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.errors import InputError
from bigrestore.io.section import Section

LEAST_PX = 128
"""Windows that cannot be read are halved down to this side, and then taken for a hole."""


@attrs.frozen(eq=False)
class PatchedSection(Section):
    """A section with black in its unreadable windows.

    Attributes
    ----------
    read_px : list of int
        Pixels read so far, one entry for each readable window.
    """

    read_px: list[int] = attrs.field(factory=list, kw_only=True)

    @classmethod
    def of(cls, section: Section) -> PatchedSection:
        """Return a section with its holes patched."""
        fields = attrs.fields(Section)
        return cls(**{str(field.alias): getattr(section, field.name) for field in fields})

    def read(self, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Read one window of one section, as `Section.read` does; holes in it are black."""
        try:
            window = Section.read(self, z, y0, y1, x0, x1)
        except InputError:
            return self._in_parts(z, y0, y1, x0, x1)
        self.read_px.append((y1 - y0) * (x1 - x0))
        return window

    def _in_parts(self, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Read a window in quarters, on the lattice of the smallest windows."""
        shape = (y1 - y0, x1 - x0, 3)[: 2 + (self.channels == 3)]
        whole = np.full(shape, self.value_range[0]).astype(self.dtype)
        rows, columns = _halved_on_lattice(y0, y1), _halved_on_lattice(x0, x1)
        if len(rows) * len(columns) == 1:
            return whole
        for top, bottom in rows:
            for left, right in columns:
                part = self.read(z, top, bottom, left, right)
                whole[top - y0 : bottom - y0, left - x0 : right - x0] = part
        return whole


def patched_lowres(section: Section, z: int, longest_px: int) -> tuple[NDArray[Any], float]:
    """Return a small picture, as `Section.lowres` does, black where the section cannot be read."""
    try:
        return section.lowres(z, longest_px)
    except InputError:
        return PatchedSection.of(section).lowres(z, longest_px)


def _halved_on_lattice(start: int, stop: int) -> list[tuple[int, int]]:
    """Cut a range in two on the lattice; a range within one cell stays whole."""
    middle = (start + stop) // 2 // LEAST_PX * LEAST_PX
    if middle <= start:
        middle += LEAST_PX
    return [(start, middle), (middle, stop)] if start < middle < stop else [(start, stop)]
