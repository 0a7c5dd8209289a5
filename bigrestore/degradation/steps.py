"""The steps of a degradation after the blur, as functions of tensors and absolute positions.

Each takes the positions of its rows and columns on the input grid, so a patch, a tile and a whole section get the
same numbers in the same place. Cosines are computed along one axis in float64 and combined per pixel with products
and sums only: these are rounded alike for any shape of the array, so a tile equals its place in the whole to the last
bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core.host.waiting import sent
from bigrestore.degradation.degradation import (
    SHARPENING_REACH_PX,
    Banding,
    Damage,
    Illumination,
    Resampling,
    Sharpening,
    Wave,
)
from bigrestore.degradation.interpolators import PHASES, tap_table

MEMORY_ROWS = 48
"""Rows of line jitter before its AR(1) process is cut off: 0.9**48 is below one per cent."""

MAX_SHIFT_PX = 1.0
"""Line shifts are clipped to this, in input pixels."""

_SMOOTHING = (1.0, 4.0, 6.0, 4.0, 1.0)

CONTRAST_STEP_PX = 2
"""Between the taps of the filter that contrast is averaged by: a standard deviation of 2 px."""

CONTRAST_REACH_PX = 2 + 2 * CONTRAST_STEP_PX
"""Pixels around one that its contrast depends on."""


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
        Row y is a weighted sum of `white` up to y, weights memory**k, independent of the window's start.
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
        `out[x] = in[x + 2 + shift]` by Keys' cubic with a = -1/2, its taps summing to one.
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
    return _filtered(white, math.sqrt(sum(tap * tap for tap in _SMOOTHING)), 1)


def sharpened(images: Tensor, masks: Sequence[Sharpening]) -> Tensor:
    """Return images, (N, h, w), under an unsharp mask each; beyond the edge the last pixel repeats."""
    taps = sent(np.stack([mask.taps for mask in masks]), images.device, images.dtype)
    amounts = sent([mask.amount for mask in masks], images.device, images.dtype)[:, None, None]
    smooth = F.pad(images[None], (SHARPENING_REACH_PX,) * 4, mode="replicate")[0]
    for axis in (1, 2):
        side = images.shape[axis]
        total = smooth.narrow(axis, 0, side) * taps[:, 0, None, None]
        for k in range(1, taps.shape[1]):
            total = total + smooth.narrow(axis, k, side) * taps[:, k, None, None]
        smooth = total
    return images + amounts * (images - smooth)


def local_contrast(images: Tensor) -> Tensor:
    """Return the root mean square of the fine detail around each pixel, (..., h, w); beyond the edge the last pixel repeats.

    Parameters
    ----------
    images : Tensor, (..., h, w)

    Notes
    -----
    sqrt(b2 * (x - b1 * x)^2) with binomial filters of five taps per axis, one and two pixels apart.
    """
    flat = images.reshape(-1, 1, *images.shape[-2:])
    padded = F.pad(flat, (CONTRAST_REACH_PX,) * 4, mode="replicate")
    detail = padded[..., 2:-2, 2:-2] - _filtered(padded, sum(_SMOOTHING), 1)
    energy = _filtered(detail * detail, sum(_SMOOTHING), CONTRAST_STEP_PX)
    return energy.sqrt().reshape(images.shape)


def _filtered(images: Tensor, norm: float, step_px: int) -> Tensor:
    """Filter images by five taps per axis, over `norm`, in a fixed order of sums; two steps at each border are lost."""
    height, width = (side - 4 * step_px for side in images.shape[-2:])
    rows = images[..., :height, :] * (_SMOOTHING[0] / norm)
    for k in range(1, 5):
        rows = rows + images[..., k * step_px : k * step_px + height, :] * (_SMOOTHING[k] / norm)
    columns = rows[..., :width] * (_SMOOTHING[0] / norm)
    for k in range(1, 5):
        columns = columns + rows[..., k * step_px : k * step_px + width] * (_SMOOTHING[k] / norm)
    return columns


def noise_field(white: Tensor, correlated: Tensor, share: Tensor | float) -> Tensor:
    """Mix white noise with smooth noise of the given share of the variance; both of unit variance."""
    portion = (
        share if isinstance(share, Tensor) else torch.full((), share, dtype=white.dtype, device=white.device)
    )
    return white * (1.0 - portion).sqrt() + correlated * portion.sqrt()


def noisy(
    images: Tensor,
    field: Tensor,
    gain: Tensor | float,
    read: Tensor | float,
    by_contrast: Tensor | None = None,
) -> Tensor:
    """Add `field * sqrt(gain * x + read**2 + by_contrast**2)` and clip to 0..1, as a sensor does."""
    variance = images.clamp_min(0.0) * gain + read * read
    if by_contrast is not None:
        variance = variance + by_contrast * by_contrast
    return (images + field * variance.sqrt()).clamp_(0.0, 1.0)


def eight_bits(images: Tensor) -> Tensor:
    """Round to multiples of 1/255, halves to even."""
    return torch.round(images * 255.0) / 255.0


Shift = tuple[Tensor, Tensor]
"""A shift along y and along x per pixel, (h, w) each, input pixels."""


def registration_shifts(resampling: Resampling, ys: Tensor, xs: Tensor) -> tuple[Shift, Shift]:
    """Return the shift of the registration, and the displacement in the scan.

    The registered image is the scan at p + s(p). To be in register the scan must show, at q, the clean image at q +
    t(q) with t(p + s(p)) = -s(p). To second order t = -s + J s, J the derivatives of s. For a shift in two halves the
    second looks at the first, moved by half, and t = -s + 3/4 J s. The error is s times the square of its slope: 0.02
    px for 3 px over 280 px.

    Parameters
    ----------
    resampling : Resampling
    ys, xs : Tensor, (h,) and (w,), float64
        Absolute rows and columns on the input grid.

    Returns
    -------
    shift, displacement : Shift
        s and, for `displaced`, t: both float32, input pixels.
    """
    parts = [
        _wave_field(waves, offset, ys, xs)
        for waves, offset in zip((resampling.along_y, resampling.along_x), resampling.offset_px, strict=True)
    ]
    (sy, sy_dy, sy_dx), (sx, sx_dy, sx_dx) = parts
    part = 1.0 if len(resampling.orders) == 1 else 0.75
    ty = (sy_dy * sy + sy_dx * sx) * part - sy
    tx = (sx_dy * sy + sx_dx * sx) * part - sx
    # `displaced` moves along x first, before the rows have moved: what it needs is t along x of ty rows above.
    return (sy, sx), (ty, tx + ty * sx_dy)


def _wave_field(
    waves: tuple[Wave, ...], offset: float, ys: Tensor, xs: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return a sum of waves and its derivatives along y and x, (h, w) each, float32."""
    shape = (len(ys), len(xs))
    total = torch.full(shape, offset, dtype=torch.float32, device=ys.device)
    along_y, along_x = torch.zeros_like(total), torch.zeros_like(total)
    for wave in waves:
        rate = 2.0 * math.pi / wave.period_px
        rate_y, rate_x = rate * math.cos(wave.angle_rad), rate * math.sin(wave.angle_rad)
        at_y, at_x = ys * rate_y + wave.phase_rad, xs * rate_x
        sin_y, cos_y = at_y.sin().float(), at_y.cos().float()
        sin_x, cos_x = at_x.sin().float(), at_x.cos().float()
        sine = torch.outer(sin_y, cos_x) + torch.outer(cos_y, sin_x)
        cosine = torch.outer(cos_y, cos_x) - torch.outer(sin_y, sin_x)
        total = total + sine * wave.amplitude_px
        along_y = along_y + cosine * (wave.amplitude_px * rate_y)
        along_x = along_x + cosine * (wave.amplitude_px * rate_x)
    return total, along_y, along_x


