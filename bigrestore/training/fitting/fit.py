"""The fit of pairs: a kernel, a grey curve, noise and compression of every window.

It takes no training, gives the same every time, and says what it explains. Windows that one kernel explains as well as
their own share it: two sections of one scanner do, pairs that were degraded one by one do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import attrs
import numpy as np
import torch

from bigrestore.core.kernels import Kernel, equivalent_sigma, normalised_kernel
from bigrestore.core.pixels import Doubles, Floats
from bigrestore.degradation.degradation import Noise
from bigrestore.degradation.section import correlate_exactly
from bigrestore.training.fitting.jpeg_lattice import JpegFinding, find_jpeg, through_jpeg
from bigrestore.training.fitting.kernel_fit import (
    START_SIGMAS_PX,
    Halves,
    equations_of,
    fit_taps,
    gaussian_on_grid,
    grid_step,
    kernel_of,
)
from bigrestore.training.fitting.noise_law import noise_law, without_waves
from bigrestore.training.fitting.real_pairs import RealWindow

OWN_KERNELS_GAIN = 0.02
"""Mean gain in log error, on pixels not fitted to, from which on windows have kernels of their own."""

LEAST_GAIN, MOST_GAIN = 0.2, 5.0
"""Gains of a grey curve outside of which a window's kernel is not used."""


@attrs.frozen(eq=False)
class WindowFit:
    """What was fitted to a window.

    Attributes
    ----------
    window : RealWindow
    kernel : ndarray, (k, k), float32
        On the output grid, its sum one.
    grey : (float, float)
        Gain and offset of the degraded grey values against the blurred clean ones.
    noise : Noise
    jpeg : JpegFinding or None
    residual, rms : float
        RMS of what blur and grey curve leave of the degraded window without slow waves, and of what noise and JPEG are
        expected to leave; 0..1.
    """

    window: RealWindow
    kernel: Kernel
    grey: tuple[float, float]
    noise: Noise
    jpeg: JpegFinding | None
    residual: float
    rms: float

    @property
    def expected(self) -> Floats:
        """The degraded window without noise and JPEG."""
        return expected_of(self.window, self.kernel, self.grey)

    def carried_to(self, clean: Floats) -> Floats:
        """Return another clean image, (scale * h, scale * w), under kernel and grey curve."""
        scale = self.window.clean.shape[0] // self.window.degraded.shape[0]
        return blurred(clean, self.kernel, self.grey, scale)

    def stored(self, image: Floats) -> Floats:
        """Return an image through the JPEG, if there was one."""
        return image if self.jpeg is None else through_jpeg(image.astype(np.float64), self.jpeg)

    @property
    def sigma_px(self) -> float:
        """Equivalent sigma of the kernel without its negative taps, output pixels."""
        return equivalent_sigma(normalised_kernel(self.kernel))

    def facts(self) -> dict[str, Any]:
        """Return what the file says of it, JSON-able."""
        window = self.window
        return {
            "name": window.name,
            "place": [window.z, window.y, window.x],
            "size": list(window.degraded.shape),
            "offset_px": [round(window.offset.y, 3), round(window.offset.x, 3)],
            "correlation": round(window.offset.correlation, 4),
            "grey_gain": round(self.grey[0], 5),
            "grey_offset": round(self.grey[1], 5),
            "sigma_px": round(self.sigma_px, 4),
            "negative": round(float(-self.kernel[self.kernel < 0].sum()), 4),
            "noise_gain": self.noise.gain,
            "read_noise": self.noise.read,
            "correlated_share": self.noise.correlated_share,
            "contrast_gain": self.noise.contrast_gain,
            "bit_depth": 8 if window.eight_bits else 0,
            "jpeg_quality": self.jpeg.quality if self.jpeg else 0,
            "residual_255": round(self.residual * 255, 3),
            "noise_255": round(self.rms * 255, 3),
        }


@attrs.frozen(eq=False)
class PairsFit:
    """The fit of all windows.

    Attributes
    ----------
    fits : list of WindowFit
    scale : int
    shared : bool
        Whether one kernel serves all windows.
    """

    fits: list[WindowFit]
    scale: int
    shared: bool

    @property
    def kernels(self) -> Doubles:
        """All kernels, (K, k, k)."""
        return np.stack([fit.kernel for fit in self.fits]).astype(np.float64)


