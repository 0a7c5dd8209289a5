"""The likelihood of an input given the image: columns `likelihood` and `likelihood_excess`.

Bits a pixel of the input, counted in 256 levels, and by how much they exceed the entropy of its section's noise. Four fixed
windows of a tile are looked at. It refutes an image that the input contradicts, and does not rank sharpness.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bigrestore.core.pixels import Floats
from bigrestore.model.likelihood import Likelihood, law_bits
from bigrestore.report.metrics.judges.engine import InputOfTile, JudgeSettings

JUDGED_PX = 96
"""Side of a window, in pixels of the input."""


class LikelihoodJudge:
    """Counts bits.

    Parameters
    ----------
    likelihood : Likelihood
        Of the scale of the tiles.
    """

    columns = ("likelihood", "likelihood_excess")

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood

    @classmethod
    def create(cls, settings: JudgeSettings) -> LikelihoodJudge:
        """Load the model of the settings, or the shipped one of their scale."""
        return cls(Likelihood.load(settings.scale, settings.likelihood_model))

    def describe(self) -> dict[str, Any]:
        """Name and hash of the model."""
        return self.likelihood.identity

    def score(self, tile: Floats, other: InputOfTile) -> dict[str, float]:
        """Return the mean bits of the windows, and what they have above the noise; NaN where none was read."""
        scale, (top, left) = other.scale, other.origin
        bits, floor = [], []
        for y, x, side in windows(*other.pixels.shape):
            pixels = other.pixels[None, y : y + side, x : x + side]
            rows, columns = (
                slice(first, first + side * scale) for first in (top + y * scale, left + x * scale)
            )
            bits.append(float(self.likelihood.bits(pixels, tile[None, rows, columns]).mean(dtype=np.float64)))
            floor.append(math.nan if other.noise_law is None else law_bits(*other.noise_law, pixels))
        mean = sum(bits) / len(bits)
        return {"likelihood": mean, "likelihood_excess": mean - sum(floor) / len(floor)}


def windows(height: int, width: int) -> list[tuple[int, int, int]]:
    """Return row, column and side of the windows: four in the middle of the quarters, or one where they do not fit."""
    side = min(JUDGED_PX, height, width)
    parts = 2 if min(height, width) >= 2 * JUDGED_PX else 1
    rows, columns = (
        [round((2 * index + 1) * size / (2 * parts)) - side // 2 for index in range(parts)]
        for size in (height, width)
    )
    return [(row, column, side) for row in rows for column in columns]
