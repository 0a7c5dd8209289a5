"""The blur kernels of an estimate: generalised Gaussians, from pointed to flat-topped.

A kernel has five parameters: width, elongation, direction of the elongation (these two as a pair of numbers), and a
shape exponent. The exponent covers the pointed blur of a thick section, the Gaussian and the defocus disk. A power
spectrum shows no more of a kernel. Unlike a kernel with every pixel free, it is centred, symmetric and without far
tails.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST_SHAPE, HIGHEST_SHAPE = 0.5, 6.0
"""Exponent of the generalised Gaussian: 1 is the Gaussian, 6 nearly a disk."""
LEAST_SIGMA_PX = 0.03
FARTHEST_TAP = 60.0
"""Largest e in a tap exp(-e); beyond it the tap is practically zero."""


def blur_kernels(sigma: Tensor, stretch: Tensor, shape: Tensor, size: int) -> Tensor:
    """Return generalised Gaussians exp(-(c d^2)^shape / 2), sampled at pixel centres.

    Parameters
    ----------
    sigma : Tensor, (N,)
        Root mean square width per axis, pixels.
    stretch : Tensor, (N, 2)
        (a cos 2t, a sin 2t): the width is sigma * exp(a / 2) along direction t and sigma * exp(-a / 2) across it.
    shape : Tensor, (N,)
        Exponent, `LOWEST_SHAPE` .. `HIGHEST_SHAPE`.
    size : int
        Side of the kernels.

    Returns
    -------
    Tensor, (N, size, size)
        Each sums to one.

    Notes
    -----
    With d^2 in units of sigma, c(shape) = 2^(1/shape) Gamma(2/shape) / (2 Gamma(1/shape)) makes the second moment
    per axis sigma^2: for exp(-(c d^2)^b / 2) in the plane, E[d^2] = 2^(1/b) Gamma(2/b) / (c Gamma(1/b)).
    """
    at = torch.arange(size, device=sigma.device, dtype=sigma.dtype) - size // 2
    y, x = at[:, None], at[None, :]
    amount = stretch.square().sum(1).clamp_min(1e-12).sqrt()
    along, cross = torch.cosh(amount), torch.sinh(amount) / amount
    # The inverse covariance: cosh(a) - sinh(a) (cos 2t, sin 2t), in units of 1 / sigma^2.
    xx = (along - cross * stretch[:, 0])[:, None, None]
    yy = (along + cross * stretch[:, 0])[:, None, None]
    xy = (cross * stretch[:, 1])[:, None, None]
    squared = (xx * x * x + yy * y * y - 2 * xy * x * y) / sigma.square()[:, None, None]
    power = shape[:, None, None]
    inverse = 1 / shape
    norm = 0.5 * torch.exp(
        inverse * torch.log(torch.tensor(2.0)) + torch.lgamma(2 * inverse) - torch.lgamma(inverse)
    )
    exponent = 0.5 * (norm[:, None, None] * squared).clamp_min(1e-8) ** power
    taps = torch.exp(-exponent.clamp_max(FARTHEST_TAP))
    return taps / taps.sum((1, 2), keepdim=True)


def averaged(kernels: Tensor, scale: int) -> Tensor:
    """Convolve kernels, (N, k, k), with the mean of scale x scale pixels, as `area` downsampling does.

    The centre of an even mean lies half a pixel beyond the middle tap, and the first row and column stay empty
    (`bigrestore.core.kernels`).
    """
    first = -((scale - 1) // 2)
    for axis in (1, 2):
        kernels = torch.stack([kernels.roll(first + k, axis) for k in range(scale)]).mean(0)
    if scale % 2:
        return kernels
    inside = torch.ones_like(kernels[:1])
    inside[:, 0], inside[:, :, 0] = 0, 0
    dropped = (kernels * (1 - inside)).sum((1, 2), keepdim=True)
    return kernels * inside / (1 - dropped)


def widths(kernels: Tensor) -> Tensor:
    """Return the equivalent sigma of kernels (N, k, k): the root mean second moment per axis, pixels, (N,)."""
    size = kernels.shape[-1]
    at = torch.arange(size, device=kernels.device, dtype=kernels.dtype)
    along_y, along_x = kernels.sum(2), kernels.sum(1)
    variances = [(p * at**2).sum(1) - (p * at).sum(1) ** 2 for p in (along_y, along_x)]
    return torch.sqrt((0.5 * (variances[0] + variances[1])).clamp_min(1e-6))
