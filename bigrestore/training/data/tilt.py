"""Tissues beyond the training images: clean windows with a changed spectrum, within the standard of sharpness.

The fall of a clean image's power is the tissue's own: by 8 dB from 0.141 to 0.484 cycles/px for a stained cortex of
crowded cells, by 20 for smooth neuropil. The training images hold few tissues; a network knowing their slopes by
heart takes a new tissue's slope for blur. So windows get slopes drawn evenly from all allowed by the standard. Some
of the estimator's sets also get a knee, as in images resampled or compressed long ago: they still meet the standard
and count as sharp.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
import torch
from torch import Tensor

from bigrestore.core.waiting import sent
from bigrestore.training.data.windows import HIGH_RING, LOW_RING, STANDARD_FALL_DB

LEAST_FALL_DB = 8.0
TILT_RANGE = (-0.25, 0.6)
"""Largest change of the exponent of the amplitude: a rise sharpens noise and edges, so it may be less."""
TILT_CORNER = 0.05
"""Cycles per pixel; nothing changes below."""
KNEE_SHARE, KNEE_PX = 0.25, (0.2, 0.6)
"""Share of the estimator's sets with a knee, and its sigma in pixels."""
_DB_PER_EXPONENT = 20 * math.log10(HIGH_RING / LOW_RING)
_DB_PER_SQUARE_PX = 40 * math.pi**2 * (HIGH_RING**2 - LOW_RING**2) / math.log(10)
"""By how much power falls from the low to the high ring, per unit of the exponent and of the squared sigma."""


@attrs.frozen
class TiltSettings:
    """How clean windows are changed.

    Attributes
    ----------
    share : float
        Share of the sets with another slope.
    least : float
        Least change of the exponent; below 0 detail rises.
    knee_share : float
        Share of the sets with a knee.
    """

    share: float = 1.0
    least: float = TILT_RANGE[0]
    knee_share: float = 0.0


FOR_READING = TiltSettings(knee_share=KNEE_SHARE)
"""What the estimator sees: all slopes, and knees."""
FOR_RESTORING = TiltSettings(share=0.4, least=0.0)
"""What networks restore: some tissue is smoother than it was; none is sharpened."""


def tilted(clean: Tensor, rng: np.random.Generator, settings: TiltSettings, together: int = 1) -> Tensor:
    """Give sets of clean windows other slopes, and knees.

    Parameters
    ----------
    clean : Tensor, (N, 1, H, W), 0..1
        Windows; `together` in a row are of one image and are changed alike.
    rng : numpy.random.Generator
        Draws the changed sets and their changes.
    settings : TiltSettings
        How much is changed.

    Returns
    -------
    Tensor, (N, 1, H, W), 0..1
        Amplitudes times (f / 0.05)^-d above 0.05 cycles/px, with d from the drawn fall of power in dB; for a knee,
        times exp(-2 pi^2 s^2 f^2), with s small enough for the standard.
    """
    height, width = clean.shape[-2:]
    fy = torch.fft.fftfreq(height, device=clean.device)[:, None]
    fx = torch.fft.rfftfreq(width, device=clean.device)[None]
    radius = torch.hypot(fy, fx)
    sets = len(clean) // together
    wanted, knee = rng.uniform(LEAST_FALL_DB, STANDARD_FALL_DB, sets), rng.uniform(*KNEE_PX, sets)
    changed, kneed = rng.random(sets) < settings.share, rng.random(sets) < settings.knee_share
    fall = _falls(clean, radius).view(-1, together).mean(1)
    slope = (sent(wanted, fall.device, fall.dtype) - fall) / _DB_PER_EXPONENT
    exponent = slope.clamp(settings.least, TILT_RANGE[1]) * sent(changed, fall.device, fall.dtype)
    room = (STANDARD_FALL_DB - fall - _DB_PER_EXPONENT * exponent).clamp_min(0)
    sigma = torch.minimum(sent(knee * kneed, fall.device, fall.dtype), (room / _DB_PER_SQUARE_PX).sqrt())
    exponent, sigma = (part.repeat_interleave(together)[:, None, None] for part in (exponent, sigma))
    gain = (radius.clamp_min(TILT_CORNER) / TILT_CORNER) ** -exponent
    gain = gain * torch.exp(-2 * math.pi**2 * sigma**2 * radius**2)
    spectrum = torch.fft.rfft2(clean[:, 0]) * gain
    images: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return images[:, None].clamp(0, 1)


def _falls(clean: Tensor, radius: Tensor) -> Tensor:
    """Return the fall of power from the low to the high ring of the standard, dB, (N,)."""
    height, width = clean.shape[-2:]
    taper = torch.outer(*(torch.hann_window(side, device=clean.device) for side in (height, width)))
    images = clean[:, 0]
    centred = images - (images * taper).sum((1, 2), keepdim=True) / taper.sum()
    power = torch.fft.rfft2(centred * taper).abs().square()
    rings = (((radius - ring).abs() <= 1 / 64).to(power) for ring in (LOW_RING, HIGH_RING))
    low, high = ((power * ring).sum((1, 2)) / ring.sum() for ring in rings)
    return 10 * torch.log10(low.clamp_min(1e-9) / high.clamp_min(1e-9))
