"""Undo the unsharp mask of a scanner's program, as the user states it, before a section is read and restored.

A mask adds to a scan x the `amount`-fold of what a Gaussian G takes away: y = x + amount * (x - G x). Its inverse has the
transfer 1 / (1 + amount * (1 - G)), which lies between 1 / (1 + amount) and 1: it enhances nothing, noise included, and
needs no regularisation. It is exact but for what the program clipped or rounded.
"""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import Any

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.kernels import gaussian_taps
from bigrestore.model.method import Method, SectionStatistics, TileBatch, TileResult
from bigrestore.model.wrapped import WrappedMethod
from bigrestore.settings.values import StatedSharpening

TAIL = 2e-4
"""Part of the inverse that may lie beyond its reach: a twentieth of a grey level of 8 bits at the strongest edge."""

REACH_SIGMAS = 3
"""Where the Gaussian ends."""

BYTES_PER_PX, PX_PER_SECOND = 40, 1e7
"""Memory, and speed of one core."""


@attrs.frozen
class UnsharpMask:
    """An unsharp mask, and its inverse.

    Attributes
    ----------
    amount : float
        Above 0.
    radius_px : float
        Sigma of the Gaussian, input pixels.
    """

    amount: float
    radius_px: float

    @cached_property
    def reach_px(self) -> int:
        """Pixels to each side that the inverse depends on, but for `TAIL` of it."""
        side = 64 * math.ceil(self.radius_px)
        response = np.abs(np.fft.irfft(1 / self._gain(self._gaussian(side)), n=side))
        outside = np.cumsum((response + np.roll(response[::-1], 1))[: side // 2][::-1])[::-1]
        return int(np.argmax(outside < TAIL * response.sum()))

    def undone(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return images, (n, h, w), as they were before the mask; beyond the edge the last pixel repeats."""
        reach = self.reach_px
        height, width = (side + 2 * reach for side in images.shape[1:])
        rows, columns = (2 * ((side + 1) // 2) for side in (height, width))
        padded = F.pad(
            torch.from_numpy(images)[None],
            (reach, reach + columns - width, reach, reach + rows - height),
            mode="replicate",
        )[0]
        made = torch.fft.irfft2(torch.fft.rfft2(padded) * _inverse(self, rows, columns), s=(rows, columns))
        inner = made[:, reach : reach + images.shape[1], reach : reach + images.shape[2]]
        return np.ascontiguousarray(inner.clamp(0, 1).numpy())

    def inverse(self, rows: int, columns: int) -> NDArray[np.float32]:
        """Return the transfer of the inverse on even sides, (rows, columns / 2 + 1)."""
        along_y, along_x = self._gaussian(rows), self._gaussian(columns)
        gaussian = np.outer(np.concatenate([along_y, along_y[-2:0:-1]]), along_x)
        return (1 / self._gain(gaussian)).astype(np.float32)

    def _gaussian(self, side: int) -> NDArray[np.float64]:
        """Return the transfer of the Gaussian along an axis of an even side, (side / 2 + 1,)."""
        reach = math.ceil(REACH_SIGMAS * self.radius_px)
        taps, away = gaussian_taps(self.radius_px, reach), np.arange(-reach, reach + 1)
        return np.cos(2 * np.pi * np.outer(np.fft.rfftfreq(side), away)) @ taps

    def _gain(self, gaussian: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 + self.amount * (1 - gaussian)


@lru_cache(maxsize=4)
def _inverse(mask: UnsharpMask, rows: int, columns: int) -> Tensor:
    """Return the transfer of an inverse: tiles of a run have few sizes."""
    return torch.from_numpy(mask.inverse(rows, columns))


class Unsharpened(WrappedMethod):
    """A method that is given sections as they were before an unsharp mask.

    Parameters
    ----------
    method : Method
        Of any scale.
    mask : UnsharpMask
        Undone.
    """

    def __init__(self, method: Method, mask: UnsharpMask) -> None:
        super().__init__(method, mask.reach_px, BYTES_PER_PX, PX_PER_SECOND)
        self.mask = mask

    def describe(self) -> dict[str, Any]:
        """Return the identity of the method, and the mask."""
        return {**super().describe(), "sharpened": attrs.asdict(self.mask)}

    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Return what the method reads of a section without the mask."""
        statistics = super().analyse(self.mask.undone(windows) if len(windows) else windows)
        stated = {"sharpened": [self.mask.amount, self.mask.radius_px]}
        return attrs.evolve(statistics, details={**statistics.details, **stated})

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        """Undo the mask of tiles, and restore them."""
        return self.method.restore(attrs.evolve(batch, pixels=self.mask.undone(batch.pixels)), statistics)


def without_sharpening(method: Method, stated: StatedSharpening | None) -> Method:
    """Wrap a method so that it undoes a stated mask first, if there is one."""
    if stated is None or stated[0] == 0:
        return method
    return Unsharpened(method, UnsharpMask(*stated))
