"""Register two windows that show the same place: their offset to a tenth of a pixel; and peaks between samples.

Whole pixels come from the peak of a phase correlation, fractions from the slope of the phase of the cross-spectrum: a
blur without a direction changes amplitudes and no phase, and noise has no phase in common.

Phase correlation: Kuglin and Hines, "The phase correlation image alignment method", 1975. Phase slope: Stone, Orchard,
Chang and Martucci, "A fast direct Fourier-based algorithm for subpixel registration of images", IEEE TGRS 39 (2001).
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn

from bigrestore.core.pixels import Doubles, Floats

FINE_PX, COARSE_PX = 1.5, 16.0
"""Standard deviations of the two Gaussians between which structures are compared."""

HIGHEST_FREQUENCY = 0.25
"""Cycles per pixel up to which the phase is read: beyond, a blurred image holds noise."""

SLOPE_ROUNDS = 3
"""Each makes the phase straighter for the next."""

LEAST_OVERLAP_PX = 32
"""Shorter sides are not registered."""


@attrs.frozen
class Offset:
    """Where one window lies in another.

    Attributes
    ----------
    y, x : float
        What the first shows at (r, c) lies at (r + y, c + x) in the second, pixels.
    correlation : float
        Normalised correlation of both in a band, after the offset in whole pixels, -1..1.
    """

    y: float
    x: float
    correlation: float

    @property
    def whole(self) -> tuple[int, int]:
        """The offset in whole pixels."""
        return round(self.y), round(self.x)


def find_offset(first: Floats, second: Floats, most_px: int) -> Offset:
    """Find the offset of a window in another of its size.

    Parameters
    ----------
    first, second : ndarray, (h, w)
        Grey values.
    most_px : int
        Largest offset along an axis that is looked for.

    Returns
    -------
    Offset
        With a correlation of 0 where one of both is flat, or their sides are too short.
    """
    most = min(most_px, *((side - LEAST_OVERLAP_PX) // 2 for side in first.shape))
    bands = [band_passed(window, FINE_PX, COARSE_PX) for window in (first, second)]
    if most < 0 or min(float(band.std()) for band in bands) < 1e-6:
        return Offset(0.0, 0.0, 0.0)
    y, x = _whole_offset(bands[0], bands[1], most)
    one, two = overlapping(bands[0], bands[1], y, x)
    correlation = float(np.corrcoef(one.ravel(), two.ravel())[0, 1])
    dy, dx = _phase_slope(*overlapping(first, second, y, x))
    return Offset(y + dy, x + dx, correlation)


def overlapping(first: NDArray, second: NDArray, y: int, x: int) -> tuple[NDArray, NDArray]:  # type: ignore[type-arg]
    """Return the parts of two windows of one size that show the same, for an offset in whole pixels."""
    height, width = first.shape
    own = first[max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
    other = second[max(0, y) : height - max(0, -y), max(0, x) : width - max(0, -x)]
    return own, other


def band_passed(window: Floats, fine_px: float, coarse_px: float) -> Doubles:
    """Return what of a window lies between two Gaussians of these standard deviations, its borders mirrored.

    On the cosine transform, whose functions are mirrored at both ends, a Gaussian is a product.
    """
    steps = [np.pi / length * np.arange(length) for length in window.shape]
    fine, coarse = (
        np.outer(*(np.exp(-0.5 * (sigma_px * step) ** 2) for step in steps))
        for sigma_px in (fine_px, coarse_px)
    )
    return np.asarray(idctn(dctn(window.astype(np.float64)) * (fine - coarse)))


def _window_taper(shape: tuple[int, ...]) -> Doubles:
    return np.outer(np.hanning(shape[0] + 2)[1:-1], np.hanning(shape[1] + 2)[1:-1])


def _whole_offset(first: Doubles, second: Doubles, most: int) -> tuple[int, int]:
    """Return the peak of the phase correlation within `most` pixels.

    Amplitudes are divided out by their root only: of a fully whitened spectrum most is noise.
    """
    taper = _window_taper(first.shape)
    cross = np.fft.rfft2(second * taper) * np.fft.rfft2(first * taper).conj()
    surface = np.fft.irfft2(cross / np.sqrt(np.abs(cross) + 1e-12 * np.abs(cross).max()), first.shape)
    steps = np.arange(-most, most + 1)
    near = surface[np.ix_(steps % first.shape[0], steps % first.shape[1])]
    row, column = np.unravel_index(int(near.argmax()), near.shape)
    return int(steps[row]), int(steps[column])


def _phase_slope(first: NDArray, second: NDArray) -> tuple[float, float]:  # type: ignore[type-arg]
    """Return the fraction of a pixel by which the second lies below and right of the first, at most one."""
    taper = _window_taper(first.shape)
    spectra = [np.fft.rfft2((part - part.mean()) * taper) for part in (first, second)]
    fy = np.fft.fftfreq(first.shape[0])[:, None]
    fx = np.fft.rfftfreq(first.shape[1])[None, :]
    chosen = (np.hypot(fy, fx) < HIGHEST_FREQUENCY) & (np.hypot(fy, fx) > 0.5 / COARSE_PX)
    cross = (spectra[1] * spectra[0].conj())[chosen]
    along = np.stack(np.broadcast_arrays(fy, fx), axis=-1)[chosen] * 2 * np.pi
    offset = np.zeros(2)
    for _ in range(SLOPE_ROUNDS):
        angle = np.angle(cross * np.exp(1j * (along @ offset)))
        weight = np.abs(cross) * np.cos(angle / 2) ** 2
        matrix = (along * weight[:, None]).T @ along
        offset -= np.linalg.solve(matrix, (along * weight[:, None]).T @ angle)
    return float(np.clip(offset[0], -1, 1)), float(np.clip(offset[1], -1, 1))


def between_samples(values: Doubles, at: int) -> float:
    """Return by how many samples the maximum lies beside the largest sample `at`: a parabola through three; 0 at an end."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, top, behind = values[at - 1 : at + 2]
    bend = before - 2 * top + behind
    return float(0.5 * (before - behind) / bend) if bend < 0 else 0.0
