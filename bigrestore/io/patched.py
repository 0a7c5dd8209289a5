"""A section of which parts cannot be read, as a whole: what is readable of it, and black in the holes.

A volume of thousands of sections has a torn chunk somewhere. The blocks over it fail and are listed; but the section is
looked at as a whole before its first block, and that look must not fail for a hole, or every block of the section would
fail with it. This is for looking only: what is restored and written is never read through it.
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
    """A section whose unreadable windows are black.

    Attributes
    ----------
    read_px : list of int
        Pixels that were read so far, one entry for each window that could be.
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
            found = Section.read(self, z, y0, y1, x0, x1)
        except InputError:
            return self._in_parts(z, y0, y1, x0, x1)
        self.read_px.append((y1 - y0) * (x1 - x0))
        return found

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


def _halved_on_lattice(start: int, stop: int) -> list[tuple[int, int]]:
    """Cut a span in two on the lattice; a span that lies within one cell comes back whole."""
    middle = (start + stop) // 2 // LEAST_PX * LEAST_PX
    if middle <= start:
        middle += LEAST_PX
    return [(start, middle), (middle, stop)] if start < middle < stop else [(start, stop)]
