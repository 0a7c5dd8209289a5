"""The parts of a stage: its plan, its images, and the sources drawing from them.

The `StageBuilder` of each stage builds it from these. No stage knows the folder of images or the command line. The
stages are listed in `bigrestore.training.stages.table`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import attrs
import torch
from torch import nn

from bigrestore.degradation.recipe import AnyRecipe, load_recipe
from bigrestore.errors import InputError, UsageError
from bigrestore.model.nets.checkpoint import Model, load_model
from bigrestore.model.nets.restorer import Restorer
from bigrestore.settings.train import StageOptions
from bigrestore.training.data import detail
from bigrestore.training.data.detail import DetailSource
from bigrestore.training.data.images import GreyImage, load_images, split_by_section
from bigrestore.training.data.pairs import PairSource, patch_size
from bigrestore.training.data.patches import PatchSource
from bigrestore.training.data.tilt import FOR_READING, FOR_RESTORING, TiltSettings
from bigrestore.training.loop.guard import GuardSettings
from bigrestore.training.loop.loop import TrainingStage
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.stages.card import sources_of
from bigrestore.training.stages.table import STAGES

log = logging.getLogger(__name__)

HALO_FACTS = ("halo_px", "halo_errors")
"""Metadata kept by the stages of the prior: they leave the network at realness 0 as it was."""


class Source(Protocol):
    """Where the data of a stage come from.

    Attributes
    ----------
    train : PatchSource
        Clean windows of the images trained on.
    device : torch.device
        Where data are made and wanted.
    """

    train: PatchSource
    device: torch.device


@attrs.frozen
class StagePlan:
    """The part of `LoopSettings` set by the stage."""

    warmup_steps: int = 100
    fan_in_limit: int | None = None
    betas: tuple[float, float] = (0.9, 0.99)
    checkpoint_s: float = 120.0
    guard: GuardSettings = attrs.field(factory=GuardSettings)
    rate_factors: Mapping[str, float] = attrs.field(factory=dict)
    start_share: float = 0.0
    sizes: dict[str, Any] = attrs.field(factory=dict)
    """Of a new part."""
    from_output: bool = True
    """Whether an existing output is what a training starts from."""


@attrs.frozen
class StageBuilder:
    """The plan of a stage, and the function to build it; its arguments are those of `build_stage`."""

    plan: StagePlan
    build: Callable[..., tuple[TrainingStage, Source]]


@attrs.frozen(eq=False)
class Material:
    """The data of a training: images, their degradation, and how they are drawn.

    Attributes
    ----------
    name : str
        Shared by every resume, such as the name of a folder.
    training, held_out : list of GreyImage
        Images to train on, and those of the running figures.
    recipe : Recipe or LearnedRecipe
        Their degradation.
    recipe_name : str
        For logs and the card.
    draws : mapping
        Further arguments of `PatchSource`.
    sources : str, optional
        Markdown for the card: the origin of the images.
    read_tilt, restored_tilt : TiltSettings, optional
        How the clean windows of the estimator and those of the U-Net are given further slopes.
    """

    name: str
    training: list[GreyImage]
    held_out: list[GreyImage]
    recipe: AnyRecipe
    recipe_name: str
    draws: Mapping[str, Any] = attrs.field(factory=dict)
    sources: str | None = None
    read_tilt: TiltSettings | None = FOR_READING
    restored_tilt: TiltSettings | None = FOR_RESTORING


def read_material(data: Path, recipe: str, scale: int) -> Material:
    """Read a folder of clean images, or a packed .npz, and hold some files out."""
    loaded = load_recipe(recipe, scale)
    training, held_out = split_by_section(load_images(data))
    return Material(data.name, training, held_out, loaded, recipe, sources=sources_of(data))


def build_stage(
    name: str,
    material: Material,
    model: nn.Module,
    info: dict[str, Any],
    options: StageOptions,
    settings: LoopSettings,
) -> tuple[TrainingStage, Source]:
    """Return a stage and the source of its data.

    Parameters
    ----------
    name : str
        Of the stage.
    material : Material
        The data.
    model : nn.Module
        The restorer or the part to train, on its device.
    info : dict
        Metadata of the starting model.
    options : StageOptions
        As asked for.
    settings : LoopSettings
        How the loop will step it.
    """
    return _builder(name).build(name, material, model, info, options, settings)


def stage_plan(name: str) -> StagePlan:
    """Return the plan of a stage."""
    return _builder(name).plan


def _builder(name: str) -> StageBuilder:
    module, _, attribute = STAGES[name].builder.partition(":")
    builder: StageBuilder = getattr(import_module(f"bigrestore.training.stages.{module}"), attribute)
    return builder


def joined_model(name_or_path: str, scale: int) -> Model:
    """Load a model whose prior is joined to its U-Net.

    Raises
    ------
    UsageError
        It is not.
    InputMissingError, ModelError
        As of `bigrestore.model.nets.checkpoint.load_model`.
    """
    model = load_model(name_or_path, scale)
    if model.restorer.prior is None or "halo_prior_px" not in model.info:
        raise UsageError(
            f"The model {model.name} has no prior that is joined to its U-Net, so no place bears any of its detail; choose "
            "another --model, or run `bigrestore train bridge` on it."
        )
    return model


def pair_source(
    material: Material,
    scale: int,
    options: StageOptions,
    input_px: int,
    held_out: int,
    together: int = 1,
    *,
    tilt: TiltSettings | None = None,
    unfocused: float = 0.0,
) -> PairSource:
    """Return a source of degraded and clean patches.

    Parameters
    ----------
    material : Material
        Images and recipe.
    scale : int
        Clean pixels per degraded pixel.
    options : StageOptions
        Seed and device.
    input_px : int
        Side of the degraded patches.
    held_out : int
        Pairs for the running figures.
    together : int
        Windows of one degradation.
    tilt : TiltSettings, optional
        Further slopes of the clean patches.
    unfocused : float
        Share of the clean patches that lie partly out of focus.
    """
    side = patch_size(input_px, scale)
    return PairSource(
        PatchSource(material.training, side, **material.draws),
        held_out_source(material, side),
        material.recipe,
        scale,
        seed=options.seed,
        device=torch.device(options.device),
        held_out_count=held_out,
        together=together,
        tilt=tilt,
        unfocused=unfocused,
    )


def detail_source(material: Material, model: Restorer, options: StageOptions) -> DetailSource:
    """Return a source of clean windows, at the scale of the model."""
    side, scale = detail.window_px(model.scale), model.scale
    return DetailSource(
        PatchSource(material.training, side, **material.draws),
        held_out_source(material, side, augment=True),
        scale,
        seed=options.seed,
        device=torch.device(options.device),
    )


def held_out_source(material: Material, side: int, *, augment: bool = False) -> PatchSource:
    """Return the source of the held-out windows; without any, of images trained on."""
    try:
        return PatchSource(material.held_out, side, augment=augment, **material.draws)
    except InputError as error:
        log.warning(
            "No held-out image can be used (%s); the running figures are of images trained on.", error
        )
        return PatchSource(material.training, side, augment=augment, **material.draws)
