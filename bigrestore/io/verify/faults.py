"""Faults of a written image: collected, each with a stable id, and not raised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.errors import BigrestoreError

DECODE_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    KeyError,
    IndexError,
    TypeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    BufferError,
    EOFError,
    BigrestoreError,
)
"""Errors of codecs on damaged bytes, and of zarr on damaged metadata."""


@attrs.frozen
class Fault:
    """One fault.

    Attributes
    ----------
    id : str
        Stable name of the kind of fault, such as "chunk.undecodable".
    location : str
        Where: a file in the store, or a place in its metadata.
    expected, actual : str
        The expected and the actual state.
    mended_by : str
        Flags with which the command of the run mends it; empty: none does.
    """

    id: str
    location: str
    expected: str
    actual: str
    mended_by: str = ""


def difference(
    place: str, corner: tuple[int, int], wanted: NDArray[Any], actual: NDArray[Any]
) -> Iterator[Fault]:
    """Yield one fault for all differing pixels of a window."""
    differs = ~((wanted == actual) | ((wanted != wanted) & (actual != actual)))
    count = int(differs.sum())
    if count:
        first = tuple(int(i) for i in np.argwhere(differs)[0])
        y, x = corner[0] + first[0], corner[1] + first[1]
        yield Fault(
            "level.disagrees",
            f"{place} y={y} x={x}",
            f"{wanted[first]}, the mean of the level before",
            f"{actual[first]} ({count} values differ from here on)",
        )
