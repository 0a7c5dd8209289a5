"""Degrading a whole section tile by tile, without a seam.

The engine for restoring sections also degrades them: `SectionDegrader` is a method like any other, with a scale of
1/s. Its promise is stronger than a network's: a tile equals its place in the whole to the last bit. So every number
comes from the absolute pixel (noise by hash, jitter and gain by row, bands and light by position, JPEG blocks on one
lattice), and the blur adds its taps one by one in a fixed order; a convolution library may change the order with the
shape.

What a network adds that was learned from pairs is a sum whose order the library chooses: there a tile equals the whole but
for the rounding of float32.

The stain is left alone: it would have to change the clean side too, the input itself.
"""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Any

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.kernels import Kernel
from bigrestore.degradation import steps
from bigrestore.degradation.degradation import (
    SHARPENING_REACH_PX,
    Degradation,
    Lines,
    Noise,
    Stain,
    Storage,
)
from bigrestore.degradation.jpeg import JPEG_BLOCK_PX, jpeg_round_trip
from bigrestore.model.method import PSI_SIZE, SectionStatistics, TileBatch, TileResult
from bigrestore.model.nets.prior.noise import hashed_normal

_WHITE, _SMOOTH, _SHIFT, _GAIN, _SECOND = 0, 1, 2, 3, 4
"""Layers of the hashed noise: one field each; those of the second pass come after `_SECOND`."""

_LINE_CONTEXT_PX = 2

SYNTHESIS_BYTES, SYNTHESIS_NS = 300, 4000
"""Memory and time that a network learned from pairs takes per degraded pixel."""


