"""A section reduced to targets that are as sharp as a section at its own size.

Averaging areas is a blur of the reduced pixel: it takes a third of the amplitude at Nyquist. A section that was scanned
at the reduced size does not have it. Measured: a clean section of a monkey falls by 9.6 dB from 0.141 to 0.484 cycles/px
at its own size and by 13.9 dB reduced to 0.6 by averaging; an estimator that learns from averaged targets reads every
section 0.05 px too narrow, and a U-Net restores too little. So half of that blur, in decibels, is taken out again. With
all of it out, soft tissue is overshot: the twin of a human cortex lost 0.5 dB blind, with half of it out 0.2 dB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigrestore.core.pixels import Doubles
from bigrestore.training.data.windows import HIGH_RING, area_downscale

RIM_PX = 16
"""Mirrored rim, pixels of the reduced image: the transform joins its borders."""
SAMPLES = 2001
RESTORED_SHARE = 0.5
"""Share of the averaging's blur that is taken out, in decibels."""


def reduced(pixels: NDArray[np.uint16], factor: float) -> NDArray[np.uint16]:
    """Reduce an image, and take half of the blur of the averaging out.

    Parameters
    ----------
    pixels : ndarray, (h, w), uint16
        At least 17 / factor pixels a side.
    factor : float
        Output pixels per input pixel, 0 < factor <= 1.

    Returns
    -------
    ndarray, (round(h * factor), round(w * factor)), uint16
    """
    if factor == 1:
        return pixels
    padded = np.pad(area_downscale(pixels, factor).astype(np.float32), RIM_PX, mode="reflect")
    height, width = padded.shape
    down = averaging(np.fft.fftfreq(height).astype(np.float64), factor)
    across = averaging(np.fft.rfftfreq(width).astype(np.float64), factor)
    spectrum = np.fft.rfft2(padded) / (down[:, None] * across[None]) ** RESTORED_SHARE
    inside = slice(RIM_PX, -RIM_PX)
    image = np.fft.irfft2(spectrum, padded.shape)[inside, inside]
    return np.asarray(np.rint(image.clip(0, 65535)), np.uint16)


def noise_factor(factor: float) -> float:
    """Return by what the variance of white noise is multiplied at 0.484 cycles/px of the reduced image."""
    if factor == 1:
        return 1.0
    angle = np.linspace(0, np.pi / 2, 91)
    down, across = (
        _noise_gain(HIGH_RING * np.cos(angle), factor),
        _noise_gain(HIGH_RING * np.sin(angle), factor),
    )
    return factor**2 * float((down * across).mean())


def averaging(frequency: Doubles, factor: float) -> Doubles:
    """Return what `area_downscale` leaves of an amplitude along one axis, at frequencies in cycles per reduced pixel.

    The mean of whole pixels where steps are whole, else Pillow's Hamming filter, sinc(x) (0.54 + 0.46 cos(pi x)) over
    two reduced pixels.
    """
    if _takes_whole_steps(factor):
        count = round(1 / factor)
        x = (np.arange(count) - (count - 1) / 2) / count
        weights = np.ones(count)
    else:
        x = np.linspace(-1, 1, SAMPLES)
        weights = np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x))
    return np.asarray(np.cos(2 * np.pi * frequency[:, None] * x) @ weights / weights.sum())


def _noise_gain(frequency: Doubles, factor: float) -> Doubles:
    """Return what becomes of the power of white noise along one axis, aliases counted."""
    folded = (
        1.0 if _takes_whole_steps(factor) else sum(averaging(frequency + k, factor) ** 2 for k in (-1, 0, 1))
    )
    return np.asarray(folded / averaging(frequency, factor) ** (2 * RESTORED_SHARE))


def _takes_whole_steps(factor: float) -> bool:
    """Say whether `area_downscale` takes whole steps."""
    return float(1 / factor).is_integer()
