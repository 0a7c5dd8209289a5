"""How fine energy is spread over a window: its quantiles over small blocks.

Noise is everywhere, texture is not: the calmest blocks of a window bound its noise from above, and the
liveliest show how sharp an edge can be. A mean over the window, such as a spectrum or a pooled feature,
tells neither; heavy noise on a sharp section looks to it like rich texture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK_PX = 8
QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
FEATURES = 3 * len(QUANTILES)
FLOOR = 1e-4


def energy_quantiles(windows: Tensor, valid: Tensor) -> Tensor:
    """Return quantiles over blocks of 8 x 8 pixels of the fine amplitude, of the next octave's, and of their ratio.

    The amplitude is the root mean square of the second difference along both axes (the mask of Immerkaer,
    "Fast noise variance estimation", 1996), on the window and on its 2 x 2 means, each scaled so that white
    noise keeps its standard deviation.

    Parameters
    ----------
    windows, valid : Tensor, (N, 1, h, w)
        Grey values 0..1, and 1 where they may be believed. A block that holds any other pixel is left out.

    Returns
    -------
    Tensor, (N, 21), float32
        log10 of the amplitudes plus 2, and log10 of the ratios: about -2 .. 2. Zero for a window without
        any whole block.
    """
    second = torch.tensor([1.0, -2.0, 1.0], device=windows.device)
    mask = (torch.outer(second, second) / 6)[None, None]
    fine, fine_holds = _block_rms(windows, valid, mask, BLOCK_PX)
    halved, halved_valid = 2 * F.avg_pool2d(windows, 2), (F.avg_pool2d(valid, 2) > 0.99).to(valid.dtype)
    coarse, coarse_holds = _block_rms(halved, halved_valid, mask, BLOCK_PX // 2)
    rows, columns = (min(a, b) for a, b in zip(fine.shape[-2:], coarse.shape[-2:], strict=True))
    fine, coarse = torch.log10(fine[:, :rows, :columns]), torch.log10(coarse[:, :rows, :columns])
    holds = (fine_holds[:, :rows, :columns] & coarse_holds[:, :rows, :columns]).flatten(1)
    at = torch.tensor(QUANTILES, device=windows.device)
    found = []
    for values in (fine + 2, coarse + 2, fine - coarse):
        kept = values.flatten(1).masked_fill(~holds, torch.nan)
        found.append(torch.nanquantile(kept, at, dim=1).T)
    return torch.nan_to_num(torch.cat(found, dim=1))


def _block_rms(windows: Tensor, valid: Tensor, mask: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Return the root mean square of the masked window per block, (N, rows, columns), and which blocks are whole."""
    squared = F.conv2d(windows, mask, padding=1).square()
    whole = -F.max_pool2d(-valid, 3, 1, 1)
    energy = F.avg_pool2d(squared[..., 1:-1, 1:-1], block)[:, 0]
    holds = F.avg_pool2d(whole[..., 1:-1, 1:-1], block)[:, 0] > 0.99
    return energy.sqrt() + FLOOR, holds