def moved(image: Tensor, shift: Shift, interpolation: str) -> Tensor:
    """Return an image at p + shift(p); beyond the edge the last pixel repeats.

    Parameters
    ----------
    image : Tensor, (h, w)
    shift : Shift
        In pixels of the image; rounded to 1/1024 px.
    interpolation : str
        See `bigrestore.degradation.interpolators.tap_table`.
    """
    height, width = image.shape
    (row, row_taps), (column, column_taps) = (_split(part, interpolation) for part in shift)
    count = row_taps.shape[-1]
    row = row + torch.arange(height, device=image.device)[:, None] + (1 - count // 2)
    column = column + torch.arange(width, device=image.device)[None, :] + (1 - count // 2)
    columns = [(column + j).clamp_(0, width - 1) for j in range(count)]
    flat, total = image.reshape(-1), torch.zeros_like(image)
    for i in range(count):
        start = (row + i).clamp_(0, height - 1) * width
        line = torch.zeros_like(image)
        for j, at in enumerate(columns):
            line = (
                line + flat.index_select(0, (start + at).view(-1)).view(height, width) * column_taps[..., j]
            )
        total = total + line * row_taps[..., i]
    return total


def displaced(image: Tensor, displacement: Shift) -> Tensor:
    """Return a clean image (h, w) as seen by the scanner, moved along x and then along y by eight taps each.

    `displacement` is from `registration_shifts`, in pixels of the image; beyond the edge the last pixel repeats.
    """
    for axis, part in ((1, displacement[1]), (0, displacement[0])):
        side = image.shape[axis]
        at, taps = _split(part, "lanczos")
        own = torch.arange(side, device=image.device)
        at = at + (own[None, :] if axis == 1 else own[:, None]) + (1 - taps.shape[-1] // 2)
        total = torch.zeros_like(image)
        for j in range(taps.shape[-1]):
            total = total + torch.gather(image, axis, at.clamp(0, side - 1)) * taps[..., j]
            at += 1
        image = total
    return image


def _split(shift: Tensor, interpolation: str) -> tuple[Tensor, Tensor]:
    """Return whole pixels, (h, w), and the taps, (h, w, n), of a shift rounded to 1/1024 px."""
    steps = torch.round(shift * PHASES).to(torch.int64)
    table = sent(tap_table(interpolation).T.copy(), shift.device)
    phase = torch.bitwise_and(steps, PHASES - 1)
    taps = table.index_select(0, phase.view(-1)).view(*shift.shape, -1)
    return steps >> (PHASES.bit_length() - 1), taps


def registered(image: Tensor, shift: Shift, orders: tuple[str, ...]) -> Tensor:
    """Resample a scan (h, w) at p + shift(p), in as many equal passes as there are orders."""
    part = (shift[0] / len(orders), shift[1] / len(orders))
    for order in orders:
        image = moved(image, part, order)
    return image
