"""Loading a network of another project, by the kind of its file."""

from __future__ import annotations

from pathlib import Path

import torch

from bigrestore.core.files import expand_home
from bigrestore.core.regular import is_regular
from bigrestore.errors import InputMissingError, UsageError
from bigrestore.model.nets.foreign.files import PICKLE_SUFFIXES, read_content, read_foreign_weights
from bigrestore.model.nets.foreign.network import ForeignNetwork

FOREIGN_SUFFIXES = (".safetensors", *PICKLE_SUFFIXES, ".onnx")


def load_foreign(model: str | Path, scale: int, device: torch.device, precision: str) -> ForeignNetwork:
    """Load a network of another project.

    Parameters
    ----------
    model : str or Path
        File of weights (.safetensors, .pth, .pt, .ckpt) of an architecture that spandrel knows, or of ONNX (.onnx).
    scale : int
        Of the run.
    device : torch.device
        Where it computes.
    precision : str
        "auto" (fp32), "fp32", "bf16" or "fp16".

    Raises
    ------
    InputMissingError
        There is no such file.
    ModelError
        The file is damaged, holds more than weights, or is of another network than it seems.
    UsageError
        A package is missing, or the network is not for this.
    ModelScaleError
        It is made for another scale.
    """
    path = Path(expand_home(model))
    if path.suffix.lower() not in FOREIGN_SUFFIXES:
        *most, last = FOREIGN_SUFFIXES
        raise UsageError(
            f"--model is {path}, but --method external reads {', '.join(most)} and {last} files."
        )
    if not is_regular(path):
        raise InputMissingError(f"There is no model file {path}; check the name.")
    content = read_content(path)
    if path.suffix.lower() == ".onnx":
        from bigrestore.model.nets.foreign.onnx import load_onnx

        return load_onnx(path, content, scale, device, precision)
    from bigrestore.model.nets.foreign.architectures import load_architecture

    return load_architecture(read_foreign_weights(path, content), scale, device, precision)
