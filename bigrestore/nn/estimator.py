"""The degradation estimator: blur kernel and noise of a section, read off sampled windows.

It looks at 128 x 128 windows of tissue; a section gets one estimate from many windows, once, and its tiles
never estimate anything. Six convolutions with masked moments, the window's power spectrum and the spread of
its fine energy are what is seen of a window. Blur and noise show in the finest frequencies, a hundredth of the
range high: the window's fine part is given to the first convolution enlarged, and the features are pooled by mean
and by log-variance and brought to one scale. Without that the network learns to answer the mean of its training
set whatever it sees.

Windows are merged before they are judged, not after: one window hardly tells a defocus disk from a Gaussian,
and the mean of many unsure answers is a smear that is neither. So what is seen of all windows is averaged, by
learned trust, and one answer is given; the kernel is a softmax, so it is non-negative and sums to one.
"""

from __future__ import annotations

import math

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.nn.code import (
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
FINE_GAIN = 16.0
"""How much the fine part of a window is enlarged: noise of 4 of 255 becomes a quarter of the range."""
SEEN = 2 * WIDTHS[-1] + POWERS + ENERGIES
"""Numbers that are known of a window before any answer."""
HIDDEN = 192
TRIMMED = 0.2
"""Share of a section's windows that is left out, those whose own kernels are least like the others'."""


@attrs.frozen(eq=False)
class Estimate:
    """Estimates of N windows or sets of windows.

    Attributes
    ----------
    log_kernel : Tensor, (N, k, k)
        Log of the kernel.
    scalars : Tensor, (N, 8)
        Scalar codes in the order of `SCALARS`.
    """

    log_kernel: Tensor
    scalars: Tensor

    @property
    def kernel(self) -> Tensor:
        """Kernels, (N, k, k); each sums to one."""
        return self.log_kernel.exp()


class DegradationEstimator(nn.Module):
    """Six convolutions, a merging of windows, and an MLP.

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
        self.norm = nn.LayerNorm(2 * WIDTHS[-1])
        self.embed = nn.Sequential(
            nn.Linear(SEEN, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, HIDDEN), nn.LeakyReLU(0.2)
        )
        self.trust = nn.Linear(HIDDEN, 1)
        self.judge = nn.Sequential(
            nn.Linear(HIDDEN + SEEN + 1, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, HIDDEN)
        )
        self.answer = nn.Linear(HIDDEN, self.kernel_px**2 + len(SCALARS))
        for layer in (self.trust, self.judge[-1]):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, a=0.2)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, windows: Tensor, valid: Tensor | None = None, together: int = 1) -> Estimate:
        """Estimate the degradation of windows, or of sets of windows of one section each.

        Parameters
        ----------
        windows : Tensor, (N * together, 1, h, w), 0..1
            Degraded tissue, input pixels; the windows of a set follow each other.
        valid : Tensor, (N * together, 1, h, w), optional
            1 where a pixel may be believed.
        together : int
            Windows in a set.

        Returns
        -------
        Estimate
            Of N sets.
        """
        return self.merge(self.see(windows, valid).view(-1, together, SEEN))

    def see(self, windows: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return what is seen of each window, (N, 333)."""
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
        return torch.cat(seen, dim=1)

    def merge(self, seen: Tensor) -> Estimate:
        """Give one answer for each set of windows, from what is seen of them, (N, K, 333)."""
        embedded = self.embed(seen)
        share = torch.softmax(self.trust(embedded), dim=1)
        known, plain = (embedded * share).sum(1), (seen * share).sum(1)
        count = torch.full_like(known[:, :1], math.log2(seen.shape[1]) / 4)
        known = known + self.judge(torch.cat([known, plain, count], dim=1))
        out = self.answer(F.leaky_relu(known, 0.2))
        taps = self.kernel_px**2
        log_kernel = F.log_softmax(out[:, :taps], dim=1).view(-1, self.kernel_px, self.kernel_px)
        return Estimate(log_kernel, out[:, taps:])


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


def estimate_section(estimator: DegradationEstimator, basis: KernelBasis, seen: Tensor) -> Estimate:
    """Return the one estimate of a section, N = 1, from what is seen of its windows, (K, 333).

    A fold, an edge out of focus or a foreign body is not the section: the windows whose own kernel codes lie
    farthest from the median of all are left out first.
    """
    codes = basis.encode(estimator.merge(seen[:, None]).kernel)
    distance = (codes - codes.median(dim=0).values).square().sum(1)
    kept = distance.argsort(stable=True)[: len(seen) - int(TRIMMED * len(seen))]
    return estimator.merge(seen[kept.sort().values][None])
