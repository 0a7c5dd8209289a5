"""Fit the kernel between registered windows: least squares with a ridge.

Each degraded pixel is a weighted sum of the clean pixels around it, times a gain, plus an offset. Tissue holds little at
high frequencies, and there the data say nothing about a kernel. So the ridge pulls the kernel to the Gaussian that
explains the window best, by a strength that is chosen on the other half of the pixels. Weights may be negative: a scanner
that sharpens has a halo.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from bigrestore.core.kernels import Kernel, fold_downsampling, gaussian, kernel_size
from bigrestore.core.pixels import Doubles, Floats

FIT_SIDE = 21
"""Side of the fitted kernel, pixels of its grid."""

FINE_PX = 2
"""Largest scale that is fitted pixel by pixel; beyond, clean pixels are averaged in twos first."""

FIT_SAMPLES = 16_000
"""Degraded pixels of a window that enter its equations."""

FIT_CHUNK = 4000
FIT_SEED = 31

START_SIGMAS_PX = np.geomspace(0.3, 6.0, 16)
"""Gaussians that the ridge may pull to."""

STRENGTHS = 10.0 ** np.arange(-7, 0.6, 0.5)
"""Of the ridge, relative to the variance of clean pixels."""

WIDER, WIDER_PX = 1.2, 0.5
"""The ridge binds less within a Gaussian of this many times the width of the start's, and so much more."""

LEAST_FREEDOM = 0.03
"""Of a tap far out, beside one in the middle."""

SMALLEST_TAP = 2e-3
"""Share of the largest tap below which a tap is dropped."""


@attrs.frozen(eq=False)
class Equations:
    """Normal equations of one half of a window's pixels, or of several windows.

    Attributes
    ----------
    gram, moment : ndarray, (n, n) and (n,)
        Of the clean pixels among each other, and with the degraded ones; all without their means.
    square : float
        Of the degraded pixels without their mean.
    pixels : int
        How many.
    """

    gram: Doubles
    moment: Doubles
    square: float
    pixels: int

    def __add__(self, other: Equations) -> Equations:
        return Equations(
            self.gram + other.gram,
            self.moment + other.moment,
            self.square + other.square,
            self.pixels + other.pixels,
        )

    def scaled(self, gain: float) -> Equations:
        """Return the equations of the degraded pixels divided by a gain."""
        return Equations(self.gram, self.moment / gain, self.square / gain**2, self.pixels)

    def residual(self, taps: Doubles) -> float:
        """Return the mean squared residual of taps, (n,)."""
        total = float(self.square - 2 * taps @ self.moment + taps @ self.gram @ taps)
        return max(total, 0.0) / self.pixels


Halves = tuple[Equations, Equations]
"""Equations of two halves of the pixels, in blocks like a chessboard's."""


