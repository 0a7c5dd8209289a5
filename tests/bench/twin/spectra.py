"""What the power spectrum of an image says: how fast it falls, and whether it has lines at Nyquist.

The standard of a sharp image is a fall of at most 21 dB from 0.141 to 0.484 cycles/px: an image that falls faster does
not use its pixel grid. Power is that of tissue windows of 128 px under a Hann taper, in rings of 1/64 cycles/px.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Array = NDArray[np.float64]

WINDOW_PX = 128
STEP_PX = 64
RINGS_PER_CYCLE = 64
FALL_FROM, FALL_TO = 0.141, 0.484
STANDARD_DB = 21.0
"""Fall up to which an image counts as sharp."""

GLASS = 240
"""Grey level from which a pixel counts as background."""

LEAST_TISSUE = 0.5
"""Share of darker pixels that makes a window tissue."""

NEAR, FAR = 6, 25
"""First bin beside Nyquist that it is compared with, and the first that it is not."""

REACH = 2
"""Bins about Nyquist that count as a checkerboard."""


def spectral_fall_db(image: Grey) -> float:
    """Return by how much the mean power of the tissue falls from 0.141 to 0.484 cycles/px, in dB.

    NaN where the image holds no window.
    """
    windows = tissue_windows(image)
    if not windows:
        return float("nan")
    power = radial_power(windows)
    first, last = (power[round(f * RINGS_PER_CYCLE)] for f in (FALL_FROM, FALL_TO))
    return float(10 * np.log10(first / max(last, 1e-30)))


def radial_power(windows: Sequence[Grey]) -> Array:
    """Return the mean power of windows in rings about 0, 1/64, 2/64 ... 32/64 cycles/px."""
    frequency = np.fft.fftfreq(WINDOW_PX)
    ring = np.rint(np.hypot(frequency[:, None], frequency) * RINGS_PER_CYCLE).astype(np.int64).ravel()
    power = np.mean([tapered_power(window) for window in windows], axis=0)
    rings = np.bincount(ring, power.ravel()) / np.bincount(ring)
    return np.asarray(rings[: RINGS_PER_CYCLE // 2 + 1])


def tapered_power(image: NDArray[np.generic]) -> Array:
    """Return the power spectrum of an image without its mean, under a Hann taper."""
    tapers = [np.hanning(side + 1)[:-1] for side in image.shape]
    values = image.astype(np.float64)
    return np.asarray(np.abs(np.fft.fft2((values - values.mean()) * np.outer(*tapers))) ** 2)


def tissue_windows(image: Grey) -> list[Grey]:
    """Return the windows of 128 px of which at least half is tissue; those with most of it where there is none."""
    windows = [
        image[y : y + WINDOW_PX, x : x + WINDOW_PX]
        for y in range(0, image.shape[0] - WINDOW_PX + 1, STEP_PX)
        for x in range(0, image.shape[1] - WINDOW_PX + 1, STEP_PX)
    ]
    shares = [float(np.mean(window < GLASS)) for window in windows]
    least = min(LEAST_TISSUE, max(shares, default=0.0))
    return [window for window, share in zip(windows, shares, strict=True) if share >= least]


def nyquist_lines(image: Grey) -> dict[str, float]:
    """Return how much stronger an image is at Nyquist than beside it: a ratio of powers, 1 where nothing stands out.

    Power is that of the whole image, because what repeats every second pixel adds up over all of it, against that
    of the bins 6 to 24 away.

    Returns
    -------
    dict
        `columns`: period of 2 px along x (fx = 0.5), mean over all fy off Nyquist of the ratio at each; `rows`: along y;
        `checkerboard`: along both, the 5 x 5 bins about fx = fy = 0.5: fewer are too few for a mean that chance does not
        move by more than a decibel.
    """
    height, width = (n - n % 2 for n in image.shape)
    power = tapered_power(image[:height, :width])
    power = np.roll(power, (-(height // 2), -(width // 2)), (0, 1))  # Nyquist comes first
    beside = np.r_[NEAR:FAR, 1 - FAR : 1 - NEAR]
    at, off = np.arange(-REACH, REACH + 1), slice(FAR, 1 - FAR)
    return {
        "columns": float(np.mean(power[off, 0] / power[off][:, beside].mean(axis=1))),
        "rows": float(np.mean(power[0, off] / power[beside][:, off].mean(axis=0))),
        "checkerboard": float(power[np.ix_(at, at)].mean() / power[np.ix_(beside, beside)].mean()),
    }
