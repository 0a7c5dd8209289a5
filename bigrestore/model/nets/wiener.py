"""Linear deconvolution by the section's own kernel, the starting point of the network.

Given blur kernel and noise, the best linear guess of the sharp image is Wiener's filter, here for a prior with the
falling power of tissue. The U-Net gets three of them, bold to cautious, as differences to the interpolation, and
mixes them pixel by pixel. So it need not learn a deconvolution for every kernel, and a kernel beyond the codes, a
motion blur at some angle, is still undone. A filter is a short FIR, so tiles stay exact.

At x2 and x4 the same formula holds with the aliases of the downsampling in the denominator: the filter is
then a transposed convolution, one small filter per output phase.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BOLDNESS = (0.1, 1.0, 10.0)
"""Factors on the noise variance of the filters: power of fine texture differs fifty-fold among tissues."""
FILTER_REACH_PX = 12
"""Reach of a filter to each side, input pixels."""
FILTER_TORUS_PX = 48
"""Side of the torus for computing filters, input pixels."""
PRIOR_EXPONENT = 1.3
"""The prior's power falls as (f^2 + f0^2) to minus this: tissue of the training set lies between 1.2 and 1.6."""
PRIOR_CORNER = 0.02
PRIOR_LEVEL = 1e-3
"""Power of the prior at a quarter cycle per output pixel (white noise of variance v has power v)."""
TISSUE_GREY = 0.7
"""Grey level, 0..1, for signal-dependent noise."""
SIGMA_FLOOR = 0.4 / 255
"""Rounding to 8 bits alone is noise of 0.29 levels."""


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
    Tensor, (N, 3 * scale**2, 25, 25)
        Correlation filters on the input grid; filter v * scale**2 + py * scale + px makes output phase
        (py, px). Each sums to one.

    Notes
    -----
    W(f) = conj(H) S / (sum over aliases |H|^2 S / scale^2 + sigma^2), S the prior's power: the linear
    minimum-mean-square estimate of Wiener (1949), with the aliases of the sampling lattice.
    """
    side = FILTER_TORUS_PX * scale
    size = kernel.shape[-1]
    offset = (scale - 1) // 2 - size // 2
    placed = F.pad(kernel, (0, side - size, 0, side - size)).roll((offset, offset), (-2, -1))
    transfer = torch.fft.fft2(placed).conj()
    frequency = torch.fft.fftfreq(side, device=kernel.device)
    squared = frequency[:, None] ** 2 + frequency[None] ** 2
    power = ((squared + PRIOR_CORNER**2) / (0.25**2 + PRIOR_CORNER**2)) ** -PRIOR_EXPONENT * PRIOR_LEVEL
    seen = transfer.abs().square() * power
    folded = (
        seen.view(-1, scale, FILTER_TORUS_PX, scale, FILTER_TORUS_PX).sum((1, 3)).repeat(1, scale, scale)
        / scale**2
    )
    noise = sigma.clamp_min(SIGMA_FLOOR).square()[:, None] * torch.tensor(BOLDNESS, device=kernel.device)
    response = (transfer.conj() * power)[:, None] / (folded[:, None] + noise[..., None, None])
    impulse = torch.fft.ifft2(response).real
    return _phases(impulse, scale)


def tissue_sigma(noise_gain: Tensor, read_noise: Tensor) -> Tensor:
    """Return the noise standard deviation in tissue, sqrt(noise_gain * 0.7 + read_noise**2)."""
    return torch.sqrt(TISSUE_GREY * noise_gain + read_noise.square())


def deconvolve(x: Tensor, valid: Tensor, filters: Tensor, scale: int) -> Tensor:
    """Apply filters to images.

    Parameters
    ----------
    x, valid : Tensor, (N, 1, H, W)
        Grey values and validity; damaged pixels are filled from their surroundings first.
    filters : Tensor, (1 or N, 3 * scale**2, t, t)
        From `wiener_filters`.
    scale : int
        1, 2 or 4.

    Returns
    -------
    Tensor, (N, 3, H * scale, W * scale)
    """
    taps = filters.shape[-1]
    half = taps // 2
    padded = F.pad(_fill_damage(x, valid), (half, half, half, half), mode="replicate")
    shape = padded.shape[-2:]
    # Correlation: the conjugate of the filter's transform; the result stands at the filter's first tap.
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(filters, s=shape).conj()
    images = torch.fft.irfft2(spectrum, s=shape)[..., : x.shape[-2], : x.shape[-1]]
    return images if scale == 1 else F.pixel_shuffle(images, scale)


def _phases(impulse: Tensor, scale: int) -> Tensor:
    """Split impulse responses (N, V, side, side) into correlation filters per output phase, each summing to one.

    y[scale i + p] = sum_j h[scale (i - j) + p] x[j]: tap m of phase p is h[p - scale m], m from -12 to 12.
    """
    side = impulse.shape[-1]
    m = torch.arange(-FILTER_REACH_PX, FILTER_REACH_PX + 1, device=impulse.device)
    p = torch.arange(scale, device=impulse.device)
    at = torch.remainder(p[:, None] - scale * m[None], side)  # (scale, taps)
    filters = impulse[:, :, at[:, None, :, None], at[None, :, None, :]]  # N, V, scale, scale, taps, taps
    taper = torch.cos(0.5 * torch.pi * (m.abs() / (FILTER_REACH_PX + 1)) ** 4)
    filters = filters * taper[:, None] * taper[None]
    filters = filters / filters.sum((-2, -1), keepdim=True)
    return filters.flatten(1, 3)


def _fill_damage(x: Tensor, valid: Tensor) -> Tensor:
    """Replace damaged pixels by the mean of the valid ones around them."""
    if bool((valid == 1).all()):
        return x
    near = F.avg_pool2d(x * valid, 17, 1, 8) / F.avg_pool2d(valid, 17, 1, 8).clamp_min(1e-3)
    return torch.where(valid > 0.5, x, near)