@attrs.frozen(eq=False)
class SectionDegrader:
    """One degradation of one section or volume, as a method of the engine.

    Attributes
    ----------
    degradation : Degradation
        What happens; its stain and the phase of its JPEG lattice are ignored.
    height, width : int
        Size of the section in pixels of the clean image: places of damage are shares of it.
    seed : int
        Seed of the noise.
    name, scale, halo_px, alignment_px, exact
        As `bigrestore.model.method.Method` says; lengths in pixels of the clean image.
    """

    degradation: Degradation
    height: int
    width: int
    seed: int
    name: str = "degrade"
    exact: bool = True

    @property
    def scale(self) -> Fraction:
        """Degraded pixels per clean pixel: 1/s."""
        return Fraction(1, self.degradation.scale)

    @property
    def alignment_px(self) -> int:
        """Clean pixels under one JPEG block, for tiles of whole blocks."""
        return JPEG_BLOCK_PX * self.degradation.scale

    @property
    def halo_px(self) -> int:
        """What a pixel depends on around its tile, in clean pixels.

        From the last step back: the contrast that the second noise grows with, the second kernel, its JPEG block, the
        registration and the displacement before it, the unsharp mask, the contrast of the first noise, the shift of a
        line, and the first kernel with the half pixel of the downsampling.
        """
        again = self.degradation.second
        second = 0 if again is None else int(again.kernel.shape[0]) // 2 + _contrast_px(again.noise)
        after = -(-second // JPEG_BLOCK_PX) * JPEG_BLOCK_PX + (
            _LINE_CONTEXT_PX if self.degradation.lines else 0
        )
        blur = int(self.degradation.kernel.shape[0]) // 2 + self.degradation.scale // 2
        if self.degradation.synthesis is not None:
            blur = max(blur, self.degradation.synthesis.reach_px * self.degradation.scale)
        resampling = self.degradation.resampling
        moved = 0 if resampling is None else resampling.reach_px
        sharpened = 0 if self.degradation.sharpening is None else SHARPENING_REACH_PX
        scanned = _contrast_px(self.degradation.scan_noise) + sharpened
        reach = (after + moved + scanned) * self.degradation.scale + blur
        return -(-reach // self.alignment_px) * self.alignment_px

    @property
    def bytes_per_px(self) -> int:
        """Peak memory of a tile at work per clean pixel: two copies of it, and some thirty of the result."""
        features = 0 if self.degradation.synthesis is None else SYNTHESIS_BYTES
        return 8 + (130 + features) // self.degradation.scale**2

    @property
    def px_per_second(self) -> float:
        """Clean pixels per second and thread: a nanosecond per tap, and 300 for all the other steps but a network."""
        taps = int(np.count_nonzero(self.degradation.kernel))
        if self.degradation.synthesis is not None:
            taps += SYNTHESIS_NS
        return 1e9 * self.degradation.scale**2 / (taps + 300)

    def describe(self) -> dict[str, Any]:
        """Return the degradation and the seed, JSON-able; kernels by their checksum."""
        values = attrs.evolve(self.degradation, stain=Stain()).to_dict()
        kernel = np.asarray(values.pop("kernel"), np.float32)
        del values["effective_kernel"]
        digest = hashlib.blake2b(kernel.tobytes(), digest_size=16).hexdigest()
        return {
            "name": self.name,
            "scale": str(self.scale),
            "seed": self.seed,
            "kernel_blake2b": digest,
            "degradation": values,
        }

    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Return the kernel and the noise of the degradation; nothing is estimated."""
        gain, read = self.degradation.effective_noise
        return SectionStatistics(
            kernel=self.degradation.effective_kernel,
            psi=np.zeros(PSI_SIZE, np.float32),
            noise_gain=gain,
            read_noise=read,
        )

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        """Degrade tiles; the engine knows only restoration, hence the name."""
        scale = self.degradation.scale
        with torch.inference_mode():
            tiles = [
                self._degrade(torch.from_numpy(pixels), batch.z, int(y) // scale, int(x) // scale)
                for pixels, (y, x) in zip(batch.pixels, batch.origins, strict=True)
            ]
            return TileResult(torch.stack(tiles).numpy())

    def _degrade(self, clean: Tensor, z: int, y0: int, x0: int) -> Tensor:
        """Degrade one tile with its first degraded pixel at (y0, x0)."""
        plan = self.degradation
        seen = self._seen(clean, y0, x0)
        image = correlate_exactly(seen, plan.kernel, plan.scale)
        if plan.synthesis is not None:
            image = image + plan.synthesis.added(seen)
        ys = torch.arange(y0, y0 + image.shape[0], dtype=torch.float64)
        xs = torch.arange(x0, x0 + image.shape[1], dtype=torch.float64)
        if plan.illumination is not None:
            image = image * steps.light(plan.illumination, ys, xs)
        if plan.lines is not None:
            image = self._lines(image, plan.lines, z, y0)
        if plan.banding is not None:
            profile = steps.bands(plan.banding, xs if plan.banding.axis else ys)
            image = image * (profile[None, :] if plan.banding.axis else profile[:, None])
        for damage in plan.damage:
            rows = (ys - damage.y * (self.height / plan.scale)).float()
            columns = (xs - damage.x * (self.width / plan.scale)).float()
            image, _ = steps.damaged(image, damage, rows, columns)
        image = self._noise(image, plan.scan_noise, z, y0, x0, 0)
        if plan.sharpening is not None:
            image = steps.sharpened(image[None], [plan.sharpening])[0]
        if plan.resampling is not None:
            shift, _ = steps.registration_shifts(plan.resampling, ys, xs)
            image = steps.registered(image, shift, plan.resampling.orders)
        image = _store_tile(image, plan.storage)
        if plan.second is not None:
            image = correlate_exactly(image, plan.second.kernel, 1)
            image = _store_tile(
                self._noise(image, plan.second.noise, z, y0, x0, _SECOND), plan.second.storage
            )
        return image.clamp(0.0, 1.0)

    def _seen(self, clean: Tensor, y0: int, x0: int) -> Tensor:
        """Return the clean tile as seen by the scanner; (y0, x0) is its first degraded pixel."""
        resampling, scale = self.degradation.resampling, self.degradation.scale
        if resampling is None:
            return clean
        ys, xs = (
            (torch.arange(first * scale, first * scale + side, dtype=torch.float64) + 0.5) / scale - 0.5
            for first, side in zip((y0, x0), clean.shape, strict=True)
        )
        _, (along_y, along_x) = steps.registration_shifts(resampling, ys, xs)
        return steps.displaced(clean, (along_y * scale, along_x * scale))

    def _lines(self, image: Tensor, lines: Lines, z: int, y0: int) -> Tensor:
        """Shift and scale rows by processes over the absolute rows."""
        first, rows = y0 - steps.MEMORY_ROWS + 1, image.shape[0] + steps.MEMORY_ROWS - 1
        white = [hashed_normal(self.seed, z, layer, first, 0, rows, 1) for layer in (_SHIFT, _GAIN)]
        process = steps.line_process(torch.stack(white)[..., 0], torch.tensor([lines.memory] * 2))
        padded = F.pad(image[None, None], (_LINE_CONTEXT_PX,) * 2 + (0, 0), mode="replicate")[0]
        shifted = steps.shift_rows(padded, process[:1] * lines.jitter_px)[0]
        return shifted * (process[1] * lines.row_gain + 1.0)[:, None]

    def _noise(self, image: Tensor, noise: Noise, z: int, y0: int, x0: int, layer: int) -> Tensor:
        """Add the noise of one pass, hashed from the absolute pixel."""
        if noise.silent:
            return image
        height, width = image.shape
        field = hashed_normal(self.seed, z, layer + _WHITE, y0, x0, height, width)
        if noise.correlated_share > 0.0:
            rough = hashed_normal(self.seed, z, layer + _SMOOTH, y0 - 2, x0 - 2, height + 4, width + 4)
            field = steps.noise_field(field, steps.smooth_noise(rough), noise.correlated_share)
        contrast = noise.contrast_gain * steps.local_contrast(image) if noise.contrast_gain > 0.0 else None
        return steps.noisy(image, field, noise.gain, noise.read, contrast)


def correlate_exactly(image: Tensor, kernel: Kernel, scale: int) -> Tensor:
    """Correlate and downsample by sums in a fixed order for any shape.

    Parameters
    ----------
    image : Tensor, (s * h, s * w), float32
        Clean pixels; beyond the edge the last pixel repeats.
    kernel : ndarray, (k, k), float32
        As `bigrestore.core.kernels` says.
    scale : int
        Clean pixels per degraded pixel.

    Returns
    -------
    Tensor, (h, w), float32

    Notes
    -----
    Product and sum are two operations on purpose. A fused operation rounds once, but only within reach of the vector
    unit, and this differs from tile to tile.
    """
    taps = np.argwhere(kernel != 0.0)
    middle = kernel.shape[0] // 2
    if len(taps) == 1 and scale == 1:
        return image
    reach = int(np.abs(taps - middle).max())
    padded = F.pad(image[None, None], (reach, reach + scale) * 2, mode="replicate")[0, 0]
    height, width = (side // scale for side in image.shape)
    start = (scale - 1) // 2 + reach
    total = torch.zeros(height, width)
    product = torch.empty(height, width)
    for row, column in taps - middle:
        y, x = start + int(row), start + int(column)
        view = padded[y : y + scale * height : scale, x : x + scale * width : scale]
        torch.mul(view, float(kernel[row + middle, column + middle]), out=product)
        total += product
    return total


def _contrast_px(noise: Noise) -> int:
    """Return how far around a pixel its noise looks."""
    return steps.CONTRAST_REACH_PX if noise.contrast_gain > 0.0 else 0


def _store_tile(image: Tensor, storage: Storage) -> Tensor:
    """Round to 8 bits and compress on the absolute lattice, in float64 so no block hangs on a last bit."""
    if storage.bit_depth == 8:
        image = steps.eight_bits(image.clamp(0.0, 1.0))
    if storage.jpeg_quality > 0:
        image = jpeg_round_trip(image[None].double(), [storage.jpeg_quality])[0].float()
    return image
