"""The head of objectives: it learns how much of the prior's detail brings a place nearest to the clean image.

The network is frozen and runs once a step: with y0, its output at realness 0, and the detail, trusted as in a run, each
image y0 + t * trust * detail is known for all t. For 21 of them, t = 0, 0.05 .. 1, the distance to the clean image is
measured at every place (`bigrestore.training.stages.parts.perceptual`). The map that is learned holds the least t whose
distance is all but the least. Which of two nearly equal t is nearer is chance, so a place counts by how much its t matters:
the loss is the distance lost by the head's t, and by how far it is from the map, in units of what is at stake there.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.errors import UsageError
from bigrestore.model.nets.checkpoint import Model
from bigrestore.model.nets.guards import low_frequency_lock
from bigrestore.model.nets.parts.objective import ObjectiveHead
from bigrestore.model.nets.parts.part import save_part
from bigrestore.model.nets.prior_gate import prior_gate
from bigrestore.model.nets.restorer import Conditions
from bigrestore.report.metrics.judges.lpips import load_backbone
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.codes import drawn_codes, shown_masks
from bigrestore.training.data.focus import UNFOCUSED_SHARE
from bigrestore.training.data.pairs import Pairs, PairSource
from bigrestore.training.data.patches import step_rng
from bigrestore.training.loop.options import TRAINING_DTYPES
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.loop.sheet import sheet_of
from bigrestore.training.stages.assembly import (
    Material,
    StageBuilder,
    StagePlan,
    joined_model,
    pair_source,
)
from bigrestore.training.stages.halo import measure_halo
from bigrestore.training.stages.parts.part_stage import PairsPartStage
from bigrestore.training.stages.parts.perceptual import LineDistance, LpipsDistance, TextureDistance

OBJECTIVE_PATCH_PX, OBJECTIVE_RIM_PX = 112, 16
"""Side of the patches, and of the unjudged rim, input pixels."""

OBJECTIVE_BATCH = 4
OBJECTIVE_HELD_OUT = 40
OBJECTIVE_STREAM = 17
SHARES = 21
PLACE_NODES = 2
"""Nodes of the head to a side of a place: the distance of a window changes little within."""

ALL_BUT_LEAST = 1e-3
"""A distance so little above the least is as good, and less is invented."""

TO_MAP = 0.25
"""Weight of the distance to the map, beside the distance lost."""

LOSS_GAIN = 100.0
OBJECTIVE_SHOWN = 10


@attrs.frozen(eq=False)
class Line:
    """What the network makes of a batch, on the line from realness 0 to 1.

    Attributes
    ----------
    features : Tensor, (N, C, h, w)
        The finest of the U-Net.
    detail, trust : Tensor, (N, 1, H, W)
        What the prior adds, and the factor of its gate.
    y0, y1, clean : Tensor, (N, 1, H, W)
        Output at realness 0 and 1, and target, after the low-frequency lock.
    distances : Tensor, (N, 21, h / 2, w / 2)
        Distances to the clean image of the images between, at every place.
    weights : Tensor, (N, 1, h / 2, w / 2)
        How much a place counts: its trust, away from damage and rim.
    """

    features: Tensor
    detail: Tensor
    trust: Tensor
    y0: Tensor
    y1: Tensor
    clean: Tensor
    distances: Tensor
    weights: Tensor


class ObjectiveStage(PairsPartStage[ObjectiveHead]):
    """What the training loop asks for, for a head of objectives.

    Parameters
    ----------
    net, sizes, pairs, seed, batch, dtype
        As of `PairsPartStage`.
    model : Model
        The network, which stays as it is.
    distance : LineDistance
        What the map is chosen by.
    """

    name = "objective"

    def __init__(
        self,
        net: ObjectiveHead,
        sizes: dict[str, Any],
        pairs: PairSource,
        *,
        model: Model,
        distance: LineDistance,
        seed: int,
        batch: int = OBJECTIVE_BATCH,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(net, sizes, pairs, seed=seed, batch=batch, dtype=dtype)
        self.model, self.distance = model, distance
        self.restorer = model.restorer.requires_grad_(False)
        self.shares = torch.linspace(0, 1, SHARES, device=pairs.device)
        self._held_out: Line | None = None

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Return the losses of a step."""
        return self._losses(self._line(self.pairs.at(step, self.batch), step))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return distances on the held-out pairs: by the head, by the best single t, at either end, and the least.

        `psnr_*` are of the images, dB; `share` is the mean t.
        """
        line = self._held_out_line()
        distances, shares = line.distances, self._places(line).clamp(0, 1)
        parts = {
            "distance": _at(distances, shares),
            "distance_0": distances[:, :1],
            "distance_1": distances[:, -1:],
            "distance_least": distances.min(1, keepdim=True).values,
            "share": shares,
        }
        figures = {name: float(_weighted_mean(part, line.weights)) for name, part in parts.items()}
        of_single = torch.stack([_weighted_mean(each[:, None], line.weights) for each in distances.unbind(1)])
        best = int(of_single.argmin())
        figures |= {"distance_single": float(of_single[best]), "single": float(self.shares[best])}
        single = line.y0 + self.shares[best] * (line.y1 - line.y0)
        for name, image in (("psnr", self._image(line)), ("psnr_single", single)):
            error = self._interior((image - line.clean).square())
            figures[name] = float(-10 * error.mean().log10())
        return figures

    @torch.no_grad()
    def sheet(self) -> NDArray[np.uint8]:
        """Return held-out pairs, one a column: realness 0, realness 1, by the head, clean, its map, the map learned."""
        line = self._held_out_line()
        size = line.y0.shape[-2:]
        learned = F.interpolate(self.shares[_least(line.distances)], size, mode="nearest")
        own = self.net.shares(line.features, line.detail, line.trust)
        return sheet_of((line.y0, line.y1, self._image(line), line.clean, own, learned), OBJECTIVE_SHOWN)

    def state(self) -> dict[str, Any]:
        """Return the identity of the network for a checkpoint."""
        return {"network": self.model.sha256}

    def load_state(self, state: dict[str, Any]) -> None:
        """Refuse to go on with another network.

        Raises
        ------
        UsageError
            It has other weights.
        """
        if state["network"] != self.model.sha256:
            raise UsageError(
                f"The training was begun for other weights than those of {self.model.name}; name the model it was begun "
                "with by --model, or choose another output."
            )

    def export(self, path: Path) -> None:
        """Measure the halo of the network under the head and write the part."""
        info = self.model.info
        halo_px, errors = measure_halo(
            self.restorer,
            self.pairs.held_out().degraded,
            realness=1.0,
            from_px=int(info["halo_prior_px"]),
            objective=copy.deepcopy(self.net).cpu().eval(),
        )
        facts = {
            "sizes": self.sizes,
            "halo_px": halo_px,
            "halo_errors": errors,
            "alignment_px": self.restorer.alignment_px,
            "model": self.model.name,
            "network": self.model.sha256,
            "distance": self.distance.name,
        }
        save_part(path, self.net, self.name, self.restorer.scale, facts)

    def _losses(self, line: Line) -> dict[str, Tensor]:
        raw = self._places(line)
        least = line.distances.min(1, keepdim=True).values
        stake = line.distances.max(1, keepdim=True).values - least
        lost = _at(line.distances, raw.clamp(0, 1)) - least
        apart = stake * (raw - self.shares[_least(line.distances)]).abs()
        lost, apart = (_weighted_mean(part, line.weights) for part in (lost, apart))
        return {"loss": LOSS_GAIN * (lost + TO_MAP * apart), "lost": lost, "apart": apart}

    def _places(self, line: Line) -> Tensor:
        """Return the head's t at every place, not held to 0..1."""
        return F.avg_pool2d(self.net(line.features, line.detail, line.trust), PLACE_NODES)

    def _image(self, line: Line) -> Tensor:
        """Return what a run at realness 1 makes by the head, but for the clip."""
        return line.y0 + self.net.shares(line.features, line.detail, line.trust) * (line.y1 - line.y0)

    def _held_out_line(self) -> Line:
        """Return what the network makes of the held-out pairs; it is frozen, so once."""
        if self._held_out is None:
            self._held_out = self._line(self.pairs.held_out(), 0)
        return self._held_out

    @torch.no_grad()
    def _line(self, pairs: Pairs, step: int) -> Line:
        """Run the network, and measure the distances; the key of the prior's noise is the step."""
        restorer, known = self.restorer, pairs.known
        rng = step_rng(self.seed, step, OBJECTIVE_STREAM)
        valid = shown_masks(pairs, rng)
        psi, filters = drawn_codes(restorer, pairs, rng)
        _, y0, out = restorer.fidelity(pairs.degraded, valid, psi, filters, self.dtype)
        origins = torch.from_numpy(rng.integers(0, 1 << 16, (len(valid), 2)) * restorer.alignment_px)
        conditions = Conditions(known.kernel[0], psi[0], 0.0, 0.0, seed=self.seed, z=step)
        detail = restorer.detail(out, conditions, origins, self.dtype)
        trust = torch.cat([self._trust(pairs, valid, index) for index in range(len(valid))])
        y0, y1, clean = (
            low_frequency_lock(side, pairs.degraded, valid, known.kernel, restorer.scale)
            for side in (y0, y0 + trust * detail, pairs.target)
        )
        place_px = PLACE_NODES * self.net.node_px
        distances = self.distance(y0, y1 - y0, clean, self.shares, place_px)
        sound = -F.max_pool2d(-pairs.valid, place_px // restorer.scale)
        weights = sound * F.avg_pool2d(trust, place_px)
        rim = OBJECTIVE_RIM_PX * restorer.scale // place_px
        inner = torch.zeros_like(weights)
        inner[..., rim:-rim, rim:-rim] = 1
        features = out.features[-1].float()
        return Line(features, detail, trust, y0, y1, clean, distances, weights * inner)

    def _trust(self, pairs: Pairs, valid: Tensor, index: int) -> Tensor:
        """Return the factor of the gate of one pair."""
        one, known = slice(index, index + 1), pairs.known
        noise = float(known.noise_gain[index]), float(known.read_noise[index])
        return prior_gate(pairs.degraded[one], valid[one], known.kernel[index], *noise, self.restorer.scale)

    def _interior(self, image: Tensor) -> Tensor:
        rim = OBJECTIVE_RIM_PX * self.restorer.scale
        return image[..., rim:-rim, rim:-rim]


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp_min(1)


def _at(distances: Tensor, shares: Tensor) -> Tensor:
    """Return the distances, (N, 1, h, w), at any t of 0..1, (N, 1, h, w): linear between the 21."""
    place = shares * (SHARES - 1)
    below = place.detach().floor().clamp(0, SHARES - 2).long()
    low, high = distances.gather(1, below), distances.gather(1, below + 1)
    return low + (place - below) * (high - low)


def _least(distances: Tensor) -> Tensor:
    """Return the index of the least t whose distance is all but the least, (N, 1, h, w)."""
    good = distances <= distances.min(1, keepdim=True).values + ALL_BUT_LEAST
    return (good.cumsum(1) == 0).sum(1, keepdim=True)


def build_objective(
    _: str,
    material: Material,
    net: ObjectiveHead,
    info: dict[str, Any],
    options: StageOptions,
    __: LoopSettings,
) -> tuple[ObjectiveStage, PairSource]:
    """Return the stage and the source of its data; see `assembly.build_stage`."""
    model = joined_model(options.model, options.scale)
    model.restorer.to(torch.device(options.device))
    distance: LineDistance = TextureDistance()
    if options.lpips_backbone is not None:
        distance = LpipsDistance(load_backbone(options.lpips_backbone))
    pairs = pair_source(
        material,
        net.scale,
        options,
        OBJECTIVE_PATCH_PX,
        OBJECTIVE_HELD_OUT,
        tilt=material.restored_tilt,
        unfocused=UNFOCUSED_SHARE,
    )
    stage = ObjectiveStage(
        net,
        info["sizes"],
        pairs,
        model=model,
        distance=distance,
        seed=options.seed,
        batch=options.batch or OBJECTIVE_BATCH,
        dtype=TRAINING_DTYPES[options.precision],
    )
    return stage, pairs


OBJECTIVE = StageBuilder(
    StagePlan(warmup_steps=50, sizes={"hidden": 32}, from_output=False),
    build_objective,
)
