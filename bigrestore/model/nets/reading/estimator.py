"""The degradation estimator: blur kernel and noise of a section, read off the statistics of its windows.

It looks at 128 x 128 windows of tissue. A section gets one estimate from many windows, once; its tiles never estimate
anything. A window is reduced to numbers under direct effect of blur and noise: power spectrum on a polar grid, spread
of fine energy, lattice of a JPEG, grey levels. A small network judges the windows together and answers with a kernel
of five numbers (`kernel_family`), the noise, and the error of the width.

One estimator serves all scales. It reads blur on the grid of its windows, beyond the averaging of a pixel in every
clean image. At x2 and x4 this blur is wider on the output grid by the scale, and the averaging follows it.

Windows are merged before the judgement: one window hardly tells a defocus disk from a Gaussian, and a mean of unsure
answers is neither. So their numbers are averaged plainly, by power and by learned weights, and one answer is given.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from bigrestore.model.nets.code import Degradations, code_to_gain, code_to_read
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
"""Order of the scalar codes; each is the entry of psi of the same meaning."""
GREYS = 5
JUDGED = spectrum.SPECTRUM_FEATURES + local_energy.ENERGY_FEATURES + GREYS
"""Numbers of a single window, known without the others."""
SEEN = JUDGED + blockiness.STEP_FEATURES
HIDDEN_UNITS = 256
WINDOWS_AT_ONCE = 16
"""Windows of a section whose statistics are computed together."""
KERNEL_NUMBERS = 4
"""Width, two of the stretch, shape; the fifth number, the direction, lies in the stretch."""
WIDEST_SIGMA_PX = 5.0
MOST_STRETCH = 2.0
CAUTION = 0.9
"""Share of the estimated width that is undone: undoing a blur too far rings, undoing too little leaves some of it. On
crops of soft and noisy images of 21 tissues, 0.9 and 0.95 gain the same in the mean (2.16 and 2.14 dB), but the worst
loss against the best width is 1.0 dB instead of 1.5."""
UNSEEN = 2.0
"""Factor on the stated error: it is learned on tissue of the training, and on other tissue errors are larger. With each of
eight kinds of tissue left out in turn, a factor of 1.25 covers 68 % of the errors; on the validation images 2 does."""
STANDARD_ERROR_PX = 0.1
"""Error of any reading beyond that: sharp tissues differ in slope, and only the slope tells so narrow a blur from none."""
TRIMMED = 0.1
"""Share of a section's windows left out: the farthest from the median width."""


@attrs.frozen(eq=False)
class DegradationEstimate:
    """Estimates of N windows or sets of windows.

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
    """Fixed statistics of windows, a merging of them, and an MLP."""

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
        """Take mean and spread of window statistics, (n, SEEN), as those of the inputs."""
        judged = seen[:, :JUDGED]
        self.mean.copy_(judged.mean(0))
        self.spread.copy_(judged.std(0).clamp_min(1e-3))

    def forward(self, windows: Tensor, valid: Tensor | None = None, together: int = 1) -> DegradationEstimate:
        """Estimate the degradation of windows, or of sets of windows of one section each.

        Parameters
        ----------
        windows : Tensor, (N * together, 1, h, w), 0..1
            Degraded tissue, input pixels; the windows of a set follow each other.
        valid : Tensor, (N * together, 1, h, w), optional
            1 for valid pixels.
        together : int
            Windows in a set.

        Returns
        -------
        DegradationEstimate
            Of N sets.
        """
        return self.merge(see(windows, valid).view(-1, together, SEEN))

    def merge(self, seen: Tensor) -> DegradationEstimate:
        """Give one answer for each set of windows, from their statistics, (N, K, SEEN)."""
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
        """Turn the numbers of the network into widths, shapes, errors and codes."""
        # At zero the answer is a Gaussian of 1 px: the middle of what there is.
        sigma = (F.softplus(out[:, 0] + 0.4) + LEAST_SIGMA_PX).clamp_max(WIDEST_SIGMA_PX)
        length = out[:, 1:3].square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()
        stretch = out[:, 1:3] * (MOST_STRETCH * torch.tanh(length / MOST_STRETCH) / length)
        low, high = math.log(LOWEST_SHAPE), math.log(HIGHEST_SHAPE)
        # A sigmoid whose value at zero is log 1, the Gaussian.
        start = math.log(-low / high)
        shape = torch.exp(low + (high - low) * torch.sigmoid(out[:, 3] + start))
        error = F.softplus(out[:, 4] - 2) + 0.01
        return DegradationEstimate(sigma, error, stretch, shape, out[:, KERNEL_NUMBERS + 1 :])


def see(windows: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the statistics of windows, (N, 1, h, w): (N, SEEN), the lattice of a JPEG last."""
    valid = torch.ones_like(windows) if valid is None else valid
    parts = [
        spectrum.polar_spectrum(windows, valid),
        local_energy.energy_quantiles(windows, valid),
        _greys(windows, valid),
        blockiness.step_profile(windows, valid),
    ]
    return torch.cat(parts, dim=1)


def _greys(windows: Tensor, valid: Tensor) -> Tensor:
    """Return mean, deviation, and the shares of black, white and hidden pixels of windows, (N, 5)."""
    weight = valid.sum((1, 2, 3)).clamp_min(1)
    mean = (windows * valid).sum((1, 2, 3)) / weight
    variance = ((windows - mean[:, None, None, None]).square() * valid).sum((1, 2, 3)) / weight
    black, white = (
        (end * valid).sum((1, 2, 3)) / weight for end in ((windows <= 0).float(), (windows >= 1).float())
    )
    deviation = 0.5 * torch.log10(variance + 1e-6)
    return torch.stack([mean, deviation, black, white, 1 - valid.mean((1, 2, 3))], dim=1)


def see_section(windows: NDArray[np.float32], device: torch.device) -> Tensor:
    """Return the statistics of a section's windows, (K, h, w), 0..1: (K, SEEN), some windows at a time."""
    parts = np.array_split(windows, -(-len(windows) // WINDOWS_AT_ONCE))
    return torch.cat([see(torch.from_numpy(part)[:, None].to(device)) for part in parts])


def degradations_of(estimate: DegradationEstimate, scale: int) -> Degradations:
    """Translate estimates to physical numbers, the kernels on the output grid of a scale."""
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
    """Return the one estimate of a section, N = 1, from the statistics of its windows, (K, SEEN).

    Windows farthest from the median width are left out first: a fold, an edge out of focus or a foreign body is not
    the section. The error is that on tissue unlike the training's.
    """
    alone = estimator.merge(seen[:, None]).sigma
    distance = (alone - alone.median()).abs()
    kept = distance.argsort(stable=True)[: len(seen) - int(TRIMMED * len(seen))]
    read = estimator.merge(seen[kept.sort().values][None])
    error = torch.hypot(UNSEEN * read.sigma_error, torch.full_like(read.sigma_error, STANDARD_ERROR_PX))
    return attrs.evolve(read, sigma_error=error)


def cautious(estimate: DegradationEstimate) -> DegradationEstimate:
    """Return the blur to be undone: a little narrower than the estimated one."""
    return attrs.evolve(estimate, sigma=CAUTION * estimate.sigma)
