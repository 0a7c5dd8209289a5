"""Blur and noise of a user's section as the start model estimates them, and the section deconvolved by that blur.

The deconvolution is linear: the middle one of the three Wiener filters that are inputs of the network. At full size the
blur has removed most of the finest detail. After a reduction the blur is mild in reduced pixels, and the filter restores
what it attenuated without inventing anything. Measured on sections of six mammals, reduced to 0.6 and 0.5: the power at
0.484 cycles/px is within 1 dB of that of clean sections. The filter that assumes ten times the noise leaves it up to
1.8 dB too low, and a model trained on such targets underestimates blur.
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
    """Estimated blur and noise of a section, on its own grid.

    Attributes
    ----------
    kernel : ndarray, (k, k), float32
        Blur kernel for scale 1.
    sigma, error : float
        Equivalent sigma of the kernel and its standard error, input pixels.
    along, across : float
        Sigma along the widest direction and across it, input pixels.
    noise_gain, read_noise : float
        The noise has standard deviation sqrt(noise_gain * x + read_noise**2), x in 0..1.
    jpeg_quality : float
        1..100, 0 for none.
    windows : int
        Number of windows behind the estimate.
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
        """Return blur and noise in the words of `bigrestore profile`."""
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
        """Return the attenuation of the power by the blur, in dB, at the Nyquist frequency of a reduced section.

        That of a Gaussian with the sigma of the widest direction: -20 log10 exp(-2 pi^2 sigma^2 f^2) at f = factor / 2.
        """
        return 20 / math.log(10) * 2 * math.pi**2 * (self.along * factor / 2) ** 2


@torch.inference_mode()
def read_windows(model: Restorer, windows: Floats) -> Reading:
    """Estimate blur and noise of a section.

    Parameters
    ----------
    model : Restorer
        The start model, for its estimator.
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
    """Return the sigma of a kernel across and along its widest direction, divided by its equivalent sigma."""
    weights = kernel.astype(np.float64)
    at = np.arange(len(weights)) - (len(weights) - 1) / 2
    ys, xs = weights.sum(1), weights.sum(0)
    y, x = at - ys @ at, at - xs @ at
    mixed = y @ weights @ x
    variances = np.linalg.eigvalsh(np.array([[ys @ y**2, mixed], [mixed, xs @ x**2]]))
    ratios: NDArray[np.float64] = np.sqrt(np.maximum(variances, 0) / max(variances.mean(), 1e-12))
    return ratios


def inverse_filter(reading: Reading) -> torch.Tensor:
    """Return the Wiener filter for the estimated blur and noise, (1, 1, 25, 25)."""
    noise = torch.tensor([reading.noise])
    filters = wiener_filters(torch.from_numpy(reading.kernel)[None], noise, 1)
    middle = BOLDNESS.index(1.0)
    return filters[:, middle : middle + 1]


def sharpened(grey: Floats, reading: Reading) -> NDArray[np.uint16]:
    """Return an image, 0..1, deconvolved by the estimated blur, as 16 bits."""
    x = torch.from_numpy(np.ascontiguousarray(grey))[None, None]
    sharp = deconvolve(x, torch.ones_like(x), inverse_filter(reading), 1)[0, 0]
    return np.asarray(np.rint(sharp.clamp(0, 1).numpy() * np.float32(65535)), np.uint16)


def noise_after(reading: Reading) -> float:
    """Return the noise variance after `sharpened`, 0..1, at the frequency of the filter's largest gain."""
    response = torch.fft.rfft2(inverse_filter(reading), s=(64, 64)).abs().square()
    return reading.noise**2 * float(response.max())
