"""The figure of a profile: a section's power spectrum, and the range of sharp tissue with and without its blur.

The power of sharp tissue falls by 11 to 21 dB from 0.141 to 0.484 cycles/px, about as a power law; that of a blurred
section falls faster. The figure shows this range, and the range after the estimated kernel and noise. If the estimates
are right, the section's spectrum lies inside the second.

Spectra are those of the input grid. At x2 and x4 the kernel belongs to the finer output grid: the tissue model is blurred
there, and frequencies beyond the input's Nyquist are folded back, as by sampling.
"""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrestore.core.pixels import Floats
from bigrestore.model.method import WINDOW_PX, SectionStatistics

PICTURES = (".png", ".pdf", ".svg")
"""File name extensions for a figure."""

PLOT_RINGS = 16
"""Number of rings, each 1/32 cycles/px wide, up to 0.5."""

FIRST, LAST = 4, 15
"""The rings whose centres are 0.141 and 0.484 cycles/px."""

SHARP_DB = (11.0, 21.0)
"""Decrease of the power of sharp tissue from the first of these rings to the last: least and most."""

PLOT_CORNER = 0.03
"""Corner frequency of the power law, cycles/px; below, the power is nearly constant."""

Array = NDArray[np.float64]


def draw_profile(
    path: Path, kind: str, windows: Floats, statistics: SectionStatistics, scale: int, title: str
) -> None:
    """Draw the spectrum and the kernel of a section into a file.

    Parameters
    ----------
    path : Path
        File to be written.
    kind : str
        `png`, `pdf` or `svg`.
    windows : ndarray, (n, 128, 128)
        Tissue of the section, 0..1; n at least 1.
    statistics : SectionStatistics
        Estimated blur and noise; without an estimate of blur no kernel is drawn.
    scale : int
        Output pixels per input pixel.
    title : str
        Title of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 5), dpi=130, layout="constrained")
    power = ring_power(windows)
    read = "sigma_px" in statistics.details
    axes = figure.subplots(1, 2, width_ratios=(3.2, 1)) if read else [figure.subplots()]
    _draw_spectrum(axes[0], power, len(windows))
    if read:
        grey = float(windows.mean())
        noise = statistics.noise_gain * grey + statistics.read_noise**2
        _draw_answer(axes[0], power, statistics.kernel, noise, scale)
        _draw_kernel_inset(axes[1], statistics.kernel, scale)
    axes[0].legend(loc="lower left", fontsize=8)
    lines = [line for part in title.splitlines() for line in textwrap.wrap(part, 120)]
    figure.suptitle("\n".join(lines), fontsize=10, parse_math=False)
    figure.savefig(path, format=kind)


def ring_power(windows: Floats) -> Array:
    """Return the mean power of Hann-weighted windows in rings, (16,); v for white noise of variance v.

    Parameters
    ----------
    windows : ndarray, (n, 128, 128)
        Grey values, 0..1.
    """
    line = np.hanning(WINDOW_PX + 1)[:-1]
    taper = np.outer(line, line)
    total = np.zeros((WINDOW_PX, WINDOW_PX))
    for window in windows:
        total += np.abs(np.fft.fft2((window - window.mean()) * taper)) ** 2
    return _in_rings(total / (len(windows) * (taper**2).sum()))


def fall_db(power: Array) -> float:
    """Return the decrease of the power from 0.141 to 0.484 cycles/px, in dB."""
    return 10 * math.log10(max(float(power[FIRST]), 1e-30) / max(float(power[LAST]), 1e-30))


def tissue_power(fall: float, kernel: NDArray[np.floating] | None = None, scale: int = 1) -> Array:
    """Return the ring power, (16,), of the model of sharp tissue, blurred if a kernel is given; its unit is arbitrary.

    Parameters
    ----------
    fall : float
        Decrease of the power of sharp tissue from 0.141 to 0.484 cycles per input pixel, in dB.
    kernel : ndarray, (k, k), optional
        Blur on the output grid.
    scale : int
        Output pixels per input pixel.
    """
    first, last = ((index + 0.5) / (2 * PLOT_RINGS) for index in (FIRST, LAST))
    exponent = fall / (10 * math.log10((last**2 + PLOT_CORNER**2) / (first**2 + PLOT_CORNER**2)))
    side = scale * WINDOW_PX
    frequency = np.fft.fftfreq(side) * scale  # cycles per input pixel
    power = (frequency[:, None] ** 2 + frequency**2 + PLOT_CORNER**2) ** -exponent
    if kernel is not None:
        power = power * np.abs(np.fft.fft2(kernel, (side, side))) ** 2
    return _in_rings(power.reshape(scale, WINDOW_PX, scale, WINDOW_PX).sum(axis=(0, 2)))


def _in_rings(power: Array) -> Array:
    """Return the means of the power over rings of frequency."""
    frequency = np.fft.fftfreq(WINDOW_PX)
    ring = (np.hypot(frequency[:, None], frequency) * 2 * PLOT_RINGS).astype(np.int64).ravel()
    return np.asarray((np.bincount(ring, power.ravel()) / np.bincount(ring))[:PLOT_RINGS])


def _decibels(power: Array, reference: float) -> Array:
    return np.asarray(10 * np.log10(np.maximum(power, 1e-30) / max(reference, 1e-30)))


def _draw_spectrum(axes: Any, power: Array, count: int) -> None:
    """Draw a section's spectrum and the range of sharp tissue."""
    centres = (np.arange(PLOT_RINGS) + 0.5) / (2 * PLOT_RINGS)
    low, high = (_decibels(sharp, float(sharp[FIRST])) for sharp in map(tissue_power, SHARP_DB))
    falls = f"{SHARP_DB[0]:.0f} to {SHARP_DB[1]:.0f} dB"
    axes.fill_between(centres, low, high, color="0.82", label=f"sharp tissue: falls by {falls}")
    label = f"this section ({count} windows of {WINDOW_PX} px): falls by {fall_db(power):.1f} dB"
    axes.plot(centres, _decibels(power, float(power[FIRST])), "k-o", markersize=4, label=label)
    for index in (FIRST, LAST):
        axes.axvline(centres[index], color="0.6", linewidth=0.7, linestyle=":")
    axes.set_xlim(0, 0.5)
    axes.set_xlabel("cycles per input pixel (dotted: 0.141 and 0.484, between which the fall is taken)")
    axes.set_ylabel("power, dB relative to 0.141 cycles/px")


