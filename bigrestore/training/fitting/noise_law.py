"""Read the noise of a window off what its kernel does not explain.

The residual is noise where the image is smooth; at edges it is also what no kernel explains: other cells that come into
focus, a shift that varies. So only the quieter half of the pixels of each grey level counts, without slow waves. Their
variance against grey is the law gain * x + read^2. What the residual has beyond that is put down to the contrast.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude
from scipy.optimize import nnls

from bigrestore.core.pixels import Doubles, Floats
from bigrestore.degradation.degradation import Noise
from bigrestore.degradation.steps import local_contrast
from bigrestore.training.fitting.jpeg_lattice import JpegFinding, through_jpeg

GREY_BINS = 8
QUIET_SHARE = 0.5
"""Part of the pixels of a grey level, by gradient, that counts."""

GRADIENT_PX, SLOW_PX = 1.5, 4.0
"""Standard deviations of the Gaussians of gradients, and of the waves left out of the residual."""

OUTLIER = 4.0
"""Deviations beyond which a residual is an edge."""

ROUNDING_VARIANCE = 1 / 12 / 255**2
"""Of 8 bits."""

LEAST_NOISE_SIGMA = 0.1 / 255
"""Less noise counts as none."""

NEIGHBOUR_CORRELATION = 0.8
"""Of neighbouring pixels of the smooth field in `steps.smooth_noise`: 56 / 70, of the taps 1, 4, 6, 4, 1."""

JPEG_ROUNDS = 8
MOST_PIXELS_READ = 0.12
"""Largest noise looked for under a JPEG."""

JPEG_SEED = 17

LEAST_UNEXPLAINED = 0.1
"""Share of the explained variance below which what is left counts as chance."""

MOST_CONTRAST_GAIN = 4.0


def noise_law(
    degraded: Floats, expected: Floats, *, eight_bits: bool, jpeg: JpegFinding | None = None
) -> Noise:
    """Return the noise of a window, with what neither blur nor noise nor JPEG explains.

    Parameters
    ----------
    degraded, expected : ndarray, (h, w)
        The window, and what kernel and grey curve make of the clean one.
    eight_bits : bool
        Whether its pixels were rounded to 8 bits, whose variance is then left out.
    jpeg : JpegFinding, optional
        The JPEG that it went through. The noise before it is then the white one that, through that JPEG, leaves the
        residual that was found.
    """
    residual = without_waves(degraded, expected)
    quiet = _noise_of_quiet_places(residual, expected, eight_bits=eight_bits, jpeg=jpeg)
    return _with_unexplained(quiet, residual, expected, eight_bits=eight_bits, jpeg=jpeg)


def _noise_of_quiet_places(
    residual: Doubles, expected: Floats, *, eight_bits: bool, jpeg: JpegFinding | None
) -> Noise:
    """Return gain, read noise and smoothness from the quieter half of the pixels."""
    quiet = _quiet(expected)
    kept = quiet & (np.abs(residual) < OUTLIER * _spread(residual[quiet]))
    if kept.sum() < GREY_BINS**2:
        return Noise()
    if jpeg is not None:
        return _noise_under_jpeg(float(residual[kept].var()), expected.shape, expected, jpeg, kept)
    gain, variance = _law(residual, expected, kept)
    if eight_bits:
        variance = max(variance - ROUNDING_VARIANCE, 0.0)
    if gain * float(expected.mean()) + variance < LEAST_NOISE_SIGMA**2:
        return Noise()
    share = np.clip(_neighbour_correlation(residual, kept) / NEIGHBOUR_CORRELATION, 0, 1)
    return Noise(gain, float(np.sqrt(variance)), float(share))


def _with_unexplained(
    noise: Noise, residual: Doubles, expected: Floats, *, eight_bits: bool, jpeg: JpegFinding | None
) -> Noise:
    """Return the noise with a part that grows with the contrast, as strong as what it leaves of the residual.

    A restorer that is trained without it takes the errors of an unknown compression for detail. They lie where the detail
    is, so they are drawn as noise that grows with the contrast, and as smooth as the residual.
    """
    field = np.random.default_rng(JPEG_SEED).standard_normal(expected.shape)
    drawn = expected + field * np.sqrt(noise.gain * np.clip(expected, 0, None) + noise.read**2)
    stored = through_jpeg(drawn, jpeg) if jpeg is not None else drawn
    rounding = ROUNDING_VARIANCE if eight_bits and jpeg is None else 0.0
    explained = float(without_waves(stored.astype(np.float32), expected).var()) + rounding
    contrast = local_contrast(torch.from_numpy(np.ascontiguousarray(expected, np.float64))).numpy()
    square, left = float(np.mean(contrast**2)), float(residual.var()) - explained
    if left < max(LEAST_UNEXPLAINED * explained, LEAST_NOISE_SIGMA**2) or square <= 0:
        return noise
    everywhere = np.ones(residual.shape, bool)
    share = np.clip(_neighbour_correlation(residual, everywhere) / NEIGHBOUR_CORRELATION, 0, 1)
    gain = min(math.sqrt(left / square), MOST_CONTRAST_GAIN)
    return attrs.evolve(noise, correlated_share=float(share), contrast_gain=gain)


def without_waves(degraded: Floats, expected: Floats) -> Doubles:
    """Return the residual without slow waves."""
    residual = degraded.astype(np.float64) - expected
    return np.asarray(residual - gaussian_filter(residual, SLOW_PX))


def _quiet(expected: Floats) -> NDArray[np.bool_]:
    """Return the quieter half of the pixels of each grey level."""
    gradient = gaussian_gradient_magnitude(expected.astype(np.float64), GRADIENT_PX)
    bins = _grey_bins(expected)
    quiet = np.zeros(expected.shape, bool)
    for index in range(GREY_BINS):
        own = bins == index
        if own.any():
            quiet |= own & (gradient <= np.quantile(gradient[own], QUIET_SHARE))
    inner = np.zeros_like(quiet)
    inner[1:-1, 1:-1] = quiet[1:-1, 1:-1]
    return inner


def _grey_bins(expected: Floats) -> NDArray[np.int64]:
    edges = np.quantile(expected, np.linspace(0, 1, GREY_BINS + 1)[1:-1])
    return np.asarray(np.searchsorted(edges, expected), np.int64)


def _spread(values: Doubles) -> float:
    """Return the standard deviation by the median."""
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) + 1e-6 if len(values) else 0.0


def _law(residual: Doubles, expected: Floats, kept: NDArray[np.bool_]) -> tuple[float, float]:
    """Return gain and variance at black, both at least 0."""
    bins, rows = _grey_bins(expected), []
    for index in range(GREY_BINS):
        own = kept & (bins == index)
        if own.sum() >= GREY_BINS:
            rows.append((float(expected[own].mean()), float(residual[own].var()), float(np.sqrt(own.sum()))))
    grey, variance, weight = np.array(rows).T
    weight = weight / np.maximum(variance, LEAST_NOISE_SIGMA**2)
    matrix = np.stack([np.clip(grey, 0, None), np.ones_like(grey)], axis=1) * weight[:, None]
    (gain, black), _ = nnls(matrix, variance * weight)
    return float(gain), float(black)


def _neighbour_correlation(residual: Doubles, kept: NDArray[np.bool_]) -> float:
    """Return the correlation of neighbouring pixels, both axes together."""
    products, squares = 0.0, 0.0
    for one, two in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        both = kept[one] & kept[two]
        products += float((residual[one] * residual[two])[both].sum())
        squares += float(((residual[one] ** 2 + residual[two] ** 2) / 2)[both].sum())
    return products / squares if squares > 0 else 0.0


def _noise_under_jpeg(
    variance: float, shape: tuple[int, ...], expected: Floats, jpeg: JpegFinding, kept: NDArray[np.bool_]
) -> Noise:
    """Return the white noise that, through a JPEG, leaves a residual of this variance, by bisection."""
    field = np.random.default_rng(JPEG_SEED).standard_normal(shape)
    low, high = 0.0, MOST_PIXELS_READ
    for _ in range(JPEG_ROUNDS):
        read = (low + high) / 2
        stored = through_jpeg(expected + read * field, jpeg)
        more = without_waves(stored, expected)[kept].var() > variance
        low, high = (low, read) if more else (read, high)
    read = (low + high) / 2
    return Noise(read=read) if read >= max(LEAST_NOISE_SIGMA, MOST_PIXELS_READ / 2**JPEG_ROUNDS) else Noise()
