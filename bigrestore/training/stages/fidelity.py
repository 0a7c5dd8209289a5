"""Stage 1: the U-Net and the interpolation learn to undo a known degradation.

The network's code psi is the truth, a misestimate, or dropped (`bigrestore.training.data.codes`): it learns to use
good knowledge, to bear the errors of an estimate, and to work without any.

The losses compare output and target after the low-frequency lock, part of every restoration: regional grey is the
input's business. Shading and banding of a scan, unknowable from the input, would otherwise be a quarter of the loss
and push all weights of the network into one direction. A tenth of the loss looks before the lock, so the network does
not lean on it. The rim of a patch counts like the rest: convolutions pad with zeros there, as at the border of a
section, without a halo to hide it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bigrestore.core.interpolation import catmull_rom
from bigrestore.model.nets.checkpoint import save_model
from bigrestore.model.nets.guards import low_frequency_lock
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.model.nets.restorer import Restorer
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.codes import drawn_codes, encode, misread, shown_masks
from bigrestore.training.data.pairs import Pairs, PairSource, fit_basis
from bigrestore.training.data.patches import step_rng
from bigrestore.training.loop.options import TRAINING_DTYPES
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.loop.sheet import sheet_of
from bigrestore.training.stages.assembly import Material, StageBuilder, StagePlan, pair_source
from bigrestore.training.stages.halo import measure_halo
from bigrestore.training.stages.losses import (
    charbonnier,
    closeness,
    fft_amplitude_l1,
    nyquist_penalty,
    psnr_of_each,
    pyramid_l1,
)

FIDELITY_PATCH_PX = 96
FIDELITY_BATCH = 8
FIDELITY_HELD_OUT = 32
FIDELITY_STREAM = 2
MISREAD_SEED = 11
FIDELITY_NYQUIST = 0.01
"""Weight of the penalty on lines at Nyquist: the head shuffles several pixels out of a node, and they must fit together."""
LARGEST_ERROR = 0.06
"""Largest mean error of a patch that still counts more, in grey values 0..1."""
LOG_SCALE_RANGE = (-7.0, 2.0)
"""The Laplace scale is kept above a quarter of a grey level of 8 bits: one perfect patch had a loss of 1e8."""


class FidelityStage:
    """What the training loop asks for, for the U-Net of a restorer.

    Parameters
    ----------
    model : Restorer
        Its estimator is trained already and stays as it is.
    pairs : PairSource
        Where pairs come from.
    seed : int
        Seed of the choice of codes.
    batch : int
        Patches per step.
    dtype : torch.dtype
        What the U-Net computes in.
    """

    name = "fidelity"

    def __init__(
        self,
        model: Restorer,
        pairs: PairSource,
        *,
        seed: int,
        batch: int = FIDELITY_BATCH,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.pairs, self.seed, self.batch, self.dtype = model, pairs, seed, batch, dtype
        fit_basis(model, pairs)
        model.estimator.requires_grad_(False)

    def modules(self) -> nn.Module:
        """Return the trained module."""
        return self.model.unet

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Return the losses of one step, the total first."""
        pairs = self.pairs.at(step, self.batch)
        rng = step_rng(self.seed, step, FIDELITY_STREAM)
        valid = shown_masks(pairs, rng)
        psi, filters = drawn_codes(self.model, pairs, rng)
        _, y, out = self.model.fidelity(pairs.degraded, valid, psi, filters, self.dtype)
        return self._losses(y, out.log_scale, out.shape_maps, pairs, progress)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the mean PSNR gain over Catmull-Rom on the held-out pairs: told the truth, a misreading, or nothing."""
        pairs = self.pairs.held_out()
        start = psnr_of_each(catmull_rom(pairs.degraded, self.model.scale).clamp(0, 1), pairs.target)
        changed = torch.tensor([not drawn.identity for drawn in pairs.drawn], device=start.device)
        figures = {}
        oracle = encode(self.model, pairs.known)
        for name, (psi, filters) in (
            ("misread", self._misread(pairs)),
            ("oracle", oracle),
            ("unknown", (torch.zeros_like(oracle[0]), oracle[1])),
        ):
            _, y, _ = self.model.fidelity(pairs.degraded, pairs.valid, psi, filters, self.dtype)
            y = low_frequency_lock(y, pairs.degraded, pairs.valid, pairs.known.kernel, self.model.scale)
            figures[f"gain_{name}"] = float(
                (psnr_of_each(y.clamp(0, 1), pairs.target) - start)[changed].mean()
            )
        return figures

    @torch.no_grad()
    def sheet(self) -> NDArray[np.uint8]:
        """Return held-out pairs, one a column: degraded, restored, target."""
        pairs = self.pairs.held_out()
        psi, filters = self._misread(pairs)
        _, y, _ = self.model.fidelity(pairs.degraded, pairs.valid, psi, filters, self.dtype)
        rows = (catmull_rom(pairs.degraded, self.model.scale), y, pairs.target)
        return sheet_of(rows, 10)

    def state(self) -> dict[str, Any]:
        """Return the state beside the trained module for a checkpoint."""
        return {"basis": self.model.basis.state_dict(), "estimator": self.model.estimator.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the result of `state`."""
        self.model.basis.load_state_dict(state["basis"])
        self.model.estimator.load_state_dict(state["estimator"])

    def export(self, path: Path) -> None:
        """Measure the halo and write the model."""
        halo_px, errors = measure_halo(self.model, self.pairs.held_out().degraded)
        save_model(path, self.model, {"halo_px": halo_px, "halo_errors": errors})

    def _misread(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return codes and filters of the held-out pairs with fixed errors."""
        return encode(self.model, misread(pairs.known, self.model.scale, np.random.default_rng(MISREAD_SEED)))

    def _losses(
        self, y: Tensor, log_scale: Tensor, shape_maps: Tensor | None, pairs: Pairs, progress: float
    ) -> dict[str, Tensor]:
        kernel, scale = pairs.known.kernel, self.model.scale
        y = with_bounded_errors(y, target=pairs.target)
        locked = [
            low_frequency_lock(side, pairs.degraded, pairs.valid, kernel, scale) for side in (y, pairs.target)
        ]
        restored, target = locked
        log_scale = log_scale.clamp(*LOG_SCALE_RANGE)
        distance = (restored - target).abs().detach() + 1e-3
        parts = {
            "charbonnier": closeness(restored, target, progress),
            "unlocked": charbonnier(y, target),
            "pyramid": pyramid_l1(restored, target),
            "fft": fft_amplitude_l1(restored, target),
            "redegrade": redegrade(restored - target, kernel, scale).abs().mean(),
            "laplace": (distance * torch.exp(-log_scale) + log_scale).mean(),
            "nyquist": nyquist_penalty(y, pairs.target),
        }
        total = (
            parts["charbonnier"]
            + 0.1 * parts["unlocked"]
            + (1 - 0.9 * progress) * parts["pyramid"]
            + 0.05 * parts["fft"]
            + 0.5 * parts["redegrade"]
            + 0.01 * parts["laplace"]
            + FIDELITY_NYQUIST * parts["nyquist"]
        )
        if shape_maps is not None:
            parts["shape"] = shape_maps.square().mean()
            total = total + 1e-3 * parts["shape"]
        return {"loss": total, **parts}


def with_bounded_errors(y: Tensor, target: Tensor) -> Tensor:
    """Return outputs, (N, 1, H, W), their mean error scaled down to at most `LARGEST_ERROR`.

    A misestimated wide kernel makes ringing of tens of grey levels. One such patch would outweigh the batch, and the
    guard would skip the step; but the network must learn to distrust its code there.
    """
    apart = y - target
    size = apart.detach().abs().mean((1, 2, 3), keepdim=True)
    return target + apart * (LARGEST_ERROR / size.clamp_min(LARGEST_ERROR))


def build_fidelity(
    _: str, material: Material, model: Restorer, __: dict[str, Any], options: StageOptions, ___: LoopSettings
) -> tuple[FidelityStage, PairSource]:
    """Return the stage and the source of its data; see `assembly.build_stage`."""
    return fidelity_stage(material, model, options)


def fidelity_stage(
    material: Material, model: Restorer, options: StageOptions
) -> tuple[FidelityStage, PairSource]:
    """Return the stage of the U-Net and the source of its data; see `assembly.build_stage`."""
    pairs = pair_source(
        material, model.scale, options, FIDELITY_PATCH_PX, FIDELITY_HELD_OUT, tilt=material.restored_tilt
    )
    batch, dtype = options.batch or FIDELITY_BATCH, TRAINING_DTYPES[options.precision]
    return FidelityStage(model, pairs, seed=options.seed, batch=batch, dtype=dtype), pairs


FIDELITY = StageBuilder(StagePlan(warmup_steps=500, fan_in_limit=150), build_fidelity)
"""The U-Net is deep and has no norm layers: without a limit a step of 8e-4 throws it off (see `loop.guard`)."""
