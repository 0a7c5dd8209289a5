"""Interpolation as a restoration method, without any weights.

It is the baseline of every comparison, and enlarges a section without a model. Both kinds are local and start from
absolute positions, so tiles equal the whole section to the bit. At scale 1 they return their input.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from bigrestore.core.interpolation import catmull_rom, rational_auto
from bigrestore.model.method import PSI_SIZE, SectionStatistics, TileBatch, TileResult

Kind = Literal["rational", "catmull-rom"]


@attrs.frozen
class InterpolateMethod:
    """Rational or Catmull-Rom interpolation behind the engine's protocol.

    Attributes
    ----------
    name : str
        `rational` or `catmull-rom`.
    scale : int
        Output pixels per input pixel.
    """

    name: Kind
    scale: int
    halo_px: int = attrs.field(default=8, init=False)
    alignment_px: int = attrs.field(default=1, init=False)
    exact: bool = attrs.field(default=True, init=False)
    bytes_per_px: int = attrs.field(init=False)
    px_per_second: float = attrs.field(default=4e6, init=False)

    @bytes_per_px.default
    def _bytes_per_px(self) -> int:
        return 48 * self.scale**2 + 64

    def describe(self) -> dict[str, Any]:
        """Return the identity of the method in plans, fingerprints and provenance."""
        return {"name": self.name, "scale": self.scale, "halo_px": self.halo_px, "device": "cpu"}

    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Measure the noise, below which the rational interpolation does not believe an edge."""
        sigma = float(np.median([immerkaer_sigma(window) for window in windows])) if len(windows) else 0.0
        details = {"windows": len(windows), "noise_sigma": round(sigma, 6)}
        psi = np.zeros(PSI_SIZE, np.float32)
        return SectionStatistics(np.ones((1, 1), np.float32), psi, 0.0, sigma, details)

    @torch.inference_mode()
    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        """Interpolate tiles; the values are clipped to 0..1."""
        x = torch.from_numpy(np.ascontiguousarray(batch.pixels))[:, None]
        if self.scale == 1:
            y = x
        elif self.name == "rational":
            y = rational_auto(x, self.scale, statistics.read_noise)
        else:
            y = catmull_rom(x, self.scale)
        return TileResult(y.clamp(0.0, 1.0)[:, 0].numpy())


def immerkaer_sigma(window: NDArray[np.float32]) -> float:
    """Estimate the standard deviation of white noise in a window.

    The mask [1 -2 1; -2 4 -2; 1 -2 1] leaves no plane and little structure; the mean of its absolute answer is
    6 sigma sqrt(2 / pi) for normal noise (Immerkaer, Computer Vision and Image Understanding, 1996).

    Parameters
    ----------
    window : ndarray, (h, w)
        Grey values, 0..1; at least 3 x 3 pixels.

    Returns
    -------
    float
        Sigma, 0..1.
    """
    rows = window[:-2] - 2 * window[1:-1] + window[2:]
    answer = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    return float(np.abs(answer).mean()) * math.sqrt(math.pi / 2) / 6
