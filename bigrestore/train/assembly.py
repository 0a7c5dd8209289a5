"""What each stage is made of: its data, its networks, the critic that teaches it, and how it is stepped.

One place that knows all stages, so that none of them knows where images lie or what the command line said.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from bigrestore.degrade.schema import Recipe
from bigrestore.errors import InputError
from bigrestore.nn.restorer import Restorer
from bigrestore.train import adversary, bridge, detail, estimator, fidelity, prior
from bigrestore.train.adversary import Adversary
from bigrestore.train.bridge import BridgeStage, conditional_critic_for
from bigrestore.train.data import PatchSource
from bigrestore.train.detail import DetailSource
from bigrestore.train.estimator import EstimatorStage
from bigrestore.train.fidelity import FidelityStage
from bigrestore.train.frechet import texture_features
from bigrestore.train.guard import GuardSettings
from bigrestore.train.images import GreyImage, load_images, split_by_section
from bigrestore.train.options import DTYPES, StageOptions
from bigrestore.train.pairs import PairSource, patch_size
from bigrestore.train.prior import PriorStage, critic_for
from bigrestore.train.schedule import LoopSettings
from bigrestore.train.tilt import FOR_READING, FOR_RESTORING, TiltSettings

log = logging.getLogger(__name__)

Source = PairSource | DetailSource
AnyStage = EstimatorStage | FidelityStage | PriorStage | BridgeStage
HALO_FACTS = ("halo_px", "halo_errors")
"""Metadata that the stages of the prior keep: they leave the network at realness 0 as it was."""


@attrs.frozen
class StagePlan:
    """What differs between the stages in how they are trained; see `LoopSettings`."""

    warmup_steps: int = 100
    fan_in_limit: int | None = None
    betas: tuple[float, float] = (0.9, 0.99)
    checkpoint_s: float = 120.0
    guard: GuardSettings = attrs.field(factory=GuardSettings)
    rate_factors: Mapping[str, float] = attrs.field(factory=dict)


_BETWEEN = StagePlan(300, checkpoint_s=240.0, guard=adversary.GUARD, rate_factors=bridge.RATE_FACTORS)
PLANS = {
    "estimator": StagePlan(),
    # The U-Net is deep and has no norm layers: without a limit a step of 8e-4 throws it off (see `train.guard`).
    "fidelity": StagePlan(warmup_steps=500, fan_in_limit=150),
    "prior": StagePlan(betas=adversary.BETAS, checkpoint_s=240.0, guard=adversary.GUARD),
    "bridge": _BETWEEN,
    "polish": _BETWEEN,
}
STARTS_FROM = {"fidelity": "estimator", "prior": "fidelity", "bridge": "prior", "polish": "bridge"}
"""What a stage needs to have been trained before it."""

Images = tuple[list[GreyImage], list[GreyImage]]
"""Images to train on, and held-out ones."""


def build_stage(
    name: str,
    data: Path,
    model: Restorer,
    info: dict[str, Any],
    options: StageOptions,
    settings: LoopSettings,
) -> tuple[AnyStage, Source]:
    """Return a stage and where its data come from.

    Parameters
    ----------
    name : str
        Of the stage.
    data : Path
        Folder of clean images, or a packed .npz.
    model : Restorer
        What is trained, on its device.
    info : dict
        Metadata of the model that the stage starts from.
    options : StageOptions
        What was asked for.
    settings : LoopSettings
        How the loop will step it.
    """
    images = split_by_section(load_images(data))
    if name == "prior":
        return _prior_stage(images, model, info, options, settings)
    if name in ("bridge", "polish"):
        return _bridge_stage(name, images, model, info, options, settings)
    if name == "estimator":
        sizes = estimator.WINDOW_PX, estimator.HELD_OUT, estimator.TOGETHER
        pairs = _pairs(images, 1, options, *sizes, tilt=FOR_READING)
        return EstimatorStage(model, pairs, batch=options.batch or estimator.BATCH), pairs
    pairs = _pairs(images, model.scale, options, fidelity.PATCH_PX, fidelity.HELD_OUT, tilt=FOR_RESTORING)
    batch, dtype = options.batch or fidelity.BATCH, DTYPES[options.precision]
    return FidelityStage(model, pairs, seed=options.seed, batch=batch, dtype=dtype), pairs


def _prior_stage(
    images: Images, model: Restorer, info: dict[str, Any], options: StageOptions, settings: LoopSettings
) -> tuple[PriorStage, DetailSource]:
    details = _details(images, model, options)
    critic = critic_for(model, options.seed).to(options.device)
    stage = PriorStage(
        model,
        details,
        Adversary(critic, settings.rate_at),
        seed=options.seed,
        batch=options.batch or prior.BATCH,
        dtype=DTYPES[options.precision],
        kept={key: info[key] for key in HALO_FACTS if key in info},
    )
    return stage, details


def _bridge_stage(
    name: str,
    images: Images,
    model: Restorer,
    info: dict[str, Any],
    options: StageOptions,
    settings: LoopSettings,
) -> tuple[BridgeStage, PairSource]:
    pairs = _pairs(images, model.scale, options, bridge.PATCH_PX, bridge.HELD_OUT)
    held_out = _details(images, model, options).measured(prior.MEASURED, held_out=True)
    critic = conditional_critic_for(model, options.seed).to(options.device)
    stage = BridgeStage(
        model,
        pairs,
        Adversary(critic, settings.rate_at),
        texture_features(held_out),
        seed=options.seed,
        batch=options.batch or bridge.BATCH,
        dtype=DTYPES[options.precision],
        frozen_share=bridge.FROZEN_SHARE if name == "bridge" else 0.0,
        kept={key: info[key] for key in HALO_FACTS if key in info},
    )
    return stage, pairs


def _pairs(
    images: Images,
    scale: int,
    options: StageOptions,
    input_px: int,
    held_out: int,
    together: int = 1,
    *,
    tilt: TiltSettings | None = None,
) -> PairSource:
    train_images, held_out_images = images
    side = patch_size(input_px, scale)
    return PairSource(
        PatchSource(train_images, side),
        _held_out_source(train_images, held_out_images, side),
        Recipe.load(options.recipe),
        scale,
        seed=options.seed,
        device=torch.device(options.device),
        held_out_count=held_out,
        together=together,
        tilt=tilt,
    )


def _details(images: Images, model: Restorer, options: StageOptions) -> DetailSource:
    train_images, held_out_images = images
    side, scale = detail.window_px(model.scale), model.scale
    return DetailSource(
        PatchSource(train_images, side),
        _held_out_source(train_images, held_out_images, side, augment=True),
        scale,
        seed=options.seed,
        device=torch.device(options.device),
    )


def _held_out_source(
    train_images: list[GreyImage], held_out: list[GreyImage], side: int, *, augment: bool = False
) -> PatchSource:
    """Return the source of the held-out windows; where none of their images holds one, of those trained on."""
    try:
        return PatchSource(held_out, side, augment=augment)
    except InputError as error:
        log.warning(
            "No held-out image can be used (%s); the running figures are of images trained on.", error
        )
        return PatchSource(train_images, side, augment=augment)
