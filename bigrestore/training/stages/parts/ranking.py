"""The ranking: it learns which of two versions of a patch is worse, from all pairs of a ladder at once.

A ladder goes through the network once; every pair of its rungs whose worse one is not ahead by the margin costs what is
missing (a hinge). In the end its numbers are mapped to 0..100 by a monotone fit to 100 (1 - MS-SSIM) of held-out ladders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from torch import Tensor

from bigrestore.core.pixels import Doubles
from bigrestore.model.nets.parts.part import save_part
from bigrestore.model.nets.parts.ranking import RankingNet
from bigrestore.report.metrics.reference import ms_ssim
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.ladders import DISTORTIONS, RUNGS, softened
from bigrestore.training.data.patches import PatchSource, step_rng
from bigrestore.training.loop.guard import GuardSettings
from bigrestore.training.loop.options import TRAINING_DTYPES
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.stages.assembly import Material, StageBuilder, StagePlan, held_out_source
from bigrestore.training.stages.parts.part_stage import PartStage

RANKING_PATCH_PX = 96
RANKING_BATCH = 4
"""Ladders a step."""

RANKING_STREAM = 14
MARGIN = 1.0
"""By which a worse rung is to be ahead."""

RANKING_GUARD = GuardSettings(jump_deviations=1e6)
"""No jump of the loss is a fault: a hinge over ladders in order is near 0, and one out of order costs a hundredfold."""

SOFT_SHARE, SOFT_PX = 0.5, (0.4, 1.6)
"""Share of the ladders that begin with a blurred patch, and the standard deviation of that Gaussian: sections are soft, and
a network that has seen sharp patches alone takes a little noise on a soft one for sharpness."""

RANKING_HELD_OUT_PX = 192
"""Side of the held-out patches: MS-SSIM needs 176."""

RANKING_HELD_OUT = 6
"""Held-out ladders of each distortion."""

RANKING_HELD_OUT_SEED = 2_468
KNOTS = 33
"""Of the fit."""


@attrs.define(eq=False)
class LadderSource:
    """Draws ladders of clean windows.

    Attributes
    ----------
    train, held_out : PatchSource
        Clean windows, those of the figures larger.
    seed : int
        Of the training.
    device : torch.device
        Where ladders are wanted; they are made on the CPU.
    """

    train: PatchSource
    held_out: PatchSource
    seed: int
    device: torch.device

    def at(self, step: int, count: int) -> Tensor:
        """Return the ladders of a step, (count, 6, H, W), each of a drawn distortion; some begin with a soft patch."""
        rng = step_rng(self.seed, step, RANKING_STREAM)
        clean = self.train.draw(count, rng)[:, 0]
        soft = rng.random(count) < SOFT_SHARE
        sigmas = np.where(soft, rng.uniform(*SOFT_PX, count), 0.0)
        clean = torch.stack([softened(patch, sigma) for patch, sigma in zip(clean, sigmas, strict=True)])
        kinds = [list(DISTORTIONS)[index] for index in rng.integers(0, len(DISTORTIONS), count)]
        ladders = [DISTORTIONS[kind].ladder(patch, rng) for kind, patch in zip(kinds, clean, strict=True)]
        return torch.stack(ladders).to(self.device)

    def held_out_ladders(self, count: int) -> dict[str, Tensor]:
        """Return `count` ladders of every distortion, (count, 6, H, W), always the same."""
        rng = np.random.default_rng(RANKING_HELD_OUT_SEED)
        clean = self.held_out.draw(count, rng)[:, 0]
        return {
            name: torch.stack([kind.ladder(patch, rng) for patch in clean])
            for name, kind in DISTORTIONS.items()
        }


class RankingStage(PartStage[RankingNet]):
    """What the training loop asks for, for a ranking.

    Parameters
    ----------
    net : RankingNet
        The network.
    sizes : dict
        Its arguments, for its file.
    ladders : LadderSource
        Where ladders come from.
    batch : int
        Ladders per step.
    dtype : torch.dtype
        What the network computes in.
    """

    name = "ranking"

    def __init__(
        self,
        net: RankingNet,
        sizes: dict[str, Any],
        ladders: LadderSource,
        *,
        batch: int = RANKING_BATCH,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.net, self.sizes, self.ladders = net, sizes, ladders
        self.batch, self.dtype = batch, dtype
        self.held_out = ladders.held_out_ladders(RANKING_HELD_OUT)

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Return the hinge over all pairs of the rungs of each ladder."""
        ladders = self.ladders.at(step, self.batch)
        numbers = self._numbers(ladders)
        ahead = numbers[:, None, :] - numbers[:, :, None]  # of a worse rung before a better one
        worse = torch.ones(RUNGS, RUNGS, dtype=torch.bool, device=numbers.device).triu(1)
        return {"loss": F.relu(MARGIN - ahead[:, worse]).mean()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the share of held-out rungs in order: neighbours, those two apart, and the worst distortion of both."""
        shares: dict[str, list[float]] = {"neighbours": [], "two_apart": []}
        figures = {}
        for name, ladders in self.held_out.items():
            numbers = self._numbers(ladders)
            for figure, apart in (("neighbours", 1), ("two_apart", 2)):
                share = float((numbers[:, apart:] > numbers[:, :-apart]).float().mean())
                shares[figure].append(share)
                figures[f"{figure}_{name}"] = share
        return {f"{figure}_least": min(each) for figure, each in shares.items()} | figures

    def sheet(self) -> NDArray[np.uint8]:
        """Return a held-out ladder of every distortion, one a row."""
        picture = torch.cat([torch.cat([*ladders[0]], dim=1) for ladders in self.held_out.values()])
        return (picture.numpy() * 255).round().astype(np.uint8)

    def export(self, path: Path) -> None:
        """Fit the scale and write the part."""
        facts = {"sizes": self.sizes, "halo_px": 0, "alignment_px": 1, "fit": self._fit()}
        save_part(path, self.net, self.name, 1, facts)

    @torch.no_grad()
    def _fit(self) -> dict[str, list[float]]:
        """Return the knots of the scale: numbers, and what they are of 100."""
        numbers, losses = [], []
        for ladders in self.held_out.values():
            numbers.append(self._numbers(ladders).flatten().cpu().numpy())
            for ladder in ladders.double().numpy():
                losses += [100 * (1 - ms_ssim(rung, ladder[0])) for rung in ladder]
        return monotone_fit(np.concatenate(numbers).astype(np.float64), np.array(losses))

    def _numbers(self, ladders: Tensor) -> Tensor:
        """Return the numbers of ladders, (N, 6), of (N, 6, H, W)."""
        images = ladders.flatten(0, 1)[:, None].to(next(self.net.parameters()).device)
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            numbers: Tensor = self.net(images)
        return numbers.view(ladders.shape[:2])


def monotone_fit(numbers: Doubles, losses: Doubles) -> dict[str, list[float]]:
    """Return the knots of an increasing map from numbers to losses, `from` and `to`, of at most 33 knots.

    Isotonic regression, read at even quantiles of the numbers; the ends of `to` are 0 and 100 at the widest.
    """
    order = np.argsort(numbers, kind="stable")
    rising = np.asarray(isotonic_regression(losses[order]).x)
    at = np.unique(np.linspace(0, len(order) - 1, KNOTS).round().astype(int))
    knots, first = np.unique(numbers[order][at], return_index=True)
    heights = np.clip(rising[at][first], 0, 100)
    return {"from": knots.tolist(), "to": heights.tolist()}


def build_ranking(
    _: str, material: Material, net: RankingNet, info: dict[str, Any], options: StageOptions, __: LoopSettings
) -> tuple[RankingStage, LadderSource]:
    """Return the stage and the source of its data; see `assembly.build_stage`."""
    ladders = LadderSource(
        PatchSource(material.training, RANKING_PATCH_PX, **material.draws),
        held_out_source(material, RANKING_HELD_OUT_PX),
        options.seed,
        torch.device(options.device),
    )
    stage = RankingStage(
        net,
        info["sizes"],
        ladders,
        batch=options.batch or RANKING_BATCH,
        dtype=TRAINING_DTYPES[options.precision],
    )
    return stage, ladders


RANKING = StageBuilder(
    StagePlan(
        warmup_steps=100,
        guard=RANKING_GUARD,
        sizes={"channels": [16, 16, 32, 32, 64, 96], "hidden": 64},
    ),
    build_ranking,
)
