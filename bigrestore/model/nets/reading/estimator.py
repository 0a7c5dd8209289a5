"""The degradation estimator: blur kernel and noise of a section, from image statistics of its windows.

Input are 128 x 128 windows of tissue. Each section is estimated once, from many windows; tiles are never used. For each
window, fixed statistics are computed: the polar power spectrum, quantiles of the high-frequency amplitude, JPEG
blocking and grey levels. A small network takes the statistics of all windows and returns a kernel of five parameters
(`kernel_family`), the noise, and the standard error of the width.

One estimator serves all scales. It estimates the blur on the input grid, without the averaging over one input pixel. At
x2 and x4 the kernel on the output grid is that blur, wider by the scale, convolved with the averaging.

The network combines the statistics of all windows before it estimates anything: a single window hardly distinguishes a
defocus disk from a Gaussian, and the mean of uncertain estimates would be neither. It is given plain means, standard
deviations, means of the power, and means with learned weights.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bigrestore.model.nets.code import Degradations, code_to_gain, code_to_read, read_to_code
from bigrestore.model.nets.reading import blockiness, local_energy, spectrum
from bigrestore.model.nets.reading.kernel_family import (
    HIGHEST_SHAPE,
    LEAST_SIGMA_PX,
    LOWEST_SHAPE,
    averaged,
    blur_kernels,
)
from bigrestore.model.nets.redegrade import KERNEL_PX

SCALARS = ("noise_gain", "read_noise", "jpeg", "banding", "jitter", "damage", "defocus", "thickness")
"""Scalar outputs in their order, coded as the entries of psi of the same names."""
GREYS = 5
JUDGED = spectrum.SPECTRUM_FEATURES + local_energy.ENERGY_FEATURES + GREYS
"""Statistics that the network takes of each window."""
SEEN = JUDGED + blockiness.STEP_FEATURES
"""Statistics of a window; those of JPEG blocking are averaged over the windows first."""
HIDDEN_UNITS = 256
WINDOWS_AT_ONCE = 16
"""Windows of a section whose statistics are computed together."""
KERNEL_NUMBERS = 4
"""Outputs for the kernel: width, stretch (two, which hold the direction as well) and shape."""
WIDEST_SIGMA_PX = 5.0
MOST_STRETCH = 2.0
CAUTION = 0.9
"""Share of the estimated width that is undone: undoing a blur too far rings, undoing too little leaves some of it. On
crops of soft and noisy images of 21 tissues, 0.9 and 0.95 gain the same in the mean (2.16 and 2.14 dB), but the worst
loss against the best width is 1.0 dB instead of 1.5."""
UNSEEN = 2.0
"""Factor on the estimated standard error, which is trained on tissue of the training set: on other tissue errors are
larger. With each of eight kinds of tissue left out in turn, 1.25 covers 68 % of the errors; on the validation images 2 does.
"""
STANDARD_ERROR_PX = 0.1
"""Standard error, in input pixels, that is added in square: sharp tissues differ in the slope of their spectra, and a very
narrow blur shows as slope alone."""
LOWEST_OF_WHITE = 0.71
"""Lowest quantile of the amplitude of the blocks of a window (`local_energy.ENERGY_QUANTILES`) under white noise alone, over
its standard deviation."""
TRIMMED = 0.1
"""Share of a section's windows left out: the farthest from the median width."""


@attrs.frozen(eq=False)
class DegradationEstimate:
    """Estimates for N windows, or N sets of windows.

    Attributes
    ----------
    sigma, sigma_error : Tensor, (N,)
        Root mean square width of the blur per axis and its standard error, input pixels; at x2 and x4 without the
        averaging of an input pixel.
    stretch, shape : Tensor, (N, 2) and (N,)
        See `bigrestore.model.nets.reading.kernel_family.blur_kernels`.
    scalars : Tensor, (N, 8)
        Scalar codes in the order of `SCALARS`.
    """

    sigma: Tensor
    sigma_error: Tensor
    stretch: Tensor
    shape: Tensor
    scalars: Tensor

    def kernel(self, scale: int) -> Tensor:
        """Return the kernels on the output grid of a scale, (N, k, k), the averaging of a pixel included."""
        fine = blur_kernels(scale * self.sigma, self.stretch, self.shape, KERNEL_PX[scale])
        return averaged(fine, scale)


