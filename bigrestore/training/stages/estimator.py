"""Stage 0: the degradation estimator learns to read blur and noise off the statistics of windows.

Everything is drawn on the fly: windows of one clean image and one degradation of known numbers; the estimator's
answer is compared with them. Making a degraded window costs a hundred times more than judging it. So the statistics
of each step's windows go into a pool, and a step learns from many sets of the pool, each with a drawn contrast and
orientation. Kernels are compared by their transfer functions, their effect on an image, and by their width. A width
too large costs more than one too small, because undoing too much blur spoils more than leaving some.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bigrestore.core.host.waiting import sent
from bigrestore.model.method import WINDOW_PX
from bigrestore.model.nets.checkpoint import save_model
from bigrestore.model.nets.code import Degradations, gain_to_code, jpeg_to_code, read_to_code
from bigrestore.model.nets.reading.estimator import GREYS, JUDGED, SEEN, DegradationEstimate, see
from bigrestore.model.nets.reading.kernel_family import widths
from bigrestore.model.nets.redegrade import KERNEL_PX
from bigrestore.model.nets.restorer import Restorer
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.pairs import Pairs, PairSource, fit_basis
from bigrestore.training.data.patches import step_rng
from bigrestore.training.data.seen import Truth, turned, with_contrast
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.stages.assembly import Material, StageBuilder, StagePlan, pair_source
from bigrestore.training.stages.losses import kernel_l1

TOGETHER = 6
"""Windows of one image under one degradation."""
ESTIMATOR_BATCH = 48
"""Windows made per step."""
JUDGED_SETS = 96
"""Sets of the pool per step."""
POOL_SETS = 8192
FIRST_STEPS = 8
"""Steps of windows in the pool before the first step learns."""
COUNTS = (1, 2, 4, 6)
"""How many windows of a set are judged together, each as often."""
ESTIMATOR_STREAM = 3
ESTIMATOR_HELD_OUT = 96
TRANSFER_PX = 32
SCALAR_WEIGHTS = (2.0, 2.0, 1.5, 0.5, 0.5, 0.3, 0.5, 0.3)
"""Weight of each scalar code, in the order of `estimator.SCALARS`: noise and JPEG steer the network most."""
TOO_WIDE = 2.0
"""Weight of a width too large, against 1 for one too small."""
WIDTH_PX, WIDTH_SHARE, WIDTH_LIMIT = 0.1, 0.1, 3.0
"""An error of the width counts in units of 0.1 px plus a tenth of it, and no more than three of them."""
COVERED = 0.68
"""Share of the widths within the stated error."""


class EstimatorStage:
    """What the training loop asks for, for the estimator of a restorer.

    Parameters
    ----------
    model : Restorer
        Its estimator is trained and its kernel basis fitted (unless it was fitted before).
    pairs : PairSource
        Where pairs come from, at x1 whatever the scale of the model; its held-out pairs come in sets of `TOGETHER`.
    batch : int
        Windows made per step.
    """

    name = "estimator"

    def __init__(self, model: Restorer, pairs: PairSource, *, batch: int = ESTIMATOR_BATCH) -> None:
        self.model, self.pairs, self.batch = model, pairs, batch
        fit_basis(model, pairs)
        self.sets = max(1, batch // TOGETHER)
        size = KERNEL_PX[1]
        device = pairs.device
        self.pool = torch.zeros(POOL_SETS, TOGETHER, SEEN, dtype=torch.float16, device=device)
        self.kernels = torch.zeros(POOL_SETS, size, size, dtype=torch.float16, device=device)
        self.scalars = torch.zeros(POOL_SETS, len(SCALAR_WEIGHTS), device=device)
        self.held = 0
        held_out = pairs.held_out()
        self.held_out = self._seen(held_out), self._truth(held_out)

    def modules(self) -> nn.Module:
        """Return the trained module."""
        return self.model.estimator

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Return the losses of one step, the total first."""
        del progress
        if self.held == 0:
            for first in range(1, FIRST_STEPS):
                self._make(-first)
            if not bool(self.model.estimator.mean.any()):
                self.model.estimator.fit_inputs(self.pool[: self.held].flatten(0, 1).float())
        self._make(step)
        rng = step_rng(self.pairs.seed, step, ESTIMATOR_STREAM)
        filled = min(self.held, POOL_SETS)
        chosen = sent(rng.integers(0, filled, JUDGED_SETS), self.pool.device)
        count = int(rng.choice(COUNTS))
        seen = self.pool[chosen][:, sent(rng.permutation(TOGETHER)[:count], self.pool.device)].float()
        truth = Truth(self.kernels[chosen].float(), self.scalars[chosen])
        seen, truth = turned(seen, truth, int(rng.integers(8)))
        seen, truth = with_contrast(seen, truth, rng)
        return self._losses(self.model.estimator.merge(seen), truth, seen)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return errors on the held-out files: the width's median error, how often it is covered, losses."""
        seen, truth = self.held_out
        estimate = self.model.estimator.merge(seen)
        losses = self._losses(estimate, truth, seen)
        apart = (widths(estimate.kernel(1)) - widths(truth.kernel)).abs()
        return {
            "sigma_error_px": float(apart.median()),
            "covered": float((apart <= estimate.sigma_error).float().mean()),
            **{name: float(value) for name, value in losses.items()},
        }

    def sheet(self) -> NDArray[np.uint8] | None:
        """Return true kernels over estimated ones, held-out sets side by side."""
        seen, truth = self.held_out
        with torch.no_grad():
            estimated = self.model.estimator.merge(seen).kernel(1)
        rows = []
        for kernels in (truth.kernel[:24], estimated[:24]):
            bright = kernels / truth.kernel[:24].amax((1, 2), keepdim=True)
            rows.append(torch.cat([*bright], dim=1))
        picture = torch.cat(rows).clamp(0, 1).repeat_interleave(4, 0).repeat_interleave(4, 1)
        return (picture.cpu().numpy() * 255).astype(np.uint8)

    def state(self) -> dict[str, Any]:
        """Return the state beside the trained module for a checkpoint."""
        filled = min(self.held, POOL_SETS)
        pool = {
            "seen": self.pool[:filled],
            "kernels": self.kernels[:filled],
            "scalars": self.scalars[:filled],
        }
        return {"basis": self.model.basis.state_dict(), "held": self.held, "pool": pool}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the result of `state`."""
        self.model.basis.load_state_dict(state["basis"])
        self.held = int(state["held"])
        filled = min(self.held, POOL_SETS)
        self.pool[:filled] = state["pool"]["seen"]
        self.kernels[:filled] = state["pool"]["kernels"]
        self.scalars[:filled] = state["pool"]["scalars"]

    def export(self, path: Path) -> None:
        """Write the model; its U-Net is unchanged."""
        save_model(path, self.model, {"halo_px": self.model.alignment_px})

    @torch.no_grad()
    def _make(self, step: int) -> None:
        """Put the statistics of a step's windows into the pool, replacing the oldest."""
        pairs = self.pairs.at(abs(step), self.sets * TOGETHER, TOGETHER)
        truth = self._truth(pairs)
        at = (self.held + torch.arange(self.sets, device=self.pool.device)) % POOL_SETS
        self.pool[at] = self._seen(pairs).half()
        self.kernels[at], self.scalars[at] = truth.kernel.half(), truth.scalars
        self.held += self.sets

    @torch.no_grad()
    def _seen(self, pairs: Pairs) -> Tensor:
        return see(pairs.degraded, pairs.valid).view(-1, TOGETHER, SEEN)

    def _truth(self, pairs: Pairs) -> Truth:
        known = first_of_sets(pairs.known, TOGETHER)
        return Truth(known.kernel, scalar_codes(known))

    def _losses(self, estimate: DegradationEstimate, truth: Truth, seen: Tensor) -> dict[str, Tensor]:
        grey = mean_grey(seen)
        weights = sent(SCALAR_WEIGHTS, seen.device)
        true_sigma, kernel = widths(truth.kernel), estimate.kernel(1)
        apart = widths(kernel) - true_sigma
        unit = (apart / (WIDTH_PX + WIDTH_SHARE * true_sigma)).clamp(-WIDTH_LIMIT, WIDTH_LIMIT)
        parts = {
            "transfer": (transfer(kernel) - transfer(truth.kernel)).abs().mean(),
            "kernel": kernel_l1(kernel, truth.kernel),
            "width": torch.where(unit > 0, TOO_WIDE * unit, -unit).mean(),
            "error": _quantile_loss(apart.detach().abs(), estimate.sigma_error),
            "scalars": ((estimate.scalars - truth.scalars).abs() * weights).mean(),
            "noise": (_log_noise(estimate.scalars, grey) - _log_noise(truth.scalars, grey)).abs().mean(),
        }
        total = (
            10 * parts["transfer"]
            + parts["kernel"]
            + 0.3 * parts["width"]
            + 0.1 * parts["error"]
            + parts["scalars"]
            + 0.5 * parts["noise"]
        )
        return {"loss": total, **parts}


