"""The data step of unrolled restoration: the image nearest to a guess whose degraded form is nearest to the input.

The minimum of |D(x) - y|^2 + alpha |x - z|^2 is x = z + D' (D D' + alpha)^-1 (y - D z), with D' the transpose of the
degradation D. Published forms solve it for a whole periodic image by its Fourier transform (Zhao et al., "Fast
Single Image Super-Resolution Using a New Analytical Solution for l2-l2 Problems", IEEE TIP 2016). Here the inverse is one
short filter on the input grid, computed on a torus: no border is periodic, no transform has the size of a tile, and
damaged pixels are left out of y - D z.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.model.nets.redegrade import redegrade

TORUS_PX = 128
INVERSE_REACH_PX = 32
"""Reach of the inverse to each side, input pixels: 99 % of it for a disk of 2.2 px and alpha 0.01 lies within 22."""
LEAST_ALPHA = 3e-3
"""Below it the inverse reaches further than its taps."""


def inverse_filters(kernel: Tensor, alpha: Tensor, scale: int) -> Tensor:
    """Compute the filters of (D D' + alpha)^-1.

    Parameters
    ----------
    kernel : Tensor, (N, k, k)
        Blur kernels on the output grid, as `redegrade` applies them.
    alpha : Tensor, (N, K)
        Weights of the guess, at least `LEAST_ALPHA`, K for each kernel.
    scale : int
        1, 2 or 4.

    Returns
    -------
    Tensor, (N, K, 65, 65), float32
        Symmetric filters on the input grid.
    """
    side = TORUS_PX * scale
    size = kernel.shape[-1]
    transfer = torch.fft.fft2(F.pad(kernel.double(), (0, side - size, 0, side - size)))
    product = torch.fft.ifft2(transfer.abs().square()).real[:, ::scale, ::scale]
    spectrum = torch.fft.fft2(product).real
    inverse = torch.fft.ifft2(1 / (spectrum[:, None].clamp_min(0) + alpha.double()[..., None, None])).real
    taps = torch.arange(-INVERSE_REACH_PX, INVERSE_REACH_PX + 1, device=kernel.device) % TORUS_PX
    filters: Tensor = inverse[..., taps[:, None], taps[None]].float()
    return filters


def transposed(r: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """Apply D': each input pixel is spread by the kernel over the output grid.

    Parameters
    ----------
    r : Tensor, (N, 1, H, W)
        On the input grid.
    kernel : Tensor, (N, k, k)
        As in `redegrade`, one per image.
    scale : int
        Output pixels per input pixel.

    Returns
    -------
    Tensor, (N, 1, H * scale, W * scale)
    """
    size, count = kernel.shape[-1], len(r)
    spread = F.conv_transpose2d(r.transpose(0, 1), kernel[:, None], stride=scale, groups=count).transpose(
        0, 1
    )
    first = size // 2 - (scale - 1) // 2
    height, width = (length * scale for length in r.shape[-2:])
    return spread[..., first : first + height, first : first + width]


def data_step(z: Tensor, x: Tensor, valid: Tensor, kernel: Tensor, inverse: Tensor, scale: int) -> Tensor:
    """Return the image nearest to a guess and to the input.

    Parameters
    ----------
    z : Tensor, (N, 1, H * scale, W * scale)
        Guess.
    x, valid : Tensor, (N, 1, H, W)
        Input and its validity.
    kernel : Tensor, (N, k, k)
        Blur kernels on the output grid.
    inverse : Tensor, (N, 65, 65)
        Of `inverse_filters`, for one alpha.
    scale : int
        Output pixels per input pixel.
    """
    apart = valid * (x - redegrade(z, kernel, scale))
    half = inverse.shape[-1] // 2
    padded = F.pad(apart, (half, half, half, half))
    shape = padded.shape[-2:]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(inverse, s=shape)[:, None].conj()
    solved = torch.fft.irfft2(spectrum, s=shape)[..., : apart.shape[-2], : apart.shape[-1]]
    return z + transposed(solved, kernel, scale)
