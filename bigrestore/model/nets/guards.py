"""Guards: what holds the output to the data, whatever the network says.

In this order: back-projection (x2, x4), low-frequency lock and clip, saturated background, and where the grey
level could not be held even so, less restoration. Each is a local filter or a local test on an absolute lattice,
so that a tile with enough halo gets what the whole section would get. They work in float32, outside autocast.

The lock compares the block means of the input x and of the re-degraded output D(y) on cells of 8 x 8
input pixels, smooths the difference over cells and adds it to the output. Smoothing and re-comparing n
times is, on that coarse grid where D is all but the identity, the filter 1 - (1 - S)^n applied once: no
data-dependent number of rounds, which would depend on the tile.

Clipping takes away what overshoots white or black, and with it grey that the lock had put right; so the lock comes
again after it. Where white meets tissue at once, under a wide blur, even that is not enough: what can be given back
without leaving 0..1 is too little. There the image gives way to one that is nearer to the input's grey levels: the
output with the prior to the one without, and that to the interpolation (`give_way`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom, enlarge_maps
from bigrestore.model.nets.redegrade import redegrade, strided_correlation

CELL_PX = 8
LOCK_TAPS = (1 / 64, 6 / 64, 15 / 64, 20 / 64, 15 / 64, 6 / 64, 1 / 64)
"""Binomial smoothing over cells: standard deviation 1.22 cells, about 10 input pixels."""
LOCK_ROUNDS = 3
CLIPPED_ROUNDS = 2
"""How often the image is clipped and locked before the last clip."""
DRIFT_ROUNDS = 2
"""How often `give_way` smooths the drift over cells: standard deviation 1.73 cells, about 14 input pixels."""
DRIFT_BORNE = 0.25 / 255
DRIFT_REFUSED = 1.25 / 255
"""Drift at which an image begins to give way, and from which on it does so wholly."""
BACK_PROJECTION_ROUNDS = 2
BACK_PROJECTION_GAIN = 0.7
SATURATED = 1 - 1 / 512
"""At or above this of 0..1 a pixel of 8 bits is full white."""
SATURATED_REACH = 2
"""A pixel is background when all within this many pixels are saturated."""


def back_project(y: Tensor, x: Tensor, valid: Tensor, kernel: Tensor, sigma: Tensor, scale: int) -> Tensor:
    """Correct y so that D(y) approaches x, leaving residuals within two noise sigmas alone.

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


def low_frequency_lock(y: Tensor, x: Tensor, valid: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """Hold the regional grey levels of D(y) to those of x.

    Parameters
    ----------
    y, x, valid, kernel, scale
        As in `back_project`; H and W are multiples of 8.

    Returns
    -------
    Tensor, (N, 1, scale * H, scale * W)
    """
    remaining, trusted = _apart(y, x, valid, kernel, scale)
    correction = torch.zeros_like(remaining)
    for _ in range(LOCK_ROUNDS):
        smoothed = smooth_cells(remaining) / smooth_cells(trusted).clamp_min(0.05)
        correction = correction + smoothed
        remaining = remaining - smoothed * trusted
    return y + enlarge_maps(correction, CELL_PX * scale)


def lock_and_clip(y: Tensor, x: Tensor, valid: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """Hold the regional grey levels of an image that ends in 0..1; arguments as in `low_frequency_lock`."""
    for _ in range(CLIPPED_ROUNDS):
        y = low_frequency_lock(y.clamp(0, 1), x, valid, kernel, scale)
    return y.clamp(0, 1)


def give_way(
    y: Tensor, behind: Callable[[], Tensor], x: Tensor, valid: Tensor, kernel: Tensor, scale: int
) -> Tensor:
    """Blend y into another image where its regional grey level is off in spite of the lock.

    How much of the other image is taken rises with the drift of y, and falls with its own: nothing of it where it is
    off by as much as y, all where it is off by half as much at most.

    Parameters
    ----------
    y : Tensor, (N, 1, scale * H, scale * W), 0..1
        Restored image.
    behind : callable
        Makes the other image, of the same shape and range; called only where y gives way somewhere.
    x, valid, kernel, scale
        As in `low_frequency_lock`.
    """
    drift = _drift(y, x, valid, kernel, scale)
    share = ((drift - DRIFT_BORNE) / (DRIFT_REFUSED - DRIFT_BORNE)).clamp(0, 1)
    if not bool(share.any()):
        return y
    other = behind()
    better = 2 - 2 * _drift(other, x, valid, kernel, scale) / drift.clamp_min(DRIFT_BORNE)
    return torch.lerp(y, other, enlarge_maps(share * better.clamp(0, 1), CELL_PX * scale))


def _drift(y: Tensor, x: Tensor, valid: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """Return by how much the smoothed means of D(y) differ from those of x, per cell."""
    apart, trusted = _apart(y, x, valid, kernel, scale)
    for _ in range(DRIFT_ROUNDS):
        apart, trusted = smooth_cells(apart), smooth_cells(trusted)
    return (apart / trusted.clamp_min(0.05)).abs()


def keep_saturated(y: Tensor, base: Tensor, x: Tensor, scale: int) -> Tensor:
    """Put the interpolated input, 0..1, back where the input is saturated white (or black) over a neighbourhood."""
    size = 2 * SATURATED_REACH + 1
    darkest = -F.max_pool2d(-x, size, 1, SATURATED_REACH)
    brightest = F.max_pool2d(x, size, 1, SATURATED_REACH)
    flat = ((darkest >= SATURATED) | (brightest <= 1 - SATURATED)).to(y.dtype)
    if scale > 1:
        flat = F.interpolate(flat, scale_factor=scale, mode="nearest")
    return torch.lerp(y, base, flat)


def noise_sigma(x: Tensor, noise_gain: float, read_noise: float) -> Tensor:
    """Return the noise standard deviation sqrt(noise_gain * x + read_noise**2) of every pixel."""
    return torch.sqrt(noise_gain * x.clamp_min(0) + read_noise**2)


def _apart(y: Tensor, x: Tensor, valid: Tensor, kernel: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Return, per cell, the mean of valid * (x - D(y)) and that of `valid`."""
    means = F.avg_pool2d(x * valid, CELL_PX) - _cell_means_of_redegraded(y, valid, kernel, scale)
    return means, F.avg_pool2d(valid, CELL_PX)


def _cell_means_of_redegraded(y: Tensor, valid: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """Return the means of valid * D(y) over cells; one strided correlation where everything is valid."""
    if not bool((valid == 1).all()):
        return F.avg_pool2d(redegrade(y, kernel, scale) * valid, CELL_PX)
    reach = scale * (CELL_PX - 1)
    spread = torch.zeros(1, 1, reach + 1, reach + 1, device=y.device, dtype=y.dtype)
    spread[..., ::scale, ::scale] = 1 / CELL_PX**2
    merged = F.conv_transpose2d(kernel.reshape(-1, 1, *kernel.shape[-2:]), spread)
    merged = merged.reshape(*kernel.shape[:-2], *merged.shape[-2:])
    offset = (scale - 1) // 2 - kernel.shape[-1] // 2
    return strided_correlation(y, merged, scale, CELL_PX, offset)


def smooth_cells(cells: Tensor) -> Tensor:
    """Smooth (N, 1, h, w) cells by `LOCK_TAPS` on both axes; beyond the border the last cell repeats."""
    taps = torch.tensor(LOCK_TAPS, device=cells.device, dtype=cells.dtype)
    half = len(LOCK_TAPS) // 2
    padded = F.pad(cells, (half, half, half, half), mode="replicate")
    return F.conv2d(F.conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
