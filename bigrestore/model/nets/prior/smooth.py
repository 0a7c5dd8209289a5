"""What the prior's detail is added to: the image without its fine detail.

The prior learns x - L(x) of clean tissue, so that a generated image is L(x) plus the generator's output.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DETAIL_SIGMA_PX = 8.0
"""Standard deviation of L in input pixels: the prior learns finer detail."""
DETAIL_REACH = 3.0
"""L is cut off at this many standard deviations."""


def low_pass(x: Tensor, sigma_px: float) -> Tensor:
    """Smooth (N, 1, H, W) by a Gaussian cut off at three standard deviations; the border repeats."""
    half = round(DETAIL_REACH * sigma_px)
    at = torch.arange(-half, half + 1, device=x.device, dtype=x.dtype)
    taps = torch.exp(-0.5 * (at / sigma_px) ** 2)
    taps = taps / taps.sum()
    padded = F.pad(x, (half, half, half, half), mode="replicate")
    return F.conv2d(F.conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
