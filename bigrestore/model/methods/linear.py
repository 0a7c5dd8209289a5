"""Wiener's filter and the median: the classical methods, without any training.

The filter is one of the three that the network starts from (`bigrestore.model.nets.wiener`): of all filters with 25 x 25
taps the one of least mean square error, given blur, noise, and the mean power of tissue. The median takes single bright
or dark pixels away and knows no blur.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from torch import Tensor

from bigrestore.core.kernels import sharpest
from bigrestore.model.knowledge import Knowledge
from bigrestore.model.method import PSI_SIZE, SectionStatistics, TileBatch, TileResult
from bigrestore.model.methods.told import ToldMethod
from bigrestore.model.nets.guards import Seen
from bigrestore.model.nets.wiener import BOLDNESS, deconvolve, fill_damage, section_sigma, wiener_filters

FILLED_FROM_PX = 8
"""Reach of the mean that stands for damage."""
WIENER_HALO_PX = 144
"""Measured with kernels up to the widest and noise from none on: the filter reaches 12 px, and the guards behind it."""


class WienerMethod(ToldMethod):
    """The linear filter of least mean square error.

    Parameters
    ----------
    scale : int
        Output pixels per input pixel.
    knowledge : Knowledge
        What it is told.
    boldness : float
        0.1, 1 or 10: factor on the noise variance; 0.1 sharpens most.
    lock : bool
        Whether the guards that compare with the input act.
    """

    def __init__(self, scale: int, knowledge: Knowledge, *, boldness: float = 1.0, lock: bool = True) -> None:
        options = {"boldness": boldness}
        super().__init__("wiener", scale, knowledge, halo_px=WIENER_HALO_PX, lock=lock, options=options)
        self._number = BOLDNESS.index(boldness)

    def solve(self, seen: Seen) -> Tensor:
        """Filter tiles."""
        phases = self.scale**2
        filters = wiener_filters(seen.kernel[None], section_sigma(seen), self.scale)
        chosen = filters[:, self._number * phases : (self._number + 1) * phases]
        return deconvolve(seen.x, seen.valid, chosen, self.scale, seen.whole)


@attrs.frozen
class MedianMethod:
    """The median of a square about each pixel, at scale 1.

    Attributes
    ----------
    side : int
        Of the square, odd.
    """

    side: int
    name: str = attrs.field(default="median", init=False)
    scale: int = attrs.field(default=1, init=False)
    alignment_px: int = attrs.field(default=1, init=False)
    exact: bool = attrs.field(default=True, init=False)
    bytes_per_px: int = attrs.field(default=32, init=False)
    px_per_second: float = attrs.field(default=3e6, init=False)

    @property
    def halo_px(self) -> int:
        """Half of the side, and what damage is filled from."""
        return self.side // 2 + FILLED_FROM_PX

    def describe(self) -> dict[str, Any]:
        """Return the identity of the method in plans, fingerprints and provenance."""
        return {"name": self.name, "scale": 1, "halo_px": self.halo_px, "side": self.side, "device": "cpu"}

    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Return that nothing is known: the median asks for nothing."""
        return SectionStatistics(sharpest(1), np.zeros(PSI_SIZE, np.float32), 0.0, 0.0)

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        """Filter tiles; beyond a border the last pixel repeats, and damage is filled from around it."""
        pixels = batch.pixels
        if batch.valid is not None:
            valid = torch.from_numpy(batch.valid.astype(np.float32))[:, None]
            pixels = fill_damage(torch.from_numpy(pixels)[:, None], valid)[:, 0].numpy()
        return TileResult(median_filter(pixels, size=(1, self.side, self.side), mode="nearest"))
