"""Training codes: the degradation as told to a network in training.

A section's estimate comes from many windows and errs less than one of a single patch. The network is therefore told
the truth, the truth with errors of a section's estimate, or, rarely, nothing. Trained on truth alone it does not bear
errors; told poor estimates of single patches it learns to distrust them all. Damage masks are shown half of the time,
so the network knows marked and unmarked damage.
"""

from __future__ import annotations

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core.waiting import sent
from bigrestore.degradation.degradation import nothing
from bigrestore.model.nets.code import Degradations, compose_psi
from bigrestore.model.nets.prior_gate import SEEN_SIGMA_PX
from bigrestore.model.nets.reading.estimator import degradations_of
from bigrestore.model.nets.restorer import Restorer
from bigrestore.model.nets.wiener import tissue_sigma, wiener_filters
from bigrestore.training.data.pairs import Pairs

ORACLE_SHARE, DROPPED_SHARE = 0.4, 0.05
LEARNED_ORACLE_SHARE = 0.15
"""Of pairs whose kernel was fitted to real ones: it is no truth, and 80 % are told with errors."""
MASK_SHOWN_SHARE = 0.5
WIDTH_ERROR, WIDTH_ERROR_PX = 0.08, 0.06
"""Standard errors of a kernel's sigma: relative, and in input pixels on top."""
SHAPE_SHARE = 0.3
"""Share of the misestimated kernels replaced by Gaussians, in part or wholly."""
FEW_TAPS_SIGMA_PX = 0.9
"""Kernels narrower than this have too few taps to be scaled as images."""
MOST_WIDENING_PX2 = 0.6
"""Largest variance added to one of them."""
READ_ERROR, GAIN_ERROR = 0.2, 0.6
"""Standard errors of the logarithms of read noise and noise gain."""
QUALITY_ERROR, QUALITY_MISSED_SHARE = 4.0, 0.1
"""Standard error of a JPEG quality, and share of unnoticed JPEGs."""


@torch.no_grad()
def estimate_codes(model: Restorer, degraded: Tensor, valid: Tensor) -> Degradations:
    """Return the estimator's answer for each window, (N, 1, h, w)."""
    return degradations_of(model.estimator(degraded, valid), model.scale)


@torch.no_grad()
def encode(model: Restorer, known: Degradations) -> tuple[Tensor, Tensor]:
    """Return codes, (N, 24), and linear deconvolutions of degradations."""
    sigma = tissue_sigma(known.noise_gain, known.read_noise)
    filters = wiener_filters(known.kernel, sigma, model.scale)
    return compose_psi(model.basis, known, model.scale), filters


def shown_masks(pairs: Pairs, rng: np.random.Generator) -> Tensor:
    """Return the masks of the pairs, or all ones, by chance."""
    shown = sent(rng.random(len(pairs.valid)) < MASK_SHOWN_SHARE, pairs.valid.device)
    return torch.where(shown[:, None, None, None], pairs.valid, torch.ones_like(pairs.valid))