def transfer(kernels: Tensor) -> Tensor:
    """Return the transfer functions of kernels, (N, k, k), on a half plane; complex."""
    side = max(TRANSFER_PX, kernels.shape[-1])
    plane: Tensor = torch.fft.rfft2(kernels, s=(side, side))
    return plane


def mean_grey(seen: Tensor) -> Tensor:
    """Return the mean grey of sets of windows, (N,), from their statistics, (N, K, SEEN)."""
    return seen[..., JUDGED - GREYS].mean(1)


def first_of_sets(known: Degradations, together: int) -> Degradations:
    """Return every `together`-th degradation of a batch."""
    fields = {field.name: getattr(known, field.name)[::together] for field in attrs.fields(Degradations)}
    return Degradations(**fields)


def scalar_codes(known: Degradations) -> Tensor:
    """Return the true scalar codes, (N, 8), in the order of `bigrestore.model.nets.reading.estimator.SCALARS`."""
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


def _quantile_loss(errors: Tensor, stated: Tensor) -> Tensor:
    """Return the pinball loss of the logarithms, least with `COVERED` of the errors below the stated ones."""
    above = torch.log(errors.clamp_min(1e-3)) - torch.log(stated)
    return torch.maximum(COVERED * above, (COVERED - 1) * above).mean()


def _log_noise(codes: Tensor, grey: Tensor) -> Tensor:
    """Return log10 of the noise at a grey value (N,), from scalar codes (N, 8).

    Windows hardly tell noise growing with the grey from constant noise. The best guess of each alone is low in doubt,
    and so would be their sum.
    """
    gain, read = 10 ** (2 * codes[:, 0].clamp(-1.5, 1) - 4), 10 ** (codes[:, 1].clamp(-1.5, 1) - 2)
    return 0.5 * torch.log10(gain * grey + read.square() + math.pow(10, -8))


def build_estimator(
    _: str, material: Material, model: Restorer, __: dict[str, Any], options: StageOptions, ___: LoopSettings
) -> tuple[EstimatorStage, PairSource]:
    """Return the stage and the source of its data; see `assembly.build_stage`."""
    sizes = WINDOW_PX, ESTIMATOR_HELD_OUT, TOGETHER
    pairs = pair_source(material, 1, options, *sizes, tilt=material.read_tilt)
    return EstimatorStage(model, pairs, batch=options.batch or ESTIMATOR_BATCH), pairs


ESTIMATOR = StageBuilder(StagePlan(), build_estimator)
