"""Convert between storage values and 0..1, and between colour and the restored luma.

The range comes from the dtype or the user, never from the data: a dark section stays dark. Integers are
rounded half to even after clipping, so an unchanged value returns exactly.

Colour is restored on its luma (ITU-R BT.601) alone: a grey network on three channels gives three answers
with disagreeing edges. The restored luma's difference from the interpolated one is added to the interpolated
colour, so hue is carried and never invented.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in luma, ITU-R BT.601."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
GreyBytes = NDArray[np.uint8]


def to_unit(pixels: NDArray[Any], value_range: tuple[float, float]) -> Floats:
    """Return storage values as float32 with `value_range` at 0 and 1."""
    low, high = value_range
    values = pixels.astype(np.float32)
    if low:
        values -= np.float32(low)
    if high - low != 1.0:
        values /= np.float32(high - low)
    return values


def from_unit(values: Floats, value_range: tuple[float, float], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return 0..1 as storage values: clipped, integers rounded half to even."""
    low, high = value_range
    scaled = np.clip(values, 0.0, 1.0)
    if high - low != 1.0:
        scaled *= np.float32(high - low)
    if low:
        scaled += np.float32(low)
    if dtype.kind == "f":
        return scaled.astype(dtype, copy=False)
    return np.rint(scaled, out=scaled).astype(dtype)


def luma(rgb: Floats) -> Floats:
    """Return the luma of (..., 3) colour."""
    return rgb @ LUMA


def to_grey(pixels: NDArray[Any], value_range: tuple[float, float]) -> Floats:
    """Return storage values (h, w[, 3]) as grey of 0..1, colour by its luma."""
    unit = to_unit(pixels, value_range)
    return luma(unit) if unit.ndim == 3 else unit


def pad_far(pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Replicate the last row and column of (h, w[, 3]) until it has the size asked for."""
    below, right = height - pixels.shape[0], width - pixels.shape[1]
    if not below and not right:
        return pixels
    return np.pad(pixels, [(0, below), (0, right), (0, 0)][: pixels.ndim], mode="edge")


def interpolate(pixels: Floats, scale: Fraction) -> Floats:
    """Bring (h, w[, 3]) to the output grid without a method, for background and colour.

    Catmull-Rom for a finer or equal output grid, an area mean for a coarser one.
    """
    if scale == 1:
        return pixels
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    if scale < 1:
        scaled = _mean_of_cells(planes, scale.denominator)
    else:
        import torch

        from bigrestore.core.interpolation import catmull_rom

        with torch.inference_mode():
            enlarged = catmull_rom(torch.from_numpy(np.ascontiguousarray(planes))[:, None], int(scale))
        scaled = enlarged[:, 0].numpy()
    return scaled[0] if pixels.ndim == 2 else np.moveaxis(scaled, 0, -1)


def _mean_of_cells(planes: Floats, step: int) -> Floats:
    """Return the means over step x step pixels, the last row and column repeated to a whole cell."""
    down, right = -planes.shape[1] % step, -planes.shape[2] % step
    padded = np.pad(planes, [(0, 0), (0, down), (0, right)], mode="edge")
    count, height, width = padded.shape
    cells = padded.reshape(count, height // step, step, width // step, step)
    return np.asarray(cells.mean(axis=(2, 4)), np.float32)
