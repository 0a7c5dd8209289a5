"""Where realness lowers itself: out of focus, without structure, damaged.

A prior draws usual tissue. It may do so at places as blurred as the section's kernel. A place with clearly less fine
energy, relative to the energy one or two octaves below, is out of focus by a further blur, and the input says nothing
about the detail drawn there. The ratio of the two bands gives the further blur as the sigma of a Gaussian; realness
falls by exp(-(sigma / tau)^2). The factor is 0 without structure above the noise, 0 under noise too strong to judge
the focus, and 0 on damage.

Energies are means over the absolute lattice of 8 x 8 input pixels, smoothed like those of the low-frequency lock, so
a tile with enough halo gets the factor of the whole section. Bands come from 2 x 2 and 4 x 4 means: this costs about
a hundredth of the network and skips the finest octave, mostly noise.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core.host.waiting import all_valid
from bigrestore.core.interpolation import enlarge_maps
from bigrestore.model.nets.guards import LOCK_CELL_PX, slid, smooth_cells
from bigrestore.model.nets.wiener import PRIOR_CORNER, PRIOR_EXPONENT

FINE_PX, MID_PX = 2, 4
"""Sides of the means of the two bands, input pixels."""

FINE_TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
MID_TAPS = tuple(n / 256 for n in (1, 8, 28, 56, 70, 56, 28, 8, 1))
"""Binomials; a band is the means less their smoothing: periods of about 4 to 9 and of 10 to 30 input pixels."""

FINE_ROUNDS, MID_ROUNDS = 2, 1
"""How often the smoothing is taken away: twice leaves nearly none of the middle band in the fine one."""

TAU_PX = 1.0
"""Further blur, as the sigma of a Gaussian in input pixels, for a realness of 1/e."""

SLACK = 1.5
"""Allowed ratio of expected to measured fine energy: tissues in focus differ this much."""

NOISE_MARGIN = 0.25
"""Share of the noise's fine energy granted to both sides of the comparison, because the noise is an estimate."""

NOISE_HIDES = 1.5
"""Fine energy of a place in focus, in units of this margin, for a realness of 1 - 1/e. Well below it noise hides the
focus, and the place gets no trust."""

FLAT = 3.0
"""Energy of the middle band without structure, at most, in units of its noise; correlated noise has more than white
noise."""

STRUCTURE = 6.0
"""Energy above `FLAT`, in the same units, for a realness of 1 - 1/e."""

GREY_FLOOR = 0.3 / 255
"""Rounding to 8 bits alone is noise of 0.29 levels."""

DAMAGE_RAMP_PX = 4
"""The factor is 0 on damage, and rises to 1 over twice as many input pixels around it."""

NEAR_MEANS = 2
"""A mean counts for no energy within this distance of damage, filled before."""

GATE_REACH_PX = 64
"""Reach of the factor of a pixel to each side, input pixels."""

SEEN_SIGMA_PX = {1: 2.5, 2: 3.5, 4: 4.5}
"""Widest Gaussian of the training recipe `default`, by scale, output pixels."""

GATE_TORUS_PX = 64
LARGEST_SIGMA_PX, SIGMAS = 6.0, 49


