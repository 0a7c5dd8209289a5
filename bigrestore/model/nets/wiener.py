"""Linear deconvolution by the section's own kernel, the starting point of the network.

Given blur kernel and noise, the best linear guess of the sharp image is Wiener's filter, here for a prior with the
falling power of tissue. The U-Net gets three of them, bold to cautious, as differences to the interpolation, and
mixes them pixel by pixel. So it need not learn a deconvolution for every kernel, and a kernel beyond the codes, a
motion blur at some angle, is still undone.

A filter is a short FIR, so tiles stay exact: of all filters with that many taps the one of least mean square error. (The
unlimited filter, cut to as many taps, is another one: a wide blur with little noise leaves it with the wrong sign.)

At x2 and x4 the samples of the blurred image are fewer than the pixels wanted: each output phase has a filter.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core.host.waiting import all_valid, sent

BOLDNESS = (0.1, 1.0, 10.0)
"""Factors on the noise variance of the filters: power of fine texture differs fifty-fold among tissues."""
FILTER_REACH_PX = 12
"""Reach of a filter to each side, input pixels."""
FILTER_TORUS_PX = 96
"""Side of the torus for computing covariances, input pixels: more than a filter spans on both sides of a pixel."""
FFT_BLOCK_PX = 192
"""Side of the blocks that are deconvolved together, input pixels."""
PRIOR_EXPONENT = 1.3
"""The prior's power falls as (f^2 + f0^2) to minus this: tissue of the training set lies between 1.2 and 1.6."""
PRIOR_CORNER = 0.02
PRIOR_LEVEL = 1e-3
"""Power of the prior at a quarter cycle per output pixel (white noise of variance v has power v)."""
ROUNDED = 2.0**20
"""Taps are multiples of one over this."""
TISSUE_GREY = 0.7
"""Grey level, 0..1, for signal-dependent noise."""
SIGMA_FLOOR = 0.4 / 255
"""Rounding to 8 bits alone is noise of 0.29 levels."""


class StatesNoise(Protocol):
    """What states the noise of a section: variance noise_gain * x + read_noise^2."""

    @property
    def noise_gain(self) -> float:
        """Variance per unit of grey."""
        ...

    @property
    def read_noise(self) -> float:
        """Standard deviation at black."""
        ...


def wiener_filters(kernel: Tensor, sigma: Tensor, scale: int) -> Tensor:
    """Compute the filters of kernels and noise levels.

    Parameters
    ----------
    kernel : Tensor, (N, k, k)
        Effective blur kernels on the output grid, as `bigrestore.model.nets.redegrade` applies them.
    sigma : Tensor, (N,)
        Noise standard deviation, 0..1.
    scale : int
        1, 2 or 4.

    Returns
    -------
    Tensor, (N, 3 * scale**2, 25, 25), float32
        Correlation filters on the input grid; filter v * scale**2 + py * scale + px makes output phase
        (py, px). Each sums to one.

    Notes
    -----
    The linear minimum-mean-square estimate (Wiener, 1949) from the 25 x 25 samples y about a pixel x: R w = c, with R
    the covariance of y, c that of y with x, and a Lagrange multiplier for sum(w) = 1. R does not change when both
    coordinates are reversed, so w falls apart into an even and an odd part with a system of half the size each.
    """
    elsewhere = kernel.device.type == "mps"  # has no float64
    covariance, cross = _covariances(kernel.cpu() if elsewhere else kernel, scale)
    first, second, sums = _pairs_of_taps(covariance.device.type)
    middle = len(first)
    boldness = sent(torch.tensor(BOLDNESS), covariance.device, covariance.dtype)
    noise = sigma.to(covariance).clamp_min(SIGMA_FLOOR).square()[:, None] * boldness
    # Basis of the even part: (tap + its mirror) / sqrt 2 for half of the taps, and the tap in the middle.
    same, mirrored = covariance[:, first], covariance[:, second]
    even = covariance.new_empty(len(kernel), middle + 1, middle + 1)
    even[:, :middle, :middle] = same + mirrored
    even[:, :middle, middle] = even[:, middle, :middle] = covariance[:, sums] * 2**0.5
    even[:, middle, middle] = covariance[:, 0]
    mirror = cross.flip(-1)
    wanted_even = torch.cat([(cross + mirror)[..., :middle] / 2**0.5, cross[..., middle, None]], dim=-1)
    wanted_odd = (cross - mirror)[..., :middle] / 2**0.5
    ones = torch.cat([cross.new_full((middle,), 2**0.5), cross.new_ones(1)]).expand(len(kernel), 1, -1)
    solved = _solved(even, noise, torch.cat([wanted_even, ones], dim=1))
    part, unit = solved[:, :, :-1], solved[:, :, -1:]
    short = 1 - (part * ones[:, None]).sum(-1, keepdim=True)
    part = part + short * unit / (unit * ones[:, None]).sum(-1, keepdim=True)
    odd = _solved(same - mirrored, noise, wanted_odd) / 2**0.5
    half = part[..., :middle] / 2**0.5
    filters = torch.cat([half + odd, part[..., middle:], (half - odd).flip(-1)], dim=-1)
    taps = 2 * FILTER_REACH_PX + 1
    # Another number of threads solves with other last digits; rounding takes them away.
    filters = torch.round(filters * ROUNDED) / ROUNDED
    filters[..., middle] += 1 - filters.sum(-1)
    filters = filters.view(len(kernel), -1, taps, taps).float()
    return filters.to(kernel.device) if elsewhere else filters


