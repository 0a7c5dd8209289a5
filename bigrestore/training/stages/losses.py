"""The losses of the stages, each one line of mathematics with its source.

All take float32 images (N, C, H, W) in grey values 0..1 and compute in float32 whatever the network ran in: in
bfloat16 the last three digits of a mean over 10,000 pixels are noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from bigrestore.errors import UsageError
from bigrestore.training.data.windows import local_mean

CHARBONNIER_EPSILON = 1e-3
PYRAMID_LEVELS = 3
ARTIFACT_PX = 7
BANDWIDTHS = (0.5, 1.0, 2.0, 4.0)
NYQUIST_REACH = 2
"""Bins about Nyquist along both axes, the corner of the spectrum."""
NYQUIST_NEAR, NYQUIST_FAR = 6, 25
"""First and last bin (exclusive) beside Nyquist, for comparison."""
LINE_POWER_FLOOR = 1e-9


def charbonnier(output: Tensor, target: Tensor, *, epsilon: float = CHARBONNIER_EPSILON) -> Tensor:
    """Return the Charbonnier loss, mean sqrt((output - target)^2 + epsilon^2) - epsilon.

    An L1 with a round bottom (Charbonnier et al., ICIP 1994; in super-resolution since LapSRN, Lai et al., CVPR
    2017). The constant epsilon is subtracted: equal images have the loss 0.

    Parameters
    ----------
    output, target : Tensor, (N, C, H, W)
    epsilon : float
        Half-width of the round bottom, in grey values; 1e-3 is a quarter of an 8-bit step.
    """
    difference = output.float() - target.float()
    return (torch.sqrt(difference * difference + epsilon * epsilon) - epsilon).mean()


def pyramid_l1(output: Tensor, target: Tensor, *, levels: int = PYRAMID_LEVELS) -> Tensor:
    """Return the mean over pyramid levels of the L1 of area-averaged images.

    Level j averages blocks of 2^j pixels (1/2, 1/4, 1/8 of the size by default). Only errors in regional grey remain
    there; a pixel loss hardly sees them under texture.

    Parameters
    ----------
    output, target : Tensor, (N, C, H, W)
        Both sides at least 2^levels.
    levels : int
        Number of levels.

    Raises
    ------
    UsageError
        The images are smaller than a block of the last level.
    """
    if min(output.shape[-2:]) < 2**levels:
        raise UsageError(
            f"A pyramid of {levels} levels needs images of {2**levels} pixels, not "
            f"{tuple(output.shape[-2:])}; take a larger patch."
        )
    difference = output.float() - target.float()
    total = difference.new_zeros(())
    for _ in range(levels):
        difference = avg_pool2d(difference, 2)
        total = total + difference.abs().mean()
    return total / levels


def fft_amplitude_l1(output: Tensor, target: Tensor) -> Tensor:
    """Return the L1 between the amplitudes of the Fourier transforms (orthonormal).

    A pixel loss forgives a missing high frequency, because its place is unpredictable; its amplitude is not (an
    amplitude form of the frequency loss of MIMO-UNet, Cho et al., ICCV 2021).

    Parameters
    ----------
    output, target : Tensor, (N, C, H, W)
    """
    first, second = (torch.fft.rfft2(image.float(), norm="ortho") for image in (output, target))
    return (_amplitude(first) - _amplitude(second)).abs().mean()


def _amplitude(spectrum: Tensor) -> Tensor:
    """Return the amplitude, with a finite gradient at zero."""
    return torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-12)


def local_artifact_l1(output: Tensor, target: Tensor, averaged: Tensor) -> Tensor:
    """Return the L1 weighted by the local variance of the residual; 0 at pixels better than the averaged model.

    Invented texture shows as a residual varying from pixel to pixel. Its weight is the variance of the residual in 7
    x 7 pixels times the fifth root of its variance over the image (Liang et al., "Details or Artifacts", CVPR 2022).
    Pixels nearer to the target than those of the running average are left alone: there the adversary is right.

    Parameters
    ----------
    output, target, averaged : Tensor, (N, 1, H, W)
        The output, its target, and the output of the averaged weights.
    """
    residual = target.float() - output.float()
    with torch.no_grad():
        still = residual.detach()
        mean = local_mean(still, ARTIFACT_PX)
        local = (local_mean(still.square(), ARTIFACT_PX) - mean.square()).clamp_min(0)
        whole = still.var(dim=(1, 2, 3), keepdim=True)
        worse = still.abs() >= (target - averaged).abs()
        weight = local * whole.pow(0.2) * worse
    return (weight * residual).abs().mean()


def code_discrepancy(codes: Tensor, wanted: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy of two sets of codes, 0 for equal sets.

    Radial kernels exp(-d^2 / 2 b^2) of four bandwidths b, {0.5, 1, 2, 4} times the median distance of the codes
    of both sets; their mean (Gretton et al., "A kernel two-sample test", JMLR 13, 2012; the biased estimate).

    Parameters
    ----------
    codes, wanted : Tensor, (n, L) and (m, L)
    """
    both = torch.cat([codes.float(), wanted.float()])
    lengths = both.square().sum(1)
    squared = (lengths[:, None] + lengths - 2 * both @ both.T).clamp_min(0)
    with torch.no_grad():
        rows, columns = torch.triu_indices(len(both), len(both), 1, device=both.device)
        median = squared[rows, columns].median().clamp_min(1e-12)
    kernel = torch.stack([torch.exp(-squared / (2 * median * b * b)) for b in BANDWIDTHS]).mean(0)
    n = len(codes)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def feature_l1(made: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Return the mean over layers of the L1 between a critic's features of made and of real images.

    Feature matching (Wang et al., "High-Resolution Image Synthesis with Conditional GANs", CVPR 2018).
    """
    losses = [
        (one.float() - other.detach().float()).abs().mean() for one, other in zip(made, real, strict=True)
    ]
    return torch.stack(losses).mean()


def hinge_critic_loss(real: Tensor, made: Tensor) -> Tensor:
    """Return the critic's hinge loss from its judgements of real and made (Lim and Ye, "Geometric GAN", 2017)."""
    return (1 - real).clamp_min(0).mean() + (1 + made).clamp_min(0).mean()


def nyquist_lines(patches: Tensor, together: int = 1) -> Tensor:
    """Return the power of patches at Nyquist over the power 6 to 24 bins away, as log10.

    A generator shuffling several pixels out of a node leaves a pattern of period 2 px at misfits. Power is that of
    Hann-weighted patches without their mean, averaged over the patches before the ratio.

    Parameters
    ----------
    patches : Tensor, (N, 1, H, W)
        Sides of at least 50; an odd last row or column is left out.
    together : int
        How many patches in a row are averaged before the transform, N at least. Where all begin at one phase of the
        generator's grid, its fixed pattern stays while texture falls by `together`: patterns far below the
        texture of one patch show.

    Returns
    -------
    Tensor, (3,), float32
        Along x (fx = 0.5), mean of the ratio over all fy at least 6 bins off Nyquist; along y; and along both: the
        5 x 5 bins about fx = fy = 0.5.

    Raises
    ------
    UsageError
        The patches are smaller than 50 pixels.
    """
    power = _power_from_nyquist(patches, together)
    beside = slice(NYQUIST_NEAR, NYQUIST_FAR)
    both_sides = torch.cat([power[beside], power[1 - NYQUIST_FAR : 1 - NYQUIST_NEAR]])
    off_y, off_x = slice(NYQUIST_NEAR, 1 - NYQUIST_NEAR), slice(NYQUIST_NEAR, None)
    corner = torch.cat([power[: NYQUIST_REACH + 1], power[-NYQUIST_REACH:]])[:, : NYQUIST_REACH + 1]
    ratios = (
        (power[off_y, 0] / power[off_y, beside].mean(1)).mean(),
        (power[0, off_x] / both_sides[:, off_x].mean(0)).mean(),
        corner.mean() / both_sides[:, beside].mean(),
    )
    return torch.log10(torch.stack(ratios))


def _power_from_nyquist(patches: Tensor, together: int) -> Tensor:
    """Return the mean power, (H, W / 2 + 1): rows from fy = 0.5 on, around; columns from fx = 0.5 down to 0."""
    height, width = (side - side % 2 for side in patches.shape[-2:])
    if min(height, width) < 2 * NYQUIST_FAR:
        raise UsageError(
            f"Lines at Nyquist are measured on patches of at least {2 * NYQUIST_FAR} pixels, not {height} x {width}; "
            "take a larger patch."
        )
    count = len(patches) - len(patches) % together
    images = patches[:count, 0, :height, :width].float()
    sets = images.reshape(-1, together, height, width).mean(1)
    taper = torch.outer(*(torch.hann_window(side, device=sets.device) for side in (height, width)))
    spectrum = torch.fft.rfft2((sets - sets.mean((1, 2), keepdim=True)) * taper)
    power: Tensor = (spectrum.real.square() + spectrum.imag.square()).mean(0) + LINE_POWER_FLOOR
    return power.roll(-(height // 2), 0).flip(1)


def nyquist_penalty(made: Tensor, real: Tensor) -> Tensor:
    """Return the mean squared excess of the lines at Nyquist of made patches over those of real ones, 0 below.

    The excess is one of log10 of power: 1 is 10 dB. It is taken patch by patch and of the mean of all made patches,
    all at one phase of the generator's grid: the texture of a patch of 64 px drowns a pattern of a tenth of a grey
    level of 8 bits, but a section's mean does not.

    Parameters
    ----------
    made, real : Tensor, (N, 1, H, W)
        Patches of one size, at least 50 pixels; no gradient passes into `real`.
    """
    with torch.no_grad():
        wanted = nyquist_lines(real)
    excess = torch.cat([nyquist_lines(made, together) - wanted for together in {1, len(made)}])
    return excess.clamp_min(0).square().mean()


def nyquist_db(made: Tensor, wanted: Tensor, together: int) -> float:
    """Return the excess, in dB, of the strongest line at Nyquist of made patches over real ones.

    Parameters
    ----------
    made : Tensor, (N, 1, H, W)
        All begin at one phase of the generator's grid.
    wanted : Tensor, (3,)
        `nyquist_lines` of real patches.
    together : int
        Number of made patches to average, at most all.
    """
    lines = nyquist_lines(made, min(together, len(made)))
    return 10 * float((lines - wanted).max())


def psnr_of_each(a: Tensor, b: Tensor) -> Tensor:
    """Return the PSNR of each image of a batch, dB, for a range of 1."""
    return -10 * torch.log10((a - b).square().mean((1, 2, 3)).clamp_min(1e-10))


def kernel_l1(kernel: Tensor, target: Tensor) -> Tensor:
    """Return the L1 of blur kernels, times k^2 / 10.

    The mean over the k x k pixels of kernels summing to one shrinks with k^2; the factor makes it a tenth of the
    summed difference, 0 for equal kernels and at most 0.2, for any size.

    Parameters
    ----------
    kernel, target : Tensor, (N, k, k)
    """
    size = kernel.shape[-1]
    return (kernel.float() - target.float()).abs().mean() * (size * size / 10)
