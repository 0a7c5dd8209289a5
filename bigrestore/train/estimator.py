"""Stage 0: the degradation estimator learns to read blur and noise off windows of tissue.

Everything is drawn on the fly: a clean window, a degradation whose every number is known, and the
estimator's answer is held to those numbers. Kernels are compared as images, as codes, and by what they do
to the clean window. Mostly several windows of one image under one degradation are judged together, as those of
a section are; single ones too, because the fidelity stage asks about single windows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bigrestore.nn.checkpoint import save_model
from bigrestore.nn.code import (
    Degradations,
    gain_to_code,
    jpeg_to_code,
    read_to_code,
)
from bigrestore.nn.estimator import Estimate
from bigrestore.nn.redegrade import redegrade
from bigrestore.nn.restorer import Restorer
from bigrestore.train.data import step_rng
from bigrestore.train.losses import kernel_l1
from bigrestore.train.pairs import Pairs, PairSource

WINDOW_PX = 96
BATCH = 32
SETS = {1: 0.25, 4: 0.35, 8: 0.25, 16: 0.15}
"""How many windows of one section are judged together, and how often."""
SET_STREAM = 3
HELD_OUT, HELD_OUT_TOGETHER = 96, 4
BASIS_KERNELS = 6000
SCALAR_WEIGHTS = (2.0, 2.0, 1.0, 0.5, 0.5, 0.3, 0.5, 0.3)
"""Weight of each scalar code, in the order of `bigrestore.nn.estimator.SCALARS`: noise and JPEG steer the network most."""


class EstimatorStage:
    """What the training loop asks for, for the estimator of a restorer.

    Parameters
    ----------
    model : Restorer
        Its estimator is trained and its kernel basis fitted (unless it was fitted before).
    pairs : PairSource
        Where pairs come from.
    batch : int
        Windows per step.
    """

    name = "estimator"

    def __init__(self, model: Restorer, pairs: PairSource, *, batch: int = BATCH) -> None:
        self.model, self.pairs, self.batch = model, pairs, batch
        if not bool(model.basis.components.any()):
            model.basis.fit(pairs.sample_kernels(BASIS_KERNELS))

    def modules(self) -> nn.Module:
        """Return what is trained."""
        return self.model.estimator

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Return the losses of one step, the total first."""
        del progress
        rng = step_rng(self.pairs.seed, step, SET_STREAM)
        sizes = [size for size in SETS if self.batch % size == 0]
        odds = np.array([SETS[size] for size in sizes])
        together = int(rng.choice(sizes, p=odds / odds.sum()))
        pairs = self.pairs.at(step, self.batch, together)
        return self._losses(self.model.estimator(pairs.degraded, pairs.valid, together), pairs, together)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return errors on the held-out files: kernel width, noise at mid-grey, losses."""
        pairs = self.pairs.held_out()
        estimate = self.model.estimator(pairs.degraded, pairs.valid, HELD_OUT_TOGETHER)
        losses = self._losses(estimate, pairs, HELD_OUT_TOGETHER)
        true, found = _widths(pairs.known.kernel[::HELD_OUT_TOGETHER]), _widths(estimate.kernel)
        blurred = true > 0.5
        error = ((found - true).abs() / true)[blurred]
        figures = {name: float(value) for name, value in losses.items()}
        return {"sigma_error": float(error.median()) if len(error) else float("nan"), **figures}

    def sheet(self) -> NDArray[np.uint8] | None:
        """Return true kernels over estimated ones, held-out windows side by side."""
        pairs = self.pairs.held_out()
        with torch.no_grad():
            found = self.model.estimator(pairs.degraded, pairs.valid, HELD_OUT_TOGETHER).kernel
        true = pairs.known.kernel[::HELD_OUT_TOGETHER]
        rows = []
        for kernels in (true, found):
            bright = kernels / true.amax((1, 2), keepdim=True)
            rows.append(torch.cat([*bright], dim=1))
        picture = torch.cat(rows).clamp(0, 1).repeat_interleave(4, 0).repeat_interleave(4, 1)
        return (picture.cpu().numpy() * 255).astype(np.uint8)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the trained module."""
        return {"basis": self.model.basis.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.model.basis.load_state_dict(state["basis"])

    def export(self, path: Path) -> None:
        """Write the model; its U-Net is what it was before."""
        save_model(path, self.model, {"halo_px": self.model.alignment_px})

    def _losses(self, estimate: Estimate, pairs: Pairs, together: int) -> dict[str, Tensor]:
        known, scale = first_of_sets(pairs.known, together), self.model.scale
        codes, true_codes = self.model.basis.encode(estimate.kernel), self.model.basis.encode(known.kernel)
        scalars, target = scalar_codes(known), pairs.target[::together]
        weights = torch.tensor(SCALAR_WEIGHTS, device=scalars.device)
        grey = (pairs.degraded * pairs.valid).sum((1, 2, 3)) / pairs.valid.sum((1, 2, 3)).clamp_min(1)
        grey = grey.view(-1, together).mean(1)
        parts = {
            "kernel": kernel_l1(estimate.kernel, known.kernel),
            "code": (codes - true_codes).abs().mean(),
            "scalars": ((estimate.scalars - scalars).abs() * weights).mean(),
            "noise": (_log_noise(estimate.scalars, grey) - _log_noise(scalars, grey)).abs().mean(),
            "redegrade": (redegrade(target, estimate.kernel, scale) - redegrade(target, known.kernel, scale))
            .abs()
            .mean(),
        }
        total = (
            parts["kernel"]
            + 0.1 * parts["code"]
            + parts["scalars"]
            + 0.5 * parts["noise"]
            + 0.5 * parts["redegrade"]
        )
        return {"loss": total, **parts}


def first_of_sets(known: Degradations, together: int) -> Degradations:
    """Return every `together`-th degradation of a batch."""
    fields = {field.name: getattr(known, field.name)[::together] for field in attrs.fields(Degradations)}
    return Degradations(**fields)


def scalar_codes(known: Degradations) -> Tensor:
    """Return the true scalar codes, (N, 8), in the order of `bigrestore.nn.estimator.SCALARS`."""
    return torch.stack(
        [
            gain_to_code(known.noise_gain),
            read_to_code(known.read_noise),
            jpeg_to_code(known.jpeg_quality),
            known.banding / 0.04,
            known.jitter_px / 0.4,
            known.damage,
            known.defocus,
            (known.thickness_px / 4).clamp_max(2),
        ],
        dim=1,
    )


def _log_noise(codes: Tensor, grey: Tensor) -> Tensor:
    """Return log10 of the noise at a grey value (N,), from scalar codes (N, 8).

    Windows hardly tell noise that grows with the grey from noise that does not; the best guess of each alone is
    low when it may be the other, and so their sum would be.
    """
    gain, read = 10 ** (2 * codes[:, 0].clamp(-1.5, 1) - 4), 10 ** (codes[:, 1].clamp(-1.5, 1) - 2)
    return 0.5 * torch.log10(gain * grey + read.square())


def _widths(kernels: Tensor) -> Tensor:
    """Return the root mean second moment per axis of kernels (N, k, k), in pixels."""
    size = kernels.shape[-1]
    at = torch.arange(size, device=kernels.device, dtype=kernels.dtype)
    along_y, along_x = kernels.sum(2), kernels.sum(1)
    variances = [(p * at**2).sum(1) - (p * at).sum(1) ** 2 for p in (along_y, along_x)]
    return torch.sqrt((0.5 * (variances[0] + variances[1])).clamp_min(1e-12))
