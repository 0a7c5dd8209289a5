"""Kernels of a stated blur, and of a kernel read from a file.

A stated blur is all blur together, in input pixels. At x2 and x4 it includes the averaging of a pixel: s x s
output pixels have the variance (s^2 - 1) / 12 output px^2 along every direction. This is subtracted before a
Gaussian is made and folded in again with the downsampling. A kernel from a file may lie off the centre of its
square; it is shifted back, because an off-centre kernel moves the output.
"""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path

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
from bigrestore.core.regular import is_regular
from bigrestore.errors import InputError, InputMissingError, UsageError

log = logging.getLogger(__name__)

WARNED_SHIFT_PX = 0.05
"""Output pixels by which a kernel may be off centre without a warning."""

SMALLEST_SHIFT_PX = 0.005
"""Output pixels by which a kernel may be off centre and stays as it is."""

MOST_MOVES = 8
"""Moves of a kernel whose cropping moves its centre; each leaves a small part of the distance."""

RINGING = 0.01
"""Negative taps, relative to the largest, above which a kernel is too sharp to be moved by its Fourier transform."""


def averaging_sigma_px(scale: int) -> float:
    """Return the sigma of averaging scale x scale output pixels, in input pixels: sqrt((s^2 - 1) / 12) / s."""
    return math.sqrt((scale**2 - 1) / 12) / scale


def blur_kernel(
    blur: tuple[float, float, float],
    scale: int,
    widest_px: float,
    reason: str,
    *,
    size_px: int | None = None,
) -> Kernel:
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
    size_px : int, optional
        Side of the kernel, odd; None: `kernel_size` of the scale.

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
    kernel = matched_gaussian(size_px or kernel_size(scale), along, across, math.radians(blur[2]))
    return kernel if scale == 1 else fold_downsampling(kernel, "area", scale)


def placed_kernel(kernel: NDArray[np.floating], scale: int, size: int) -> Kernel:
    """Return a kernel in another square, its centre of mass in the kernels' centre.

    That is the middle, and half a pixel beyond it at x2 and x4. What is cropped moves the centre again, so that the
    kernel is moved until the cropped one stands there.

    Parameters
    ----------
    kernel : ndarray, (k, k)
        Non-negative, odd k, on the output grid.
    scale : int
        1, 2 or 4.
    size : int
        Side of the square, odd.

    Returns
    -------
    ndarray, (size, size), float32
        Sums to one. A warning is logged if the kernel was off by more than 0.05 px.

    Raises
    ------
    UsageError
        If cropping would lose over 1 %.
    """
    weights = np.asarray(kernel, np.float64)
    move = off = _way_to_centre(weights, scale)
    if np.abs(off).max() > WARNED_SHIFT_PX:
        log.warning(
            "The given kernel is off its place by %+.2f rows and %+.2f columns of output pixels, which would move the "
            "output; it is moved there.",
            *(-off),
        )
    moved = np.asarray(kernel, np.float32) if np.abs(off).max() < SMALLEST_SHIFT_PX else _moved(weights, move)
    placed = _in_square(moved, size)
    for _ in range(MOST_MOVES):
        off = _way_to_centre(placed, scale)
        if np.abs(off).max() < SMALLEST_SHIFT_PX:
            break
        move = move + off
        placed = _in_square(_moved(weights, move), size)
    return placed


def _way_to_centre(kernel: NDArray[np.floating], scale: int) -> NDArray[np.float64]:
    """Return the rows and columns from a kernel's centre of mass to where it has to be."""
    centre = kernel.shape[0] // 2 + (scale - 1) / 2 - (scale - 1) // 2
    return np.asarray(centre - np.array(center_of_mass(np.asarray(kernel, np.float64))))


def _moved(kernel: NDArray[np.float64], move: NDArray[np.float64]) -> Kernel:
    """Return a kernel moved by rows and columns, in a square that holds it."""
    padded = np.pad(kernel, math.ceil(float(np.abs(move).max())) + 1)
    moved = np.fft.ifft2(fourier_shift(np.fft.fft2(padded), move)).real
    if moved.min() < -RINGING * moved.max():
        moved = shift(padded, move, order=1)
    return normalised_kernel(moved)


def _in_square(kernel: Kernel, size: int) -> Kernel:
    """Pad or crop a kernel to a side; UsageError if cropping would lose over 1 %."""
    have = kernel.shape[0]
    if have <= size:
        return np.pad(kernel, (size - have) // 2)
    cut = (have - size) // 2
    cropped = kernel[cut : have - cut, cut : have - cut]
    if cropped.sum() < 0.99:
        raise UsageError(
            f"--kernel is {have} x {have} pixels and does not fit into {size} x {size}: more than 1 % of it lies outside; "
            "give a narrower one."
        )
    return np.ascontiguousarray(cropped / cropped.sum(), np.float32)


def read_kernel(path: Path) -> NDArray[np.float32]:
    """Read a blur kernel from a .npy file or from rows of numbers in a text file."""
    if not is_regular(path):
        raise InputMissingError(
            f"there is no kernel file {path}; give a .npy file or a text file with rows of numbers"
        )
    try:
        with warnings.catch_warnings():
            # numpy only warns of a file without a number in it
            warnings.simplefilter("error", UserWarning)
            array = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path, ndmin=2)
        kernel = np.asarray(array, np.float32)
    except (ValueError, OSError, EOFError, UserWarning) as error:
        raise InputError(
            f"the kernel {path} cannot be read ({error}); give a .npy file or rows of numbers"
        ) from error
    size = kernel.shape[0] if kernel.ndim else 0
    if kernel.ndim != 2 or kernel.shape[1] != size or size % 2 == 0:
        raise InputError(f"the kernel {path} has shape {kernel.shape}; it must be square with an odd side")
    if not np.isfinite(kernel).all() or (kernel < 0).any() or kernel.sum() <= 0:
        raise InputError(
            f"the kernel {path} has negative, infinite or no weights; a blur kernel is non-negative"
        )
    return np.asarray(kernel / kernel.sum(dtype=np.float64), np.float32)
