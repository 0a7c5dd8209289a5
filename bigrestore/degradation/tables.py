"""The tables of a recipe: one small class per step of the degradation, with its defaults.

A drawn number is a `Range`; an occasional step has a `probability`. Lengths of the blur are in output pixels,
everything after the downsampling in input pixels.
"""

from __future__ import annotations

import math

import attrs
import numpy as np

BLUR_KINDS = ("gaussian", "anisotropic", "generalised", "plateau", "defocus", "motion", "thickness")
DAMAGE_KINDS = ("stripe", "scratch", "dust", "fold")

LARGEST_SHIFT_PX = 3.0
"""Largest shift of a registration, input pixels: the margin around a patch holds no larger one."""


@attrs.frozen
class Range:
    """A number to be drawn.

    Attributes
    ----------
    low, high : float
        Bounds, both inside.
    law : str
        `uniform`, or `log` for a number with a uniform logarithm.
    focus : (float, float) or None
        A part of the range to draw from more often ...
    focus_share : float
        ... with this probability, by the same law; otherwise the whole range.
    """

    low: float
    high: float
    law: str = "uniform"
    focus: tuple[float, float] | None = None
    focus_share: float = 0.5

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one number."""
        low, high = self.low, self.high
        if self.focus is not None and rng.random() < self.focus_share:
            low, high = self.focus
        if self.law == "log":
            return float(math.exp(rng.uniform(math.log(low), math.log(high))))
        return float(rng.uniform(low, high))


@attrs.frozen
class StainTable:
    """Gain and density of the stain, on both sides of a pair."""

    probability: float = 0.0
    gain: Range = Range(0.92, 1.04)
    density: Range = Range(0.75, 1.2)


@attrs.frozen
class IlluminationTable:
    """Uneven light; the period is in input pixels."""

    probability: float = 0.0
    amplitude: Range = Range(0.0, 0.08)
    period_px: Range = Range(256.0, 2048.0, "log")


@attrs.frozen
class SigmaTable:
    """Sigma of the Gaussian-like blurs in output pixels, by scale."""

    x1: Range = Range(0.3, 2.5)
    x2: Range = Range(0.4, 3.5)
    x4: Range = Range(0.6, 4.5)


@attrs.frozen
class BlurTable:
    """Blur: the weight of each kind and its parameters; lengths in output pixels.

    `shape` is the exponent of the generalised Gaussian, `plateau_shape` the plateau's. A second, independent blur of
    the other kinds is composed with the first with probability `compose_probability`.
    """

    probability: float = 0.0
    kinds: dict[str, float] = attrs.field(factory=lambda: {"gaussian": 1.0})
    sigma_px: SigmaTable = SigmaTable()
    shape: Range = Range(0.5, 4.0, "log")
    plateau_shape: Range = Range(1.0, 2.0)
    defocus_radius_px: Range = Range(0.5, 4.0)
    motion_length_px: Range = Range(2.0, 12.0)
    compose_probability: float = 0.0


@attrs.frozen
class ThicknessTable:
    """Blur by the thickness of the section: the mean of defocus disks over its depth.

    A plane at distance z from the focus makes a disk of radius z * tan(asin(NA / n)); `focus` is the place of the
    focal plane between the two faces, 0..1.
    """

    thickness_um: Range = Range(2.0, 20.0)
    pixel_um: Range = Range(0.5, 2.0, "log")
    numerical_aperture: Range = Range(0.2, 0.5)
    refractive_index: float = 1.5
    focus: Range = Range(0.0, 1.0)


@attrs.frozen
class DownsamplingTable:
    """The weight of each downsampling filter; without a meaning at x1."""

    kinds: dict[str, float] = attrs.field(factory=lambda: {"area": 1.0})


@attrs.frozen
class LinesTable:
    """Jitter and gain of rows; pixels of the input grid."""

    probability: float = 0.0
    jitter_px: Range = Range(0.0, 0.4)
    memory: Range = Range(0.5, 0.9)
    row_gain: Range = Range(0.0, 0.01)


@attrs.frozen
class BandingTable:
    """Periodic bands; the period is in input pixels."""

    probability: float = 0.0
    amplitude: Range = Range(0.005, 0.04)
    period_px: Range = Range(6.0, 96.0, "log")


@attrs.frozen
class DamageTable:
    """Places without tissue information: their number, kind and width (input pixels)."""

    probability: float = 0.0
    count: Range = Range(1.0, 4.0)
    kinds: dict[str, float] = attrs.field(factory=lambda: dict.fromkeys(DAMAGE_KINDS, 1.0))
    width_px: Range = Range(1.0, 12.0, "log")


@attrs.frozen
class NoiseTable:
    """Noise of variance gain * x + read^2 + (contrast_gain * c)^2, x in 0..1 and c the contrast around a pixel.

    `read_255` is in grey levels of 8 bits.
    """

    probability: float = 0.0
    gain: Range = Range(1e-5, 4e-3, "log")
    read_255: Range = Range(0.3, 6.0, "log")
    correlated_share: Range = Range(1 / 3, 1 / 3)
    contrast_gain: Range = Range(0.0, 0.0)


@attrs.frozen
class SharpeningTable:
    """An unsharp mask of the scanner's program: its amount, and the sigma of its Gaussian in input pixels."""

    probability: float = 0.0
    amount: Range = Range(0.1, 1.2)
    radius_px: Range = Range(0.6, 2.5)


@attrs.frozen
class StorageTable:
    """Rounding to 8 bits and JPEG compression."""

    eight_bit_probability: float = 0.0
    jpeg_probability: float = 0.0
    jpeg_quality: Range = Range(40.0, 95.0)


@attrs.frozen
class SecondPassTable:
    """The second, weaker pass: a small Gaussian (input pixels), noise and storage of its own."""

    probability: float = 0.0
    sigma_px: Range = Range(0.2, 0.7)
    noise: NoiseTable = NoiseTable()
    storage: StorageTable = StorageTable()


@attrs.frozen
class ScanningTable:
    """The weight of each scan grid: 1, 2 or 4 scan pixels along an input pixel.

    The noise is drawn for the scan; the mean of n x n of its pixels leaves an n-th of the deviation, and fractions
    of a grey level.
    """

    factors: dict[str, float] = attrs.field(factory=lambda: {"1": 1.0})


@attrs.frozen
class ResamplingTable:
    """Registration of a displaced scan, in one pass or two, by the interpolations of `orders`; input pixels.

    `amplitude_px` is the largest shift along an axis, `period_px` the period of its waves.
    """

    probability: float = 0.0
    passes: dict[str, float] = attrs.field(factory=lambda: {"1": 0.4, "2": 0.6})
    orders: dict[str, float] = attrs.field(factory=lambda: {"linear": 1.0})
    amplitude_px: Range = Range(0.5, 3.0)
    period_px: Range = Range(100.0, 1000.0, "log")
