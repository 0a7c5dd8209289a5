"""Unsharp masking as a method of bigrestore: one class for the work, one `MethodFactory` for its options.

The entry point of the group `bigrestore.methods` in pyproject.toml names the factory, and `bigrestore run --method
unsharp --set amount=1.5` finds it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bigrestore.model.method import PSI_SIZE, MethodFactory, SectionStatistics, TileBatch, TileResult
from bigrestore.model.options import MethodOption
from bigrestore.settings import RunSettings


class Unsharp:
    """y = x + amount * (x - blurred(x)), clipped to 0..1.

    Parameters
    ----------
    amount : float
        Strength; 0 leaves the image as it is.
    sigma : float
        Standard deviation of the Gaussian, in pixels.
    """

    name = "unsharp"
    scale = 1
    alignment_px = 1
    exact = True  # within the halo a pixel depends on nothing else, so tiles equal the whole section

    def __init__(self, amount: float, sigma: float) -> None:
        self.amount, self.sigma = amount, sigma
        self.halo_px = math.ceil(4 * sigma)

    def describe(self) -> dict[str, Any]:
        """Return what identifies the method in plans and provenance."""
        return {"name": self.name, "scale": self.scale, "halo_px": self.halo_px, "device": "cpu"}

    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Return the statistics of a section; this method needs none."""
        return SectionStatistics(np.ones((1, 1), np.float32), np.zeros(PSI_SIZE, np.float32), 0.0, 0.0)

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        """Sharpen tiles, (n, h, w)."""
        sigmas = (0, self.sigma, self.sigma)
        blurred = gaussian_filter(
            batch.pixels, sigmas, mode="nearest", radius=(0, self.halo_px, self.halo_px)
        )
        sharp = batch.pixels + np.float32(self.amount) * (batch.pixels - blurred)
        return TileResult(np.clip(sharp, 0, 1).astype(np.float32))


def create(settings: RunSettings, *, amount: float, sigma: float) -> Unsharp:
    """Make the method; the settings would say scale, device and seed."""
    return Unsharp(amount, sigma)


UNSHARP = MethodFactory(
    create,
    "Unsharp masking: adds what a Gaussian takes away.",
    options=(
        MethodOption(
            *("amount", float, 1.0, "Strength."),
            takes="a number from 0 to 10",
            check=lambda value: 0 <= value <= 10,
        ),
        MethodOption(
            *("sigma", float, 2.0, "Standard deviation of the Gaussian, in pixels."),
            takes="a number above 0, up to 50",
            check=lambda value: 0 < value <= 50,
        ),
    ),
    scales=(1,),
)