def fit_windows(windows: Sequence[RealWindow], scale: int) -> PairsFit:
    """Fit registered windows.

    Parameters
    ----------
    windows : sequence of RealWindow
        At least one.
    scale : int
        Clean pixels per degraded pixel.
    """
    step = grid_step(scale)
    jpegs = [find_jpeg(window.degraded) if window.eight_bits else None for window in windows]
    equations = [_equations(window, jpeg, scale) for window, jpeg in zip(windows, jpegs, strict=True)]
    own = [fit_taps(halves, step) for halves in equations]
    gains = [float(np.clip(taps.taps.sum(), LEAST_GAIN, MOST_GAIN)) for taps in own]
    first, second = (
        reduce(add, (halves[index].scaled(gain) for halves, gain in zip(equations, gains, strict=True)))
        for index in (0, 1)
    )
    common = fit_taps((first, second), step).taps
    gained = [
        np.log(max(sum(half.residual(gain * common) for half in halves), 1e-12) / max(taps.error, 1e-12))
        for taps, halves, gain in zip(own, equations, gains, strict=True)
    ]
    shared = float(np.mean(gained)) < OWN_KERNELS_GAIN
    kernels = [kernel_of(common if shared else taps.taps, scale) for taps in own]
    fits = [_fit_window(*each) for each in zip(windows, jpegs, kernels, strict=True)]
    return PairsFit(fits, scale, shared)


def _equations(window: RealWindow, jpeg: JpegFinding | None, scale: int) -> Halves:
    """Return the equations of a window, before the JPEG that it went through.

    A JPEG removes what it rounds to zero, like a blur that came after. So what it changes in the window as it is expected
    is taken off: first under the Gaussian that, with the JPEG, comes nearest, then under the fit.
    """
    if jpeg is None:
        return equations_of(window.degraded, window.clean, scale)
    expected, least = window.degraded, np.inf
    for sigma_px in START_SIGMAS_PX:
        kernel = gaussian_on_grid(float(sigma_px), scale)
        tried = _expected(window, kernel)
        error = float(((through_jpeg(tried.astype(np.float64), jpeg) - window.degraded) ** 2).mean())
        if error < least:
            expected, least = tried, error
    for last in (False, True):
        changed = through_jpeg(expected.astype(np.float64), jpeg) - expected
        halves = equations_of(window.degraded - changed, window.clean, scale)
        if not last:
            expected = _expected(window, kernel_of(fit_taps(halves, grid_step(scale)).taps, scale))
    return halves


def _expected(window: RealWindow, kernel: Kernel) -> Floats:
    """Blur the clean side of a window by a kernel and fit the grey curve to the degraded side."""
    return expected_of(window, kernel, _grey_curve(window.degraded, expected_of(window, kernel, (1.0, 0.0))))


def _fit_window(window: RealWindow, jpeg: JpegFinding | None, kernel: Kernel) -> WindowFit:
    """Fit grey curve and noise of a window under a kernel."""
    grey = _grey_curve(window.degraded, expected_of(window, kernel, (1.0, 0.0)))
    expected = expected_of(window, kernel, grey)
    noise = noise_law(window.degraded, expected, eight_bits=window.eight_bits, jpeg=jpeg)
    left = float(without_waves(window.degraded, expected).std())
    level = float(np.sqrt(noise.gain * max(float(expected.mean()), 0.0) + noise.read**2))
    return WindowFit(window, kernel, grey, noise, jpeg, left, level)


def _grey_curve(degraded: Floats, soft: Floats) -> tuple[float, float]:
    """Return gain and offset of the line from blurred to degraded grey values."""
    deviation = soft.astype(np.float64) - soft.mean()
    gain = float((deviation * degraded).sum() / max(float((deviation**2).sum()), 1e-12))
    return gain, float(degraded.mean() - gain * soft.mean())


def expected_of(window: RealWindow, kernel: Kernel, grey: tuple[float, float]) -> Floats:
    """Return what kernel and grey curve make of the clean side of a window, (h, w)."""
    return blurred(window.clean, kernel, grey, window.clean.shape[0] // window.degraded.shape[0])


def blurred(clean: Floats, kernel: Kernel, grey: tuple[float, float], scale: int) -> Floats:
    """Return a clean image, (scale * h, scale * w), under a kernel and a grey curve, (h, w)."""
    with torch.inference_mode():
        soft = correlate_exactly(torch.from_numpy(np.ascontiguousarray(clean)), kernel, scale).numpy()
    return np.asarray(grey[0] * soft + grey[1], np.float32)


def fit_one(window: RealWindow, scale: int) -> WindowFit:
    """Fit a single window."""
    return fit_windows([window], scale).fits[0]
