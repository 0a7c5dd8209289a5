"""Fine-tuning a model on sections of one's own: which targets, which degradations, then two stages of training.

No clean images are needed. Its blur taken out and reduced, a section is sharp (`sharpness`); what it
went through is what the start model reads (`recipes`); and the estimator and the U-Net are trained a
little further on pairs of the two, by the loop and the stages of `bigrestore.training`. Beside the model lie its card,
the sheet of the windows that were taken and refused, and a folder `MODEL.train` to resume from.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import attrs

from bigrestore.degradation.schema import Recipe
from bigrestore.errors import InputError, OutputExistsError, UsageError, output_error
from bigrestore.model.method import WINDOW_PX
from bigrestore.model.nets.checkpoint import Model, find_model, load_model, read_checkpoint, update_info
from bigrestore.settings.train import AdaptOptions, StageOptions
from bigrestore.training.adaptation.recipes import NAME, recipe_about
from bigrestore.training.adaptation.reduction import noise_factor, reduced
from bigrestore.training.adaptation.sections import MOST_BLOCKS, Tissue, open_slices, read_tissue
from bigrestore.training.adaptation.sharpness import MOST_LOST_DB, Judged, judge_factor, judge_section
from bigrestore.training.adaptation.sheet import Row, draw_sheet, refuse_other_picture
from bigrestore.training.data.images import GreyImage
from bigrestore.training.data.pairs import patch_size
from bigrestore.training.data.windows import STANDARD_FALL_DB
from bigrestore.training.loop.options import check_model_place
from bigrestore.training.loop.schedule import TrainResult
from bigrestore.training.stages import fidelity
from bigrestore.training.stages.assembly import Material, StagePlan, stage_plan
from bigrestore.training.stages.card import write_card
from bigrestore.training.stages.stage import train_stage

log = logging.getLogger(__name__)

ESTIMATOR_SHARE = 0.2
"""Share of the minutes, or of the steps, that the estimator gets; the U-Net gets the rest."""

READER_RATE = 0.25
"""Share of the learning rate that the estimator gets: at the whole of it, 100 steps let it read sharp tissue of others as
blurred by 0.05 to 0.2 px."""

WARMUP_STEPS = 50

START_SHARES = {"estimator": 0.75, "fidelity": 0.5}
"""Shares of the start's weights in the adapted ones, so that a short training shifts little on other tissue."""

HELD_OUT_EVERY = 12
"""With at least so many blocks every twelfth is held out for the running figures."""

SOURCES = (
    "The sections named above, without the blur that was read of them, reduced by the factors named above. Nothing else was "
    "trained on; what the start model was trained on is in its own card."
)

REALNESS = (
    "The prior in this model is that of the start and is not joined to the new U-Net, so the model is used at realness 0; "
    "`bigrestore train bridge` joins them again."
)


@attrs.frozen(eq=False)
class Chosen:
    """A section with what was judged of it.

    Attributes
    ----------
    tissue : Tissue
        The section.
    judged : list of Judged
        At each factor.
    """

    tissue: Tissue
    judged: list[Judged]

    @property
    def says(self) -> str:
        """Return what was read of it, in words."""
        reading = self.tissue.reading
        return "no tissue, so that nothing was read" if reading is None else reading.says

    @property
    def accepted(self) -> list[Judged]:
        """Return the factors at which the section is sharp."""
        return [one for one in self.judged if one.accepted]


def sheet_path(output: Path) -> Path:
    """Return where the sheet of a model lies: `mine.safetensors` has `mine-sections.png`."""
    return output.with_name(f"{output.stem}-sections.png")


