"""What a training is asked for, looked at before anything is loaded.

Reading a folder of sections takes minutes and a training takes hours: an absurd number, an unwritable model file, or
a card in the place of a user's own text must be a sentence at once.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch

from bigrestore.errors import OutputError, OutputExistsError, UsageError
from bigrestore.model.nets.presets import PRESETS
from bigrestore.model.nets.redegrade import KERNEL_PX
from bigrestore.training.loop.resume import refuse_existing

TRAINING_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""What the networks may compute in; everything else is float32."""

Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def above_zero(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    """Refuse a number not finite and above zero; None passes."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (number and math.isfinite(value) and value > 0):
        raise UsageError(f"--{attribute.name} is {value}; give a number above 0.")


def whole_number(least: int, most: int) -> Validator:
    """Return a validator for whole numbers of a range, and None."""

    def check(_: object, attribute: attrs.Attribute[Any], value: int | None) -> None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value is not None and not (whole and least <= value <= most):
            raise UsageError(f"--{attribute.name} is {value}; give a whole number from {least} to {most}.")

    return check


def known_value(*known: object) -> Validator:
    """Return a validator for certain values."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if isinstance(value, bool) or value not in known:
            raise UsageError(f"--{attribute.name} is {value}; choose one of {', '.join(map(str, known))}.")

    return check


@attrs.frozen
class StageOptions:
    """What the command line says of a stage.

    Attributes
    ----------
    preset : str
        Name of a preset, for a new model.
    scale : int
        1, 2 or 4, for a new model.
    steps, minutes : int or None, float or None
        Length of the training; exactly one is given.
    device : str
        "cpu", "cuda", "cuda:1", "mps".
    precision : str
        Precision of the networks, "fp32" or "bf16"; everything else is float32.
    recipe : str
        Name or path of a degradation recipe.
    start : Path or None
        Checkpoint to start from instead of the output itself.
    prior : Path or None
        Checkpoint with the generator to begin with, of the same or a smaller scale.
    seed, batch, threads : int
        Seed; pairs per step (0: the stage's own number); threads (0: torch's choice).
    rate : float
        Peak learning rate.
    resume : bool
        Go on from the last training checkpoint.
    """

    preset: str = attrs.field(default="tiny", validator=known_value(*PRESETS))
    scale: int = attrs.field(default=1, validator=known_value(*KERNEL_PX))
    steps: int | None = attrs.field(default=None, validator=whole_number(1, 1_000_000_000))
    minutes: float | None = attrs.field(default=None, validator=above_zero)
    device: str = "cpu"
    precision: str = attrs.field(default="fp32", validator=known_value(*TRAINING_DTYPES))
    recipe: str = "default"
    start: Path | None = None
    prior: Path | None = None
    seed: int = attrs.field(default=0, validator=whole_number(0, 2**31 - 1))
    batch: int = attrs.field(default=0, validator=whole_number(0, 65_536))
    threads: int = attrs.field(default=0, validator=whole_number(0, 1024))
    rate: float = attrs.field(default=8e-4, validator=above_zero)
    resume: bool = False


def check_model_place(stage: str, output: Path, *, resume: bool) -> None:
    """Refuse an unwritable model file, or a training in the place of something else.

    Parameters
    ----------
    stage : str
        Name of the stage.
    output : Path
        Model file to be written; its card goes beside it, and its training into `OUTPUT.train/STAGE`.
    resume : bool
        Continue an existing training.

    Raises
    ------
    OutputExistsError
        A training is there and `resume` is off, or the card's name is taken by another text.
    OutputError
        The place is no file, or the folder cannot be written.
    """
    if output.exists() and not output.is_file():
        raise OutputError(f"The model {output} would replace something that is no file; choose another name.")
    training = output.with_name(output.name + ".train") / stage
    if not resume:
        refuse_existing(training)
    card = output.with_suffix(".md")
    if card.exists() and not _is_card(card):
        raise OutputExistsError(
            f"The model card would replace {card}, which is not a model card; choose another name for the model."
        )
    folder = next(path for path in training.absolute().parents if path.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OutputError(
            f"The model {output} cannot be written: {folder} is no folder that may be written to; choose another place."
        )


def _is_card(path: Path) -> bool:
    """Tell whether a text is a model card, by a line of every card."""
    try:
        return "\nsha256 of the tensors: `" in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
