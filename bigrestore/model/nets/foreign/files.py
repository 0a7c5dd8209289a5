"""Files of foreign weights, read without running what they hold.

A pickle may name any function of Python, and a TorchScript archive is a program. So pickles are read by torch's reader of
weights alone, which refuses all names but those of tensors, and TorchScript is refused. What was hashed is what is read.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch
from safetensors.torch import load
from torch import Tensor

from bigrestore.core.regular import open_regular
from bigrestore.errors import InputError, ModelError, UsageError, one_line
from bigrestore.model.nets.checkpoint import CHECKPOINT_METADATA_KEY, LARGEST_BYTES, metadata_of

PICKLE_SUFFIXES = (".pth", ".pt", ".ckpt")

WRAPPINGS = ("params_ema", "params", "state_dict", "model_state_dict", "model", "net")
"""Names under which checkpoints of trainings keep the weights; the first that is there counts."""
PREFIXES = ("module.", "netG.")
"""Before every name in checkpoints of parallel trainings."""
PROGRAM = re.compile(r"(^|/)(constants\.pkl|code/.*)$")
"""Entries of an archive of TorchScript."""
REFUSED_NAME = re.compile(r"GLOBAL|[Uu]nsupported (class|operand|global)|torch\.jit")
"""In torch's message about a pickle that holds more than weights."""


@attrs.frozen(eq=False)
class ForeignWeights:
    """The tensors of a file by name, unwrapped, and the hash of the file."""

    path: Path
    tensors: dict[str, Tensor]
    sha256: str


def read_content(path: Path) -> bytes:
    """Return the bytes of a file of at most 4 GiB; ModelError for one that is larger or cannot be read."""
    try:
        with open_regular(path) as file:
            content = file.read(LARGEST_BYTES + 1)
    except InputError:
        raise
    except OSError as error:
        raise ModelError(f"The model {path} cannot be read ({one_line(error)}).") from error
    if len(content) > LARGEST_BYTES:
        raise ModelError(f"{path} has more than 4 GiB; choose a file of weights alone.")
    return content


def read_foreign_weights(path: Path, content: bytes) -> ForeignWeights:
    """Return the tensors in the bytes of a file.

    Raises
    ------
    ModelError
        The file is damaged, is a program, or holds more than weights.
    UsageError
        It is a model of bigrestore.
    """
    pickled = path.suffix.lower() in PICKLE_SUFFIXES
    loaded = _unpickled(path, content) if pickled else _of_safetensors(path, content)
    tensors = _unwrapped(loaded)
    if not tensors or not all(
        isinstance(name, str) and _is_weights_only(tensor) for name, tensor in tensors.items()
    ):
        raise ModelError(f"{path} holds no weights by name; save the network's state_dict as .safetensors.")
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > LARGEST_BYTES:
        raise ModelError(f"{path} claims more than 4 GiB of weights; choose another file.")
    # Architectures count their layers by the numbers in names.
    numbers = [int(part) for name in tensors for part in name.split(".") if part.isdecimal()]
    if max(numbers, default=0) > 100 + 10 * len(tensors):
        raise ModelError(f"{path} names a layer {max(numbers)} in {len(tensors)} tensors; it is damaged.")
    if not all(bool(t.isfinite().all()) for t in tensors.values() if t.is_floating_point()):
        raise ModelError(f"{path} holds weights that are no numbers; its training failed, choose another.")
    return ForeignWeights(path, tensors, hashlib.sha256(content).hexdigest())


def _of_safetensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        tensors = load(content)
        ours = CHECKPOINT_METADATA_KEY in metadata_of(content)
    except Exception as error:
        raise ModelError(
            f"{path} is damaged or no safetensors file ({one_line(error)}); fetch it again."
        ) from error
    if ours:
        raise UsageError(f"{path} is a model of bigrestore; give another --method than external.")
    return tensors


def _unpickled(path: Path, content: bytes) -> Any:
    if zipfile.is_zipfile(io.BytesIO(content)):
        try:
            entries = zipfile.ZipFile(io.BytesIO(content)).infolist()
        except Exception as error:
            raise ModelError(f"{path} is a damaged archive ({one_line(error)}); fetch it again.") from error
        if any(PROGRAM.search(entry.filename) for entry in entries):
            raise _program(path, "TorchScript")
        if sum(entry.file_size for entry in entries) > LARGEST_BYTES:
            raise ModelError(f"{path} unpacks to more than 4 GiB; choose a file of weights alone.")
    try:
        with warnings.catch_warnings():  # about protocols of pickles
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        if REFUSED_NAME.search(str(error)):
            raise _program(path, "a pickle that holds more than weights") from error
        raise ModelError(f"{path} is damaged or no file of weights; fetch it again.") from error


def _program(path: Path, kind: str) -> ModelError:
    return ModelError(f"{path} is {kind}, which could run code; save its state_dict as .safetensors.")


def _unwrapped(loaded: Any) -> dict[str, Any]:
    """Return the weights of a checkpoint by their own names; empty if it is no mapping."""
    for _ in range(2):  # a training's checkpoint may hold the wrapped weights of its network
        if isinstance(loaded, Mapping):
            inner = (loaded[name] for name in WRAPPINGS if isinstance(loaded.get(name), Mapping))
            loaded = next(inner, loaded)
    weights = dict(loaded) if isinstance(loaded, Mapping) else {}
    for prefix in PREFIXES:
        if all(isinstance(name, str) and name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def _is_weights_only(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and value.device.type == "cpu"