def drawn_codes(model: Restorer, pairs: Pairs, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return codes and filters of the truth, of a misreading of it, or dropped ones, drawn per pair."""
    known = pairs.known
    choice = sent(rng.random(len(known.kernel)), known.kernel.device)
    shares = [LEARNED_ORACLE_SHARE if drawn.kind == "learned" else ORACLE_SHARE for drawn in pairs.drawn]
    wrong = misread(known, model.scale, rng)
    oracle = choice < sent(shares, choice.device)
    fields = {
        field.name: torch.where(
            oracle.view(-1, *[1] * (getattr(known, field.name).ndim - 1)),
            getattr(known, field.name),
            getattr(wrong, field.name),
        )
        for field in attrs.fields(Degradations)
    }
    told = Degradations(**fields)
    psi, filters = encode(model, attrs.evolve(told, kernel=limited(told.kernel, model.scale)))
    return psi.masked_fill((choice >= 1 - DROPPED_SHARE)[:, None], 0), filters


def limited(kernels: Tensor, scale: int) -> Tensor:
    """Return kernels narrowed to the widest told in a run (`SEEN_SIGMA_PX`)."""
    sigma, rows, columns = _moments(kernels)
    narrow = _resized(kernels, (SEEN_SIGMA_PX[scale] / sigma.clamp_min(0.1)).clamp_max(1), rows, columns)
    narrow = narrow / narrow.sum((1, 2), keepdim=True)
    return torch.where((sigma > SEEN_SIGMA_PX[scale])[:, None, None], narrow, kernels)


def misread(known: Degradations, scale: int, rng: np.random.Generator) -> Degradations:
    """Return degradations with errors as in estimates of whole sections."""
    count, device = len(known.kernel), known.kernel.device

    def normal(deviation: float) -> Tensor:
        return sent(rng.normal(0.0, deviation, count), device, torch.float32)

    gaussian = sent(rng.random(count) * (rng.random(count) < SHAPE_SHARE), device, torch.float32)
    widths = normal(WIDTH_ERROR), normal(WIDTH_ERROR_PX * scale)
    unseen = sent(rng.random(count) < QUALITY_MISSED_SHARE, device)
    quality = (known.jpeg_quality + normal(QUALITY_ERROR)).clamp(30, 99)
    return attrs.evolve(
        known,
        kernel=misread_kernels(known.kernel, *widths, gaussian, scale),
        noise_gain=known.noise_gain * torch.exp(normal(GAIN_ERROR)),
        read_noise=known.read_noise * torch.exp(normal(READ_ERROR)),
        jpeg_quality=torch.where((known.jpeg_quality > 0) & ~unseen, quality, torch.zeros_like(quality)),
    )


def misread_kernels(
    kernels: Tensor, relative: Tensor, absolute: Tensor, gaussian: Tensor, scale: int
) -> Tensor:
    """Return kernels of other widths about the same centres, partly replaced by Gaussians.

    Parameters
    ----------
    kernels : Tensor, (N, k, k)
    relative, absolute : Tensor, (N,)
        The sigma becomes sigma * (1 + relative) + absolute, output pixels, but no less than the averaging of a pixel.
    gaussian : Tensor, (N,)
        Share of the Gaussian of the same width in each.
    scale : int
        Output pixels per input pixel.

    Returns
    -------
    Tensor, (N, k, k)
        Non-negative, each sums to one. A large kernel is scaled as an image. One of few taps is widened by a kernel of
        three taps, or narrowed by a share of the sharpest kernel there is: both keep the variance to the letter.
    """
    sigma, rows, columns = _moments(kernels)
    sharpest = sent(nothing(scale).kernel, kernels.device, kernels.dtype)[None]
    least = _moments(sharpest)[0]
    wanted = torch.maximum(sigma * (1 + relative) + absolute, least)
    change = wanted**2 - sigma**2
    share = (-change / (sigma**2 - least**2).clamp_min(1e-6)).clamp(0, 1)[:, None, None]
    small = (1 - share) * _widened(kernels, change.clamp(0, MOST_WIDENING_PX2)) + share * sharpest
    large = _resized(kernels, wanted / sigma.clamp_min(0.1), rows, columns)
    changed = torch.where((sigma < FEW_TAPS_SIGMA_PX)[:, None, None], small, large)
    at = torch.arange(kernels.shape[-1], device=kernels.device, dtype=kernels.dtype) - kernels.shape[-1] // 2
    away = (at[:, None] - rows[:, None, None]) ** 2 + (at[None] - columns[:, None, None]) ** 2
    round_one = torch.exp(-0.5 * away / wanted.clamp_min(0.2)[:, None, None] ** 2)
    shares = gaussian[:, None, None]
    changed = changed / changed.sum((1, 2), keepdim=True)
    round_one = round_one / round_one.sum((1, 2), keepdim=True)
    mixed: Tensor = (1 - shares) * changed + shares * round_one
    return mixed


def _widened(kernels: Tensor, variance: Tensor) -> Tensor:
    """Return kernels followed by three taps per axis of a given variance, (N,), at most 1."""
    side = 0.5 * variance[:, None, None]
    for axis in (1, 2):
        around = kernels.roll(1, axis) + kernels.roll(-1, axis)
        kernels = (1 - 2 * side) * kernels + side * around
    return kernels


def _moments(kernels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the equivalent sigma, and the centre's row and column from the middle, of kernels: (N,) each."""
    size = kernels.shape[-1]
    at = torch.arange(size, device=kernels.device, dtype=kernels.dtype) - size // 2
    along_y, along_x = kernels.sum(2), kernels.sum(1)
    rows, columns = (along_y * at).sum(1), (along_x * at).sum(1)
    variance = ((along_y * at**2).sum(1) - rows**2 + (along_x * at**2).sum(1) - columns**2) / 2
    return variance.clamp_min(0).sqrt(), rows, columns


def _resized(kernels: Tensor, factor: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return kernels enlarged about their centres by bicubic interpolation."""
    half = kernels.shape[-1] / 2
    centre = torch.stack([columns, rows], dim=1) / half
    turn = torch.zeros(len(kernels), 2, 3, dtype=kernels.dtype, device=kernels.device)
    turn[:, 0, 0] = turn[:, 1, 1] = 1 / factor
    turn[:, :, 2] = centre * (1 - 1 / factor)[:, None]
    grid = F.affine_grid(turn, [len(kernels), 1, *kernels.shape[1:]], align_corners=False)
    return F.grid_sample(kernels[:, None], grid, mode="bicubic", align_corners=False)[:, 0].clamp_min(0)
