"""Networks as ONNX files: the way in for every architecture, without its project's code.

A network takes one image, (N, C, H, W), or frames of it, (N, T, C, H, W), with C 1 or 3 and values 0..1, and gives one
image of 1, 2 or 4 times the size; H and W are free, or both fixed to one side. A network of frames is shown one
section in all frames, and the middle frame of its output counts.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.host.installed import install_command
from bigrestore.errors import ModelError, UsageError, one_line
from bigrestore.model.nets.foreign.network import (
    CHANNELS,
    SIDE_PX,
    ForeignNetwork,
    require_channels,
    require_scale,
)

FIXED_SIDES = range(32, 961, 8)
"""Sides of windows, pixels: of whole cells of the low-frequency lock, and no larger than a block at x4."""
TENSOR_TYPES: dict[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
RANDOM = re.compile(rb"Random(Normal|Uniform)")
"""Operators by which no two runs would agree."""
BYTES_PER_WEIGHT = 4
ONLY_FATAL = 4
"""Least severity of onnxruntime's own log."""


@attrs.frozen
class ImageInput:
    """What a network takes: name and type of its input, frames (0: no such axis), channels and side of a window."""

    name: str
    dtype: type[np.floating[Any]]
    frames: int
    channels: int
    side_px: int

    def of_window(self, image: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """Return a window, (1, C, side, side), as the network takes it."""
        given = image.astype(self.dtype)
        return np.repeat(given[:, None], self.frames, axis=1) if self.frames else given


def load_onnx(path: Path, content: bytes, scale: int, device: torch.device, precision: str) -> ForeignNetwork:
    """Load a network from the bytes of a file; parameters and errors as in `load_foreign`."""
    if precision not in ("auto", "fp32"):
        raise UsageError(
            f"--precision is {precision}, and an ONNX file computes in its own; leave it out for {path}."
        )
    if RANDOM.search(content):
        raise ModelError(f"{path} draws random numbers; export it without them.")
    session = _session(path, content, device)
    taken = _image_input(path, session)
    network = _OnnxRun(path, session, taken)
    window = np.full((1, taken.channels, taken.side_px, taken.side_px), 0.5, np.float32)
    made = network.image(window)
    scales = [made.shape[axis] / taken.side_px for axis in (2, 3)]
    if scales[0] != scales[1]:
        raise ModelError(
            f"{path} makes {made.shape[2]} x {made.shape[3]} pixels of a square; export it again."
        )
    require_scale(path, scales[0], scale)
    require_channels(path, taken.channels, made.shape[1])
    return ForeignNetwork(
        network,
        path.stem,
        hashlib.sha256(content).hexdigest(),
        "ONNX",
        "",
        scale,
        taken.channels,
        taken.side_px,
        "fp32",
        len(content) // BYTES_PER_WEIGHT,
    )


@attrs.frozen(eq=False)
class _OnnxRun:
    """Runs a session on windows."""

    path: Path
    session: Any
    taken: ImageInput

    def __call__(self, image: Tensor, noise: Tensor) -> Tensor:
        return torch.from_numpy(self.image(image.cpu().numpy())).to(image.device)

    def image(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the image made of a window, (1, C, side * scale, side * scale)."""
        try:
            (made,) = self.session.run(None, {self.taken.name: self.taken.of_window(window)})
        except Exception as error:
            side = self.taken.side_px
            raise ModelError(
                f"{self.path} fails on a window of {side} x {side} pixels ({one_line(error)[:200]}); export it with that "
                "size."
            ) from error
        if made.ndim == 5:
            made = made[:, made.shape[1] // 2]
        if made.ndim != 4 or made.shape[0] != 1:
            raise ModelError(f"{self.path} gives the shape {made.shape} and no image; export it again.")
        return np.ascontiguousarray(made, np.float32)


def _session(path: Path, content: bytes, device: torch.device) -> Any:
    """Return a session of onnxruntime that computes in the calling thread."""
    try:
        ort = importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; {install_command('external')}.") from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = ONLY_FATAL
    # Weights in other files are looked for where no file can be.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    wanted = ("CUDAExecutionProvider",) if device.type == "cuda" else ()
    providers = [name for name in (*wanted, "CPUExecutionProvider") if name in ort.get_available_providers()]
    try:
        return ort.InferenceSession(content, options, providers=providers)
    except Exception as error:
        reason = one_line(error)
        if "xternal data" in reason:
            raise ModelError(f"{path} keeps weights in other files; export it as one file.") from error
        if "not a registered" in reason or "No Op registered" in reason:
            raise ModelError(
                f"{path} has operators of its own ({reason[-80:]}); export it with those of ONNX alone."
            ) from error
        raise ModelError(f"{path} is damaged or no ONNX file ({reason[:200]}); export it again.") from error


def _image_input(path: Path, session: Any) -> ImageInput:
    """Return what a network takes, or refuse it by what it states."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; export it with one image in and one out."
        )
    shape, kind = list(inputs[0].shape), inputs[0].type
    shown = "(" + ", ".join(str(size) for size in shape) + ")"
    if kind not in TENSOR_TYPES or outputs[0].type not in TENSOR_TYPES:
        raise ModelError(f"{path} takes {kind} and gives {outputs[0].type}; export it for tensor(float).")
    if len(shape) not in (4, 5) or shape[0] not in (1, *_free(shape[0])):
        raise ModelError(f"{path} takes {shown}; export it for (N, C, H, W) or (N, T, C, H, W), N 1 or free.")
    frames = 0 if len(shape) == 4 else shape[1] if isinstance(shape[1], int) else 1
    channels, fixed = shape[-3], sorted({size for size in shape[-2:] if isinstance(size, int)})
    if channels not in CHANNELS:
        raise ModelError(f"{path} takes {shown}; export it for 1 or 3 channels.")
    if len(fixed) > 1 or (fixed and fixed[0] not in FIXED_SIDES):
        raise ModelError(
            f"{path} takes {shown}; export it for a free size, or a square of {FIXED_SIDES[0]} to {FIXED_SIDES[-1]} pixels, "
            "a multiple of 8."
        )
    return ImageInput(inputs[0].name, TENSOR_TYPES[kind], frames, channels, fixed[0] if fixed else SIDE_PX)


def _free(size: Any) -> tuple[Any, ...]:
    """Return a size of a shape that is free, for a comparison; nothing for a fixed one."""
    return () if isinstance(size, int) else (size,)