def prior_gate(
    x: Tensor,
    valid: Tensor,
    kernel: Tensor,
    noise_gain: float,
    read_noise: float,
    scale: int,
    *,
    whole: bool | None = None,
    ratios: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the factor on realness at every output pixel.

    Parameters
    ----------
    x, valid : Tensor, (N, 1, H, W)
        Input 0..1 and its validity; H and W multiples of 8, the first pixel on the lattice of 8 x 8.
    kernel : Tensor, (k, k)
        The section's blur kernel on the output grid.
    noise_gain, read_noise : float
        The noise has standard deviation sqrt(noise_gain * x + read_noise**2).
    scale : int
        Output pixels per input pixel.
    whole : bool, optional
        Whether all of `valid` is 1, where the caller knows; else the pixels are looked at.
    ratios : tuple of Tensor, optional
        From `expected_ratios`, where the caller has them.

    Returns
    -------
    Tensor, (N, 1, H * scale, W * scale), 0..1, float32
    """
    whole = all_valid(valid, whole)
    fine, mid, variance = _energies(x, valid, whole, noise_gain, read_noise)
    sigmas, falling = ratios or expected_ratios(kernel, scale)
    fine_gain, mid_gain = _noise_gains()
    noise_fine, noise_mid = fine_gain * variance, mid_gain * (variance + GREY_FLOOR**2)
    structure = 1 - torch.exp(-F.relu(mid / noise_mid - FLAT) / STRUCTURE)
    margin = NOISE_MARGIN * noise_fine + fine_gain * GREY_FLOOR**2
    clean_mid = F.relu(mid - noise_mid)
    ratio = SLACK * (F.relu(fine - noise_fine) + margin) / (clean_mid + margin / falling[0])
    blur = _further_blur(ratio, falling, sigmas)
    expected = falling[0] * clean_mid
    visible = 1 - torch.exp(-((expected / (NOISE_HIDES * margin)) ** 2))
    factor = structure * visible * torch.exp(-((blur / TAU_PX) ** 2))
    factor = F.interpolate(factor, scale_factor=LOCK_CELL_PX, mode="bilinear", align_corners=False)
    if not whole:
        sound = slid(valid, DAMAGE_RAMP_PX, torch.minimum)
        factor = factor * (slid(sound, DAMAGE_RAMP_PX, torch.add) / (2 * DAMAGE_RAMP_PX + 1) ** 2)
    return enlarge_maps(factor, scale)


def likeness(sigma_px: float, scale: int) -> float:
    """Return the factor of a whole section: 1, less for blur beyond the training.

    Disagreement among the windows of a section is no help: an estimator agrees with itself most at its errors.

    Parameters
    ----------
    sigma_px : float
        Equivalent sigma of the section's kernel, in output pixels.
    scale : int
        1, 2 or 4.

    Returns
    -------
    float
        0..1; 1/e a fifth beyond `SEEN_SIGMA_PX`.
    """
    beyond = max(0.0, sigma_px / SEEN_SIGMA_PX[scale] - 1) / 0.2
    return math.exp(-(beyond**2))


def expected_ratios(kernel: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Return further blurs to tell apart, and fine over mid energy of tissue under each, falling.

    Tissue is taken to have the power assumed by the linear deconvolutions, (f^2 + f0^2)^-1.3
    (`bigrestore.model.nets.wiener`), times the kernel's transfer and a Gaussian's of the further blur.

    Returns
    -------
    sigmas, ratios : Tensor, (49,)
        Input pixels, and the ratio of the energies.
    """
    side, size = GATE_TORUS_PX * scale, kernel.shape[-1]
    padded = F.pad(kernel.detach().float().cpu(), (0, side - size, 0, side - size))
    at = torch.remainder(torch.fft.fftfreq(GATE_TORUS_PX, 1 / GATE_TORUS_PX).round().long(), side)
    transfer = torch.fft.fft2(padded)[at[:, None], at[None]].abs().square()
    frequency = torch.fft.fftfreq(GATE_TORUS_PX)
    squared = frequency[:, None] ** 2 + frequency[None] ** 2
    power = transfer * (squared + PRIOR_CORNER**2) ** -PRIOR_EXPONENT
    sigmas = torch.linspace(0, LARGEST_SIGMA_PX, SIGMAS)
    blurred = power * torch.exp(-4 * torch.pi**2 * sigmas[:, None, None] ** 2 * squared)
    fine, mid = ((blurred * gain).sum((1, 2)) for gain in _band_gains())
    ratios = (fine / mid.clamp_min(1e-30)).clamp_min(1e-12)
    return sigmas.to(kernel.device), ratios.to(kernel.device)


@lru_cache(maxsize=1)
def band_filters() -> tuple[Tensor, Tensor]:
    """Return the two bands as filters on input pixels, (taps, taps) each: the means less their smoothing."""
    return _band_filter(FINE_PX, FINE_TAPS, FINE_ROUNDS), _band_filter(MID_PX, MID_TAPS, MID_ROUNDS)


def _band_filter(step: int, taps: tuple[float, ...], rounds: int) -> Tensor:
    """Return the answer of `_band_pass` to one pixel: of a mean of step x step, less its smoothing so many times."""
    half = rounds * (len(taps) // 2)
    impulse = torch.zeros(1, 1, 4 * half + 1, 4 * half + 1)
    impulse[..., 2 * half, 2 * half] = 1
    answer = _band_pass(impulse, taps, rounds)[0, 0, half : 3 * half + 1, half : 3 * half + 1]
    return answer.repeat_interleave(step, 0).repeat_interleave(step, 1) / step**2


@lru_cache(maxsize=1)
def _noise_gains() -> tuple[float, float]:
    """Return the energy of the two bands of white noise of variance one."""
    fine, mid = (float(band.square().sum()) for band in band_filters())
    return fine, mid


@lru_cache(maxsize=1)
def _band_gains() -> tuple[Tensor, ...]:
    """Return the squared transfer of the two bands on the torus."""
    sides = (GATE_TORUS_PX, GATE_TORUS_PX)
    return tuple(torch.fft.fft2(band, s=sides).abs().square() for band in band_filters())


def _energies(
    x: Tensor, valid: Tensor, whole: bool, noise_gain: float, read_noise: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the energy of the two bands and the noise variance around every cell, (N, 1, H / 8, W / 8)."""
    weight = None if whole else valid
    if weight is not None:
        x = _fill_by_cells(x, weight)
    halves = F.avg_pool2d(x, FINE_PX)
    quarters = F.avg_pool2d(halves, MID_PX // FINE_PX)
    fine = _around(_band_pass(halves, FINE_TAPS, FINE_ROUNDS).square(), LOCK_CELL_PX // FINE_PX, weight)
    mid = _around(_band_pass(quarters, MID_TAPS, MID_ROUNDS).square(), LOCK_CELL_PX // MID_PX, weight)
    grey = smooth_cells(F.avg_pool2d(x, LOCK_CELL_PX))
    return fine, mid, noise_gain * grey.clamp_min(0) + read_noise**2


def _band_pass(means: Tensor, taps: tuple[float, ...], rounds: int) -> Tensor:
    """Return the means less their smoothing, so many times; beyond the border the last mean repeats."""
    half = len(taps) // 2
    for _ in range(rounds):
        padded = F.pad(means, (half, half, half, half), mode="replicate")
        means = means - _weighted(_weighted(padded, taps, 3), taps, 2)
    return means


def _weighted(padded: Tensor, taps: tuple[float, ...], axis: int) -> Tensor:
    """Smooth along an axis by symmetric taps: sums of slices, three times as fast as a convolution of one channel."""
    length, last = padded.shape[axis] - len(taps) + 1, len(taps) - 1
    total = taps[last // 2] * padded.narrow(axis, last // 2, length)
    for k in range(last // 2):
        pair = padded.narrow(axis, k, length) + padded.narrow(axis, last - k, length)
        total = total.add_(pair, alpha=taps[k])
    return total


def _around(energy: Tensor, per_cell: int, valid: Tensor | None) -> Tensor:
    """Return the smoothed cell means of an energy away from damage; 0 without any."""
    if valid is None:
        return smooth_cells(F.avg_pool2d(energy, per_cell))
    held = -F.max_pool2d(-valid, LOCK_CELL_PX // per_cell)  # 1 where all pixels of a mean are valid
    held = slid(held, NEAR_MEANS, torch.minimum)
    total = smooth_cells(F.avg_pool2d(energy * held, per_cell))
    return total / smooth_cells(F.avg_pool2d(held, per_cell)).clamp_min(1e-3)


def _fill_by_cells(x: Tensor, valid: Tensor) -> Tensor:
    """Replace damage by the mean of the valid pixels of the cells around."""
    near = smooth_cells(F.avg_pool2d(x * valid, LOCK_CELL_PX))
    near = near / smooth_cells(F.avg_pool2d(valid, LOCK_CELL_PX)).clamp_min(1e-3)
    return torch.where(valid > 0.5, x, F.interpolate(near, scale_factor=LOCK_CELL_PX, mode="nearest"))


def _further_blur(ratio: Tensor, ratios: Tensor, sigmas: Tensor) -> Tensor:
    """Return the blur explaining a ratio: linear in its logarithm, held at both ends of the table."""
    table = torch.log(ratios).flip(0)  # rising
    value = torch.log(ratio.clamp_min(1e-12)).clamp(table[0], table[-1])
    above = torch.bucketize(value, table).clamp(1, len(table) - 1)
    low, high = table[above - 1], table[above]
    share = (value - low) / (high - low).clamp_min(1e-6)
    rising = sigmas.flip(0)
    return rising[above - 1] + share * (rising[above] - rising[above - 1])