class DegradationEstimator(nn.Module):
    """An MLP on fixed statistics of windows: one part for each window, one for the set."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(JUDGED))
        self.register_buffer("spread", torch.ones(JUDGED))
        self.embed = nn.Sequential(
            nn.Linear(JUDGED, HIDDEN_UNITS),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS),
            nn.LeakyReLU(0.2),
        )
        self.weight = nn.Linear(HIDDEN_UNITS, 1)
        known = HIDDEN_UNITS + 2 * JUDGED + spectrum.SPECTRUM_FEATURES + blockiness.STEP_FEATURES + 1
        self.judge = nn.Sequential(
            nn.Linear(known, HIDDEN_UNITS),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN_UNITS, KERNEL_NUMBERS + 1 + len(SCALARS)),
        )
        for layer in (self.weight, self.judge[-1]):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def fit_inputs(self, seen: Tensor) -> None:
        """Store mean and standard deviation of window statistics, (n, SEEN), to normalise inputs by."""
        judged = seen[:, :JUDGED]
        self.mean.copy_(judged.mean(0))
        self.spread.copy_(judged.std(0).clamp_min(1e-3))

    def forward(self, windows: Tensor, valid: Tensor | None = None, together: int = 1) -> DegradationEstimate:
        """Estimate the degradation of N sets of windows, each of one section.

        Parameters
        ----------
        windows : Tensor, (N * together, 1, h, w), 0..1
            Degraded tissue on the input grid; the windows of a set follow each other.
        valid : Tensor, (N * together, 1, h, w), optional
            1 for valid pixels.
        together : int
            Windows in a set.

        Returns
        -------
        DegradationEstimate
            One estimate for each set.
        """
        return self.merge(see(windows, valid).view(-1, together, SEEN))

    def merge(self, seen: Tensor) -> DegradationEstimate:
        """Return one estimate for each set of windows, from their statistics, (N, K, SEEN)."""
        judged = (seen[..., :JUDGED] - self.mean) / self.spread
        powers = seen[..., : spectrum.SPECTRUM_FEATURES]
        embedded = self.embed(judged)
        share = torch.softmax(self.weight(embedded), dim=1)
        mean = judged.mean(1)
        apart = (judged - mean[:, None]).square().mean(1).clamp_min(1e-6).sqrt()
        total = torch.log(torch.exp(powers * 2 * math.log(10)).mean(1)) / (2 * math.log(10))
        total = (total - self.mean[: spectrum.SPECTRUM_FEATURES]) / self.spread[: spectrum.SPECTRUM_FEATURES]
        steps = 10 * blockiness.aligned(seen[..., JUDGED:].mean(1))
        count = torch.full_like(mean[:, :1], math.log2(seen.shape[1]) / 4)
        out = self.judge(torch.cat([(embedded * share).sum(1), mean, apart, total, steps, count], dim=1))
        return self._answer(out)

    def _answer(self, out: Tensor) -> DegradationEstimate:
        """Map the outputs of the network, (N, 13), to the ranges of an estimate."""
        # Outputs of zero, those of an untrained network, give a Gaussian of 1 px.
        sigma = (F.softplus(out[:, 0] + 0.4) + LEAST_SIGMA_PX).clamp_max(WIDEST_SIGMA_PX)
        length = out[:, 1:3].square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()
        stretch = out[:, 1:3] * (MOST_STRETCH * torch.tanh(length / MOST_STRETCH) / length)
        low, high = math.log(LOWEST_SHAPE), math.log(HIGHEST_SHAPE)
        # The offset makes an output of zero a shape of 1, the Gaussian.
        start = math.log(-low / high)
        shape = torch.exp(low + (high - low) * torch.sigmoid(out[:, 3] + start))
        error = F.softplus(out[:, 4] - 2) + 0.01
        return DegradationEstimate(sigma, error, stretch, shape, out[:, KERNEL_NUMBERS + 1 :])


def see(windows: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the statistics of windows (N, 1, h, w) as (N, SEEN), JPEG blocking last."""
    valid = torch.ones_like(windows) if valid is None else valid
    parts = [
        spectrum.polar_spectrum(windows, valid),
        local_energy.energy_quantiles(windows, valid),
        _greys(windows, valid),
        blockiness.step_profile(windows, valid),
    ]
    return torch.cat(parts, dim=1)


def _greys(windows: Tensor, valid: Tensor) -> Tensor:
    """Return (N, 5): mean, log of the standard deviation, and the shares of black, white and invalid pixels."""
    weight = valid.sum((1, 2, 3)).clamp_min(1)
    mean = (windows * valid).sum((1, 2, 3)) / weight
    variance = ((windows - mean[:, None, None, None]).square() * valid).sum((1, 2, 3)) / weight
    black, white = (
        (end * valid).sum((1, 2, 3)) / weight for end in ((windows <= 0).float(), (windows >= 1).float())
    )
    deviation = 0.5 * torch.log10(variance + 1e-6)
    return torch.stack([mean, deviation, black, white, 1 - valid.mean((1, 2, 3))], dim=1)


