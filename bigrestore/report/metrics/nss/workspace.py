"""Arrays reused for every tile, because fresh memory costs more than the arithmetic on it.

A tile of 480 pixels needs some ten megabytes for a few milliseconds; allocated anew each time, the operating system
clears every page of it, a third of the time. A workspace keeps them. It serves one tile at a time and one thread:
whoever scores in several threads has one workspace for each.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT_BYTES = 64


class Workspace:
    """Arrays by name, kept from one use to the next."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[np.float64]] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return the array of a name; its earlier content is overwritten.

        Parameters
        ----------
        name : str
            Of the use; two arrays that are needed at once have two names.
        shape : tuple of int
            Wanted shape.

        Returns
        -------
        ndarray of float64
            C-contiguous, of any content, aligned to the processor's cache lines.
        """
        size = math.prod(shape)
        kept = self._kept.get(name)
        if kept is None or kept.size < size:
            raw = np.empty(size + _ALIGNMENT_BYTES // 8)
            start = -raw.ctypes.data % _ALIGNMENT_BYTES // 8
            kept = raw[start : start + size]
            self._kept[name] = kept
        return kept[:size].reshape(shape)