def _draw_answer(axes: Any, power: Array, kernel: NDArray[np.floating], noise: float, scale: int) -> None:
    """Draw the range of sharp tissue after the kernel and noise of variance `noise`."""
    centres = (np.arange(PLOT_RINGS) + 0.5) / (2 * PLOT_RINGS)
    reference = float(power[FIRST])
    bounds = []
    for fall in SHARP_DB:
        blurred = tissue_power(fall, kernel, scale)
        signal = max(reference - noise, 1e-3 * reference)
        bounds.append(_decibels(signal * blurred / blurred[FIRST] + noise, reference))
    folded = "" if scale == 1 else ",\nfolded from the output's grid onto the input's"
    label = f"sharp tissue through the kernel, with the noise{folded}"
    axes.fill_between(centres, *bounds, color="C0", alpha=0.35, label=label)


def _draw_kernel_inset(axes: Any, kernel: NDArray[np.floating], scale: int) -> None:
    """Draw the part of a kernel with taps above a hundredth of the largest."""
    middle = kernel.shape[0] // 2
    taps = np.argwhere(kernel > 0.01 * kernel.max())
    reach = min(middle, max(3, int(np.abs(taps - middle).max()) + 1))
    inside = slice(middle - reach, middle + reach + 1)
    sides = (-reach - 0.5, reach + 0.5, reach + 0.5, -reach - 0.5)
    axes.imshow(kernel[inside, inside], cmap="gray", vmin=0, extent=sides, interpolation="nearest")
    axes.xaxis.get_major_locator().set_params(nbins=5, integer=True)
    axes.yaxis.get_major_locator().set_params(nbins=5, integer=True)
    axes.set_title("kernel", fontsize=10)
    axes.set_xlabel("pixels" if scale == 1 else "output pixels")
