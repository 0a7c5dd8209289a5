"""The denoiser: it learns to take noise out of tissue, told the law of the noise.

Noise is the recipe's: of the camera, of the light, and partly correlated. The law that the network is told may be
misread, as the estimator misreads it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.model.knowledge import Knowledge
from bigrestore.model.methods.drunet import DRUNetMethod
from bigrestore.model.nets.parts.drunet import DRUNet, noise_map
from bigrestore.model.nets.parts.part import TrainedPart, save_part
from bigrestore.model.nets.reading.estimator import DegradationEstimator
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.pairs import Pairs, PairSource
from bigrestore.training.data.patches import step_rng
from bigrestore.training.loop.options import TRAINING_DTYPES
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.loop.sheet import sheet_of
from bigrestore.training.stages.assembly import Material, StageBuilder, StagePlan, pair_source
from bigrestore.training.stages.halo import measure_method_halo
from bigrestore.training.stages.losses import closeness, psnr_of_each
from bigrestore.training.stages.parts.part_stage import PairsPartStage

DENOISER_PATCH_PX = 96
DENOISER_BATCH = 8
DENOISER_HELD_OUT = 32
DENOISER_STREAM = 12
MISREAD_SHARE = 0.15
"""Standard deviation of the logarithm of the noise as told over the true one."""
DENOISER_SHOWN = 10


class DenoiserStage(PairsPartStage[DRUNet]):
    """A denoiser, told the noise of its patches."""

    name = "denoiser"

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Return the losses of a step."""
        pairs = self.pairs.at(step, self.batch)
        rng = step_rng(self.seed, step, DENOISER_STREAM)
        factor = torch.from_numpy(np.exp(rng.normal(0, MISREAD_SHARE, self.batch)).astype(np.float32))
        made = self._denoised(pairs, factor.to(pairs.degraded.device))
        return {"loss": closeness(made, pairs.target, progress)}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the mean PSNR gain on the held-out pairs, of little and of much noise, and what is changed without any."""
        pairs = self.pairs.held_out()
        made = self._denoised(pairs).clamp(0, 1)
        gain = psnr_of_each(made, pairs.target) - psnr_of_each(pairs.degraded, pairs.target)
        sigma = torch.sqrt(0.7 * pairs.known.noise_gain + pairs.known.read_noise**2)
        kinds = {"gain_little": (sigma > 0) & (sigma < 4 / 255), "gain_much": sigma >= 4 / 255}
        figures = {name: float(gain[chosen].mean()) for name, chosen in kinds.items() if bool(chosen.any())}
        unchanged = self.net(pairs.target, torch.zeros_like(pairs.target))
        return {**figures, "changed_without_noise": float((unchanged - pairs.target).abs().mean() * 255)}

    @torch.no_grad()
    def sheet(self) -> NDArray[np.uint8]:
        """Return held-out pairs, one a column: noisy, restored, clean."""
        pairs = self.pairs.held_out()
        rows = (pairs.degraded, self._denoised(pairs), pairs.target)
        return sheet_of(rows, DENOISER_SHOWN)

    def export(self, path: Path) -> None:
        """Measure the halo and write the part."""
        alignment = {"alignment_px": self.net.alignment_px}
        net = copy.deepcopy(self.net).cpu().eval()
        part = TrainedPart(net, path.stem, {"halo_px": 0, "sha256": "", **alignment})
        method = DRUNetMethod(part, Knowledge(DegradationEstimator(), 1))
        halo_px = measure_method_halo(method, self.pairs.held_out().degraded)
        facts = {"sizes": self.sizes, "halo_px": halo_px, **alignment}
        save_part(path, self.net, self.name, 1, facts)

    def _denoised(self, pairs: Pairs, factor: Tensor | float = 1.0) -> Tensor:
        known = pairs.known
        gain, read = (part[:, None, None, None] for part in (known.noise_gain, known.read_noise))
        sigma = noise_map(pairs.degraded, gain, read) * (
            factor[:, None, None, None] if isinstance(factor, Tensor) else factor
        )
        with torch.autocast(sigma.device.type, self.dtype, enabled=self.dtype != torch.float32):
            made: Tensor = self.net(pairs.degraded, sigma)
        return made.float()


def build_denoiser(
    _: str, material: Material, net: DRUNet, info: dict[str, Any], options: StageOptions, __: LoopSettings
) -> tuple[DenoiserStage, PairSource]:
    """Return the stage and the source of its data; see `assembly.build_stage`."""
    pairs = pair_source(material, 1, options, DENOISER_PATCH_PX, DENOISER_HELD_OUT)
    stage = DenoiserStage(
        net,
        info["sizes"],
        pairs,
        seed=options.seed,
        batch=options.batch or DENOISER_BATCH,
        dtype=TRAINING_DTYPES[options.precision],
    )
    return stage, pairs


DENOISER = StageBuilder(
    StagePlan(warmup_steps=200, sizes={"channels": [16, 32, 64, 64], "blocks": 2}), build_denoiser
)
