"""Measure the share of fine detail in a restored tile unexplained by any filter of the input.

Sharpening is a filter: at every frequency f its output is a multiple of the input, and the two are coherent. Added
detail is not coherent with the input. With spectra averaged over the windows of a tile, S_aa of the output, S_bb of
the input (interpolated onto the output grid) and S_ab between them, the share of the output's energy explained at f
by a filter of the input is the squared coherence

    g(f) = |S_ab|^2 / (S_aa S_bb),   less its bias 1 / windows.

Removing noise of the input lowers the coherence although nothing was invented. So the input's
noise, of standard deviation sigma, is taken off S_bb, down to half of it at most, and g is limited to 1.
The invented share is the sum of (1 - g) S_aa over the fine band, 1/8 cycles per pixel and up, over the sum of S_aa.

Limits, to be said wherever the number is shown. A network sharpens differently from place to place: part of its
correct sharpening counts as invented. What was too faint in the input to be seen beside the noise counts as invented
when it comes back. It measures the detail resting on the method alone, not its error. (Coherence:
Carter, Proceedings of the IEEE 75, 1987.)
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from bigrestore.core.pixels import Doubles, Floats
from bigrestore.report.metrics.enlarge import enlarge

COHERENCE_WINDOW_PX = 48
"""Side of the windows whose spectra are averaged; 100 of them, side by side, in a tile of 480."""

FINE_CYCLES_PX = 1 / 8
"""Where fine detail begins, in cycles per pixel of the output grid."""

MOST_NOISE = 0.5
"""Share of the input's energy at a frequency that is believed to be noise, at most."""

LEAST_ENERGY = (1e-3 / 255) ** 2
"""Variance of the fine band, of 0..1, below which there is no detail to speak of."""


def invented_share(after: Floats, before: Floats, noise: float, scale: int = 1) -> float:
    """Return the share of the output's fine energy unexplained by any filter of the input.

    Parameters
    ----------
    after, before : ndarray, (h, w), float32
        Output, and input on the output grid (Catmull-Rom), 0..1; at least four windows of 48 pixels.
    noise : float
        Standard deviation of the input's noise on its own grid, 0..1.
    scale : int
        Output pixels per input pixel: what the interpolation made of the noise depends on it.

    Returns
    -------
    float
        0 (a filter explains everything) to 1; NaN where the output has no fine detail, or the tile is too small.
    """
    windows = (after.shape[0] // COHERENCE_WINDOW_PX) * (after.shape[1] // COHERENCE_WINDOW_PX)
    if windows < 4:
        return math.nan
    a, b = _spectra(after), _spectra(before)
    s_aa, s_bb = (
        np.einsum("ijk,ijk->jk", x.real, x.real) + np.einsum("ijk,ijk->jk", x.imag, x.imag) for x in (a, b)
    )
    real = np.einsum("ijk,ijk->jk", a.real, b.real) + np.einsum("ijk,ijk->jk", a.imag, b.imag)
    imaginary = np.einsum("ijk,ijk->jk", a.imag, b.real) - np.einsum("ijk,ijk->jk", a.real, b.imag)
    fine, weight = _band()
    energy = float((weight * fine * s_aa).sum())
    if energy <= LEAST_ENERGY * windows * _window_energy():
        return math.nan
    noise_spectrum = windows * _window_energy() * noise**2 * _interpolation_gain(scale)
    clean = np.maximum(s_bb - noise_spectrum, (1 - MOST_NOISE) * s_bb)
    shared = real**2 + imaginary**2
    chance = s_aa * s_bb / windows  # what two images with nothing in common share, on the average
    explained = np.clip((shared - chance) / (1 - 1 / windows), 0.0, None)
    product = s_aa * clean
    g = np.divide(explained, product, out=np.zeros_like(product), where=product > 0)
    unexplained = (1 - np.minimum(1.0, g)) * s_aa
    return float((weight * fine * unexplained).sum()) / energy


def _spectra(image: Floats) -> NDArray[np.complex64]:
    """Return the spectra of the windows of an image, (n, 48, 25), each less its mean and under a Hann window."""
    rows, columns = image.shape[0] // COHERENCE_WINDOW_PX, image.shape[1] // COHERENCE_WINDOW_PX
    cut = image[: rows * COHERENCE_WINDOW_PX, : columns * COHERENCE_WINDOW_PX].reshape(
        rows, COHERENCE_WINDOW_PX, columns, COHERENCE_WINDOW_PX
    )
    stack = np.ascontiguousarray(cut.transpose(0, 2, 1, 3), np.float32).reshape(
        -1, COHERENCE_WINDOW_PX, COHERENCE_WINDOW_PX
    )
    stack = stack - stack.mean(axis=(1, 2), keepdims=True)
    stack *= _hann()
    return np.asarray(scipy.fft.rfft2(stack))


@cache
def _hann() -> Floats:
    """Return the separable Hann window."""
    line = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(COHERENCE_WINDOW_PX) + 0.5) / COHERENCE_WINDOW_PX)
    return np.outer(line, line).astype(np.float32)


@cache
def _window_energy() -> float:
    """Return the energy at each frequency of white noise of variance 1 under the window."""
    return float(np.square(_hann(), dtype=np.float64).sum())


@cache
def _band() -> tuple[NDArray[np.bool_], Doubles]:
    """Mark the fine frequencies, and weight each by its count in the full spectrum."""
    y, x = np.fft.fftfreq(COHERENCE_WINDOW_PX)[:, None], np.fft.rfftfreq(COHERENCE_WINDOW_PX)[None, :]
    weight = np.full((COHERENCE_WINDOW_PX, COHERENCE_WINDOW_PX // 2 + 1), 2.0)
    weight[:, [0, -1]] = 1.0
    return np.hypot(y, x) >= FINE_CYCLES_PX, weight / COHERENCE_WINDOW_PX**2


@cache
def _interpolation_gain(scale: int) -> Doubles:
    """Return the gain of interpolation by `scale` on the spectrum of white noise, averaged over phases."""
    if scale == 1:
        return np.ones((COHERENCE_WINDOW_PX, COHERENCE_WINDOW_PX // 2 + 1))
    single = np.zeros((1, COHERENCE_WINDOW_PX), np.float32)
    single[0, COHERENCE_WINDOW_PX // 2] = 1.0
    line = enlarge(np.repeat(single, 5, axis=0), scale)[0].astype(np.float64)
    u = np.arange(line.size)
    y, x = (
        np.abs(np.exp(-2j * np.pi * np.outer(frequency, u)) @ line) ** 2 / scale
        for frequency in (np.fft.fftfreq(COHERENCE_WINDOW_PX), np.fft.rfftfreq(COHERENCE_WINDOW_PX))
    )
    return np.asarray(y[:, None] * x[None, :])
