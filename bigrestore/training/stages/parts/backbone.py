"""Backbones: an architecture of the field learns to restore blind, on patches of the size of its windows.

The losses compare output and target after the low-frequency lock, as in fidelity training: nearness by Charbonnier's
loss, and amplitudes of the Fourier transform.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom
from bigrestore.model.nets.guards import low_frequency_lock
from bigrestore.model.nets.parts.backbone import BACKBONE_SIDE_PX, BACKBONE_STEP_PX, BackboneNet
from bigrestore.model.nets.parts.part import save_part
from bigrestore.model.nets.wiener import fill_damage
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.codes import shown_masks
from bigrestore.training.data.pairs import Pairs, PairSource
from bigrestore.training.data.patches import step_rng
from bigrestore.training.loop.options import TRAINING_DTYPES
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.loop.sheet import sheet_of
from bigrestore.training.stages.assembly import Material, StageBuilder, StagePlan, pair_source
from bigrestore.training.stages.fidelity import with_bounded_errors
from bigrestore.training.stages.losses import closeness, fft_amplitude_l1, psnr_of_each
from bigrestore.training.stages.parts.part_stage import PairsPartStage

BACKBONE_BATCH = 4
BACKBONE_HELD_OUT = 24
BACKBONE_STREAM = 17
SPECTRUM_WEIGHT = 0.05
BACKBONE_SHOWN = 10


class BackboneStage(PairsPartStage[BackboneNet]):
    """A backbone, blind, on pairs of the size of a window."""

    name = "backbone"

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Return the losses of a step, the total first."""
        pairs = self.pairs.at(step, self.batch)
        valid = shown_masks(pairs, step_rng(self.seed, step, BACKBONE_STREAM))
        y = with_bounded_errors(self._restored(pairs.degraded, valid), pairs.target)
        restored, target = self._locked(y, pairs), self._locked(pairs.target, pairs)
        near, spectrum = closeness(restored, target, progress), fft_amplitude_l1(restored, target)
        return {"loss": near + SPECTRUM_WEIGHT * spectrum, "near": near, "fft": spectrum}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the mean PSNR gain over Catmull-Rom on the held-out pairs."""
        pairs = self.pairs.held_out()
        start = psnr_of_each(catmull_rom(pairs.degraded, self.net.scale).clamp(0, 1), pairs.target)
        changed = torch.tensor([not drawn.identity for drawn in pairs.drawn], device=start.device)
        y = self._locked(self._restored_in_batches(pairs), pairs).clamp(0, 1)
        return {"gain": float((psnr_of_each(y, pairs.target) - start)[changed].mean())}

    @torch.no_grad()
    def sheet(self) -> NDArray[np.uint8]:
        """Return held-out pairs, one a column: degraded, restored, target."""
        pairs = self.pairs.held_out()
        rows = (
            catmull_rom(pairs.degraded, self.net.scale),
            self._restored_in_batches(pairs, BACKBONE_SHOWN),
            pairs.target,
        )
        return sheet_of(rows, BACKBONE_SHOWN)

    def export(self, path: Path) -> None:
        """Write the part with its windows."""
        tiling = {
            "window_px": BACKBONE_SIDE_PX,
            "halo_px": BACKBONE_STEP_PX,
            "alignment_px": BACKBONE_STEP_PX,
        }
        save_part(path, self.net, self.name, self.net.scale, {"sizes": self.sizes, **tiling})

    def _restored(self, degraded: Tensor, valid: Tensor) -> Tensor:
        """Return what the network makes of windows, damage filled as in a run."""
        filled = fill_damage(degraded, valid, bool(valid.all()))
        with torch.autocast(valid.device.type, self.dtype, enabled=self.dtype != torch.float32):
            restored: Tensor = self.net(filled)
        return restored.float()

    def _restored_in_batches(self, pairs: Pairs, count: int | None = None) -> Tensor:
        """Return the first held-out pairs restored: all at once would take gigabytes of attention."""
        starts = range(0, len(pairs.degraded[:count]), BACKBONE_BATCH)
        batches = (slice(start, start + BACKBONE_BATCH) for start in starts)
        made = [self._restored(pairs.degraded[batch], pairs.valid[batch]) for batch in batches]
        return torch.cat(made)[:count]

    def _locked(self, image: Tensor, pairs: Pairs) -> Tensor:
        return low_frequency_lock(image, pairs.degraded, pairs.valid, pairs.known.kernel, self.net.scale)


def build_backbone(
    _: str,
    material: Material,
    net: BackboneNet,
    info: dict[str, Any],
    options: StageOptions,
    __: LoopSettings,
) -> tuple[BackboneStage, PairSource]:
    """Return the stage and the source of its data; see `assembly.build_stage`."""
    pairs = pair_source(
        material, net.scale, options, BACKBONE_SIDE_PX, BACKBONE_HELD_OUT, tilt=material.restored_tilt
    )
    stage = BackboneStage(
        net,
        info["sizes"],
        pairs,
        seed=options.seed,
        batch=options.batch or BACKBONE_BATCH,
        dtype=TRAINING_DTYPES[options.precision],
    )
    return stage, pairs


BACKBONE = StageBuilder(StagePlan(warmup_steps=100), build_backbone)
"""The sizes of a new one are those of its architecture (`bigrestore.settings.presets.BACKBONES`)."""
