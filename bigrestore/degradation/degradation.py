"""One drawn degradation: all its numbers for one patch or one section.

A `Degradation` holds no random state. Two applications differ only in the noise fields, from the generator (patches)
or from a hash of the absolute pixel (whole sections). It gives the kernel and the noise for an estimator
(`psi_targets`) and writes itself as plain JSON values into the table of pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from bigrestore.core.kernels import (
    Kernel,
    compose,
    equivalent_sigma,
    gaussian_taps,
    normalised_kernel,
    sharpest,
    within_counterparts,
)
from bigrestore.core.pixels import Doubles
from bigrestore.degradation.interpolators import mean_kernel
from bigrestore.degradation.learned.synthesis import Synthesis

SHARPENING_REACH_PX = 7
"""Reach of an unsharp mask to each side, input pixels: what the frame around a patch holds."""

INTERPOLATION_REACH_PX = 4
"""Pixels to each side of the widest interpolation: eight taps."""


@attrs.frozen
class Stain:
    """Staining and exposure: `gain * (1 - density * (1 - y))`, applied to both sides of a pair.

    The white of the slide stays white but for the gain; a density above one darkens the tissue.
    """

    gain: float = 1.0
    density: float = 1.0


@attrs.frozen
class Illumination:
    """Uneven light: the image times `1 + amplitude * cos(2 pi (y cos t + x sin t) / period + phase)`."""

    amplitude: float
    period_px: float
    angle_rad: float
    phase_rad: float


@attrs.frozen
class Lines:
    """What a line scanner does to a row.

    Attributes
    ----------
    jitter_px : float
        Standard deviation of the shift of a row along x, in input pixels.
    memory : float
        Correlation of the shifts (and gains) of neighbouring rows, 0..1: an AR(1) process.
    row_gain : float
        Standard deviation of the gain of a row.
    """

    jitter_px: float
    memory: float
    row_gain: float


@attrs.frozen
class Wave:
    """One wave of a shift: `amplitude * sin(2 pi (y cos t + x sin t) / period + phase)`, input pixels."""

    amplitude_px: float
    period_px: float
    angle_rad: float
    phase_rad: float


@attrs.frozen
class Resampling:
    """Registration: the tissue lay displaced in the scan, and interpolation brought it back.

    The scanner saw the tissue moved by a smooth shift; resampling, once or twice, put the scan back in register with
    the clean image. Only the softness of the interpolations remains.

    Attributes
    ----------
    orders : tuple of str
        Interpolation of each pass: `linear`, `cubic` (Keys) or `quintic` (Lagrange, six points).
    offset_px : (float, float)
        Constant part of the shift along y and x, input pixels.
    along_y, along_x : tuple of Wave
        What varies of the shift along y and along x.
    """

    orders: tuple[str, ...]
    offset_px: tuple[float, float]
    along_y: tuple[Wave, ...]
    along_x: tuple[Wave, ...]

    @property
    def reach_px(self) -> int:
        """Reach of the resampling to each side, input pixels: the largest shift and half an interpolation, twice."""
        largest = max(
            abs(offset) + sum(abs(wave.amplitude_px) for wave in waves)
            for offset, waves in zip(self.offset_px, (self.along_y, self.along_x), strict=True)
        )
        return 2 * (math.ceil(largest) + INTERPOLATION_REACH_PX)


@attrs.frozen
class Banding:
    """Periodic bands along y (axis 0) or x: times `1 + amplitude * sin(2 pi t / period + phase)`."""

    amplitude: float
    period_px: float
    phase_rad: float
    axis: int


@attrs.frozen
class Damage:
    """One place without tissue information: a capsule, the points within `half_width_px` of a segment.

    Attributes
    ----------
    kind : str
        `stripe`, `scratch`, `dust` or `fold`. A fold multiplies the tissue below, the others hide it.
    y, x : float
        Centre, as a share of the height and width of the degraded image.
    angle_rad : float
        Direction of the segment; 0 is along x.
    half_length_px, half_width_px : float
        Size in input pixels.
    level : float
        Grey value 0..1 in the place of the tissue, or the factor of a fold.
    """

    kind: str
    y: float
    x: float
    angle_rad: float
    half_length_px: float
    half_width_px: float
    level: float


@attrs.frozen
class Noise:
    """Noise of variance gain * x + read**2 + (contrast_gain * c)**2, x in 0..1 and c the contrast around a pixel.

    `correlated_share` of its variance comes from a field smooth over about two pixels. The part that grows with the contrast
    (`steps.local_contrast`) is what lies where the detail is: the errors of a compression, cells of other depths.
    """

    gain: float = 0.0
    read: float = 0.0
    correlated_share: float = 0.0
    contrast_gain: float = 0.0

    @property
    def variances(self) -> Doubles:
        """Variance per grey, at black, and per squared contrast, (3,)."""
        return np.array([self.gain, self.read**2, self.contrast_gain**2])

    @property
    def silent(self) -> bool:
        """Whether there is none."""
        return self.gain <= 0 and self.read <= 0 and self.contrast_gain <= 0


@attrs.frozen
class Sharpening:
    """An unsharp mask by the program of the scanner, on the scan and its noise: x + amount * (x - G x), G a Gaussian.

    Its sigma is `radius_px`; it ends at `SHARPENING_REACH_PX`.
    """

    amount: float
    radius_px: float

    @property
    def taps(self) -> Doubles:
        """The Gaussian along one axis, (2 r + 1,), r = `SHARPENING_REACH_PX`; they sum to one."""
        return gaussian_taps(self.radius_px, SHARPENING_REACH_PX)

    @property
    def kernel(self) -> Kernel:
        """The mask, (2 r + 1, 2 r + 1), with negative taps."""
        mask = -self.amount * np.outer(self.taps, self.taps)
        mask[SHARPENING_REACH_PX, SHARPENING_REACH_PX] += 1.0 + self.amount
        return mask.astype(np.float32)


@attrs.frozen
class Storage:
    """How the pixels were stored.

    Attributes
    ----------
    bit_depth : int
        8: rounded to 256 levels; 0: kept as they are.
    jpeg_quality : int
        1..100, or 0 without a JPEG.
    jpeg_phase : (int, int)
        Position (y, x), 0..7, of a patch on the lattice of 8 x 8 blocks.
    """

    bit_depth: int = 0
    jpeg_quality: int = 0
    jpeg_phase: tuple[int, int] = (0, 0)


@attrs.frozen(eq=False)
class SecondPass:
    """A second, weaker pass on the input grid: a small kernel (m, m), noise, storage."""

    kernel: Kernel
    noise: Noise
    storage: Storage


@attrs.frozen(eq=False)
class Degradation:
    """All drawn numbers of one patch or section.

    Attributes
    ----------
    scale : int
        Output pixels per input pixel: 1, 2 or 4.
    kernel : ndarray, (k, k), float32
        Blur and downsampling of the first pass on the output grid, as `bigrestore.core.kernels` says; a fitted one
        may have negative taps.
    kind : str
        Family of the blur, `none` without any, `learned` for one of a bank.
    blur : dict of str to float
        Its parameters.
    downsampling : str
        `none`, `bicubic`, `area` or `s-fold`; `learned` where it is part of a fitted kernel.
    thickness_px : float
        Thickness of the section in output pixels if it blurred, else 0.
    identity : bool
        True for nothing but an unavoidable downsampling.
    scan_factor : int
        Scan pixels per input pixel along one axis; their mean shrinks noise and rounding of the scan.
    resampling : Resampling or None
        Registration after the scan.
    synthesis : Synthesis or None
        What a network learned from pairs adds to the blurred image.
    sharpening : Sharpening or None
        What the program of the scanner did to the scan, before any registration.
    """

    scale: int
    kernel: Kernel
    kind: str = "none"
    blur: dict[str, float] = attrs.field(factory=dict)
    downsampling: str = "none"
    thickness_px: float = 0.0
    stain: Stain = Stain()
    illumination: Illumination | None = None
    lines: Lines | None = None
    banding: Banding | None = None
    damage: tuple[Damage, ...] = ()
    noise: Noise = Noise()
    storage: Storage = Storage()
    second: SecondPass | None = None
    identity: bool = False
    scan_factor: int = 1
    resampling: Resampling | None = None
    synthesis: Synthesis | None = None
    sharpening: Sharpening | None = None

    @property
    def defocus(self) -> bool:
        """Whether the blur comes from defocus: a disk, or the disks of a thick section."""
        return self.kind in ("defocus", "thickness")

    @property
    def scan_noise(self) -> Noise:
        """Noise on the input grid, before any resampling: the mean of n x n pixels divides its deviation by n."""
        n = self.scan_factor
        gain, read, contrast_gain = self.noise.gain / n**2, self.noise.read / n, self.noise.contrast_gain / n
        return attrs.evolve(self.noise, gain=gain, read=read, contrast_gain=contrast_gain)

    @property
    def effective_kernel(self) -> Kernel:
        """Kernel of all passes together, (k, k), as an estimator should read it: without negative taps.

        A resampling counts with its mean over all sub-pixel phases.
        """
        kernel = self.kernel
        if np.any(kernel < 0):
            kernel = normalised_kernel(kernel)
        if self.resampling is not None:
            kernel = compose(kernel, mean_kernel(self.resampling.orders), dilation=self.scale)
        if self.second is not None:
            kernel = compose(kernel, self.second.kernel, dilation=self.scale)
        if self.sharpening is not None:
            kernel = compose(kernel, self.sharpening.kernel, dilation=self.scale)
        steps_after = (self.resampling, self.second, self.sharpening)
        whole = self.scale % 2 or all(step is None for step in steps_after)
        return kernel if whole else normalised_kernel(within_counterparts(kernel, self.scale))

    @property
    def effective_noise(self) -> tuple[float, float]:
        """Noise gain and read noise of all passes together, as smooth places show them.

        The steps after the first noise filter it by a kernel w: its variance is multiplied by sum(w^2), exact for white
        noise and a little too much for the correlated share.
        """
        gain, variance, _ = self._variances
        return gain, float(np.sqrt(variance))

    @property
    def effective_contrast_gain(self) -> float:
        """Noise by the contrast around a pixel, of all passes together, as `effective_noise`."""
        return float(np.sqrt(self._variances[2]))

    @property
    def _variances(self) -> tuple[float, float, float]:
        """Gain, variance at black and variance by squared contrast, of all passes together."""
        variances = self.scan_noise.variances
        if self.sharpening is not None:
            variances = variances * _noise_kept(self.sharpening.kernel)
        if self.resampling is not None:
            variances = variances * _noise_kept(mean_kernel(self.resampling.orders))
        if self.second is not None:
            variances = variances * _noise_kept(self.second.kernel) + self.second.noise.variances
        gain, read, contrast = (float(variance) for variance in variances)
        return gain, read, contrast

    @property
    def worst_jpeg(self) -> int:
        """The lowest JPEG quality of both passes, 0 without a JPEG."""
        second = 0 if self.second is None else self.second.storage.jpeg_quality
        made = [quality for quality in (self.storage.jpeg_quality, second) if quality]
        return min(made, default=0)

    def to_dict(self) -> dict[str, Any]:
        """Return all as JSON-able values, kernels as nested lists, the equivalent sigma beside them."""
        values = attrs.asdict(
            self,
            filter=lambda field, _: field.name != "synthesis",
            value_serializer=lambda _, __, value: value.tolist() if isinstance(value, np.ndarray) else value,
        )
        if self.synthesis is not None:
            values["synthesis"] = self.synthesis.describe()
        values["defocus"] = self.defocus
        values["effective_kernel"] = self.effective_kernel.tolist()
        values["sigma_px"] = equivalent_sigma(self.effective_kernel)
        values["effective_noise_gain"], values["effective_read_noise"] = self.effective_noise
        return values


def _noise_kept(kernel: Kernel) -> float:
    """Return the factor of white noise's variance under a kernel, above one for a sharpening one."""
    return float(np.sum(np.asarray(kernel, np.float64) ** 2))


