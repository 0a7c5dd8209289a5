"""Catmull-Rom interpolation in plain numpy: the input as one would otherwise look at it, on the output grid.

Before and after are compared on one grid. Processes computing scores beside a GPU should not load a deep-learning
library, so the interpolation of a run's background is repeated here, to the last float32 rounding. Pixel centres are
aligned: output pixel u lies at (u + 0.5) / scale - 0.5, and samples beyond the border repeat.
"""

from __future__ import annotations

import numpy as np

from bigrestore.core.geometry import Box
from bigrestore.core.pixels import Floats

REACH_PX = 2
"""Samples on each side that an output pixel depends on."""


def enlarge(image: Floats, scale: int) -> Floats:
    """Enlarge an image, (h, w) or (h, w, 3), by a whole factor.

    Returns
    -------
    ndarray, (scale * h, scale * w[, 3]), float32
    """
    if scale == 1:
        return image
    across = _along_rows(np.swapaxes(image, 0, 1), scale)
    return _along_rows(np.swapaxes(across, 0, 1), scale)


def source_box(box: Box, scale: int, height: int, width: int) -> Box:
    """Return the input pixels needed to interpolate an output box, inside an input of the given size."""
    margin = REACH_PX if scale > 1 else 0
    return Box(
        max(0, box.y0 // scale - margin),
        min(height, -(-box.y1 // scale) + margin),
        max(0, box.x0 // scale - margin),
        min(width, -(-box.x1 // scale) + margin),
    )


def enlarged_box(pixels: Floats, source: Box, box: Box, scale: int) -> Floats:
    """Interpolate the pixels of `source`, as `source_box` gave it, at an output box."""
    if scale == 1:
        return pixels
    return enlarge(pixels, scale)[box.slices(source.enlarged(scale))]


def _along_rows(image: Floats, scale: int) -> Floats:
    """Interpolate along the first axis: each of the `scale` phases is one filter of four taps."""
    height = image.shape[0]
    edges = [(REACH_PX, REACH_PX)] + [(0, 0)] * (image.ndim - 1)
    padded = np.pad(image, edges, mode="edge")
    enlarged = np.empty((height, scale, *image.shape[1:]), np.float32)
    for phase in range(scale):
        position = (phase + 0.5) / scale - 0.5
        first = -1 if position < 0 else 0
        taps = _taps(position - first)
        total = enlarged[:, phase]
        np.multiply(padded[first + 1 : first + 1 + height], taps[0], out=total)
        for index in (1, 2, 3):
            total += taps[index] * padded[first + 1 + index : first + 1 + index + height]
    return enlarged.reshape(height * scale, *image.shape[1:])


def _taps(t: float) -> Floats:
    """Return the weights of the samples -1, 0, 1 and 2 at position t of 0..1 (Catmull and Rom, 1974)."""
    return np.array(
        [
            -0.5 * t + t**2 - 0.5 * t**3,
            1 - 2.5 * t**2 + 1.5 * t**3,
            0.5 * t + 2 * t**2 - 1.5 * t**3,
            -0.5 * t**2 + 0.5 * t**3,
        ],
        np.float32,
    )
