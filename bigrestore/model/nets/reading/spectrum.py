"""The power spectrum of a window in polar bins: 24 rings of frequency by 6 directions.

The spectrum of sharp tissue falls about as a power law. Blur multiplies it by the squared transfer function of the
kernel, and noise adds a constant. The bins resolve width, shape and direction of a kernel, and their number does not
depend on the size of the window.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from bigrestore.core.host.waiting import sent

SPECTRUM_RINGS = 24
DIRECTIONS = 6
SPECTRUM_FEATURES = SPECTRUM_RINGS * DIRECTIONS
RADIUS_FIRST, RADIUS_LAST = 0.03, 0.6
"""Centres of the first and the last ring, cycles per pixel; the last lies in the corners of the plane."""
POWER_FLOOR = 1e-9


def polar_spectrum(windows: Tensor, valid: Tensor) -> Tensor:
    """Return the log power of windows in polar bins.

    Parameters
    ----------
    windows, valid : Tensor, (N, 1, h, w)
        Grey values 0..1, and 1 for valid pixels.

    Returns
    -------
    Tensor, (N, 144), float32
        (log10 p + 4) / 2 for the mean power p of each bin, about -2 .. 2; white noise of variance v has p = v. Rings
        from low to high frequency, six directions each.
    """
    height, width = windows.shape[-2:]
    taper = sent(_taper(height, width), windows.device) * valid[:, 0]
    weight = taper.sum((1, 2), keepdim=True).clamp_min(1e-3)
    mean = (windows[:, 0] * taper).sum((1, 2), keepdim=True) / weight
    tapered = (windows[:, 0] - mean) * taper
    energy = taper.square().sum((1, 2), keepdim=True).clamp_min(1e-3)
    power = torch.fft.rfft2(tapered).abs().square() / energy
    binned = power.flatten(1) @ sent(_bins(height, width), windows.device)
    return (torch.log10(binned + POWER_FLOOR) + 4) / 2


@functools.lru_cache(maxsize=8)
def _taper(height: int, width: int) -> Tensor:
    """Return Hann's window."""
    return torch.outer(torch.hann_window(height, periodic=False), torch.hann_window(width, periodic=False))


@functools.lru_cache(maxsize=8)
def _bins(height: int, width: int) -> Tensor:
    """Return the weights of the coefficients of `rfft2` in each bin, (coefficients, 144).

    Weights are triangular in radius and direction and sum to one in each bin. A bin without coefficients takes those of
    its whole ring.
    """
    fy = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    fx = torch.fft.rfftfreq(width, dtype=torch.float64)[None]
    radius = torch.sqrt(fy**2 + fx**2).flatten()
    direction = torch.remainder(torch.atan2(fy, fx).expand(height, -1).flatten(), math.pi)
    step = (RADIUS_LAST - RADIUS_FIRST) / (SPECTRUM_RINGS - 1)
    centres = RADIUS_FIRST + step * torch.arange(SPECTRUM_RINGS)
    rings = (1 - (radius[:, None] - centres).abs() / step).clamp_min(0)
    turn = math.pi / DIRECTIONS
    apart = (direction[:, None] - turn * torch.arange(DIRECTIONS)).abs()
    sectors = (1 - torch.minimum(apart, math.pi - apart) / turn).clamp_min(0)
    shares = (rings[:, :, None] * sectors[:, None]).flatten(1)
    whole = rings.repeat_interleave(DIRECTIONS, 1)
    shares = torch.where(shares.sum(0) > 0.5, shares, whole)
    return (shares / shares.sum(0).clamp_min(1e-9)).float()
