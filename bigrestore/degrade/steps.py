"""The steps of a degradation after the blur, as functions of tensors and absolute positions.

Each takes the positions of its rows and columns on the input grid, so that a patch, a tile and a whole
section get the same numbers in the same place. Where a step needs a cosine, it is computed along one axis
in float64 and combined per pixel with products and sums only: those are rounded alike whatever the shape
of the array, which keeps a tile equal to its place in the whole to the last bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bigrestore.degrade.degradation import Banding, Damage, Illumination, Stain

MEMORY_ROWS = 48
"""Rows after which an AR(1) process of line jitter is cut off: 0.9**48 is below one per cent."""

MAX_SHIFT_PX = 1.0
"""Line shifts are clipped to this, in input pixels."""

_SMOOTHING = (1.0, 4.0, 6.0, 4.0, 1.0)


def stained(images: Tensor, stain: Stain) -> Tensor:
    """Return `gain * (1 - density * (1 - y))`, clipped to 0..1."""
    slope = stain.gain * stain.density
    return (images * slope + (stain.gain - slope)).clamp_(0.0, 1.0)


def light(illumination: Illumination, ys: Tensor, xs: Tensor) -> Tensor:
    """Return the factor of an uneven light at rows `ys` and columns `xs` (float64): (h, w), float32."""
    wave = 2.0 * math.pi / illumination.period_px
    along_y = ys * (wave * math.cos(illumination.angle_rad)) + illumination.phase_rad
    along_x = xs * (wave * math.sin(illumination.angle_rad))
    cosine = torch.outer(along_y.cos().float(), along_x.cos().float())
    sine = torch.outer(along_y.sin().float(), along_x.sin().float())
    return (cosine - sine) * illumination.amplitude + 1.0


def bands(banding: Banding, positions: Tensor) -> Tensor:
    """Return the factors of periodic bands at positions (float64) along their axis: (n,), float32."""
    phase = positions * (2.0 * math.pi / banding.period_px) + banding.phase_rad
    return (phase.sin() * banding.amplitude + 1.0).float()


def line_process(white: Tensor, memory: Tensor) -> Tensor:
    """Turn white noise into an AR(1) process of unit variance, cut off after `MEMORY_ROWS` rows.

    Parameters
    ----------
    white : Tensor, (N, MEMORY_ROWS - 1 + h)
        Independent standard normal numbers of the rows, those above the first wanted row included.
    memory : Tensor, (N,)
        Correlation of neighbouring rows.

    Returns
    -------
    Tensor, (N, h)
        Row y is a weighted sum of `white` up to y, weights memory**k: it does not depend on where the
        window starts.
    """
    powers = torch.arange(MEMORY_ROWS - 1, -1, -1, dtype=white.dtype, device=white.device)
    weights = memory[:, None] ** powers
    weights = weights / weights.square().sum(dim=1, keepdim=True).sqrt()
    rows = white.shape[1] - MEMORY_ROWS + 1
    total = torch.zeros(white.shape[0], rows, dtype=white.dtype, device=white.device)
    for k in range(MEMORY_ROWS):
        total += white[:, k : k + rows] * weights[:, k : k + 1]
    return total


def shift_rows(images: Tensor, shifts: Tensor) -> Tensor:
    """Shift each row along x by cubic interpolation.

    Parameters
    ----------
    images : Tensor, (N, h, w)
        Rows with two pixels of context on either side.
    shifts : Tensor, (N, h)
        Shift of each row in pixels; clipped to one pixel.

    Returns
    -------
    Tensor, (N, h, w - 4)
        `out[x] = in[x + 2 + shift]` by Keys' cubic with a = -1/2, whose taps sum to one.
    """
    clipped = shifts.clamp(-MAX_SHIFT_PX, MAX_SHIFT_PX)
    width = images.shape[-1] - 4
    total = torch.zeros_like(images[..., :width])
    for tap in range(5):
        d = (clipped - (tap - 2)).abs()
        inner = (1.5 * d - 2.5) * d * d + 1.0
        outer = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
        weight = torch.where(d <= 1.0, inner, torch.where(d < 2.0, outer, torch.zeros_like(d)))
        total += images[..., tap : tap + width] * weight[..., None]
    return total


def damaged(image: Tensor, damage: Damage, ys: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
    """Put one damaged place on an image.

    Parameters
    ----------
    image : Tensor, (h, w)
        Grey values.
    damage : Damage
        The capsule.
    ys, xs : Tensor, (h,) and (w,), float32
        Distance of each row and column from the capsule's centre, in pixels.

    Returns
    -------
    image, cover : Tensor, (h, w)
        The image and how much of each pixel is hidden, 0..1, its rim anti-aliased.
    """
    cosine, sine = math.cos(damage.angle_rad), math.sin(damage.angle_rad)
    along = ((ys * sine)[:, None] + (xs * cosine)[None, :]).abs_()
    across = (ys * cosine)[:, None] - (xs * sine)[None, :]
    beyond = (along - damage.half_length_px).clamp_min_(0.0)
    distance = (beyond * beyond + across * across).sqrt_()
    cover = (damage.half_width_px + 0.5 - distance).clamp_(0.0, 1.0)
    hidden = image * damage.level if damage.kind == "fold" else torch.full_like(image, damage.level)
    return image * (1.0 - cover) + hidden * cover, cover


def smooth_noise(white: Tensor) -> Tensor:
    """Smooth white noise by a binomial filter of five taps per axis and keep unit variance.

    Parameters
    ----------
    white : Tensor, (..., h + 4, w + 4)

    Returns
    -------
    Tensor, (..., h, w)
    """
    norm = math.sqrt(sum(tap * tap for tap in _SMOOTHING))
    height, width = white.shape[-2] - 4, white.shape[-1] - 4
    rows = white[..., :height, :] * (_SMOOTHING[0] / norm)
    for k in range(1, 5):
        rows = rows + white[..., k : k + height, :] * (_SMOOTHING[k] / norm)
    columns = rows[..., :width] * (_SMOOTHING[0] / norm)
    for k in range(1, 5):
        columns = columns + rows[..., k : k + width] * (_SMOOTHING[k] / norm)
    return columns


def noise_field(white: Tensor, correlated: Tensor, share: Tensor | float) -> Tensor:
    """Mix white noise with smooth noise of the given share of the variance; both of unit variance."""
    portion = torch.as_tensor(share, dtype=white.dtype, device=white.device)
    return white * (1.0 - portion).sqrt() + correlated * portion.sqrt()


def noisy(images: Tensor, field: Tensor, gain: Tensor | float, read: Tensor | float) -> Tensor:
    """Add `field * sqrt(gain * x + read**2)` and clip to 0..1, as a sensor does."""
    variance = images.clamp_min(0.0) * gain + read * read
    return (images + field * variance.sqrt()).clamp_(0.0, 1.0)


def eight_bits(images: Tensor) -> Tensor:
    """Round to multiples of 1/255, halves to even."""
    return torch.round(images * 255.0) / 255.0
