"""Stage 2: the generator learns the detail of tissue from clean windows and chance alone.

A GAN as in StyleGAN2: non-saturating loss, lazy R1, a weight average for figures and shipping. Latent codes are
windows of an endless random field, and so is the output: fields of several patches are made at once and cut. Their
rim is dropped, because convolutions saw zeros instead of tissue there: only texture may tell the critic real from
made. The U-Net and the bridge take no part. A pattern in step with the grid, too faint for the critic but adding up
over a section, has a penalty of its own.

Two players circle around their goal and need not be nearest to it at the end. So from half of the schedule on the
averaged weights with the smallest distance from tissue are kept, and those are shipped.

One prior serves all scales. It is trained at x1; at x2 it is taken over (`nn.grow`), since L and the coarse grids
are counted in input pixels, and only trained on, for a shorter time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bigrestore.errors import UsageError
from bigrestore.model.nets.checkpoint import save_model
from bigrestore.model.nets.prior.discriminator import DETAIL_CONTRAST, PatchDiscriminator
from bigrestore.model.nets.prior.generator import Generator
from bigrestore.model.nets.prior.latent import sample_z_field
from bigrestore.model.nets.restorer import Restorer
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.detail import DETAIL_PATCH_PX, SHIFT_PX, DetailSource, augment, square_batch
from bigrestore.training.data.patches import step_rng
from bigrestore.training.loop.adversary import (
    BETAS,
    GUARD,
    R1_EVERY,
    Adversary,
    logistic_critic_loss,
    logistic_generator_loss,
    r1_gamma,
    r1_penalty,
)
from bigrestore.training.loop.options import TRAINING_DTYPES
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.loop.sheet import compose_sheet
from bigrestore.training.stages.assembly import HALO_FACTS, Material, StageBuilder, StagePlan, detail_source
from bigrestore.training.stages.copying import SHOWN_GREY, WindowIndex, nearest_sheet
from bigrestore.training.stages.frechet import frechet_distance, texture_features
from bigrestore.training.stages.losses import nyquist_db, nyquist_lines, nyquist_penalty

PRIOR_BATCH = 16
RIM_NODES = 3
"""Bottleneck nodes dropped around a made field: two convolutions on this grid, and the finer ones."""
CHANCE_STREAM = 6
SAMPLE_SEED = 1_357_911
MEASURED, INDEXED = 768, 3072
"""Patches for the figures, and training windows searched for copies."""
PRIOR_SHOWN = 16
PRIOR_NYQUIST = 0.05
"""Weight of the penalty on lines at Nyquist: its gradient lies almost wholly in the last head, and is the larger there."""
KEEP_FROM = 0.5
"""Share of the schedule before any weights are kept: early ones may fit the figure, but know few textures."""


@attrs.frozen(eq=False)
class Best:
    """The averaged weights of the generator nearest to tissue, and their distance."""

    distance: float
    weights: dict[str, Tensor]


class PriorStage:
    """What the training loop asks for, for the generator of a restorer.

    Parameters
    ----------
    model : Restorer
        With a generator; all else in it stays as it is.
    details : DetailSource
        Where real detail comes from.
    adversary : Adversary
        A `PatchDiscriminator` and its optimiser.
    seed : int
        Seed of codes and noise.
    batch : int
        Patches per step.
    dtype : torch.dtype
        What both networks compute in; R1 is float32.
    kept : mapping
        Metadata kept from the model: its halo.
    measured, indexed : int
        Patches for the figures, and windows searched for copies.
    """

    name = "prior"

    def __init__(
        self,
        model: Restorer,
        details: DetailSource,
        adversary: Adversary,
        *,
        seed: int,
        batch: int = PRIOR_BATCH,
        dtype: torch.dtype = torch.float32,
        kept: Mapping[str, Any] | None = None,
        measured: int = MEASURED,
        indexed: int = INDEXED,
    ) -> None:
        self.model, self.details, self.adversary = model, details, adversary
        self.seed, self.batch, self.dtype = seed, batch, dtype
        self._kept, self._measured = dict(kept or {}), measured
        self._progress, self._best = 0.0, Best(math.inf, {})
        self._gamma = r1_gamma(DETAIL_PATCH_PX, batch)
        for name, parameter in self._prior.named_parameters():
            if "bridge" in name:
                parameter.requires_grad_(False)
        windows = details.measured(indexed, held_out=False)
        self._index, self._real = WindowIndex(windows), windows[:PRIOR_SHOWN]
        tissue = reference_windows(details, measured)
        self._tissue = texture_features(tissue)
        others = texture_features(details.measured(measured, held_out=False, stream=2))
        held_out = tissue[: measured // 2]
        self._floors = {
            "frechet_floor": frechet_distance(others, self._tissue),
            "copy_floor": float(self._index.nearest(held_out[:256])[0].mean()),
        }
        self._deviation, self._lines = float(tissue.std()), nyquist_lines(tissue)

    @property
    def _prior(self) -> Generator:
        if self.model.prior is None:
            raise UsageError("This model has no prior; run `bigrestore train prior` first.")
        return self.model.prior

    def modules(self) -> nn.Module:
        """Return the trained module."""
        return self._prior

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Teach the critic, then return the generator's losses, the total first."""
        self._progress = progress
        rng = step_rng(self.seed, step, CHANCE_STREAM)
        made = torch.cat([*self._made(step)])
        real = self.details.at(step, self.batch)
        parts = self._teach(step, progress, augment(real, rng), augment(made.detach(), rng))
        with self.adversary.fixed():
            loss = logistic_generator_loss(self._judge(augment(made, rng)))
        nyquist = nyquist_penalty(made, real)
        parts |= {"nyquist": nyquist.detach(), "deviation": made.detach().std()}
        return {"loss": loss + PRIOR_NYQUIST * nyquist, **parts}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return distances of samples from tissue, with the distance of training windows beside.

        `frechet` and `nyquist_db`, the excess of the strongest line at Nyquist, are of the present weights;
        `frechet_kept` is of the kept ones.
        """
        made = self.samples(self._measured)
        distance = frechet_distance(texture_features(made), self._tissue)
        if self._progress >= KEEP_FROM and distance < self._best.distance:
            weights = {name: tensor.clone() for name, tensor in self._prior.state_dict().items()}
            self._best = Best(distance, weights)
        return {
            "frechet": distance,
            "frechet_kept": min(distance, self._best.distance),
            "frechet_floor": self._floors["frechet_floor"],
            "copy": float(self._index.nearest(made[:256])[0].mean()),
            "copy_floor": self._floors["copy_floor"],
            "deviation_ratio": float(made.std()) / self._deviation,
            "nyquist_db": nyquist_db(made, self._lines, PRIOR_SHOWN),
        }

    @torch.no_grad()
    def sheet(self) -> dict[str, NDArray[np.uint8]]:
        """Return pictures: a made field beside real windows, and samples beside the windows nearest to them."""
        field = self.samples(PRIOR_SHOWN)
        squares = [_mosaic(patches) for patches in (field, self._real)]
        neighbours = self._index.nearest(field)[1]
        return {
            "samples": compose_sheet([[SHOWN_GREY + square for square in squares]]),
            "nearest": nearest_sheet(field, neighbours),
        }

    def state(self) -> dict[str, Any]:
        """Return the state beside the trained module for a checkpoint: the critic, and the rest of the model."""
        rest = {
            name: tensor for name, tensor in self.model.state_dict().items() if not name.startswith("prior.")
        }
        return {"adversary": self.adversary.state(), "model": rest, "best": attrs.asdict(self._best)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the result of `state`."""
        self.adversary.load_state(state["adversary"])
        self.model.load_state_dict(state["model"], strict=False)
        if "best" in state:
            self._best = Best(**state["best"])

    def export(self, path: Path) -> None:
        """Write the model with the kept weights."""
        if self._best.weights:
            self._prior.load_state_dict(self._best.weights)
        save_model(path, self.model, self._kept)

    @torch.no_grad()
    def samples(self, count: int) -> Tensor:
        """Return made patches, (count, 1, 64, 64), always of the same codes and noise."""
        return sample_patches(self._prior, count, self.dtype)

    def _made(self, step: int) -> Iterator[Tensor]:
        """Yield the made patches of a step, (k^2, 1, 72, 72) at a time, in step with the grid, with room for the shift."""
        side = square_batch(self.batch)
        fields = self.batch // side**2
        for number in range(fields):
            field = make_field(self._prior, side, self.seed, step * fields + number, dtype=self.dtype)
            yield cut_field(field, self._prior, side, SHIFT_PX // 2, DETAIL_PATCH_PX + SHIFT_PX)

    def _teach(self, step: int, progress: float, real: Tensor, made: Tensor) -> dict[str, Tensor]:
        """Make the critic's step."""
        judged_real, judged_made = self._judge(real), self._judge(made)
        loss = logistic_critic_loss(judged_real, judged_made)
        parts = {"critic": loss.detach(), "sure": (judged_real.detach() - judged_made.detach()).mean()}
        penalty = None
        if step % R1_EVERY == 0:
            r1 = r1_penalty(self.adversary.critic, real, DETAIL_CONTRAST)
            penalty = 0.5 * self._gamma * R1_EVERY * r1
            parts["r1"] = r1.detach()
        self.adversary.learn(step, progress, loss, penalty)
        return parts

    def _judge(self, patches: Tensor) -> Tensor:
        with torch.autocast(patches.device.type, self.dtype, enabled=self.dtype != torch.float32):
            judged: Tensor = self.adversary.critic(patches)
        return judged.float()


def critic_for(model: Restorer, seed: int) -> PatchDiscriminator:
    """Return a fresh critic of the size of a restorer's generator."""
    torch.manual_seed(seed + 1)
    return PatchDiscriminator(model.preset.channels, model.preset.unshuffle, DETAIL_PATCH_PX)


def reference_windows(details: DetailSource, count: int) -> Tensor:
    """Return windows that stand for tissue in the figures, (count, 1, 64, 64): held-out ones, then trained-on ones.

    The few held-out files alone may be far from the tissue that is learned, and a prior moving towards that would
    seem to worsen. Copies of windows are told by another figure.
    """
    half = count // 2
    parts = (
        details.measured(half, held_out=True),
        details.measured(count - half, held_out=False, stream=1),
    )
    return torch.cat(parts)


@torch.no_grad()
def sample_patches(prior: Generator, count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return patches made by a prior alone, (count, 1, 64, 64), always of the same codes and noise."""
    patches: list[Tensor] = []
    for number in range(-(-count // PRIOR_SHOWN)):
        field = make_field(prior, 4, SAMPLE_SEED, number, dtype=dtype)
        patches.append(cut_field(field, prior, 4, 0, DETAIL_PATCH_PX))
    return torch.cat(patches)[:count]


def make_field(
    prior: Generator, side: int, seed: int, number: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Make a field of detail large enough to cut side x side patches from its interior.

    Parameters
    ----------
    prior : Generator
    side : int
        Patches along each axis.
    seed, number : int
        Name of codes and noise; every number is a section of its own.
    dtype : torch.dtype
        What the generator computes in.

    Returns
    -------
    Tensor, (1, 1, F, F), float32
    """
    device = prior.vector.device
    per_patch = math.ceil(DETAIL_PATCH_PX / (prior.alignment_px * prior.scale))
    nodes, origin = per_patch * side + 2 * RIM_NODES, torch.zeros(1, 2, dtype=torch.int64)
    z_field = sample_z_field(prior.mapping.latent, nodes, nodes, seed, number, origin, device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        field: Tensor = prior(prior.mapping(z_field), None, seed, number, origin)
    return field.float()


def cut_field(field: Tensor, prior: Generator, side: int, offset: int, patch_px: int) -> Tensor:
    """Cut the interior of a field into patches, (side^2, 1, patch_px, patch_px), 64 pixels apart.

    `offset`, below the pitch of the bottleneck, moves all of them towards the upper left.
    """
    start = RIM_NODES * prior.alignment_px * prior.scale - offset
    extent = DETAIL_PATCH_PX * (side - 1) + patch_px
    interior = field[..., start : start + extent, start : start + extent]
    patches = interior.unfold(2, patch_px, DETAIL_PATCH_PX).unfold(3, patch_px, DETAIL_PATCH_PX)
    return patches.reshape(side * side, 1, patch_px, patch_px)


def _mosaic(patches: Tensor) -> NDArray[np.float32]:
    """Lay 16 patches out in a square, in their order."""
    rows = [torch.cat([*patches[start : start + 4, 0]], dim=1) for start in range(0, PRIOR_SHOWN, 4)]
    mosaic: NDArray[np.float32] = torch.cat(rows).numpy(force=True)
    return mosaic


def build_prior(
    _: str,
    material: Material,
    model: Restorer,
    info: dict[str, Any],
    options: StageOptions,
    settings: LoopSettings,
) -> tuple[PriorStage, DetailSource]:
    """Return the stage and the source of its data; see `assembly.build_stage`."""
    details = detail_source(material, model, options)
    critic = critic_for(model, options.seed).to(options.device)
    stage = PriorStage(
        model,
        details,
        Adversary(critic, settings.rate_at),
        seed=options.seed,
        batch=options.batch or PRIOR_BATCH,
        dtype=TRAINING_DTYPES[options.precision],
        kept={key: info[key] for key in HALO_FACTS if key in info},
    )
    return stage, details


PRIOR = StageBuilder(StagePlan(betas=BETAS, checkpoint_s=240.0, guard=GUARD), build_prior)
