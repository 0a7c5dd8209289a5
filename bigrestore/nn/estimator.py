"""The degradation estimator: blur kernel and noise of a section, read off sampled windows.

It looks at 128 x 128 windows of tissue; a section gets the robust mean of many windows, once, and its
tiles never estimate anything. Six convolutions with masked moments, the window's power spectrum and the
spread of its fine energy go into an MLP; the kernel is a softmax, so it is non-negative and sums to one.
Blur and noise show in the finest frequencies, a hundredth of the range high: the window's fine part is given
to the first convolution enlarged, and the features are pooled by mean and by log-variance and brought to one
scale. Without that the network learns to answer the mean of its training set whatever it sees. Beside each
code it predicts a log-variance, so that a window without structure counts less.
"""

from __future__ import annotations

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.nn.code import (
    KERNEL_CODES,
    Degradations,
    KernelBasis,
    code_to_gain,
    code_to_read,
)
from bigrestore.nn.local_energy import FEATURES as ENERGIES
from bigrestore.nn.local_energy import energy_quantiles
from bigrestore.nn.redegrade import KERNEL_PX
from bigrestore.nn.spectrum import FEATURES as POWERS
from bigrestore.nn.spectrum import polar_spectrum

WIDTHS = (32, 32, 64, 64, 96, 96)
STRIDES = (1, 2, 1, 2, 1, 1)
SCALARS = ("noise_gain", "read_noise", "jpeg", "banding", "jitter", "damage", "defocus", "thickness")
"""Order of the scalar codes; each is the entry of psi of the same meaning."""
PSI_INDEX = (10, 11, 12, 13, 14, 15, 19, 20)
FINE_GAIN = 16.0
"""How much the fine part of a window is enlarged: noise of 4 of 255 becomes a quarter of the range."""
TRIMMED = 0.1
"""Share of the windows left out at each end of every number before averaging."""


@attrs.frozen(eq=False)
class Estimate:
    """Estimates of N windows.

    Attributes
    ----------
    log_kernel : Tensor, (N, k, k)
        Log of the kernel.
    scalars : Tensor, (N, 8)
        Scalar codes in the order of `SCALARS`.
    log_variance : Tensor, (N, 18)
        Log-variance of the ten kernel codes and the eight scalar codes.
    """

    log_kernel: Tensor
    scalars: Tensor
    log_variance: Tensor

    @property
    def kernel(self) -> Tensor:
        """Kernels, (N, k, k); each sums to one."""
        return self.log_kernel.exp()


class DegradationEstimator(nn.Module):
    """Six convolutions and an MLP.

    Parameters
    ----------
    scale : int
        Decides the size of the kernel.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.kernel_px = KERNEL_PX[scale]
        widths = (3, *WIDTHS)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride, padding=1)
            for a, b, stride in zip(widths, WIDTHS, STRIDES, strict=False)
        )
        outputs = self.kernel_px**2 + len(SCALARS) + KERNEL_CODES + len(SCALARS)
        self.norm = nn.LayerNorm(2 * WIDTHS[-1])
        self.mlp = nn.Sequential(
            nn.Linear(2 * WIDTHS[-1] + POWERS + ENERGIES, 192),
            nn.LeakyReLU(0.2),
            nn.Linear(192, 192),
            nn.LeakyReLU(0.2),
            nn.Linear(192, outputs),
        )
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, a=0.2)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, windows: Tensor, valid: Tensor | None = None) -> Estimate:
        """Estimate the degradation of each window.

        Parameters
        ----------
        windows : Tensor, (N, 1, h, w), 0..1
            Degraded tissue, input pixels.
        valid : Tensor, (N, 1, h, w), optional
            1 where a pixel may be believed.

        Returns
        -------
        Estimate
        """
        valid = torch.ones_like(windows) if valid is None else valid
        known = F.avg_pool2d(valid, 5, 1, 2).clamp_min(1e-3)
        fine = (windows - F.avg_pool2d(windows * valid, 5, 1, 2) / known) * valid
        stacked = torch.cat([(windows - 0.5) * valid, FINE_GAIN * fine, valid], dim=1)
        h = stacked.contiguous(memory_format=torch.channels_last)
        for conv in self.convs:
            h = F.leaky_relu(conv(h), 0.2, inplace=True)
        weight = F.adaptive_avg_pool2d(valid, (h.shape[-2], h.shape[-1])).to(h.dtype)
        total = weight.sum((2, 3), keepdim=True).clamp_min(1e-3)
        mean = (h * weight).sum((2, 3), keepdim=True) / total
        variance = ((h - mean).square() * weight).sum((2, 3), keepdim=True) / total
        moments = torch.cat([mean, 0.5 * torch.log(variance + 1e-6)], dim=1).flatten(1)
        seen = [self.norm(moments), polar_spectrum(windows, valid), energy_quantiles(windows, valid)]
        out = self.mlp(torch.cat(seen, dim=1))
        taps = self.kernel_px**2
        log_kernel = F.log_softmax(out[:, :taps], dim=1).view(-1, self.kernel_px, self.kernel_px)
        scalars = out[:, taps : taps + len(SCALARS)]
        return Estimate(log_kernel, scalars, out[:, taps + len(SCALARS) :].clamp(-8, 4))


def degradations_of(estimate: Estimate) -> Degradations:
    """Translate scalar codes back to physical numbers."""
    code = dict(zip(SCALARS, estimate.scalars.unbind(1), strict=True))
    jpeg = code["jpeg"].clamp(0, 1)
    return Degradations(
        kernel=estimate.kernel,
        noise_gain=code_to_gain(code["noise_gain"].clamp(-1, 1)),
        read_noise=code_to_read(code["read_noise"].clamp(-1, 1)),
        jpeg_quality=torch.where(jpeg > 0.03, 100 - 60 * jpeg, torch.zeros_like(jpeg)),
        banding=code["banding"].clamp(0, 1.5) * 0.04,
        jitter_px=code["jitter"].clamp(0, 1.5) * 0.4,
        damage=code["damage"].clamp(0, 1),
        defocus=code["defocus"].clamp(0, 1),
        thickness_px=code["thickness"].clamp(0, 2) * 4,
    )


def section_mean(estimate: Estimate, basis: KernelBasis) -> Estimate:
    """Merge the estimates of a section's windows into one (N = 1), weighting each by its inverse variance.

    The scalars are trimmed by a tenth at each end first; the kernel's weights are those of its codes, the
    windows farthest from the median code being left out in the same share.
    """
    count = len(estimate.scalars)
    cut = int(TRIMMED * count)
    weight = torch.exp(-estimate.log_variance[:, KERNEL_CODES:])
    order = estimate.scalars.argsort(dim=0)[cut : count - cut]
    kept, weight = estimate.scalars.gather(0, order), weight.gather(0, order)
    scalars = (kept * weight).sum(0, keepdim=True) / weight.sum(0, keepdim=True)
    codes = basis.encode(estimate.kernel)
    distance = (codes - codes.median(dim=0).values).square().sum(1)
    near = distance.argsort()[: count - 2 * cut]
    trust = torch.exp(-estimate.log_variance[near, :KERNEL_CODES].mean(1))
    kernel = (estimate.kernel[near] * trust[:, None, None]).sum(0, keepdim=True) / trust.sum()
    log_kernel = torch.log(kernel.clamp_min(1e-12))
    return Estimate(log_kernel, scalars, estimate.log_variance.mean(0, keepdim=True))
