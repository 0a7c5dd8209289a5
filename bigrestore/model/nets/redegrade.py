"""The degradation operator x = D(y): a restored image must give back its input.

One kernel on the output grid holds blur and downsampling filter, so degrading is one strided correlation. For an even
scale the centre of an input pixel lies between two output pixels and the kernel's centre tap sits on the first of
them: unblurred area downsampling has its centre of mass at +0.5.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

KERNEL_PX = {1: 21, 2: 21, 4: 41}
"""Side of the kernel, in output pixels, per scale."""


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
    size = kernel.shape[-1]
    stride = scale * step
    counts = [-(-length // stride) for length in y.shape[-2:]]
    after = [
        max(0, stride * (n - 1) + offset + size - length)
        for n, length in zip(counts, y.shape[-2:], strict=True)
    ]
    padded = F.pad(y, (-offset, after[1], -offset, after[0]), mode="replicate")
    if kernel.ndim == 2:
        return F.conv2d(padded, kernel[None, None], stride=stride)[..., : counts[0], : counts[1]]
    grouped = F.conv2d(padded.transpose(0, 1), kernel[:, None], stride=stride, groups=kernel.shape[0])
    return grouped.transpose(0, 1)[..., : counts[0], : counts[1]]
