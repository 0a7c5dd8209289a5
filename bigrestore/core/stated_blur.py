"""Kernels of a stated blur, and of a kernel read from a file.

A stated blur is all blur together, in input pixels. At x2 and x4 it includes the averaging of a pixel: s x s
output pixels have the variance (s^2 - 1) / 12 output px^2 along every direction. This is subtracted before a
Gaussian is made and folded in again with the downsampling. A kernel from a file may lie off the centre of its
square; it is shifted back, because an off-centre kernel moves the output.
"""

from __future__ import annotations

import logging
import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, fourier_shift, shift

from bigrestore.core.kernels import (
    Kernel,
    fold_downsampling,
    kernel_size,
    matched_gaussian,
    normalised_kernel,
)
from bigrestore.errors import UsageError

log = logging.getLogger(__name__)

WARNED_SHIFT_PX = 0.05
"""Output pixels by which a kernel may be off centre without a warning."""

SMALLEST_SHIFT_PX = 0.02
"""A smaller shift is ignored; the widest kernels of a recipe are that far off centre, because their tails are cut."""

RINGING = 0.01
"""Negative taps, relative to the largest, above which a kernel is too sharp to be moved by its Fourier transform."""


def averaging_sigma_px(scale: int) -> float:
    """Return the sigma of averaging scale x scale output pixels, in input pixels: sqrt((s^2 - 1) / 12) / s."""
    return math.sqrt((scale**2 - 1) / 12) / scale


def blur_kernel(blur: tuple[float, float, float], scale: int, widest_px: float, reason: str) -> Kernel:
    """Return the kernel of a stated blur on the output grid, the averaging of a pixel included.

    Parameters
    ----------
    blur : (float, float, float)
        Sigma along a direction and across it in input pixels, 0 for the averaging alone, and the direction in
        degrees from +x towards +y.
    scale : int
        1, 2 or 4.
    widest_px : float
        Largest allowed sigma, in output pixels.
    reason : str
        The reason for the limit, in words; the message continues with the limit.

    Returns
    -------
    ndarray, (k, k), float32
        Its second moments are those of the blur; see `bigrestore.core.kernels.matched_gaussian`.

    Raises
    ------
    UsageError
        If a sigma is larger than the limit, or smaller than the averaging alone and not 0.
    """
    least, most = averaging_sigma_px(scale), widest_px / scale
    shown = f"{blur[0]:g}" if blur[0] == blur[1] else ",".join(f"{part:g}" for part in blur)
    if max(blur[:2]) > most:
        raise UsageError(f"--blur is {shown} in input pixels, but {reason} {most:g}; give {most:g} or less.")
    if any(0 < sigma < least for sigma in blur[:2]):
        raise UsageError(
            f"--blur is {shown} in input pixels, but at x{scale} averaging {scale} x {scale} output pixels alone is "
            f"{least:.4g}; give {math.ceil(100 * least) / 100:g} or more, or 0 for nothing but the averaging."
        )
    along, across = (scale * math.sqrt(max(0.0, sigma**2 - least**2)) for sigma in blur[:2])
    kernel = matched_gaussian(kernel_size(scale), along, across, math.radians(blur[2]))
    return kernel if scale == 1 else fold_downsampling(kernel, "area", scale)


def centred(kernel: NDArray[np.floating], scale: int) -> Kernel:
    """Return a kernel with its centre of mass in the kernels' centre: the middle, half a pixel beyond at x2 and x4.

    Parameters
    ----------
    kernel : ndarray, (k, k)
        Non-negative, odd k, on the output grid.
    scale : int
        1, 2 or 4.

    Returns
    -------
    ndarray, (m, m), float32
        Larger if it was shifted; sums to one. A warning is logged if it was off by more than 0.05 px.
    """
    centre = kernel.shape[0] // 2 + (scale - 1) / 2 - (scale - 1) // 2
    move = centre - np.array(center_of_mass(np.asarray(kernel, np.float64)))
    farthest = float(np.abs(move).max())
    if farthest < SMALLEST_SHIFT_PX:
        return np.asarray(kernel, np.float32)
    if farthest > WARNED_SHIFT_PX:
        log.warning(
            "The given kernel is off its place by %+.2f rows and %+.2f columns of output pixels, which would move the "
            "output; it is moved there.",
            *(-move),
        )
    padded = np.pad(np.asarray(kernel, np.float64), math.ceil(farthest) + 1)
    moved = np.fft.ifft2(fourier_shift(np.fft.fft2(padded), move)).real
    if moved.min() < -RINGING * moved.max():
        moved = shift(padded, move, order=1)
    return normalised_kernel(moved)