def equations_of(degraded: Floats, clean: Floats, scale: int) -> Halves:
    """Return the equations of a registered window.

    Parameters
    ----------
    degraded, clean : ndarray, (h, w) and (scale * h, scale * w)
        Grey values.
    scale : int
        1, 2 or 4.
    """
    fine, step = _averaged(clean, scale)
    reach = FIT_SIDE // 2
    rows, columns = (
        np.arange(-(-reach // step), (side - 1 - reach - (step - 1) // 2) // step + 1) for side in fine.shape
    )
    y, x = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
    if len(y) > FIT_SAMPLES:
        chosen = np.random.default_rng(FIT_SEED).choice(len(y), FIT_SAMPLES, replace=False)
        y, x = y[chosen], x[chosen]
    half = (y // 16 + x // 16) % 2
    return _sums(degraded, fine, step, y[half == 0], x[half == 0]), _sums(
        degraded, fine, step, y[half == 1], x[half == 1]
    )


def _averaged(clean: Floats, scale: int) -> tuple[Floats, int]:
    """Return clean pixels on the grid of the fit, and how many of them lie along a degraded one."""
    step = grid_step(scale)
    if step == scale:
        return clean, step
    height, width = (side // 2 for side in clean.shape)
    means = clean[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
    return np.asarray(means, np.float32), step


def _sums(degraded: Floats, fine: Floats, step: int, y: NDArray[np.int64], x: NDArray[np.int64]) -> Equations:
    """Sum the products of the sampled pixels; windows around them are read by strides."""
    taps = _free_taps(step)
    views = np.lib.stride_tricks.sliding_window_view(fine, (FIT_SIDE, FIT_SIDE))
    first = (step - 1) // 2 - FIT_SIDE // 2
    count, mean = len(taps), float(fine.mean())
    gram, moment, sums = np.zeros((count, count)), np.zeros(count), np.zeros(count)
    grey = degraded[y, x].astype(np.float64)
    grey -= grey.mean() if len(grey) else 0.0
    for start in range(0, len(y), FIT_CHUNK):
        part = slice(start, start + FIT_CHUNK)
        around = (
            views[step * y[part] + first, step * x[part] + first].reshape(-1, FIT_SIDE**2)[:, taps] - mean
        )
        gram += around.T @ around
        moment += around.T.astype(np.float64) @ grey[part]
        sums += around.sum(axis=0, dtype=np.float64)
    pixels = max(len(y), 1)
    gram -= np.outer(sums, sums) / pixels
    return Equations(gram, moment, float(grey @ grey), pixels)


def _free_taps(step: int) -> NDArray[np.int64]:
    """Return the places of the taps that are fitted: at even steps the first row and column stay empty."""
    free = np.ones((FIT_SIDE, FIT_SIDE), bool)
    if step % 2 == 0:
        free[0], free[:, 0] = False, False
    return np.flatnonzero(free)


@attrs.frozen(eq=False)
class FittedTaps:
    """Fitted taps.

    Attributes
    ----------
    taps : ndarray, (n,)
        Their sum is the gain.
    error : float
        Sum of the mean squared residuals of both halves, each under the taps of the other.
    """

    taps: Doubles
    error: float


def grid_step(scale: int) -> int:
    """Return how many pixels of the fit's grid lie along a degraded one."""
    return scale if scale <= FINE_PX else scale // 2


def fit_taps(halves: Halves, step: int) -> FittedTaps:
    """Fit taps.

    Parameters
    ----------
    halves : tuple of Equations
    step : int
        Pixels of the fit's grid along a degraded one.
    """
    whole = halves[0] + halves[1]
    start, sigma_px = _best_gaussian(whole, step)
    free = _freedom(sigma_px, step)
    trace = float(np.trace(whole.gram)) / len(start)
    errors = np.zeros(len(STRENGTHS))
    for known, other in (halves, halves[::-1]):
        part = whole.pixels / known.pixels
        values, vectors = eigh(known.gram * free[:, None] * free * part)
        missing = vectors.T @ (free * (known.moment - known.gram @ start) * part)
        for index, strength in enumerate(STRENGTHS):
            change = free * (vectors @ (missing / (values + strength * trace)))
            errors[index] += other.residual(start + change)
    ridge = STRENGTHS[int(errors.argmin())] * trace * np.eye(len(start))
    missing = free * (whole.moment - whole.gram @ start)
    change = free * np.linalg.solve(whole.gram * free[:, None] * free + ridge, missing)
    return FittedTaps(start + change, float(errors.min()))


def _freedom(sigma_px: float, step: int) -> Doubles:
    """Return how far a tap may leave the Gaussian, 0..1: less, the farther out it lies."""
    wide = gaussian(FIT_SIDE, WIDER * sigma_px + WIDER_PX).astype(np.float64).ravel()[_free_taps(step)]
    return np.asarray(np.sqrt(wide / wide.max() + LEAST_FREEDOM**2))


def _best_gaussian(equations: Equations, step: int) -> tuple[Doubles, float]:
    """Return the Gaussian, with the gain that suits it, of the smallest residual."""
    best: tuple[float, Doubles, float] | None = None
    for sigma_px in START_SIGMAS_PX:
        kernel = gaussian(FIT_SIDE, float(sigma_px))
        if step > 1:
            kernel = fold_downsampling(kernel, "area", step)
        taps = kernel.astype(np.float64).ravel()[_free_taps(step)]
        power = float(taps @ equations.gram @ taps)
        taps *= float(taps @ equations.moment) / power if power > 0 else 1.0
        residual = equations.residual(taps)
        if best is None or residual < best[0]:
            best = (residual, taps, float(sigma_px))
    assert best is not None
    return best[1], best[2]


def gaussian_on_grid(sigma_px: float, scale: int) -> Kernel:
    """Return a Gaussian, of sigma in pixels of the fit's grid, as a kernel of the scale."""
    if scale == 1:
        return gaussian(kernel_size(1), sigma_px)
    wide = gaussian(kernel_size(scale), sigma_px * scale / grid_step(scale))
    return fold_downsampling(wide, "area", scale)


def kernel_of(taps: Doubles, scale: int) -> Kernel:
    """Return fitted taps as a kernel of the scale: its sum is one, and what is too small to matter is left out."""
    step = grid_step(scale)
    flat = np.zeros(FIT_SIDE**2)
    flat[_free_taps(step)] = taps / taps.sum()
    flat[np.abs(flat) < SMALLEST_TAP * np.abs(flat).max()] = 0.0
    square = flat.reshape(FIT_SIDE, FIT_SIDE)
    if scale > FINE_PX:
        doubled = np.repeat(np.repeat(square[1:, 1:] / 4, 2, axis=0), 2, axis=1)
        square = np.zeros((kernel_size(scale),) * 2)
        square[1:, 1:] = doubled
    return np.asarray(square / square.sum(), np.float32)
