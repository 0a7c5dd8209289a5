"""One stage of training from a folder of images to a usable checkpoint.

The stages write one model file in turn: `estimator` makes it, `fidelity` starts from it and replaces it
(or starts from another by `--start`), `prior` puts a generator into it, `bridge` and `polish` join the two.
Beside it lies a folder `MODEL.train/STAGE/` with what a resumed training needs and what people look at:
checkpoints, CSV and TensorBoard logs, sheets.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import nn

from bigrestore.core.host.arithmetic import exact_arithmetic
from bigrestore.core.words import either
from bigrestore.errors import UsageError, gpu_failures, out_of_memory
from bigrestore.model.nets.checkpoint import load_model, read_weights, update_info
from bigrestore.model.nets.grow import grow_restorer, take_over
from bigrestore.model.nets.parts.part import load_part, make_network
from bigrestore.model.nets.restorer import Restorer
from bigrestore.report.metrics.judges.lpips import load_backbone
from bigrestore.settings.presets import BACKBONES, FUSIONS_OF_FEATURES, get_preset
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.focus import UNFOCUSED_SHARE
from bigrestore.training.data.pairs import PairSource
from bigrestore.training.fitting.twins import TwinSource
from bigrestore.training.loop.loop import TrainingStage, train
from bigrestore.training.loop.schedule import LoopSettings, TrainResult
from bigrestore.training.stages.assembly import (
    Material,
    Source,
    StagePlan,
    build_stage,
    joined_model,
    read_material,
    stage_plan,
)
from bigrestore.training.stages.card import write_card
from bigrestore.training.stages.table import STAGES

log = logging.getLogger(__name__)

LINEAGE = ("seconds", "steps", "batch", "threads", "precision", "recipe", "machine")
"""What is kept of a training that another one of the same stage started from."""

NO_RECIPE = "none: clean windows"


def train_stage(
    name: str, data: Path | Material, output: Path, options: StageOptions, plan: StagePlan | None = None
) -> TrainResult:
    """Train one stage and write the model.

    Parameters
    ----------
    name : str
        Of `STAGES`.
    data : Path or Material
        Folder of clean images, or a packed .npz; or what was made of images already.
    output : Path
        Model file to write.
    options : StageOptions
        The rest.
    plan : StagePlan, optional
        In place of the stage's own.

    Returns
    -------
    TrainResult

    Raises
    ------
    UsageError
        The options do not go together, or fidelity has no estimator to start from.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"the model {output} must end in .safetensors")
    if (options.steps is None) == (options.minutes is None):
        raise UsageError("give the length of the training by one of --steps and --minutes")
    _check_scale(name, options)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    plan = plan or stage_plan(name)
    start: Callable[..., tuple[nn.Module, dict[str, Any]]] = _starting_model
    if STAGES[name].part is not None:
        start = partial(_starting_part, plan)
    model, info = start(name, output, options)
    model.to(device)
    material = data if isinstance(data, Material) else read_material(data, options.recipe, options.scale)
    settings = _loop_settings(name, material, output, options, plan)
    stage, source = build_stage(name, material, model, info, options, settings)
    try:
        with gpu_failures(), exact_arithmetic():
            result = train(stage, settings, output)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UsageError(
            f"The training ran out of memory on {options.device} with {stage.batch} pairs a step; take a smaller --batch or "
            "--preset."
        ) from error
    if result.status == "done":
        undone = STAGES[name].undoes  # a new U-Net or prior is not joined to the other
        before = {done: facts for done, facts in info.get("training", {}).items() if done not in undone}
        record = _record(stage, source, material.recipe_name, options, result)
        record["earlier"] = _lineage(before.get(name), record, resumed=options.resume)
        update_info(output, {"training": {**before, name: record}})
        card = write_card(output, read_weights(output)[0], material.sources)
        log.info("wrote %s and its card %s", output, card)
    return result


