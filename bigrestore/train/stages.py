"""One stage of training from a folder of images to a checkpoint that can be used.

The stages write one model file in turn: `estimator` makes it, `fidelity` starts from it and replaces it
(or starts from another by `--start`), `prior` puts a generator into it. Beside it lies a folder
`MODEL.train/STAGE/` with what a resumed training needs and what people look at: checkpoints, CSV and
TensorBoard logs, sheets.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
from pathlib import Path
from typing import Any

import attrs
import torch

from bigrestore.degrade.schema import Recipe
from bigrestore.errors import InputError, UsageError
from bigrestore.nn.checkpoint import load_model, read_checkpoint, update_info
from bigrestore.nn.grow import take_over
from bigrestore.nn.presets import PRESETS, get_preset
from bigrestore.nn.redegrade import KERNEL_PX
from bigrestore.nn.restorer import Restorer
from bigrestore.train import adversary, detail, estimator, fidelity, prior
from bigrestore.train.adversary import Adversary
from bigrestore.train.card import write_card
from bigrestore.train.data import PatchSource
from bigrestore.train.detail import DetailSource
from bigrestore.train.estimator import EstimatorStage
from bigrestore.train.fidelity import FidelityStage
from bigrestore.train.guard import GuardSettings
from bigrestore.train.images import GreyImage, load_images, split_by_section
from bigrestore.train.loop import train
from bigrestore.train.options import above_zero, one_of, whole_number
from bigrestore.train.pairs import PairSource, patch_size
from bigrestore.train.prior import PriorStage, critic_for
from bigrestore.train.schedule import LoopSettings, TrainResult

log = logging.getLogger(__name__)


@attrs.frozen
class StagePlan:
    """What differs between the stages in how they are trained; see `LoopSettings`."""

    warmup_steps: int = 100
    fan_in_limit: int | None = None
    betas: tuple[float, float] = (0.9, 0.99)
    checkpoint_s: float = 120.0
    guard: GuardSettings = attrs.field(factory=GuardSettings)


PLANS = {
    "estimator": StagePlan(),
    # The U-Net is deep and has no norm layers: without a limit a step of 8e-4 throws it off (see `train.guard`).
    "fidelity": StagePlan(warmup_steps=500, fan_in_limit=150),
    "prior": StagePlan(betas=adversary.BETAS, checkpoint_s=240.0, guard=adversary.GUARD),
}
STARTS_FROM = {"fidelity": "estimator", "prior": "fidelity"}
"""What a stage needs to have been trained before it."""

LINEAGE = ("seconds", "steps", "batch", "threads", "precision", "recipe", "machine")
"""What is kept of a training that another one of the same stage started from."""

HALO_FACTS = ("halo_px", "halo_errors")
NO_RECIPE = "none: clean windows"

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@attrs.frozen
class StageOptions:
    """What the command line says of a stage.

    Attributes
    ----------
    preset : str
        Name of a preset; only where the model is new.
    scale : int
        1, 2 or 4; only where the model is new.
    steps, minutes : int or None, float or None
        Length of the training; exactly one is given.
    device : str
        "cpu", "cuda", "cuda:1", "mps".
    precision : str
        "fp32" or "bf16": what the U-Net computes in; everything else is float32.
    recipe : str
        Name or path of a degradation recipe.
    start : Path or None
        Checkpoint to start from instead of the output itself.
    prior : Path or None
        Checkpoint whose generator to begin with, of the same or a smaller scale.
    seed, batch, threads : int
        Seed; pairs per step (0: the stage's own number); threads (0: torch's choice).
    rate : float
        Peak learning rate.
    resume : bool
        Go on from the last training checkpoint.
    """

    preset: str = attrs.field(default="tiny", validator=one_of(*PRESETS))
    scale: int = attrs.field(default=1, validator=one_of(*KERNEL_PX))
    steps: int | None = attrs.field(default=None, validator=whole_number(1, 1_000_000_000))
    minutes: float | None = attrs.field(default=None, validator=above_zero)
    device: str = "cpu"
    precision: str = attrs.field(default="fp32", validator=one_of(*DTYPES))
    recipe: str = "default"
    start: Path | None = None
    prior: Path | None = None
    seed: int = attrs.field(default=0, validator=whole_number(0, 2**31 - 1))
    batch: int = attrs.field(default=0, validator=whole_number(0, 65_536))
    threads: int = attrs.field(default=0, validator=whole_number(0, 1024))
    rate: float = attrs.field(default=8e-4, validator=above_zero)
    resume: bool = False


def train_stage(name: str, data: Path, output: Path, options: StageOptions) -> TrainResult:
    """Train one stage and write the model.

    Parameters
    ----------
    name : str
        "estimator", "fidelity" or "prior".
    data : Path
        Folder of clean images, or a packed .npz.
    output : Path
        Model file to write.
    options : StageOptions
        The rest.

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
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    model, info = _starting_model(name, output, options)
    model.to(device)
    settings = _loop_settings(name, data, output, options)
    stage, source = _stage(name, data, model, info, options, settings)
    result = train(stage, settings, output)
    if result.status == "done":
        before = info.get("training", {})
        record = _record(stage, source, options, result)
        record["earlier"] = _lineage(before.get(name), record, resumed=options.resume)
        update_info(output, {"training": {**before, name: record}})
        card = write_card(output, read_checkpoint(output)[0], data)
        log.info("wrote %s and its card %s", output, card)
    return result