def _covariances(kernel: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Return the covariances of samples, (N, T * T) by their distance on a torus, and with the pixels, (N, phases, t * t).

    Both without noise, float64. Tap m of phase p, at input pixel i + m for output pixel scale * i + p, has that of
    distance p - scale * m.
    """
    side, size = FILTER_TORUS_PX * scale, kernel.shape[-1]
    offset = (scale - 1) // 2 - size // 2
    placed = F.pad(kernel.double(), (0, side - size, 0, side - size)).roll((offset, offset), (-2, -1))
    transfer = torch.fft.fft2(placed)
    frequency = torch.fft.fftfreq(side, dtype=torch.float64, device=kernel.device)
    squared = frequency[:, None] ** 2 + frequency[None] ** 2
    power = ((squared + PRIOR_CORNER**2) / (0.25**2 + PRIOR_CORNER**2)) ** -PRIOR_EXPONENT * PRIOR_LEVEL
    samples = torch.fft.ifft2(transfer.abs().square() * power).real[:, ::scale, ::scale]
    pixels = torch.fft.ifft2(transfer * power).real
    m = torch.arange(-FILTER_REACH_PX, FILTER_REACH_PX + 1, device=kernel.device)
    p = torch.arange(scale, device=kernel.device)
    at = torch.remainder(p[:, None] - scale * m[None], side)
    cross = pixels[:, at[:, None, :, None], at[None, :, None, :]]  # N, scale, scale, taps, taps
    return samples.flatten(1), cross.flatten(3).flatten(1, 2)


@lru_cache(maxsize=4)
def _pairs_of_taps(device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return places in the covariances on the torus for the first half of the taps of a filter, n = 312.

    Returns
    -------
    first, second : Tensor, (n, n)
        Of two taps, and of a tap and the mirror image of another.
    sums : Tensor, (n,)
        Of a tap and the one in the middle.
    """
    m = torch.arange(-FILTER_REACH_PX, FILTER_REACH_PX + 1, device=device)
    taps = torch.cartesian_prod(m, m)[: (len(m) ** 2) // 2]

    def place(distance: Tensor) -> Tensor:
        y, x = torch.remainder(distance, FILTER_TORUS_PX).unbind(-1)
        return y * FILTER_TORUS_PX + x

    return place(taps[:, None] - taps[None]), place(taps[:, None] + taps[None]), place(taps)


def _solved(covariance: Tensor, noise: Tensor, wanted: Tensor) -> Tensor:
    """Solve (covariance + noise) w = wanted for every noise variance: (N, n, n), (N, V), (N, P, n) to (N, V, P, n)."""
    full = covariance[:, None] + torch.diag_embed(noise[..., None].expand(-1, -1, covariance.shape[-1]))
    factor = torch.linalg.cholesky_ex(full).L  # the other one reads whether it succeeded
    return torch.cholesky_solve(wanted.mT[:, None].expand(-1, noise.shape[1], -1, -1), factor).mT


def tissue_sigma(noise_gain: Tensor, read_noise: Tensor) -> Tensor:
    """Return the noise standard deviation in tissue, sqrt(noise_gain * 0.7 + read_noise**2)."""
    return torch.sqrt(TISSUE_GREY * noise_gain + read_noise.square())


def section_sigma(known: StatesNoise) -> Tensor:
    """Return the noise standard deviation in tissue of what states it for a section, (1,), on the CPU."""
    return tissue_sigma(*torch.tensor([known.noise_gain, known.read_noise])[:, None])


def deconvolve(x: Tensor, valid: Tensor, filters: Tensor, scale: int, whole: bool | None = None) -> Tensor:
    """Apply filters to images.

    Parameters
    ----------
    x, valid : Tensor, (N, 1, H, W)
        Grey values and validity; damaged pixels are filled from their surroundings first.
    filters : Tensor, (1 or N, 3 * scale**2, t, t)
        From `wiener_filters`.
    scale : int
        1, 2 or 4.
    whole : bool, optional
        Whether all of `valid` is 1, where the caller knows; else the pixels are looked at.

    Returns
    -------
    Tensor, (N, 3, H * scale, W * scale)
    """
    half = filters.shape[-1] // 2
    height, width = x.shape[-2:]
    # Blocks of a section stay in the processor's cache; a small image is one block.
    sides = [min(FFT_BLOCK_PX, length + 2 * half) for length in (height, width)]
    rows, columns = (side - 2 * half for side in sides)
    counts = -(-height // rows), -(-width // columns)
    beyond = counts[1] * columns - width, counts[0] * rows - height
    padded = F.pad(fill_damage(x, valid, whole), (half, half, half, half), mode="replicate")
    padded = F.pad(padded, (0, beyond[0], 0, beyond[1]))
    # Correlation: the conjugate of the filter's transform; the result stands at the filter's first tap.
    transfer = torch.fft.rfft2(filters, s=sides).conj()[:, :, None]
    strips = []
    for row in range(counts[0]):
        strip = (
            padded[..., row * rows : row * rows + sides[0], :].unfold(-1, sides[1], columns).transpose(2, 3)
        )
        spectrum = torch.fft.rfft2(strip) * transfer
        images = torch.fft.irfft2(spectrum, s=sides)[..., :rows, :columns]
        strips.append(images.transpose(2, 3).flatten(3))
    images = torch.cat(strips, dim=2)[..., :height, :width]
    return images if scale == 1 else F.pixel_shuffle(images, scale)


def fill_damage(x: Tensor, valid: Tensor, whole: bool | None = None) -> Tensor:
    """Replace damaged pixels by the mean of the valid ones around them; `whole` as in `deconvolve`."""
    if all_valid(valid, whole):
        return x
    near = F.avg_pool2d(x * valid, 17, 1, 8) / F.avg_pool2d(valid, 17, 1, 8).clamp_min(1e-3)
    return torch.where(valid > 0.5, x, near)
