"""Whether a restored image explains its input: what is left of the input after degrading it again.

No kernel is the blur of a pair, because registration resamples by another sub-pixel shift at every place. So the best
stationary kernel, by least squares between the true target and the input, takes its place, and what it leaves of the
target is the measure: an image that explains the input as well as the truth does leaves no more.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tests.bench.twin.pairs import TwinPair

Grey = NDArray[np.uint8]
Array = NDArray[np.float64]

KERNEL_SIDE = {1: 7, 2: 8}
"""Side of the kernel, output pixels: seven, or eight where the middle of an input pixel lies between two of them."""


def residual_ratio(image: Grey, pair: TwinPair) -> float:
    """Return RMS of D(image) - input over RMS of D(target) - input, D being the best kernel of the pair."""
    target, low = pair.inside(pair.target), pair.inside(pair.low)
    kernel = best_kernel(target, low, pair.scale)
    return residual_rms(pair.inside(image), low, kernel, pair.scale) / residual_rms(
        target, low, kernel, pair.scale
    )


def best_kernel(target: Grey, low: Grey, scale: int) -> Array:
    """Return the kernel, (side, side), whose strided correlation with the target comes nearest to the input."""
    taps, values = correlation(target, low, scale)
    kernel = np.linalg.solve(taps.T @ taps, taps.T @ values)
    return np.asarray(kernel.reshape(KERNEL_SIDE[scale], KERNEL_SIDE[scale]))


def residual_rms(image: Grey, low: Grey, kernel: Array, scale: int) -> float:
    """Return the RMS of what the kernel makes of an image less the input, in grey levels of 8 bits."""
    taps, values = correlation(image, low, scale)
    return float(np.sqrt(np.mean((taps @ kernel.ravel() - values) ** 2)))


def correlation(image: Grey, low: Grey, scale: int) -> tuple[Array, Array]:
    """Return the pixels under the kernel at every input pixel, (n, side * side), and the input's values there, (n,).

    The kernel is centred on the input pixel; input pixels where it would reach beyond the image are left out.
    """
    side = KERNEL_SIDE[scale]
    before = side // 2 - scale // 2  # output pixels of the kernel before the first one of its input pixel
    skipped = -(-before // scale)
    start = scale * skipped - before
    windows = sliding_window_view(image.astype(np.float64), (side, side))[start::scale, start::scale]
    height, width = windows.shape[:2]
    values = low[skipped : skipped + height, skipped : skipped + width].astype(np.float64)
    return windows.reshape(height * width, side * side), values.ravel()
