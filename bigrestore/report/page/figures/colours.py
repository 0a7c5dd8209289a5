"""Two colour scales, safe for colour blindness and grey printing: one for values, one for changes.

Values go through a dark blue, green and yellow of steadily rising lightness, after the idea of viridis. Changes go from
orange (worse) over white to blue (better), the clearest pair for red-green blind readers. Both are
interpolated between few anchors; the same anchors make the bar beside a map.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SEQUENTIAL = ("#2d1160", "#3b3b8f", "#2f6591", "#218c8d", "#3fb27b", "#92cf5b", "#f2e44c")
DIVERGING = ("#8a3d00", "#cf6f16", "#f3b673", "#f6f4f0", "#9ec9e8", "#3a85c6", "#0b3f80")


def paint(position: NDArray[np.float64], anchors: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return RGBA colours, (..., 4), of positions 0..1 along a scale; NaN is transparent."""
    stops = np.array([[int(text[i : i + 2], 16) for i in (1, 3, 5)] for text in anchors], np.float64)
    there = np.isfinite(position)
    along = np.clip(np.where(there, position, 0.0), 0.0, 1.0) * (len(anchors) - 1)
    first = np.minimum(along.astype(np.intp), len(anchors) - 2)
    part = (along - first)[..., None]
    colours = stops[first] * (1 - part) + stops[first + 1] * part
    return np.concatenate([np.rint(colours), np.where(there, 255.0, 0.0)[..., None]], axis=-1).astype(
        np.uint8
    )


def gradient(anchors: tuple[str, ...]) -> str:
    """Return the scale as a CSS background."""
    return f"linear-gradient(90deg,{','.join(anchors)})"
