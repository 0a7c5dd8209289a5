"""The degradation operator x = D(y): a restored image must give back its input.

One kernel on the output grid holds blur and downsampling filter, so degrading is one strided correlation. For an even
scale the centre of an input pixel lies between two output pixels and the kernel's centre tap sits on the first of
them: unblurred area downsampling has its centre of mass at +0.5.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL_PX = {1: 21, 2: 21, 4: 41}
"""Side of the kernel, in output pixels, per scale."""
BLOCKS = (4, 2, 1)
"""Sides of blocks of pixels computed together, as channels of one convolution: 4 is nine times as fast as 1."""


def redegrade(y: Tensor, kernel: Tensor, scale: int, step: int = 1) -> Tensor:
    """Apply D: D(y)[i] = sum_m k[m] y[scale i + (scale - 1) // 2 + m - k // 2] on both axes.

    Parameters
    ----------
    y : Tensor, (N, 1, scale * H, scale * W)
        Images on the output grid; beyond the border the last pixel repeats.
    kernel : Tensor, (k, k) or (N, k, k)
        Kernel with odd k, one for all or one per image; sums to one.
    scale : int
        Output pixels per input pixel.
    step : int
        Compute only every `step`-th input pixel of both axes, from pixel 0 on.

    Returns
    -------
    Tensor, (N, 1, ceil(H / step), ceil(W / step))
    """
    size = kernel.shape[-1]
    return strided_correlation(y, kernel, scale, step, (scale - 1) // 2 - size // 2)


def strided_correlation(y: Tensor, kernel: Tensor, scale: int, step: int, offset: int) -> Tensor:
    """Correlate at every `step`-th input pixel; tap 0 of input pixel i falls on output pixel scale * i + offset."""
    size, stride = kernel.shape[-1], scale * step
    counts = [-(-length // stride) for length in y.shape[-2:]]
    side = next(n for n in BLOCKS if n * stride <= size or n == 1) if kernel.ndim == 2 else 1
    blocks = [-(-n // side) for n in counts]
    spanned = size + (side - 1) * stride
    after = [
        max(0, side * stride * (n - 1) + offset + spanned - length)
        for n, length in zip(blocks, y.shape[-2:], strict=True)
    ]
    padded = F.pad(y, (-offset, after[1], -offset, after[0]), mode="replicate")
    if side > 1:
        made = F.pixel_shuffle(
            F.conv2d(padded, _side_by_side(kernel, stride, side), stride=side * stride), side
        )
    elif kernel.ndim == 2:
        made = F.conv2d(padded, kernel[None, None], stride=stride)
    else:
        grouped = F.conv2d(padded.transpose(0, 1), kernel[:, None], stride=stride, groups=kernel.shape[0])
        made = grouped.transpose(0, 1)
    return made[..., : counts[0], : counts[1]]


def _side_by_side(kernel: Tensor, stride: int, side: int) -> Tensor:
    """Return a kernel at side x side places, `stride` pixels apart, one in each channel: (side**2, 1, k', k')."""
    places = [(row * stride, column * stride) for row in range(side) for column in range(side)]
    reach = (side - 1) * stride
    return torch.stack([F.pad(kernel, (x, reach - x, y, reach - y)) for y, x in places])[:, None]