def _check_scale(name: str, options: StageOptions) -> None:
    """Refuse a scale that the stage, or the architecture of a backbone, is not made for."""
    scales, subject = STAGES[name].scales, f"train {name}"
    if name == "backbone":
        scales, subject = BACKBONES[options.arch].scales, f"--arch {options.arch}"
    if options.scale not in scales:
        raise UsageError(f"--scale is {options.scale}; {subject} takes {either(scales)}.")


def hardware(device: torch.device) -> str:
    """Return the kind of processor of a training."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}"


def _starting_model(name: str, output: Path, options: StageOptions) -> tuple[Restorer, dict[str, Any]]:
    """Load the starting model of a stage, or make a new one for the first stage."""
    start, row = options.start or (output if output.is_file() else None), STAGES[name]
    if start is None:
        if row.needs is not None:
            before = row.needs
            raise UsageError(
                f"{name} starts from a model with a trained {before}; run `bigrestore train {before}` with -o {output} "
                "first, or name one by --start"
            )
        torch.manual_seed(options.seed)
        return Restorer(get_preset(options.preset), options.scale), {}
    loaded = load_model(start)
    same_preset = loaded.info["preset"] == options.preset
    if row.grows and options.start and same_preset and loaded.scale < options.scale:
        log.info("%s is for scale %d and is grown to scale %d", start, loaded.scale, options.scale)
        kept = {
            stage: record for stage, record in loaded.info["training"].items() if stage in (row.needs, name)
        }
        return grow_restorer(loaded.restorer, options.scale).train(), {"training": kept}
    if not same_preset or loaded.scale != options.scale:
        raise UsageError(
            f"{start} is a {loaded.info['preset']} model for scale {loaded.scale}, not {options.preset} for scale "
            f"{options.scale}; say so by --preset and --scale, or choose another output"
        )
    model = loaded.restorer if row.generator == "none" else _with_prior(name, loaded.restorer, options)
    if name == "bridge":
        model = _fused(start, model, loaded.info, options.fusion)
    return model.train(), loaded.info


def _starting_part(
    plan: StagePlan, name: str, output: Path, options: StageOptions
) -> tuple[nn.Module, dict[str, Any]]:
    """Load the starting part of a stage, or make a new one of the sizes of its plan."""
    row, sizes = STAGES[name], plan.sizes
    assert row.part is not None
    start = options.start or (output if plan.from_output and output.is_file() else None)
    if start is None and row.needs is not None:
        raise UsageError(
            f"{name} starts from a trained {row.needs}; name one by --start, as `bigrestore train {row.needs}` writes it."
        )
    if start is not None:
        kinds = [kind for kind in (row.part, row.needs) if kind is not None]
        part = load_part(kinds, None if row.grows else options.scale, start)
        arch = part.info["sizes"].get("arch", options.arch)
        if arch != options.arch:
            raise UsageError(
                f"{start} is a backbone of the architecture {arch}, not {options.arch}; say so by --arch {arch}, or choose "
                "another output."
            )
        if part.info["scale"] != options.scale:
            log.info(
                "%s is for scale %d; its weights start scale %d", start, part.info["scale"], options.scale
            )
            sizes = part.info["sizes"] | {"scale": options.scale}
            network = make_network(row.part, sizes)
            network.load_state_dict(part.network.state_dict())
            return network.train(), part.info | {"sizes": sizes, "scale": options.scale}
        return part.network.requires_grad_(True).train(), part.info
    torch.manual_seed(options.seed)
    scale = {"scale": options.scale} if len(row.scales) > 1 else {}
    if row.part == "backbone":
        sizes = {"arch": options.arch} | (sizes or BACKBONES[options.arch].sizes)
    if row.part == "objective":
        if options.lpips_backbone is not None:
            load_backbone(options.lpips_backbone)  # refused before the images are read
        preset = joined_model(options.model, options.scale).restorer.preset
        sizes = sizes | {"features": preset.channels[0], "unshuffle": preset.unshuffle}
    sizes = sizes | scale
    return make_network(row.part, sizes), {"sizes": sizes}


def _with_prior(name: str, model: Restorer, options: StageOptions) -> Restorer:
    """Return a restorer with a generator: its own, that of another model, or a new one."""
    if model.prior is None:
        if STAGES[name].generator == "trained" and options.prior is None:
            raise UsageError(
                f"{name} starts from a model with a trained prior; run `bigrestore train prior` on it first, or name one "
                "by --prior"
            )
        torch.manual_seed(options.seed)
        without, model = model, Restorer(model.preset, model.scale, with_prior=True)
        model.load_state_dict(without.state_dict(), strict=False)
    if options.prior is not None:
        other = load_model(options.prior).restorer
        if other.prior is None or model.prior is None:
            raise UsageError(
                f"the model {options.prior} has no prior to take over; choose one that a prior was trained for"
            )
        take_over(model.prior, other.prior)
    return model


def _fused(start: Path, model: Restorer, info: dict[str, Any], fusion: str) -> Restorer:
    """Set how features join the prior; UsageError if a bridge was trained to join them in another way."""
    assert model.prior is not None
    if model.prior.fusion != fusion and "bridge" in info.get("training", {}):
        raise UsageError(
            f"{start} joins its prior by {model.prior.fusion}, not by {fusion}; say so by --fusion {model.prior.fusion}, or "
            "start from a model without a bridge."
        )
    model.prior.set_fusion(fusion)
    return model


def _record(
    stage: TrainingStage, source: Source, recipe: str, options: StageOptions, result: TrainResult
) -> dict[str, Any]:
    """Return the training's record for the model card."""
    return {
        "seconds": round(result.elapsed_s),
        "steps": result.steps,
        "batch": stage.batch,
        "threads": torch.get_num_threads(),
        "precision": options.precision,
        "recipe": recipe if isinstance(source, PairSource | TwinSource) else NO_RECIPE,
        "seed": options.seed,
        "rate": options.rate,
        "machine": hardware(source.device),
        "files": len(source.train.names),
        "groups": {group: round(share, 3) for group, share in source.train.groups.items()},
        "figures": {key: round(value, 4) for key, value in result.figures.items()},
        "steps_skipped": result.skipped,
        "steps_restored": result.restored,
    }


