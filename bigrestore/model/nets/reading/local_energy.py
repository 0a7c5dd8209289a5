"""Quantiles of the high-frequency amplitude over small blocks of a window, and its kurtosis.

Noise is present in every block, texture only in some. The lowest quantiles are therefore an upper bound of the noise,
and the highest show the sharpest edges. A mean over the window, such as its spectrum, cannot tell noise from texture.
The kurtosis is high where the energy of an octave is concentrated, as at edges, and that of Gaussian noise where it is
spread evenly.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core.host.waiting import all_valid, sent

ENERGY_BLOCK_PX = 8
OCTAVES = 3
ENERGY_QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
ENERGY_FEATURES = (2 * OCTAVES - 1) * len(ENERGY_QUANTILES) + (OCTAVES - 1) + OCTAVES
RMS_FLOOR = 1e-4


def energy_quantiles(windows: Tensor, valid: Tensor) -> Tensor:
    """Return quantiles of the amplitude of three octaves over blocks of 8 x 8 pixels.

    The amplitude of a block is the root mean square of the second difference along both axes (the mask of Immerkaer,
    "Fast noise variance estimation", 1996). The three octaves are the window and its 2 x 2 and 4 x 4 means. Means are
    multiplied by 2 and 4, so that white noise has the same standard deviation in all octaves.

    Parameters
    ----------
    windows, valid : Tensor, (N, 1, h, w)
        Grey values 0..1, and 1 for valid pixels. Blocks with any other pixel are left out.

    Returns
    -------
    Tensor, (N, 40), float32
        In this order: quantiles of log10 of the amplitude, plus 2, finest octave first (21); quantiles of log10 of the
        ratios of neighbouring octaves (14); means of those ratios, weighted by the energy of the coarser octave (2);
        log10 of the kurtosis of each octave (3). All zero for a window without a wholly valid block.
    """
    maps, peaked = [], []
    for octave in range(OCTAVES):
        side = 2**octave
        means = windows if octave == 0 else side * F.avg_pool2d(windows, side)
        seen = valid if octave == 0 else (F.avg_pool2d(valid, side) > 0.99).to(valid.dtype)
        rms, holds, kurtosis = _block_rms(means, seen, ENERGY_BLOCK_PX // side)
        maps.append((rms, holds))
        peaked.append(kurtosis)
    rows, columns = (min(rms.shape[axis] for rms, _ in maps) for axis in (1, 2))
    logs = [torch.log10(rms[:, :rows, :columns]).flatten(1) for rms, _ in maps]
    holds = torch.stack([hold[:, :rows, :columns].flatten(1) for _, hold in maps]).all(0)
    ratios = [fine - coarse for fine, coarse in itertools.pairwise(logs)]
    at = sent(ENERGY_QUANTILES, windows.device)
    kept = torch.stack([*(log + 2 for log in logs), *ratios]).masked_fill(~holds, torch.nan)
    parts = list(torch.nanquantile(kept, at, dim=2).permute(1, 2, 0))
    for ratio, coarse in zip(ratios, logs[1:], strict=False):
        weight = 10 ** (2 * coarse) * holds
        mean = (ratio * weight).sum(1) / weight.sum(1).clamp_min(1e-12)
        parts.append(mean[:, None])
    parts.append(torch.stack(peaked, dim=1))
    return torch.nan_to_num(torch.cat(parts, dim=1)) * holds.any(1, keepdim=True)


def _block_rms(windows: Tensor, valid: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return statistics of the second difference of windows, for each block and for the window.

    Returns
    -------
    rms : Tensor, (N, rows, columns)
        Root mean square in each block.
    holds : Tensor, (N, rows, columns), bool
        True for blocks of valid pixels only.
    kurtosis : Tensor, (N,)
        log10 of the kurtosis in the window.
    """
    rows = windows[..., 2:, :] + windows[..., :-2, :] - 2 * windows[..., 1:-1, :]
    inner = ((rows[..., 2:] + rows[..., :-2] - 2 * rows[..., 1:-1]) / 6).square()
    held = torch.ones_like(inner) if all_valid(valid, None) else -F.max_pool2d(-valid, 3, 1)
    energy = F.avg_pool2d(inner, block)[:, 0]
    holds = F.avg_pool2d(held, block)[:, 0] > 0.99
    count = held.sum((1, 2, 3)).clamp_min(1)
    second = (inner * held).sum((1, 2, 3)) / count
    fourth = (inner.square() * held).sum((1, 2, 3)) / count
    kurtosis = torch.log10((fourth + RMS_FLOOR**4) / (second + RMS_FLOOR**2).square())
    return energy.sqrt() + RMS_FLOOR, holds, kurtosis