def nothing(scale: int = 1) -> Degradation:
    """Return the degradation without any change at x1 and with the mean of s x s pixels at x2 and x4."""
    filter_name = "none" if scale == 1 else "area"
    return Degradation(scale=scale, kernel=sharpest(scale), downsampling=filter_name, identity=True)


def psi_targets(degradations: Sequence[Degradation]) -> dict[str, Tensor]:
    """Return the numbers of a degradation code, float32 on the CPU.

    Returns
    -------
    dict
        `kernel` (N, k, k), and of shape (N,): `noise_gain` (variance per unit of grey), `read_noise` (0..1),
        `jpeg` (quality, 0 for none), `banding` (amplitude), `jitter` (px), `damage` (0 or 1), `defocus`
        (0 or 1), `thickness_px`. Of two passes the kernel and the noise are those of both together.
    """
    noise = [degradation.effective_noise for degradation in degradations]
    scalars = {
        "noise_gain": [gain for gain, _ in noise],
        "read_noise": [read for _, read in noise],
        "jpeg": [d.worst_jpeg for d in degradations],
        "banding": [d.banding.amplitude if d.banding else 0.0 for d in degradations],
        "jitter": [d.lines.jitter_px if d.lines else 0.0 for d in degradations],
        "damage": [1.0 if d.damage else 0.0 for d in degradations],
        "defocus": [1.0 if d.defocus else 0.0 for d in degradations],
        "thickness_px": [d.thickness_px for d in degradations],
    }
    targets = {name: torch.tensor(values, dtype=torch.float32) for name, values in scalars.items()}
    targets["kernel"] = torch.from_numpy(np.stack([d.effective_kernel for d in degradations]))
    return targets
