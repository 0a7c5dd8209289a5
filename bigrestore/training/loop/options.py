"""The place of a trained model, checked before anything is loaded.

Reading a folder of sections takes minutes and a training takes hours. A place that cannot be written, or a card that
would cover a text of the user's own, is refused at once.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from bigrestore.errors import OutputError, OutputExistsError
from bigrestore.run.output.place import check_place
from bigrestore.training.loop.resume import refuse_existing

TRAINING_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""What the networks may compute in; everything else is float32."""


def check_model_place(stage: str, output: Path, *, resume: bool) -> None:
    """Refuse a model file that cannot be written, or whose training or card would cover something else.

    Parameters
    ----------
    stage : str
        Name of the stage.
    output : Path
        Model file to be written; its card goes beside it, and its training into `OUTPUT.train/STAGE`.
    resume : bool
        Whether an existing training is continued.

    Raises
    ------
    OutputExistsError
        A training is there and `resume` is off, or the card's name is taken by another text.
    OutputError
        The place is no file or lies in a store, or the folder cannot be written.
    """
    check_place(output, [])
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
    """Return whether a text is a model card, by the line with the checksum."""
    try:
        return "\nsha256 of the tensors: `" in path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
