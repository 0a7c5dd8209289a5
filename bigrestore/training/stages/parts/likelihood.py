"""The likelihood of an input given its restoration: it learns what the recipe makes of clean tissue, pixel by pixel.

Its running figures say what it is for: the bits of an input given its own clean image (`paired`), that of another place
(`unpaired`) and the entropy of the noise alone (`floor`), below which nothing can fall.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bigrestore.model.nets.parts.part import save_part
from bigrestore.model.nets.parts.pixelcnn import PixelCNN, noise_bits, to_levels
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.pairs import Pairs, PairSource
from bigrestore.training.loop.options import TRAINING_DTYPES
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.loop.sheet import sheet_of
from bigrestore.training.stages.assembly import Material, StageBuilder, StagePlan, pair_source
from bigrestore.training.stages.parts.part_stage import PartStage

LIKELIHOOD_PATCH_PX = 48
LIKELIHOOD_BATCH = 8
LIKELIHOOD_HELD_OUT = 64
LIKELIHOOD_SHOWN = 12
SHOWN_BITS = 8.0
"""Bits of a white pixel of the sheet."""


class LikelihoodStage(PartStage[PixelCNN]):
    """What the training loop asks for, for a likelihood.

    Parameters
    ----------
    net : PixelCNN
        The network.
    sizes : dict
        Its arguments, for its file.
    pairs : PairSource
        Degraded and clean patches.
    batch : int
        Patches per step.
    dtype : torch.dtype
        What the network computes in.
    """

    name = "likelihood"

    def __init__(
        self,
        net: PixelCNN,
        sizes: dict[str, Any],
        pairs: PairSource,
        *,
        batch: int = LIKELIHOOD_BATCH,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.net, self.sizes, self.pairs = net, sizes, pairs
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batch, self.dtype = batch, dtype

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Return the mean bits of an undamaged pixel; every other patch does without the pixels before one."""
        pairs = self.pairs.at(step, self.batch)
        count = len(pairs.target)
        sees = (torch.arange(count, device=pairs.target.device) + step) % 2
        bits = self._bits(pairs, pairs.target, sees[:, None, None, None].float())
        return {"loss": _mean(bits, pairs.valid)}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the bits of a pixel on the held-out pairs: paired, unpaired, and those of the noise.

        `alone` are those by the restoration without the pixels before one.
        """
        pairs, known = self.pairs.held_out(), self.pairs.held_out().known
        gain, read = (part[:, None, None, None] for part in (known.noise_gain, known.read_noise))
        other = pairs.target.roll(1, dims=0)
        figures = {
            "paired": self._bits(pairs, pairs.target),
            "unpaired": self._bits(pairs, other),
            "paired_alone": self._bits(pairs, pairs.target, 0.0),
            "unpaired_alone": self._bits(pairs, other, 0.0),
            "floor": noise_bits(gain, read, pairs.degraded),
        }
        return {name: float(_mean(bits, pairs.valid)) for name, bits in figures.items()}

    @torch.no_grad()
    def sheet(self) -> NDArray[np.uint8]:
        """Return held-out pairs, one a column: degraded, its bits, clean (reduced to one size)."""
        pairs = self.pairs.held_out()
        clean = nn.functional.avg_pool2d(pairs.target, self.net.scale)
        rows = (pairs.degraded, self._bits(pairs, pairs.target) / SHOWN_BITS, clean)
        return sheet_of(rows, LIKELIHOOD_SHOWN)

    def export(self, path: Path) -> None:
        """Write the part."""
        facts = {"sizes": self.sizes, "halo_px": self.net.reach_px, "alignment_px": 1}
        save_part(path, self.net, self.name, self.net.scale, facts)

    def _bits(self, pairs: Pairs, restored: Tensor, sees: Tensor | float = 1.0) -> Tensor:
        levels = to_levels(pairs.degraded)
        with torch.autocast(levels.device.type, self.dtype, enabled=self.dtype != torch.float32):
            mixture = self.net(levels, restored, sees)
        bits: Tensor = mixture.bits(levels)
        return bits


def build_likelihood(
    _: str, material: Material, net: PixelCNN, info: dict[str, Any], options: StageOptions, __: LoopSettings
) -> tuple[LikelihoodStage, PairSource]:
    """Return the stage and the source of its data; see `assembly.build_stage`."""
    pairs = pair_source(material, net.scale, options, LIKELIHOOD_PATCH_PX, LIKELIHOOD_HELD_OUT)
    stage = LikelihoodStage(
        net,
        info["sizes"],
        pairs,
        batch=options.batch or LIKELIHOOD_BATCH,
        dtype=TRAINING_DTYPES[options.precision],
    )
    return stage, pairs


def _mean(bits: Tensor, valid: Tensor) -> Tensor:
    return (bits * valid).sum() / valid.sum().clamp_min(1)


LIKELIHOOD = StageBuilder(
    StagePlan(
        warmup_steps=100,
        sizes={"channels": 32, "blocks": 6, "logistics": 5, "condition_channels": 16},
    ),
    build_likelihood,
)
