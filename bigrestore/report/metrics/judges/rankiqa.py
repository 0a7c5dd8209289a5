"""RankIQA of tissue, columns `rankiqa`, `rankiqa_median`, `rankiqa_256`: it orders distortions of tissue; not LIVE's scale.

Nine crops of 224 px of a tile lie on a fixed lattice, in place of a hundred random ones: the same tile has the same number.
Their mean is `rankiqa`; `rankiqa_256` is the mean of those of the tile after area resizing to 256 px. A number of 0 to 100,
smaller for a better tile, is what 100 (1 - MS-SSIM) was of held-out tissue with such a number: no human rated any.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core.pixels import Doubles, Floats
from bigrestore.errors import ModelError
from bigrestore.model.nets.parts.part import TrainedPart, load_part
from bigrestore.report.metrics.judges.engine import JudgeSettings

CROP_PX = 224
CROPS = 3
"""Along each side."""

RESIZED_PX = 256


class RankingJudge:
    """Orders distortions.

    Parameters
    ----------
    part : TrainedPart
        Of the kind `ranking`.
    """

    columns = ("rankiqa", "rankiqa_median", "rankiqa_256")

    def __init__(self, part: TrainedPart) -> None:
        self.part = part
        self._net = part.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        fit = part.info.get("fit", {})
        self._from, self._to = (np.asarray(fit.get(end, ()), np.float64) for end in ("from", "to"))
        if not 0 < self._from.size == self._to.size:
            raise ModelError(f"The model {part.name} has no scale of 0 to 100; train it again.")

    @classmethod
    def create(cls, settings: JudgeSettings) -> RankingJudge:
        """Load the model of the settings, or the shipped one."""
        return cls(load_part("ranking", 1, settings.ranking_model, "--ranking-model"))

    def describe(self) -> dict[str, Any]:
        """Name and hash of the model."""
        return self.part.identity

    @torch.inference_mode()
    def score(self, tile: Floats, other: None) -> dict[str, float]:
        """Return the mean and the median of the crops, and the mean after resizing; NaN for a tile below 256 px."""
        image = torch.from_numpy(np.ascontiguousarray(tile, np.float32))[None, None]
        own = self._numbers(image)
        resized = math.nan
        if min(tile.shape) >= RESIZED_PX:
            resized = float(
                self._numbers(F.interpolate(image, size=(RESIZED_PX, RESIZED_PX), mode="area")).mean()
            )
        return dict(zip(self.columns, (float(own.mean()), float(np.median(own)), resized), strict=True))

    def _numbers(self, image: Tensor) -> Doubles:
        """Return the numbers of the crops of an image; one by one, so that no batch changes a bit."""
        raw = [float(self._net(crop.contiguous(memory_format=torch.channels_last))) for crop in crops(image)]
        return np.asarray(np.interp(raw, self._from, self._to), np.float64)


def crops(image: Tensor) -> list[Tensor]:
    """Return the crops of an image, (1, 1, H, W): on a lattice of 3 x 3, fewer where they would be the same."""
    side = min(CROP_PX, *image.shape[-2:])
    rows, columns = (
        dict.fromkeys(round(index * (size - side) / (CROPS - 1)) for index in range(CROPS))
        for size in image.shape[-2:]
    )
    return [image[..., y : y + side, x : x + side] for y in rows for x in columns]
