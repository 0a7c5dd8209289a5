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

from bigrestore.degradation.schema import Recipe
from bigrestore.errors import InputError
from bigrestore.model.method import WINDOW_PX
from bigrestore.model.nets.restorer import Restorer
from bigrestore.settings.train import StageOptions
from bigrestore.training.data import detail
from bigrestore.training.data.detail import DetailSource
from bigrestore.training.data.images import GreyImage, load_images, split_by_section
from bigrestore.training.data.pairs import PairSource, patch_size
from bigrestore.training.data.patches import PatchSource
from bigrestore.training.data.tilt import FOR_READING, FOR_RESTORING, TiltSettings
from bigrestore.training.loop import adversary
from bigrestore.training.loop.adversary import Adversary
from bigrestore.training.loop.guard import GuardSettings
from bigrestore.training.loop.options import TRAINING_DTYPES
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.stages import bridge, estimator, fidelity, prior
from bigrestore.training.stages.bridge import BridgeStage, conditional_critic_for
from bigrestore.training.stages.card import sources_of
from bigrestore.training.stages.estimator import EstimatorStage
from bigrestore.training.stages.fidelity import FidelityStage
from bigrestore.training.stages.frechet import texture_features
from bigrestore.training.stages.prior import PriorStage, critic_for

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


@attrs.frozen(eq=False)
class Material:
    """What a training learns from: images, what may happen to them, and how they are drawn.

    Attributes
    ----------
    name : str
        What a resume must share, such as the name of a folder.
    training, held_out : list of GreyImage
        Images to train on, and those of the running figures.
    recipe : Recipe
        What may happen to them.
    recipe_name : str
        What logs and the card call it.
    draws : mapping
        Further arguments of `PatchSource`.
    sources : str, optional
        Markdown for the card: where the images come from.
    read_tilt, restored_tilt : TiltSettings, optional
        How the clean windows of the estimator and those of the U-Net are given slopes that their tissue has not.
    """

    name: str
    training: list[GreyImage]
    held_out: list[GreyImage]
    recipe: Recipe
    recipe_name: str
    draws: Mapping[str, Any] = attrs.field(factory=dict)
    sources: str | None = None
    read_tilt: TiltSettings | None = FOR_READING
    restored_tilt: TiltSettings | None = FOR_RESTORING


def read_material(data: Path, recipe: str) -> Material:
    """Read a folder of clean images, or a packed .npz, and hold some files out."""
    loaded = Recipe.load(recipe)
    training, held_out = split_by_section(load_images(data))
    return Material(data.name, training, held_out, loaded, recipe, sources=sources_of(data))


def build_stage(
    name: str,
    material: Material,
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
    material : Material
        What it learns from.
    model : Restorer
        What is trained, on its device.
    info : dict
        Metadata of the model that the stage starts from.
    options : StageOptions
        What was asked for.
    settings : LoopSettings
        How the loop will step it.
    """
    if name == "prior":
        return _prior_stage(material, model, info, options, settings)
    if name in ("bridge", "polish"):
        return _bridge_stage(name, material, model, info, options, settings)
    if name == "estimator":
        sizes = WINDOW_PX, estimator.ESTIMATOR_HELD_OUT, estimator.TOGETHER
        pairs = _pairs(material, 1, options, *sizes, tilt=material.read_tilt)
        return EstimatorStage(model, pairs, batch=options.batch or estimator.ESTIMATOR_BATCH), pairs
    return fidelity_stage(material, model, options)


def fidelity_stage(
    material: Material, model: Restorer, options: StageOptions
) -> tuple[FidelityStage, PairSource]:
    """Return the stage of the U-Net and where its data come from; the arguments are those of `build_stage`."""
    sizes = fidelity.FIDELITY_PATCH_PX, fidelity.FIDELITY_HELD_OUT
    pairs = _pairs(material, model.scale, options, *sizes, tilt=material.restored_tilt)
    batch, dtype = options.batch or fidelity.FIDELITY_BATCH, TRAINING_DTYPES[options.precision]
    return FidelityStage(model, pairs, seed=options.seed, batch=batch, dtype=dtype), pairs


def _prior_stage(
    material: Material, model: Restorer, info: dict[str, Any], options: StageOptions, settings: LoopSettings
) -> tuple[PriorStage, DetailSource]:
    details = _details(material, model, options)
    critic = critic_for(model, options.seed).to(options.device)
    stage = PriorStage(
        model,
        details,
        Adversary(critic, settings.rate_at),
        seed=options.seed,
        batch=options.batch or prior.PRIOR_BATCH,
        dtype=TRAINING_DTYPES[options.precision],
        kept={key: info[key] for key in HALO_FACTS if key in info},
    )
    return stage, details


def _bridge_stage(
    name: str,
    material: Material,
    model: Restorer,
    info: dict[str, Any],
    options: StageOptions,
    settings: LoopSettings,
) -> tuple[BridgeStage, PairSource]:
    pairs = _pairs(material, model.scale, options, bridge.BRIDGE_PATCH_PX, bridge.BRIDGE_HELD_OUT)
    held_out = _details(material, model, options).measured(prior.MEASURED, held_out=True)
    critic = conditional_critic_for(model, options.seed).to(options.device)
    stage = BridgeStage(
        model,
        pairs,
        Adversary(critic, settings.rate_at),
        texture_features(held_out),
        seed=options.seed,
        batch=options.batch or bridge.BRIDGE_BATCH,
        dtype=TRAINING_DTYPES[options.precision],
        frozen_share=bridge.FROZEN_SHARE if name == "bridge" else 0.0,
        kept={key: info[key] for key in HALO_FACTS if key in info},
    )
    return stage, pairs


def _pairs(
    material: Material,
    scale: int,
    options: StageOptions,
    input_px: int,
    held_out: int,
    together: int = 1,
    *,
    tilt: TiltSettings | None = None,
) -> PairSource:
    side = patch_size(input_px, scale)
    return PairSource(
        PatchSource(material.training, side, **material.draws),
        _held_out_source(material, side),
        material.recipe,
        scale,
        seed=options.seed,
        device=torch.device(options.device),
        held_out_count=held_out,
        together=together,
        tilt=tilt,
    )


def _details(material: Material, model: Restorer, options: StageOptions) -> DetailSource:
    side, scale = detail.window_px(model.scale), model.scale
    return DetailSource(
        PatchSource(material.training, side, **material.draws),
        _held_out_source(material, side, augment=True),
        scale,
        seed=options.seed,
        device=torch.device(options.device),
    )


def _held_out_source(material: Material, side: int, *, augment: bool = False) -> PatchSource:
    """Return the source of the held-out windows; where none of their images holds one, of those trained on."""
    try:
        return PatchSource(material.held_out, side, augment=augment, **material.draws)
    except InputError as error:
        log.warning(
            "No held-out image can be used (%s); the running figures are of images trained on.", error
        )
        return PatchSource(material.training, side, augment=augment, **material.draws)
