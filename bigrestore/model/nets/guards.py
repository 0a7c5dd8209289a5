"""Guards: hold the output to the data, whatever the network says.

Order: back-projection (x2, x4), low-frequency lock and clip, saturated background, and less restoration at places of
wrong grey level. Each is a local filter or test on an absolute lattice, so a tile with enough halo equals the whole
section. They work in float32, outside autocast.

The lock compares block means of the input x and of the re-degraded output D(y) on cells of 8 x 8 input pixels,
smooths the difference over cells and adds it to the output. D is almost the identity on this coarse grid, so n rounds
of smoothing and comparing equal one filter 1 - (1 - S)^n. A number of rounds chosen from the data would depend on the
tile.

Clipping overshoot removes grey restored by the lock, so the lock follows it again. Beside saturated white, under a
wide blur, 0..1 leaves too little room even for that. There the image falls back to one nearer to the input's grey
levels: from the output with the prior to the one without, then to the interpolation (`fall_back`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core.host.waiting import all_valid, readable, sent
from bigrestore.core.interpolation import catmull_rom, enlarge_maps
from bigrestore.model.nets.redegrade import redegrade, strided_correlation

LOCK_CELL_PX = 8
LOCK_TAPS = (1 / 64, 6 / 64, 15 / 64, 20 / 64, 15 / 64, 6 / 64, 1 / 64)
"""Binomial smoothing over cells: standard deviation 1.22 cells, about 10 input pixels."""
LOCK_ROUNDS = 3
CLIPPED_ROUNDS = 2
"""How often the image is clipped and locked before the last clip."""
DRIFT_ROUNDS = 2
"""How often `fall_back` smooths the drift over cells: standard deviation 1.73 cells, about 14 input pixels."""
DRIFT_BORNE = 0.25 / 255
DRIFT_REFUSED = 1.25 / 255
"""Drift at the start of the fallback, and drift of the complete fallback."""
BACK_PROJECTION_ROUNDS = 2
BACK_PROJECTION_GAIN = 0.7
SATURATED = 1 - 1 / 512
"""At or above this of 0..1 a pixel of 8 bits is full white."""
SATURATED_REACH = 2
"""A pixel is background when all within this many pixels are saturated."""


@attrs.frozen(eq=False)
class Seen:
    """The input of a restoration, and the facts about it that the guards compare with.

    Attributes
    ----------
    x, valid : Tensor, (N, 1, H, W)
        Input, 0..1, and its validity; H and W are multiples of 8.
    base : Tensor, (N, 1, scale * H, scale * W), 0..1
        The interpolated input.
    kernel : Tensor, (k, k)
        Blur kernel on the output grid.
    noise_gain, read_noise : float
        Noise of the input.
    scale : int
        Output pixels per input pixel.
    details : mapping
        What else is known of the section (`bigrestore.model.method.SectionStatistics`).
    whole : bool, optional
        Whether all of `valid` is 1, where that is known; else the pixels are looked at.
    psi : Tensor, (24,), optional
        Degradation code of the section, for methods that ask a network.
    origins : tuple of (int, int)
        Absolute input (y, x) of the first pixel of each image.
    z : int
        Index of the section in its volume.
    """

    x: Tensor
    valid: Tensor
    base: Tensor
    kernel: Tensor
    noise_gain: float
    read_noise: float
    scale: int
    details: Mapping[str, Any] = attrs.field(factory=dict)
    whole: bool | None = None
    psi: Tensor | None = None
    origins: tuple[tuple[int, int], ...] = ()
    z: int = 0


def guarded(y: Tensor, fallback: Callable[[], Tensor], seen: Seen, *, lock: bool) -> Tensor:
    """Clip an image, hold it to the data or let it give way to a fallback, and put saturated background back.

    Parameters
    ----------
    y : Tensor, (N, 1, scale * H, scale * W)
        Restored image, of any method.
    fallback : callable
        As in `fall_back`.
    seen : Seen
        The input.
    lock : bool
        Whether the guards that compare with the input act.
    """
    x, valid, kernel, scale, whole = seen.x, seen.valid, seen.kernel, seen.scale, seen.whole
    if not lock:
        return keep_saturated(y.clamp(0, 1), seen.base, x, scale)
    if scale > 1:
        sigma = pixel_noise_sigma(x, seen.noise_gain, seen.read_noise)
        y = back_project(y, x, valid, kernel, sigma, scale)
    y = lock_and_clip(y, x, valid, kernel, scale, whole)
    y = keep_saturated(y, seen.base, x, scale)
    return fall_back(y, fallback, x, valid, kernel, scale, whole)


def back_project(y: Tensor, x: Tensor, valid: Tensor, kernel: Tensor, sigma: Tensor, scale: int) -> Tensor:
    """Correct y so D(y) approaches x; residuals within two noise sigmas stay.

    Parameters
    ----------
    y : Tensor, (N, 1, scale * H, scale * W)
        Restored image.
    x, valid : Tensor, (N, 1, H, W)
        Input and its validity.
    kernel : Tensor, (k, k) or (N, k, k)
        Blur kernel on the output grid.
    sigma : Tensor, (N, 1, H, W)
        Noise standard deviation of x.
    scale : int
        2 or 4.

    Returns
    -------
    Tensor, (N, 1, scale * H, scale * W)
    """
    for _ in range(BACK_PROJECTION_ROUNDS):
        residual = x - redegrade(y, kernel, scale)
        beyond = torch.sign(residual) * F.relu(residual.abs() - 2 * sigma) * valid
        y = y + BACK_PROJECTION_GAIN * catmull_rom(beyond, scale)
    return y


def low_frequency_lock(
    y: Tensor, x: Tensor, valid: Tensor, kernel: Tensor, scale: int, whole: bool | None = None
) -> Tensor:
    """Hold the regional grey levels of D(y) to those of x.

    Parameters
    ----------
    y, x, valid, kernel, scale
        As in `back_project`; H and W are multiples of 8.
    whole : bool, optional
        As in `Seen`.

    Returns
    -------
    Tensor, (N, 1, scale * H, scale * W)
    """
    remaining, trusted = _grey_differences(y, x, valid, kernel, scale, whole)
    correction = torch.zeros_like(remaining)
    for _ in range(LOCK_ROUNDS):
        smoothed = smooth_cells(remaining) / smooth_cells(trusted).clamp_min(0.05)
        correction = correction + smoothed
        remaining = remaining - smoothed * trusted
    return y + enlarge_maps(correction, LOCK_CELL_PX * scale)


def lock_and_clip(
    y: Tensor, x: Tensor, valid: Tensor, kernel: Tensor, scale: int, whole: bool | None = None
) -> Tensor:
    """Hold the regional grey levels of an image and clip it to 0..1; arguments as in `low_frequency_lock`."""
    for _ in range(CLIPPED_ROUNDS):
        y = low_frequency_lock(y.clamp(0, 1), x, valid, kernel, scale, whole)
    return y.clamp(0, 1)


def fall_back(
    y: Tensor,
    fallback: Callable[[], Tensor],
    x: Tensor,
    valid: Tensor,
    kernel: Tensor,
    scale: int,
    whole: bool | None = None,
) -> Tensor:
    """Blend y into a fallback image at places of wrong regional grey level.

    The share of the fallback rises with the drift of y and falls with its own: none if it drifts as far as y, all if
    it drifts at most half as far.

    Parameters
    ----------
    y : Tensor, (N, 1, scale * H, scale * W), 0..1
        Restored image.
    fallback : callable
        Makes the fallback image, same shape and range; on a CPU called only for a y with drift.
    x, valid, kernel, scale, whole
        As in `low_frequency_lock`.
    """
    drift = _drift(y, x, valid, kernel, scale, whole)
    share = ((drift - DRIFT_BORNE) / (DRIFT_REFUSED - DRIFT_BORNE)).clamp(0, 1)
    if readable(share) and not bool(share.any()):
        return y
    other = fallback()
    better = 2 - 2 * _drift(other, x, valid, kernel, scale, whole) / drift.clamp_min(DRIFT_BORNE)
    return torch.lerp(y, other, enlarge_maps(share * better.clamp(0, 1), LOCK_CELL_PX * scale))


def _drift(y: Tensor, x: Tensor, valid: Tensor, kernel: Tensor, scale: int, whole: bool | None) -> Tensor:
    """Return by how much the smoothed means of D(y) differ from those of x, per cell."""
    apart, trusted = _grey_differences(y, x, valid, kernel, scale, whole)
    for _ in range(DRIFT_ROUNDS):
        apart, trusted = smooth_cells(apart), smooth_cells(trusted)
    return (apart / trusted.clamp_min(0.05)).abs()


def keep_saturated(y: Tensor, base: Tensor, x: Tensor, scale: int) -> Tensor:
    """Put the interpolated input, 0..1, back into neighbourhoods of saturated white (or black) input."""
    if readable(x) and not bool(((x >= SATURATED) | (x <= 1 - SATURATED)).any()):
        return y
    darkest, brightest = (slid(x, SATURATED_REACH, extreme) for extreme in (torch.minimum, torch.maximum))
    flat = ((darkest >= SATURATED) | (brightest <= 1 - SATURATED)).to(y.dtype)
    if scale > 1:
        flat = F.interpolate(flat, scale_factor=scale, mode="nearest")
    return torch.lerp(y, base, flat)


def pixel_noise_sigma(x: Tensor, noise_gain: float, read_noise: float) -> Tensor:
    """Return the noise standard deviation sqrt(noise_gain * x + read_noise**2) of every pixel."""
    return torch.sqrt(noise_gain * x.clamp_min(0) + read_noise**2)


def _grey_differences(
    y: Tensor, x: Tensor, valid: Tensor, kernel: Tensor, scale: int, whole: bool | None
) -> tuple[Tensor, Tensor]:
    """Return, per cell, the means of valid * (x - D(y)) and of `valid`."""
    covered = F.avg_pool2d(valid, LOCK_CELL_PX)
    means = F.avg_pool2d(x * valid, LOCK_CELL_PX)
    if not all_valid(valid, whole):
        return means - F.avg_pool2d(redegrade(y, kernel, scale) * valid, LOCK_CELL_PX), covered
    # Everything is valid: degrading and averaging are one strided correlation by the merged kernel.
    reach = scale * (LOCK_CELL_PX - 1)
    box = torch.zeros(1, 1, reach + 1, reach + 1, device=y.device, dtype=y.dtype)
    box[..., ::scale, ::scale] = 1 / LOCK_CELL_PX**2
    merged = F.conv_transpose2d(kernel.reshape(-1, 1, *kernel.shape[-2:]), box)
    merged = merged.reshape(*kernel.shape[:-2], *merged.shape[-2:])
    offset = (scale - 1) // 2 - kernel.shape[-1] // 2
    return means - strided_correlation(y, merged, scale, LOCK_CELL_PX, offset), covered


def smooth_cells(cells: Tensor) -> Tensor:
    """Smooth (N, 1, h, w) cells by `LOCK_TAPS` on both axes; beyond the border the last cell repeats."""
    taps = _lock_taps(str(cells.device), cells.dtype)
    half = len(LOCK_TAPS) // 2
    padded = F.pad(cells, (half, half, half, half), mode="replicate")
    return F.conv2d(F.conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))


def slid(maps: Tensor, reach: int, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Combine all values within so many pixels along both axes, by doubling; beyond the border the last one repeats."""
    side = 2 * reach + 1
    maps = F.pad(maps, (reach, reach, reach, reach), mode="replicate")
    for axis in (2, 3):
        length, part, width = maps.shape[axis] - side + 1, maps, 1
        while 2 * width <= side:
            size = part.shape[axis] - width
            part, width = combine(part.narrow(axis, 0, size), part.narrow(axis, width, size)), 2 * width
        combined = part.narrow(axis, 0, length)
        while width < side:  # what is left of the window: its last pixels
            combined, width = combine(combined, maps.narrow(axis, width, length)), width + 1
        maps = combined
    return maps


@lru_cache(maxsize=8)
def _lock_taps(device: str, dtype: torch.dtype) -> Tensor:
    """Return `LOCK_TAPS` on a device."""
    with torch.inference_mode(False):  # cached: must stay usable in training after a first use in inference
        return sent(LOCK_TAPS, torch.device(device), dtype)
