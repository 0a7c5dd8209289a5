"""Area means of pixels, the one way to make an image smaller.

Pyramid levels and thumbnails are means over the existing pixels: at an odd edge a block has fewer pixels, and the
mean is over those. Integers are rounded half to even, so repeated halving does not drift to the bright side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

STRIP_BYTES = 32 * 2**20
"""Most bytes of one strip of a thumbnail, in the storage dtype."""


def halve(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the mean over 2 x 2 pixels of y and x, and over all of z.

    Parameters
    ----------
    pixels : ndarray, (z, y, x), uint8, uint16 or float32
        One or two sections; with two, blocks are 2 x 2 x 2. z must be 1 or 2.

    Returns
    -------
    ndarray, (ceil(y / 2), ceil(x / 2)), same dtype
        Mean of the pixels that exist, integers rounded half to even.

    Notes
    -----
    Repeating the last row or column completes the block without changing the mean of the existing pixels, so
    the number of terms is always 4 or 8 and the division a shift. With n = 2^k terms, sum s and
    q = floor(s / n), half-to-even rounding is floor((s + n/2 - 1 + (q mod 2)) / n).
    """
    depth, height, width = pixels.shape
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    wide = {"u1": np.uint16, "u2": np.uint32}.get(pixels.dtype.str[1:], np.float64)
    rows = np.add(pixels[:, 0::2], pixels[:, 1::2], dtype=wide)
    total = rows[:, :, 0::2] + rows[:, :, 1::2]
    total = total[0] + total[1] if depth == 2 else total[0]
    if wide is np.float64:
        return np.asarray(total / (4 * depth), dtype=pixels.dtype)
    shift, half = (3, 4) if depth == 2 else (2, 2)
    odd = (total >> shift) & 1
    return np.asarray((total + odd + (half - 1)) >> shift, dtype=pixels.dtype)


def block_mean(pixels: NDArray[Any], step: int) -> NDArray[np.float64]:
    """Return the mean over step x step blocks of (y, x, ...), over the existing pixels at the edges.

    Returns
    -------
    ndarray, (ceil(y / step), ceil(x / step), ...), float64
    """
    height, width = pixels.shape[:2]
    ys, xs = np.arange(0, height, step), np.arange(0, width, step)
    # Row by row, which is a tenth of the time of `reduceat` over the rows and the same to the last bit.
    rows = np.empty((len(ys), *pixels.shape[1:]), np.float64)
    for y, row in zip(ys, rows, strict=True):
        np.add.reduce(pixels[y : y + step], axis=0, dtype=np.float64, out=row)
    total = np.add.reduceat(rows, xs, axis=1)
    count = np.outer(np.diff(ys, append=height), np.diff(xs, append=width)).astype(np.float64)
    return total / count.reshape(count.shape + (1,) * (pixels.ndim - 2))


def area_thumbnail(
    read: Callable[[int, int, int, int, int], NDArray[Any]],
    z: int,
    height: int,
    width: int,
    channels: int,
    dtype: np.dtype[Any],
    step: int,
) -> NDArray[Any]:
    """Reduce one section by a whole factor, strip by strip, in memory independent of its height.

    Returns
    -------
    ndarray, (ceil(height / step), ceil(width / step)[, 3]), dtype
    """
    row_bytes = width * channels * dtype.itemsize * step
    strip = step * max(1, STRIP_BYTES // row_bytes)
    parts = []
    for y0 in range(0, height, strip):
        pixels = read(z, y0, min(y0 + strip, height), 0, width)
        mean = pixels if step == 1 else block_mean(pixels, step)
        parts.append((np.rint(mean) if dtype.kind != "f" else mean).astype(dtype))
    return np.concatenate(parts)
