"""The losses of the training stages, with their sources.

Images are (N, C, H, W) with grey values 0..1. Losses are computed in float32 even after a network in bfloat16, which has
too few digits for a mean over 10,000 pixels.
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
SQUARED_FROM = 0.65
SQUARED_EPSILON = 0.05
"""From this share of the training on, errors up to this grey value count by their square. PSNR asks for means; the
medians of an L1 lose rare detail, such as the crown of an edge in noise."""


def charbonnier(output: Tensor, target: Tensor, *, epsilon: float = CHARBONNIER_EPSILON) -> Tensor:
    """Return the Charbonnier loss, mean sqrt((output - target)^2 + epsilon^2) - epsilon.

    An L1 that is smooth at zero (Charbonnier et al., ICIP 1994; used for super-resolution by LapSRN, Lai et al., CVPR
    2017). Epsilon is subtracted so that equal images have loss 0.

    Parameters
    ----------
    output, target : Tensor, (N, C, H, W)
    epsilon : float
        Differences below it are nearly squared; 1e-3 is a quarter of a grey level of 8 bits.
    """
    difference = output.float() - target.float()
    return (torch.sqrt(difference * difference + epsilon * epsilon) - epsilon).mean()


def closeness(output: Tensor, target: Tensor, progress: float) -> Tensor:
    """Return the Charbonnier loss: first all but an L1, at last all but a square, of like gradients."""
    if progress < SQUARED_FROM:
        return charbonnier(output, target)
    return 2 * charbonnier(output, target, epsilon=SQUARED_EPSILON)


def pyramid_l1(output: Tensor, target: Tensor, *, levels: int = PYRAMID_LEVELS) -> Tensor:
    """Return the L1 of area-averaged images, averaged over the levels of a pyramid.

    Level j averages blocks of 2^j x 2^j pixels, j = 1 .. `levels`. Averages show errors of the regional grey level,
    which are small beside those of texture in a loss of single pixels.

    Parameters
    ----------
    output, target : Tensor, (N, C, H, W)
        Sides of at least 2^levels.
    levels : int
        Number of levels; 3 give blocks of 2, 4 and 8 pixels.

    Raises
    ------
    UsageError
        The images are smaller than a block of the coarsest level.
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
    """Return the L1 between the amplitudes of orthonormal Fourier transforms.

    Under a loss of single pixels it is safest to leave out fine detail of unknown position. Its amplitude is known better
    than its position, and is compared here without the phase (after the frequency loss of MIMO-UNet, Cho et al., ICCV
    2021).

    Parameters
    ----------
    output, target : Tensor, (N, C, H, W)
    """
    first, second = (torch.fft.rfft2(image.float(), norm="ortho") for image in (output, target))
    return (_amplitude(first) - _amplitude(second)).abs().mean()


def _amplitude(spectrum: Tensor) -> Tensor:
    """Return the amplitude, with a small constant for a finite gradient at zero."""
    return torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-12)


def local_artifact_l1(output: Tensor, target: Tensor, averaged: Tensor) -> Tensor:
    """Return the L1 of the residual, weighted by its local variance where the averaged model is nearer to the target.

    Artifacts are texture that the target does not have: there the residual varies from pixel to pixel. The weight is the
    variance of the residual in 7 x 7 pixels times the fifth root of its variance over the image (Liang et al., "Details or
    Artifacts", CVPR 2022). It is 0 for pixels nearer to the target than the output of the averaged weights: their
    detail is right.

    Parameters
    ----------
    output, target, averaged : Tensor, (N, 1, H, W)
        Output of the network, target, and output of the network with averaged weights.
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

    The biased estimate of Gretton et al., "A kernel two-sample test", JMLR 13, 2012. The kernel is the mean of four
    Gaussians exp(-d^2 / 2 b^2); b is 0.5, 1, 2 and 4 times the median distance between codes of both sets.

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
    """Return the L1 between a critic's features of generated and of real images, averaged over its layers.

    Feature matching (Wang et al., "High-Resolution Image Synthesis with Conditional GANs", CVPR 2018).
    """
    losses = [
        (one.float() - other.detach().float()).abs().mean() for one, other in zip(made, real, strict=True)
    ]
    return torch.stack(losses).mean()


def hinge_critic_loss(real: Tensor, made: Tensor) -> Tensor:
    """Return a critic's hinge loss from its scores of real and generated images (Lim and Ye, "Geometric GAN", 2017)."""
    return (1 - real).clamp_min(0).mean() + (1 + made).clamp_min(0).mean()


def nyquist_lines(patches: Tensor, together: int = 1) -> Tensor:
    """Return log10 of the power at the Nyquist frequency over the power 6 to 24 bins below it.

    A generator that makes several pixels per node by a pixel shuffle can leave a pattern of period 2 px. The power is that
    of Hann-weighted patches without their mean, averaged over all patches before the ratio is taken.

    Parameters
    ----------
    patches : Tensor, (N, 1, H, W)
        Sides of at least 50; an odd last row or column is left out.
    together : int
        Number of consecutive patches whose mean is transformed, at most N. If all patches begin at one phase of the
        generator's grid, a fixed pattern stays in the mean, while the power of texture falls to 1 / `together`. Patterns
        much weaker than the texture become visible.

    Returns
    -------
    Tensor, (3,), float32
        For fx = 0.5 (mean of the ratios over all fy at least 6 bins from Nyquist), for fy = 0.5 likewise, and for
        the 5 x 5 bins around fx = fy = 0.5.

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
    """Return the mean power, (H, W / 2 + 1), with fx = fy = 0.5 first: fx falls to 0, fy runs through all values."""
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
    """Return the mean squared excess of `nyquist_lines` of generated patches over those of real ones.

    An excess of 1 is 10 dB; a negative one counts as 0. It is computed for single patches and for the mean of all generated
    patches, which begin at one phase of the generator's grid. The texture of one patch of 64 px hides a pattern of a
    tenth of a grey level of 8 bits; the mean shows it.

    Parameters
    ----------
    made, real : Tensor, (N, 1, H, W)
        Generated and real patches of one size, sides of at least 50 pixels; `real` gets no gradient.
    """
    with torch.no_grad():
        wanted = nyquist_lines(real)
    excess = torch.cat([nyquist_lines(made, together) - wanted for together in {1, len(made)}])
    return excess.clamp_min(0).square().mean()


def nyquist_db(made: Tensor, wanted: Tensor, together: int) -> float:
    """Return the largest excess of `nyquist_lines` of generated patches over real ones, in dB.

    Parameters
    ----------
    made : Tensor, (N, 1, H, W)
        Generated patches that begin at one phase of the generator's grid.
    wanted : Tensor, (3,)
        `nyquist_lines` of real patches.
    together : int
        Number of patches to average, as in `nyquist_lines`; more than N counts as N.
    """
    lines = nyquist_lines(made, min(together, len(made)))
    return 10 * float((lines - wanted).max())


def psnr_of_each(a: Tensor, b: Tensor) -> Tensor:
    """Return the PSNR of each image of a batch, dB, for a range of 1."""
    return -10 * torch.log10((a - b).square().mean((1, 2, 3)).clamp_min(1e-10))


def kernel_l1(kernel: Tensor, target: Tensor) -> Tensor:
    """Return a tenth of the summed absolute difference of blur kernels: 0 for equal kernels, at most 0.2.

    A sum, because a mean over k x k pixels of kernels that sum to one would depend on k.

    Parameters
    ----------
    kernel, target : Tensor, (N, k, k)
    """
    size = kernel.shape[-1]
    return (kernel.float() - target.float()).abs().mean() * (size * size / 10)
