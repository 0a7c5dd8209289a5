"""What the start model reads of a section, on the section's own grid, and the section with that blur taken out.

The blur is taken out linearly, by the middle one of Wiener's filters that the network starts from. At full size much
of the finest detail is lost to it; reduced, what is left of the blur is mild, and the filter gives back what it took
without inventing anything. Measured on sections of six mammals reduced by 0.6 and 0.5, power at 0.484 cycles/px is then
that of the clean sections within 1 dB; the filter that assumes ten times the noise leaves it up to 1.8 dB too low, and
a model that learns from that reads less blur than there is.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from bigrestore.core.kernels import Kernel
from bigrestore.core.pixels import Floats
from bigrestore.model.method import PSI_SIZE, SectionStatistics
from bigrestore.model.nets.reading.estimator import degradations_of, estimate_section, see_section
from bigrestore.model.nets.restorer import Restorer
from bigrestore.model.nets.wiener import BOLDNESS, TISSUE_GREY, deconvolve, wiener_filters
from bigrestore.run.profile.words import sentence


@attrs.frozen(eq=False)
class Reading:
    """What was read of a section, on its own grid.

    Attributes
    ----------
    kernel : ndarray, (k, k), float32
        Blur kernel at the same size.
    sigma, error : float
        Its equivalent sigma and the standard error of that, input pixels.
    along, across : float
        Sigma along its widest direction and across it, input pixels.
    noise_gain, read_noise : float
        The noise has standard deviation sqrt(noise_gain * x + read_noise**2), x in 0..1.
    jpeg_quality : float
        1..100, 0 for none.
    windows : int
        Windows that were looked at.
    """

    kernel: Kernel
    sigma: float
    error: float
    along: float
    across: float
    noise_gain: float
    read_noise: float
    jpeg_quality: float
    windows: int

    @property
    def noise(self) -> float:
        """Return the standard deviation of the noise in tissue, 0..1."""
        return math.sqrt(TISSUE_GREY * self.noise_gain + self.read_noise**2)

    @property
    def says(self) -> str:
        """Return the reading in words, as `bigrestore profile` does."""
        details = {"windows": self.windows, "sigma_px": self.sigma, "sigma_error_px": self.error}
        known = SectionStatistics(
            self.kernel,
            np.zeros(PSI_SIZE, np.float32),
            self.noise_gain,
            self.read_noise,
            details | {"jpeg_quality": self.jpeg_quality},
        )
        return sentence(known, 1).partition(":")[0]

    def lost_db(self, factor: float) -> float:
        """Return what the blur takes of the power at the highest frequency that is left after a reduction, dB.

        That of a Gaussian along its widest direction: 20 log10 exp(-2 pi^2 sigma^2 f^2) at f = factor / 2.
        """
        return 20 / math.log(10) * 2 * math.pi**2 * (self.along * factor / 2) ** 2


@torch.inference_mode()
def read_windows(model: Restorer, windows: Floats) -> Reading:
    """Read the degradation of a section.

    Parameters
    ----------
    model : Restorer
        Its estimator reads.
    windows : ndarray, (n, 128, 128), 0..1
        Tissue of the section; n at least 1.
    """
    device = next(model.estimator.parameters()).device
    estimate = estimate_section(model.estimator, see_section(windows, device))
    known = degradations_of(estimate, 1)
    kernel, sigma = known.kernel[0].cpu().numpy(), float(estimate.sigma[0])
    across, along = sigma * _elongation(kernel)
    return Reading(
        kernel,
        sigma,
        float(estimate.sigma_error[0]),
        float(along),
        float(across),
        float(known.noise_gain[0]),
        float(known.read_noise[0]),
        float(known.jpeg_quality[0]),
        len(windows),
    )


def _elongation(kernel: Kernel) -> NDArray[np.float64]:
    """Return how wide a kernel is across and along its widest direction, over its equivalent sigma."""
    weights = kernel.astype(np.float64)
    at = np.arange(len(weights)) - (len(weights) - 1) / 2
    ys, xs = weights.sum(1), weights.sum(0)
    y, x = at - ys @ at, at - xs @ at
    mixed = y @ weights @ x
    variances = np.linalg.eigvalsh(np.array([[ys @ y**2, mixed], [mixed, xs @ x**2]]))
    ratios: NDArray[np.float64] = np.sqrt(np.maximum(variances, 0) / max(variances.mean(), 1e-12))
    return ratios


def inverse_filter(reading: Reading) -> torch.Tensor:
    """Return the filter that takes the blur out, (1, 1, 25, 25): the one that assumes the noise that was read."""
    noise = torch.tensor([reading.noise])
    filters = wiener_filters(torch.from_numpy(reading.kernel)[None], noise, 1)
    middle = BOLDNESS.index(1.0)
    return filters[:, middle : middle + 1]


def sharpened(grey: Floats, reading: Reading) -> NDArray[np.uint16]:
    """Return an image, 0..1, without the blur that was read, as 16 bits."""
    x = torch.from_numpy(np.ascontiguousarray(grey))[None, None]
    sharp = deconvolve(x, torch.ones_like(x), inverse_filter(reading), 1)[0, 0]
    return np.asarray(np.rint(sharp.clamp(0, 1).numpy() * np.float32(65535)), np.uint16)


def noise_after(reading: Reading) -> float:
    """Return the variance of the noise after `sharpened`, 0..1, at the frequencies that the filter lifts most."""
    response = torch.fft.rfft2(inverse_filter(reading), s=(64, 64)).abs().square()
    return reading.noise**2 * float(response.max())
