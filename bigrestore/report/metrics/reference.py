"""Comparison with a clean reference: PSNR, SSIM and MS-SSIM of a tile.

All three take grey values on 0..1 in float64: neither bit depth nor rounding enters. Callers refuse the degraded
input as a reference, because closeness to it would reward doing nothing.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import correlate1d

from bigrestore.core.pixels import Doubles

LARGEST_PSNR = 100.0
"""dB of identical tiles, and of all that differ by less than a hundred-thousandth: infinity has no mean."""

SSIM_WINDOW_PX = 11
SSIM_SIGMA_PX = 1.5
K1, K2 = 0.01, 0.03
"""Window and constants of SSIM (Wang, Bovik, Sheikh and Simoncelli, IEEE Trans. Image Processing 13, 2004)."""

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Weights of the five scales (Wang, Simoncelli and Bovik, Asilomar Conference, 2003)."""

SMALLEST_MS_SSIM_PX = SSIM_WINDOW_PX * 2 ** (len(MS_SSIM_WEIGHTS) - 1)
"""Side that still holds one window at the coarsest scale."""


def psnr(a: Doubles, b: Doubles) -> float:
    """Return the peak signal-to-noise ratio in dB for a peak of 1, at most `LARGEST_PSNR`."""
    error = float(np.mean(np.square(a - b)))
    return min(LARGEST_PSNR, -10 * math.log10(error)) if error > 0 else LARGEST_PSNR


def ssim(a: Doubles, b: Doubles) -> float:
    """Return the mean of `ssim_maps`' first map; NaN for a tile smaller than the window."""
    if min(a.shape) < SSIM_WINDOW_PX:
        return math.nan
    return float(ssim_maps(a, b)[0].mean())


def ms_ssim(a: Doubles, b: Doubles) -> float:
    """Return the multi-scale structural similarity over five scales.

    Contrast and structure of every scale and luminance of the coarsest, each a mean over its map, to the power of the
    scale's weight, multiplied. Between scales, a mean over 2 x 2 pixels. A mean contrast below 0 has no root and
    counts as 0. NaN if a side is shorter than 176 pixels.
    """
    if min(a.shape) < SMALLEST_MS_SSIM_PX:
        return math.nan
    product = 1.0
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        whole, contrast = (float(part.mean()) for part in ssim_maps(a, b))
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        product *= max(0.0, whole if last else contrast) ** weight
        if not last:
            a, b = _halved(a), _halved(b)
    return product


def ssim_maps(a: Doubles, b: Doubles) -> tuple[Doubles, Doubles]:
    """Return the maps of structural similarity, and of its contrast and structure alone.

    Parameters
    ----------
    a, b : ndarray, (h, w), float64
        Grey values for a range of 1; at least 11 pixels a side.

    Returns
    -------
    similarity, contrast : ndarray, (h - 10, w - 10)
        Where the 11 x 11 Gaussian window of 1.5 px lies wholly inside. For a uniform window and sample covariances,
        which other programs have, the numbers are others.
    """
    c1, c2 = K1**2, K2**2
    mean_a, mean_b = _windowed(a), _windowed(b)
    var_a = _windowed(a * a) - mean_a * mean_a
    var_b = _windowed(b * b) - mean_b * mean_b
    covariance = _windowed(a * b) - mean_a * mean_b
    contrast = (2 * covariance + c2) / (var_a + var_b + c2)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    return luminance * contrast, contrast


def _windowed(image: Doubles) -> Doubles:
    """Return the Gaussian means of whole windows."""
    at = np.arange(SSIM_WINDOW_PX) - SSIM_WINDOW_PX // 2
    taps = np.exp(-0.5 * (at / SSIM_SIGMA_PX) ** 2)
    taps /= taps.sum()
    half = SSIM_WINDOW_PX // 2
    rows = correlate1d(image, taps, axis=0)[half:-half]
    return np.asarray(correlate1d(rows, taps, axis=1)[:, half:-half])


def _halved(image: Doubles) -> Doubles:
    """Return the means over 2 x 2 pixels; an odd last row or column is left out."""
    high, wide = image.shape[0] // 2, image.shape[1] // 2
    return np.asarray(image[: 2 * high, : 2 * wide].reshape(high, 2, wide, 2).mean(axis=(1, 3)))
