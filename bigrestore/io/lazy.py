"""Index windows as numpy does, for dask.

dask fuses the keys of its slicing into the reading of a chunk: a chunk may be asked for by integers, steps or an
ellipsis. The smallest window around a key's pixels is read, and numpy applies the rest of the key to it. So the
result is numpy's.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrestore.io.levels import WindowReader

Picked = tuple[range, Any]
"""The range to read along an axis, and the key for numpy to apply to it."""


class ArrayView:
    """The pixels of a section as an array of (z, y, x) or (z, y, x, c), read when they are indexed.

    Parameters
    ----------
    read : callable
        `read(z, y0, y1, x0, x1)`.
    shape : tuple of int
        (z, y, x) in pixels.
    channels : int
        1 or 3.
    dtype : numpy.dtype
        Of the pixels from `read`.
    """

    def __init__(
        self, read: WindowReader, shape: tuple[int, int, int], channels: int, dtype: np.dtype[Any]
    ) -> None:
        self._read = read
        self.shape: tuple[int, ...] = shape if channels == 1 else (*shape, channels)
        self.ndim = len(self.shape)
        self.dtype = dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return numpy's result for this key.

        Parameters
        ----------
        key : int, slice, None, Ellipsis, array of integers, list of bools along an axis, or a tuple of them
            As numpy takes it.

        Raises
        ------
        IndexError
            If numpy would raise one, or a mask spans several axes.
        """
        spans: list[range] = []
        rest: list[Any] = []
        for item in _full_key(key if isinstance(key, tuple) else (key,), self.ndim):
            span, inner = (None, None) if item is None else _pick(item, self.shape[len(spans)])
            rest.append(inner)
            if span is not None:
                spans.append(span)
        return np.asarray(self._read_ranges(spans)[tuple(rest)])

    def _read_ranges(self, spans: list[range]) -> NDArray[Any]:
        """Read the window of the given positions along every axis."""
        depths, rows, columns = spans[:3]
        window = [
            (span[0], span[-1] + 1, slice(None, None, span.step)) if span else (0, 0, slice(None))
            for span in (rows, columns)
        ]
        (y0, y1, step_y), (x0, x1, step_x) = window
        pixels = np.empty((len(depths), len(rows), len(columns), *self.shape[3:]), self.dtype)
        if pixels.size:
            for index, z in enumerate(depths):
                pixels[index] = self._read(z, y0, y1, x0, x1)[step_y, step_x]
        return pixels[..., spans[3].start : spans[3].stop : spans[3].step] if self.ndim == 4 else pixels


def _full_key(key: tuple[Any, ...], ndim: int) -> list[Any]:
    """Spell out the ellipsis and the omitted axes of a key."""
    named = sum(item is not None and item is not Ellipsis for item in key)
    if named > ndim:
        raise IndexError(f"the key has {named} indices, the section {ndim} axes.")
    dots = [at for at, item in enumerate(key) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexError("a key takes one ellipsis ('...') only.")
    at = dots[0] if dots else len(key)
    return [*key[:at], *[slice(None)] * (ndim - named), *key[at + 1 :]]


def _pick(item: Any, size: int) -> Picked:
    """Split the key of one axis of `size` pixels into the range to read and the key for numpy."""
    if isinstance(item, slice):
        wanted = range(size)[item]
        return (wanted, slice(None)) if wanted.step > 0 else (wanted[::-1], slice(None, None, -1))
    if isinstance(item, bool | np.bool_):
        raise IndexError(f"a section is not indexed by {item}; give integers or slices.")
    array = np.asarray(item)
    if array.dtype.kind == "b":
        if array.shape != (size,):
            raise IndexError(f"the mask of shape {array.shape} does not fit the axis of {size} pixels.")
        array = np.flatnonzero(array)
    elif array.size == 0:
        array = array.astype(np.intp)
    if array.dtype.kind not in "iu":
        raise IndexError(f"a section is indexed by integers or slices, not by {array.dtype.name}.")
    if array.size == 0:
        return range(0), array
    low, high = int(array.min()), int(array.max())
    if low < -size or high >= size:
        raise IndexError(f"the index {low if low < -size else high} lies outside the axis of {size} pixels.")
    if array.ndim == 0:
        at = operator.index(item) % size
        return range(at, at + 1), 0
    array = array.astype(np.intp) % size
    first = int(array.min())
    return range(first, int(array.max()) + 1), array - first
