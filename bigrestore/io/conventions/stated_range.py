"""Limits of values that a file states itself, such as the 12 bits of a camera in 16.

Formats have many places for a range, and few of them mean black and white. What limits the values by definition
(the bits of a sample, MINC's valid range) is taken as it stands. A tag that programs also fill with the extremes of
the pixels, or with the window of a viewer, is taken only if it names a number of bits: 0 to 2^n - 1.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import attrs
import numpy as np

log = logging.getLogger(__name__)

FEWEST_BITS = 8
"""Fewest bits that a largest value is taken to name."""


@attrs.frozen
class StatedRange:
    """Storage values of black and white as a file states them.

    Attributes
    ----------
    low, high : float
        Black and white.
    place : str
        Where in the file, such as "MaxSampleValue".
    """

    low: float
    high: float
    place: str


def range_of_type(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return black and white of a type: 0 to 1 for floating point."""
    return (0.0, 1.0) if dtype.kind == "f" else (0.0, float(np.iinfo(dtype).max))


def limits(low: float, high: float, place: str, dtype: np.dtype[Any], source: str) -> StatedRange | None:
    """Return the limits that a format defines; None if the type's own range is meant, or it is no range.

    Parameters
    ----------
    low, high : float
        Smallest and largest value.
    place : str
        Where in the file they stand.
    dtype : numpy.dtype
        Of the pixels.
    source : str
        The file, for the log.
    """
    least, most = range_of_type(dtype)
    if (low, high) == (least, most) or dtype.kind not in "uf":
        return None
    possible = math.isfinite(low) and math.isfinite(high) and low < high
    if not possible or (dtype.kind == "u" and not least <= low < high <= most):
        log.warning(
            "%s states the values %g to %g by %s, which %s does not have; %g to %g are taken for black and white.",
            *(source, low, high, place, dtype.name, least, most),
        )
        return None
    return StatedRange(float(low), float(high), place)


def bit_limits(low: float, high: float, place: str, dtype: np.dtype[Any], source: str) -> StatedRange | None:
    """Return limits that name a number of bits; others are statistics or a viewer's window, and None.

    The parameters are those of `limits`.
    """
    least, most = range_of_type(dtype)
    if (low, high) == (least, most) or dtype.kind not in "uf" or not low < high:
        return None
    largest = 2**16 - 1 if dtype.kind == "f" else most
    if low == 0 and high <= largest and high in {2.0**bits - 1 for bits in range(FEWEST_BITS, 17)}:
        return StatedRange(float(low), float(high), place)
    log.info(
        "%s states the values %g to %g by %s, which is no number of bits; %g to %g are taken for black and white.",
        *(source, low, high, place, least, most),
    )
    return None