def adapt(sections: Sequence[str | Path], output: Path, options: AdaptOptions) -> TrainResult:
    """Fine-tune a model on sections.

    Parameters
    ----------
    sections : sequence of str or Path
        Whatever `bigrestore.open_section` opens.
    output : Path
        Model file to write.
    options : AdaptOptions
        The rest.

    Returns
    -------
    TrainResult
        Of the last stage that ran; its status is "stopped" after a signal.

    Raises
    ------
    UsageError
        The options do not go together, or the start model has no trained U-Net.
    InputError
        A section or the start model is missing or cannot be read, or no section can be learned from.
    OutputError
        The model, its card or its sheet cannot be written, or would replace something else.
    """
    check_output(output, options)
    start = load_start(options.start, output)
    start.restorer.to(options.training.device)
    slices = open_slices(
        sections, level=options.level, series=options.series, input_range=options.input_range
    )
    window_px = patch_size(fidelity.FIDELITY_PATCH_PX, start.scale)
    chosen = []
    for one in slices:
        tissue = read_tissue(one, start.restorer, max(1, MOST_BLOCKS // len(slices)))
        chosen.append(Chosen(tissue, judge_section(tissue, window_px)))
    require_sharp(chosen, window_px)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(output.parent, error) from error
    draw_sheet(
        sheet_path(output), [Row(one.tissue.name, one.says, bool(one.accepted), one.judged) for one in chosen]
    )
    log.info("%s shows which windows are taken.", sheet_path(output))
    return _train(chosen, start, output, options)


def check_output(output: Path, options: AdaptOptions) -> None:
    """Refuse a length that is none, and places that cannot be written or hold something else, before any work."""
    training = options.training
    if output.suffix != ".safetensors":
        raise UsageError(f"the model {output} must end in .safetensors")
    if (training.steps is None) == (training.minutes is None):
        raise UsageError("give the length of the adaptation by one of --steps and --minutes")
    if training.steps == 1:
        raise UsageError("--steps is 1, but both stages need one; give 2 or more")
    check_model_place("fidelity", output, resume=training.resume)
    check_model_place("estimator", _reader_path(output), resume=training.resume)
    ours = output.with_name(output.name + ".train").is_dir()
    if output.exists() and not (training.resume and ours):
        raise OutputExistsError(f"The model {output} exists already; choose another name, or remove it.")
    refuse_other_picture(sheet_path(output))


def load_start(name: str, output: Path) -> Model:
    """Load the model to start from; UsageError where it is the output, or its U-Net was not trained."""
    path = find_model(name, None)
    if path.resolve() == output.resolve():
        raise UsageError(f"the model {output} cannot start from itself; choose another name for the output")
    model = load_model(path)
    stages = model.info.get("training")
    if not isinstance(stages, dict) or "fidelity" not in stages:
        raise UsageError(
            f"the model {path} has no trained U-Net to start from; choose one that `bigrestore train fidelity` made"
        )
    return model


def require_sharp(chosen: Sequence[Chosen], window_px: int) -> None:
    """Warn of sections that cannot be learned from; InputError where all are of that kind."""
    refusals = [why for one in chosen if (why := refusal(one, window_px)) is not None]
    if len(refusals) == len(chosen):
        raise InputError(" ".join(refusals))
    for why in refusals:
        log.warning("Left out: %s", why)


def refusal(one: Chosen, window_px: int) -> str | None:
    """Return why a section cannot be learned from, as a sentence; None where it can."""
    tissue = one.tissue
    if one.accepted:
        return None
    if min(tissue.height, tissue.width) < window_px:
        return (
            f"{tissue.name} is {tissue.width} x {tissue.height} pixels, smaller than a training window of {window_px}; give "
            "a larger section."
        )
    if not one.judged:
        return (
            f"{tissue.name} shows no tissue that fills a window of {window_px} pixels; give another section."
        )
    falls = [
        f"{each.fall_db:.1f} dB at {each.factor:g} of its size (blur {each.lost_db:.0f} dB)"
        for each in one.judged
    ]
    return (
        f"{tissue.name} is sharp at no size: from 0.141 to 0.484 cycles/px the power of its tissue falls by "
        f"{', '.join(falls)}, and that of sharp tissue by at most {STANDARD_FALL_DB:g} dB after a blur of at most "
        f"{MOST_LOST_DB:g} dB; give a section that is sharper, or so large that it can be reduced further."
    )


def _train(chosen: Sequence[Chosen], start: Model, output: Path, options: AdaptOptions) -> TrainResult:
    """Train both stages, and say in model and card what was done."""
    learned = [one for one in chosen if one.accepted]
    readings = [one.tissue.reading for one in learned if one.tissue.reading is not None]
    material = material_of(learned, recipe_about(readings, start.scale))
    reader, (first, second) = _reader_path(output), lengths(options.training)
    common = attrs.evolve(
        options.training,
        preset=start.info["preset"],
        scale=start.scale,
        start=find_model(options.start, None),
    )
    before = fidelity.fidelity_stage(material, start.restorer, common)[0].validate()
    if holds_windows(learned, patch_size(WINDOW_PX, 1)):
        told = attrs.evolve(material, recipe=recipe_about(readings, 1))  # it works at x1 whatever the scale
        slowly = attrs.evolve(common, rate=READER_RATE * common.rate, **first)
        result = train_stage("estimator", told, reader, slowly, _plan("estimator"))
        if result.status != "done":
            return result
        common = attrs.evolve(common, start=reader)
    else:
        log.warning("The sections are too small for the estimator to learn from, so it stays as it is.")
    result = train_stage("fidelity", material, output, attrs.evolve(common, **second), _plan("fidelity"))
    if result.status == "done":
        update_info(output, {"adapted": record(chosen, start, before, result)})
        write_card(output, read_checkpoint(output)[0], SOURCES)
        if start.info.get("prior"):
            log.info("%s", REALNESS)
    return result


def material_of(learned: Sequence[Chosen], recipe: Recipe) -> Material:
    """Return what is trained on: each section drawn as often as any other, at each of its factors a group of its own."""
    blocks: list[list[GreyImage]] = []
    weights: dict[str, float] = {}
    for number, one in enumerate(learned, 1):
        total = sum(math.sqrt(each.sharp) for each in one.accepted)
        name = f"{number} {one.tissue.name.replace('__', '_')}"
        groups = {each.factor: f"{name} x {each.factor:g}" for each in one.accepted}
        weights |= {groups[each.factor]: math.sqrt(each.sharp) / total for each in one.accepted}
        blocks += [_targets(one.tissue, index, groups) for index in range(len(one.tissue.blocks))]
    held_out = blocks[HELD_OUT_EVERY // 2 :: HELD_OUT_EVERY] if len(blocks) >= HELD_OUT_EVERY else []
    training = [block for block in blocks if not any(block is other for other in held_out)]
    if not held_out:
        log.info(
            "No block of tissue is held out of %d: the running figures are of what is trained on.",
            len(blocks),
        )
    draws = {"group_weights": weights, "scale_weights": {1.0: 1.0}, "remap_probability": 0.0}
    return Material(
        ", ".join(one.tissue.name for one in learned),
        list(chain(*training)),
        list(chain(*(held_out or blocks))),
        recipe,
        NAME,
        draws,
        SOURCES,
        restored_tilt=None,  # as smooth as the sections are: smoother windows cost 0.1 dB on the section left out
    )


def _targets(tissue: Tissue, index: int, groups: dict[float, str]) -> list[GreyImage]:
    """Return a block of a section at the factors of its groups."""
    return [
        GreyImage(
            f"{group}__{index}",
            reduced(tissue.blocks[index], factor),
            tissue.noise_variance * noise_factor(factor),
        )
        for factor, group in groups.items()
    ]


def holds_windows(learned: Sequence[Chosen], window_px: int) -> bool:
    """Say whether some section gives windows of a side at one of its factors."""
    rejudged = (judge_factor(one.tissue, each.factor, window_px) for one in learned for each in one.accepted)
    return any(judged.sharp for judged in rejudged)


def lengths(training: StageOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the length of the estimator's stage and of the U-Net's, as options."""
    if training.minutes is not None:
        first = round(ESTIMATOR_SHARE * training.minutes, 6)
        return {"minutes": first}, {"minutes": training.minutes - first}
    assert training.steps is not None
    steps = max(1, round(ESTIMATOR_SHARE * training.steps))
    return {"steps": steps}, {"steps": training.steps - steps}


def record(
    chosen: Sequence[Chosen], start: Model, before: dict[str, float], result: TrainResult
) -> dict[str, Any]:
    """Return what the model says of its adaptation, JSON-able: see `bigrestore.training.stages.card.model_card`."""
    sections = [
        {
            "name": one.tissue.name,
            "size": [one.tissue.height, one.tissue.width],
            "read": one.says,
            "factors": {f"{each.factor:g}": each.sharp for each in one.accepted},
        }
        for one in chosen
    ]
    gains = {
        name: [round(before[name], 4), round(result.figures[name], 4)]
        for name in before
        if name in result.figures
    }
    return {"start": start.name, "start_sha256": start.sha256, "sections": sections, "gains": gains} | (
        {"realness": REALNESS} if start.info.get("prior") else {}
    )


def _plan(stage: str) -> StagePlan:
    return attrs.evolve(stage_plan(stage), warmup_steps=WARMUP_STEPS, start_share=START_SHARES[stage])


def _reader_path(output: Path) -> Path:
    """Return the path of the intermediate model: estimator adapted, U-Net still the start's."""
    return output.with_name(output.name + ".train") / "estimator.safetensors"
