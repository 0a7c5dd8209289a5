"""The locally normalised image (MSCN) that NIQE, BRISQUE and PIQE are all made of, and the half-size image.

Subtracting the local mean and dividing by the local contrast leaves, in an undistorted photograph, values
that follow a Gaussian closely; blur, noise and blocking change their distribution. The three scores measure
that change in three ways, so the field is computed once per tile and shared.

Nearly all the time of scoring goes into these filters. They are separable, symmetric (taps are added in
pairs before they are multiplied) and run on strips of rows small enough for the processor's cache, in float64
and without any library that divides sums among threads: the bytes are the same wherever a tile is computed.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
Edge = Literal["replicate", "zero"]

RADIUS_PX = 3
SIGMA_PX = 7.0 / 6.0
"""The 7 x 7 Gaussian window of the papers; it is cut at three pixels and normalised to sum one."""

CONTRAST_FLOOR = 1.0
"""Added to the local contrast, in grey levels of 0..255, so that flat areas do not divide by zero."""

_STRIP_ROWS = 24


_TAP_BITS = 20


def _window() -> NDArray[np.float64]:
    """Taps at distance 0 to 3 along one axis, whole multiples of 2^-20 that sum to one exactly.

    So no sum over a flat area rounds, whatever the levels of a float32 image are: the field is exactly zero
    there, on every processor. With taps that sum to one but for round-off, flat areas hold noise of
    1e-15 whose sign decides on which side of zero they are counted; published implementations differ by 10
    points of BRISQUE on flat images for no other reason. The rounding moves the taps by 5e-7.
    """
    offsets = np.arange(RADIUS_PX + 1, dtype=np.float64)
    taps = np.exp(-(offsets**2) / (2.0 * SIGMA_PX**2))
    taps = np.rint(taps / (taps[0] + 2.0 * taps[1:].sum()) * 2.0**_TAP_BITS) / 2.0**_TAP_BITS
    taps[0] = 1.0 - 2.0 * taps[1:].sum()
    return np.asarray(taps)


TAPS = _window()
_ROW_TAPS = np.concatenate([TAPS[:0:-1], TAPS])


def normalised(image: Field, edge: Edge = "replicate", contrast: Field | None = None) -> Field:
    """Subtract the local mean and divide by the local contrast.

    (I - mu) / (sigma + 1) with mu and sigma under a 7 x 7 Gaussian window of sigma 7/6: equations 1 to 3 of
    Mittal, Moorthy and Bovik, "No-reference image quality assessment in the spatial domain", IEEE
    Transactions on Image Processing 21 (2012).

    Parameters
    ----------
    image : ndarray of float64, (height, width)
        Grey levels, 0..255.
    edge : "replicate" or "zero"
        What lies outside the image: its border pixels (NIQE, PIQE), or nothing (BRISQUE).
    contrast : ndarray of float64, (height, width), optional
        Takes sigma where it is given.

    Returns
    -------
    ndarray of float64, (height, width)
        The field; about zero mean and unit variance in a photograph.
    """
    height, width = image.shape
    out = np.empty((height, width))
    strip = min(height, _STRIP_ROWS)
    pair = np.empty((2, strip + 2 * RADIUS_PX, width + 2 * RADIUS_PX))
    down, work = np.empty((2, 2, strip, width + 2 * RADIUS_PX))
    for top in range(0, height, strip):
        rows = min(strip, height - top)
        powers, sums = pair[:, : rows + 2 * RADIUS_PX], down[:, :rows]
        _take_rows(image, top - RADIUS_PX, edge, powers[0])
        np.multiply(powers[0], powers[0], out=powers[1])
        _filter_columns(powers, sums, work[:, :rows])
        inside = slice(top, top + rows)
        _divide(image[inside], _filter_rows(sums), out[inside], None if contrast is None else contrast[inside])
    return out


def zero_edged(image: Field, field: Field) -> Field:
    """Make the field with zeros around the image from the one with replicated borders.

    The two differ in a frame of three pixels only, and only that is computed anew.

    Parameters
    ----------
    image : ndarray of float64, (height, width)
        The image.
    field : ndarray of float64, (height, width)
        Its field with `edge="replicate"`; it is not changed.

    Returns
    -------
    ndarray of float64, (height, width)
        What `normalised(image, "zero")` would give.
    """
    frame, reach = RADIUS_PX, 2 * RADIUS_PX
    if min(image.shape) <= reach:
        return normalised(image, "zero")
    framed = field.copy()
    framed[:frame] = normalised(image[:reach], "zero")[:frame]
    framed[-frame:] = normalised(image[-reach:], "zero")[-frame:]
    # The window is symmetric: columns are filtered as rows, which are long.
    framed[:, :frame] = normalised(image[:, :reach].T, "zero")[:frame].T
    framed[:, -frame:] = normalised(image[:, -reach:].T, "zero")[-frame:].T
    return framed


def _take_rows(image: Field, top: int, edge: Edge, out: Field) -> None:
    """Copy rows from `top` on with a margin at both sides; `top` may be negative and the end beyond the image."""
    height, r = image.shape[0], RADIUS_PX
    above, below = max(0, -top), max(0, top + out.shape[0] - height)
    last = out.shape[0] - below
    out[above:last, r:-r] = image[top + above : top + last]
    if edge == "zero":
        out[:above], out[last:], out[:, :r], out[:, -r:] = 0.0, 0.0, 0.0, 0.0
        return
    out[:above, r:-r], out[last:, r:-r] = image[0], image[-1]
    out[:, :r], out[:, -r:] = out[:, r : r + 1], out[:, -r - 1 : -r]


def _filter_columns(powers: Field, out: Field, work: Field) -> None:
    """Filter down the columns of both powers; `work` is scratch space of the shape of `out`."""
    rows = out.shape[1]
    np.multiply(powers[:, RADIUS_PX : RADIUS_PX + rows], TAPS[0], out=out)
    for distance in range(1, RADIUS_PX + 1):
        before, after = RADIUS_PX - distance, RADIUS_PX + distance
        np.add(powers[:, before : before + rows], powers[:, after : after + rows], out=work)
        work *= TAPS[distance]
        out += work


def _filter_rows(sums: Field) -> Field:
    """Filter along the rows; only the first columns of what is returned are of use, six at the end are not.

    The array is taken as one long line, which one call filters with seven taps in a single pass; only the
    columns that nobody reads mix two rows.
    """
    line = sums.reshape(-1)
    filtered = np.empty(sums.shape)
    filtered.reshape(-1)[: 1 - _ROW_TAPS.size] = np.correlate(line, _ROW_TAPS)
    filtered[:, -1, 1 - _ROW_TAPS.size :] = 0.0
    return filtered


def _divide(image: Field, means: Field, out: Field, contrast: Field | None) -> None:
    width = out.shape[1]
    mean, spread = means
    spread -= mean * mean
    np.abs(spread, out=spread)
    np.sqrt(spread, out=spread)
    if contrast is not None:
        contrast[...] = spread[:, :width]
    spread += CONTRAST_FLOOR
    np.subtract(image, mean[:, :width], out=out)
    out /= spread[:, :width]


# Cubic convolution with a = -1/2, stretched by two for a reduction by two (antialiasing), at the distances
# 1/2, 3/2, 5/2, 7/2 input pixels of the eight neighbours; the values are exact binary fractions.
_HALVING = (0.8671875 / 2, 0.2265625 / 2, -0.0703125 / 2, -0.0234375 / 2)


def half_size(image: Field) -> Field:
    """Reduce an image by two as the papers' code did.

    Cubic convolution (Keys 1981, a = -1/2) with the kernel stretched by two, and the image mirrored at its
    borders: MATLAB's `imresize(image, 0.5)`, with which the shipped parameters were trained.

    Parameters
    ----------
    image : ndarray of float64, (height, width)
        Any levels.

    Returns
    -------
    ndarray of float64, (ceil(height / 2), ceil(width / 2))
        The reduced image; not rounded, not clipped.
    """
    height, width = (-(-side // 2) for side in image.shape)
    rows = np.pad(image, ((3, 4), (0, 0)), mode="symmetric")
    shorter = _halved([rows[tap : tap + 2 * height : 2] for tap in range(8)])
    columns = np.pad(shorter, ((0, 0), (3, 4)), mode="symmetric")
    even, odd = np.ascontiguousarray(columns[:, ::2]), np.ascontiguousarray(columns[:, 1::2])
    return _halved([(odd if tap % 2 else even)[:, tap // 2 : tap // 2 + width] for tap in range(8)])


def _halved(shifted: list[Field]) -> Field:
    out = shifted[3] + shifted[4]
    out *= _HALVING[0]
    for distance, weight in enumerate(_HALVING[1:], start=1):
        pair = shifted[3 - distance] + shifted[4 + distance]
        pair *= weight
        out += pair
    return out