def see_negative(seen: Tensor) -> Tensor:
    """Return the statistics, (K, SEEN), that the negatives of windows have: only those of the grey levels change."""
    first = JUDGED - GREYS
    greys = seen[:, first:JUDGED]
    turned = torch.stack([1 - greys[:, 0], greys[:, 1], greys[:, 3], greys[:, 2], greys[:, 4]], dim=1)
    return torch.cat([seen[:, :first], turned, seen[:, JUDGED:]], dim=1)


def see_section(windows: NDArray[np.float32], device: torch.device) -> Tensor:
    """Return the statistics of a section's windows, (K, h, w), 0..1, as (K, SEEN)."""
    parts = np.array_split(windows, -(-len(windows) // WINDOWS_AT_ONCE))
    return torch.cat([see(torch.from_numpy(part)[:, None].to(device)) for part in parts])


def degradations_of(estimate: DegradationEstimate, scale: int) -> Degradations:
    """Decode estimates into physical quantities; kernels are on the output grid of a scale."""
    code = dict(zip(SCALARS, estimate.scalars.unbind(1), strict=True))
    jpeg = code["jpeg"].clamp(0, 1)
    return Degradations(
        kernel=estimate.kernel(scale),
        noise_gain=code_to_gain(code["noise_gain"].clamp(-1, 1)),
        read_noise=code_to_read(code["read_noise"].clamp(-1, 1)),
        jpeg_quality=torch.where(jpeg > 0.03, 100 - 60 * jpeg, torch.zeros_like(jpeg)),
        banding=code["banding"].clamp(0, 1.5) * 0.04,
        jitter_px=code["jitter"].clamp(0, 1.5) * 0.4,
        damage=code["damage"].clamp(0, 1),
        defocus=code["defocus"].clamp(0, 1),
        thickness_px=code["thickness"].clamp(0, 2) * 4,
    )


def estimate_section(estimator: DegradationEstimator, seen: Tensor) -> DegradationEstimate:
    """Return the estimate of one section, N = 1, from the statistics of its windows, (K, SEEN).

    The windows with widths farthest from the median are left out: they show a fold, dirt or a place out of focus. The
    standard error is enlarged to hold on tissue unlike the training set. The noise is at least what the negatives of the
    windows show (`_with_noise_of_negative`).
    """
    alone = estimator.merge(seen[:, None]).sigma
    distance = (alone - alone.median()).abs()
    kept = distance.argsort(stable=True)[: len(seen) - int(TRIMMED * len(seen))]
    used = seen[kept.sort().values]
    read = _with_noise_of_negative(
        estimator.merge(used[None]), estimator.merge(see_negative(used)[None]), used
    )
    error = torch.hypot(UNSEEN * read.sigma_error, torch.full_like(read.sigma_error, STANDARD_ERROR_PX))
    return attrs.evolve(read, sigma_error=error)


def _with_noise_of_negative(
    read: DegradationEstimate, negative: DegradationEstimate, seen: Tensor
) -> DegradationEstimate:
    """Raise the read noise where the negatives of the windows show more, at most to that of the calmest blocks.

    An image and its negative are equally noisy. But the estimator is trained on bright grounds, and on some dark ones it
    reads noise of 8 of 255 as 1. On 30 training images of nine kinds, sharp and blurred, the rms error of log noise at 8
    of 255 shrinks from 0.48 to 0.31, on inverted greys from 0.75 to 0.32, under a gamma of 2.2 from 1.33 to 0.34. At 1 and 3
    of 255 it shrinks or stays within 0.01.

    Parameters
    ----------
    read, negative : DegradationEstimate
        Of the windows of a section and of their negatives, N = 1.
    seen : Tensor, (K, SEEN)
        Statistics of the windows.
    """
    mean = seen[:, JUDGED - GREYS].mean()
    lowest = 10 ** (seen[:, spectrum.SPECTRUM_FEATURES] - 2) / LOWEST_OF_WHITE
    own, other = (
        code_to_gain(each.scalars[:, 0].clamp(-1, 1)) * grey
        + code_to_read(each.scalars[:, 1].clamp(-1, 1)).square()
        for each, grey in ((read, mean), (negative, 1 - mean))
    )
    lacking = (torch.minimum(other, lowest.median().square()) - own).clamp_min(0)
    stated = code_to_read(read.scalars[:, 1].clamp(-1, 1))
    code = read_to_code((stated.square() + lacking).sqrt())
    scalars = read.scalars.clone()
    scalars[:, 1] = torch.where(lacking > 0, code, scalars[:, 1])
    return attrs.evolve(read, scalars=scalars)


def cautious(estimate: DegradationEstimate) -> DegradationEstimate:
    """Return the blur to be undone: a little narrower than the estimated one."""
    return attrs.evolve(estimate, sigma=CAUTION * estimate.sigma)