def _lineage(before: dict[str, Any] | None, record: dict[str, Any], *, resumed: bool) -> list[dict[str, Any]]:
    """Return earlier trainings of the same stage, oldest first: a model card must not hide them.

    A finished training resumed again finds its own record, and no other training's.
    """
    if before is None:
        return []
    earlier: list[dict[str, Any]] = before.get("earlier", [])
    if resumed and all(before[key] == record[key] for key in LINEAGE if key != "seconds"):
        return earlier
    return [*earlier, {key: before[key] for key in LINEAGE}]


def _loop_settings(
    name: str, material: Material, output: Path, options: StageOptions, plan: StagePlan
) -> LoopSettings:
    recipe = json.dumps(material.recipe.to_dict(), sort_keys=True).encode()
    digest = hashlib.sha256(recipe).hexdigest()[:8]  # an edited recipe of the same name has another
    return LoopSettings(
        directory=output.with_name(output.name + ".train") / name,
        steps=options.steps,
        minutes=options.minutes,
        rate=options.rate,
        **attrs.asdict(
            plan, recurse=False, filter=lambda field, _: field.name not in ("sizes", "from_output")
        ),
        seed=options.seed,
        resume=options.resume,
        facts={
            "data": material.name,
            "preset": options.preset,
            "scale": options.scale,
            "recipe": f"{material.recipe_name} ({digest})",
            "batch": options.batch,
            "precision": options.precision,
            **({"arch": options.arch} if name == "backbone" else {}),
            **(
                {
                    "model": options.model,
                    "lpips_backbone": str(options.lpips_backbone),
                    "unfocused": UNFOCUSED_SHARE,
                }
                if name == "objective"
                else {}
            ),
            **({"fusion": options.fusion} if options.fusion != FUSIONS_OF_FEATURES[0] else {}),
        },
    )
