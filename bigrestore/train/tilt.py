"""Other tissues than there are: clean windows whose spectrum is tilted within the standard of sharpness.

How fast a clean image's power falls is the tissue's own: by 8 dB from 0.141 to 0.484 cycles/px for a stained cortex of
crowded cells, by 20 for smooth neuropil. The training images hold a few tissues, and an estimator that knows their
slopes by heart takes a new tissue's slope for blur. So every set of windows is given a slope drawn evenly from all that
the standard allows; what a blur does to a spectrum, which no slope does, is what remains to be learned.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bigrestore.train.windows import HIGH_RING, LOW_RING, STANDARD_FALL_DB

LEAST_FALL_DB = 8.0
TILT = (-0.25, 0.6)
"""Most that the exponent of the amplitude may change: a rise sharpens noise and edges, so it may be less."""
CORNER = 0.05
"""Cycles per pixel below which nothing changes."""


def tilted(clean: Tensor, rng: np.random.Generator, together: int = 1, share: float = 1.0) -> Tensor:
    """Give sets of clean windows other slopes.

    Parameters
    ----------
    clean : Tensor, (N, 1, H, W), 0..1
        Windows; `together` in a row are of one image and are changed alike.
    rng : numpy.random.Generator
        Draws the wanted fall of every set.
    share : float
        Share of the sets that are changed, drawn one by one; the others keep their slope.

    Returns
    -------
    Tensor, (N, 1, H, W), 0..1
        Amplitudes times (f / 0.05)^-d above 0.05 cycles/px, d such that power falls by the drawn number of dB.
    """
    height, width = clean.shape[-2:]
    fy = torch.fft.fftfreq(height, device=clean.device)[:, None]
    fx = torch.fft.rfftfreq(width, device=clean.device)[None]
    radius = torch.hypot(fy, fx)
    wanted = rng.uniform(LEAST_FALL_DB, STANDARD_FALL_DB, len(clean) // together)
    kept = rng.random(len(wanted)) >= share if share < 1 else np.zeros(len(wanted), bool)
    fall = _falls(clean, radius).view(-1, together).mean(1)
    slope = (torch.from_numpy(wanted).to(fall) - fall) / (20 * math.log10(HIGH_RING / LOW_RING))
    slope[torch.from_numpy(kept).to(slope.device)] = 0
    exponent = slope.clamp(*TILT).repeat_interleave(together)[:, None, None]
    gain = (radius.clamp_min(CORNER) / CORNER) ** -exponent
    spectrum = torch.fft.rfft2(clean[:, 0]) * gain
    images: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return images[:, None].clamp(0, 1)


def _falls(clean: Tensor, radius: Tensor) -> Tensor:
    """Return the fall of power from the low to the high ring of the standard, dB, (N,)."""
    height, width = clean.shape[-2:]
    taper = torch.outer(torch.hann_window(height), torch.hann_window(width)).to(clean.device)
    images = clean[:, 0]
    centred = images - (images * taper).sum((1, 2), keepdim=True) / taper.sum()
    power = torch.fft.rfft2(centred * taper).abs().square()
    low, high = (power[:, (radius - ring).abs() <= 1 / 64].mean(1) for ring in (LOW_RING, HIGH_RING))
    return 10 * torch.log10(low.clamp_min(1e-9) / high.clamp_min(1e-9))
