"""The unrolled restoration: schedule and denoiser learn together, told a kernel and a noise that may be misread.

As in fidelity training both sides are compared after the low-frequency lock, part of every restoration.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom
from bigrestore.model.knowledge import Knowledge
from bigrestore.model.methods.unrolled import USRNetMethod
from bigrestore.model.nets.code import Degradations
from bigrestore.model.nets.guards import low_frequency_lock
from bigrestore.model.nets.parts.part import TrainedPart, save_part
from bigrestore.model.nets.parts.unrolled import Unrolled
from bigrestore.model.nets.reading.estimator import DegradationEstimator
from bigrestore.model.nets.wiener import tissue_sigma
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.codes import misread, shown_masks
from bigrestore.training.data.pairs import Pairs, PairSource
from bigrestore.training.data.patches import step_rng
from bigrestore.training.loop.options import TRAINING_DTYPES
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.loop.sheet import sheet_of
from bigrestore.training.stages.assembly import Material, StageBuilder, StagePlan, pair_source
from bigrestore.training.stages.fidelity import MISREAD_SEED, with_bounded_errors
from bigrestore.training.stages.halo import measure_method_halo
from bigrestore.training.stages.losses import closeness, fft_amplitude_l1, psnr_of_each
from bigrestore.training.stages.parts.part_stage import PairsPartStage

UNROLLED_PATCH_PX = 96
UNROLLED_BATCH = 6
UNROLLED_HELD_OUT = 32
UNROLLED_STREAM = 13
MISREAD_STEPS = 0.4
"""Share of the steps whose kernels and noises are told as an estimator misreads them."""
UNROLLED_SHOWN = 10


class UnrolledStage(PairsPartStage[Unrolled]):
    """An unrolled restoration, told blur and noise, or what an estimator reads of them."""

    name = "unrolled"

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Return the losses of a step, the total first."""
        pairs = self.pairs.at(step, self.batch)
        rng = step_rng(self.seed, step, UNROLLED_STREAM)
        valid = shown_masks(pairs, rng)
        told = misread(pairs.known, self.net.scale, rng) if rng.random() < MISREAD_STEPS else pairs.known
        y = with_bounded_errors(self._restored(pairs, valid, told), pairs.target)
        restored, target = self._locked(y, pairs), self._locked(pairs.target, pairs)
        near, spectrum = closeness(restored, target, progress), fft_amplitude_l1(restored, target)
        return {"loss": near + 0.05 * spectrum, "near": near, "fft": spectrum}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the mean PSNR gain over Catmull-Rom on the held-out pairs: told the truth, or a misreading."""
        pairs = self.pairs.held_out()
        start = psnr_of_each(catmull_rom(pairs.degraded, self.net.scale).clamp(0, 1), pairs.target)
        changed = torch.tensor([not drawn.identity for drawn in pairs.drawn], device=start.device)
        figures = {}
        for name, told in (("oracle", pairs.known), ("misread", self._misread(pairs))):
            y = self._locked(self._restored(pairs, pairs.valid, told), pairs).clamp(0, 1)
            figures[f"gain_{name}"] = float((psnr_of_each(y, pairs.target) - start)[changed].mean())
        return figures

    @torch.no_grad()
    def sheet(self) -> NDArray[np.uint8]:
        """Return held-out pairs, one a column: degraded, restored, target."""
        pairs = self.pairs.held_out()
        restored = self._restored(pairs, pairs.valid, self._misread(pairs))
        rows = (catmull_rom(pairs.degraded, self.net.scale), restored, pairs.target)
        return sheet_of(rows, UNROLLED_SHOWN)

    def export(self, path: Path) -> None:
        """Measure the halo and write the part."""
        net, scale = copy.deepcopy(self.net).cpu().eval(), self.net.scale
        alignment = {"alignment_px": net.alignment_px}
        part = TrainedPart(net, path.stem, {"halo_px": 0, "sha256": "", **alignment})
        method = USRNetMethod(part, Knowledge(DegradationEstimator(), scale))
        halo_px = measure_method_halo(method, self.pairs.held_out().degraded)
        save_part(path, self.net, self.name, scale, {"sizes": self.sizes, "halo_px": halo_px, **alignment})

    def _restored(self, pairs: Pairs, valid: Tensor, told: Degradations) -> Tensor:
        sigma = tissue_sigma(told.noise_gain, told.read_noise)
        with torch.autocast(valid.device.type, self.dtype, enabled=self.dtype != torch.float32):
            restored: Tensor = self.net(pairs.degraded, valid, told.kernel, sigma)
        return restored.float()

    def _locked(self, image: Tensor, pairs: Pairs) -> Tensor:
        return low_frequency_lock(image, pairs.degraded, pairs.valid, pairs.known.kernel, self.net.scale)

    def _misread(self, pairs: Pairs) -> Degradations:
        """Return what is told of the held-out pairs with fixed errors."""
        return misread(pairs.known, self.net.scale, np.random.default_rng(MISREAD_SEED))


def build_unrolled(
    _: str, material: Material, net: Unrolled, info: dict[str, Any], options: StageOptions, __: LoopSettings
) -> tuple[UnrolledStage, PairSource]:
    """Return the stage and the source of its data; see `assembly.build_stage`."""
    pairs = pair_source(
        material, net.scale, options, UNROLLED_PATCH_PX, UNROLLED_HELD_OUT, tilt=material.restored_tilt
    )
    stage = UnrolledStage(
        net,
        info["sizes"],
        pairs,
        seed=options.seed,
        batch=options.batch or UNROLLED_BATCH,
        dtype=TRAINING_DTYPES[options.precision],
    )
    return stage, pairs


UNROLLED = StageBuilder(
    StagePlan(warmup_steps=200, sizes={"channels": [16, 32, 48], "blocks": 1, "rounds": 6}), build_unrolled
)