def hardware(device: torch.device) -> str:
    """Return the kind of processor that a model was trained on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}"


def _starting_model(name: str, output: Path, options: StageOptions) -> tuple[Restorer, dict[str, Any]]:
    """Load the model that a stage starts from, or make a new one for the first stage."""
    start = options.start or (output if output.is_file() else None)
    if start is None:
        if name != "estimator":
            before = STARTS_FROM[name]
            raise UsageError(
                f"{name} starts from a model with a trained {before}; run `bigrestore train {before}` with -o {output} "
                "first, or name one by --start"
            )
        torch.manual_seed(options.seed)
        return Restorer(get_preset(options.preset), options.scale), {}
    loaded = load_model(start)
    if loaded.info["preset"] != options.preset or loaded.scale != options.scale:
        raise UsageError(
            f"{start} is a {loaded.info['preset']} model for scale {loaded.scale}, not {options.preset} for scale "
            f"{options.scale}; say so by --preset and --scale, or choose another output"
        )
    model = loaded.restorer if name in ("estimator", "fidelity") else _with_prior(loaded.restorer, options)
    return model.train(), loaded.info


def _with_prior(model: Restorer, options: StageOptions) -> Restorer:
    """Return a restorer with a generator: its own, that of another model, or a new one."""
    if model.prior is None:
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


Source = PairSource | DetailSource
AnyStage = EstimatorStage | FidelityStage | PriorStage


def _pairs(
    data: Path,
    scale: int,
    options: StageOptions,
    device: torch.device,
    *,
    input_px: int,
    held_out: int,
    together: int = 1,
) -> PairSource:
    train_images, held_out_images = split_by_section(load_images(data))
    side = patch_size(input_px, scale)
    return PairSource(
        PatchSource(train_images, side, scale),
        _held_out_source(train_images, held_out_images, side, scale),
        Recipe.load(options.recipe),
        scale,
        seed=options.seed,
        device=device,
        held_out_count=held_out,
        together=together,
    )


def _details(data: Path, scale: int, options: StageOptions, device: torch.device) -> DetailSource:
    train_images, held_out_images = split_by_section(load_images(data))
    side = detail.window_px(scale)
    held_out = _held_out_source(train_images, held_out_images, side, scale, augment=True)
    return DetailSource(
        PatchSource(train_images, side, scale), held_out, scale, seed=options.seed, device=device
    )


def _held_out_source(
    train_images: list[GreyImage], held_out: list[GreyImage], side: int, scale: int, *, augment: bool = False
) -> PatchSource:
    """Return the source of the held-out windows; where none of their images holds one, of those trained on."""
    try:
        return PatchSource(held_out, side, scale, augment=augment)
    except InputError as error:
        log.warning(
            "No held-out image can be used (%s); the running figures are of images trained on.", error
        )
        return PatchSource(train_images, side, scale, augment=augment)


def _stage(
    name: str,
    data: Path,
    model: Restorer,
    info: dict[str, Any],
    options: StageOptions,
    settings: LoopSettings,
) -> tuple[AnyStage, Source]:
    """Return a stage and where its data come from."""
    device, batch = torch.device(options.device), options.batch
    dtype = DTYPES.get(options.precision)
    if dtype is None:
        raise UsageError(f"there is no training precision {options.precision!r}; use fp32 or bf16")
    if name == "prior":
        details = _details(data, model.scale, options, device)
        player = Adversary(critic_for(model, options.seed).to(device), settings.rate_at)
        kept = {key: info[key] for key in HALO_FACTS if key in info}
        batch = batch or prior.BATCH
        stage = PriorStage(model, details, player, seed=options.seed, batch=batch, dtype=dtype, kept=kept)
        return stage, details
    if name == "estimator":
        pairs = _pairs(
            data,
            model.scale,
            options,
            device,
            input_px=estimator.WINDOW_PX,
            held_out=estimator.HELD_OUT,
            together=estimator.HELD_OUT_TOGETHER,
        )
        return EstimatorStage(model, pairs, batch=batch or estimator.BATCH), pairs
    pairs = _pairs(data, model.scale, options, device, input_px=fidelity.PATCH_PX, held_out=fidelity.HELD_OUT)
    batch = batch or fidelity.BATCH
    return FidelityStage(model, pairs, seed=options.seed, batch=batch, dtype=dtype), pairs


def _record(stage: AnyStage, source: Source, options: StageOptions, result: TrainResult) -> dict[str, Any]:
    """Return what the model card says of the training."""
    return {
        "seconds": round(result.elapsed_s),
        "steps": result.steps,
        "batch": stage.batch,
        "threads": torch.get_num_threads(),
        "precision": options.precision,
        "recipe": options.recipe if isinstance(source, PairSource) else NO_RECIPE,
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
    """Return what was trained before of the same stage, oldest first: a model card must not hide it.

    A training that is resumed when it was finished finds its own record, which is no other training's.
    """
    if before is None:
        return []
    earlier: list[dict[str, Any]] = before.get("earlier", [])
    if resumed and all(before[key] == record[key] for key in LINEAGE if key != "seconds"):
        return earlier
    return [*earlier, {key: before[key] for key in LINEAGE}]


def _digest(recipe: Recipe) -> str:
    """Return eight hexadecimals that tell a recipe from an edited one of the same name."""
    return hashlib.sha256(json.dumps(recipe.to_dict(), sort_keys=True).encode()).hexdigest()[:8]


def _loop_settings(name: str, data: Path, output: Path, options: StageOptions) -> LoopSettings:
    return LoopSettings(
        directory=output.with_name(output.name + ".train") / name,
        steps=options.steps,
        minutes=options.minutes,
        rate=options.rate,
        **attrs.asdict(PLANS[name], recurse=False),
        seed=options.seed,
        resume=options.resume,
        facts={
            "data": data.name,
            "preset": options.preset,
            "scale": options.scale,
            "recipe": f"{options.recipe} ({_digest(Recipe.load(options.recipe))})",
            "batch": options.batch,
            "precision": options.precision,
        },
    )
