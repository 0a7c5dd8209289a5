"""A network of another project, as `--method external` runs it: one window in, one window out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
from torch import Tensor

from bigrestore.errors import ModelScaleError, UsageError
from bigrestore.settings.values import SCALES

SIDE_PX = 256
"""Side of a window for networks that take any size."""
CHANNELS = (1, 3)
"""Channels of an image: grey or colour."""


@attrs.frozen(eq=False)
class ForeignNetwork:
    """A loaded network.

    Attributes
    ----------
    run : callable
        Makes a window, (1, channels, side, side), 0..1, and the noise at its pixels, (1, 1, side, side), to
        (1, 1 or 3, side * scale, side * scale); several threads call it at once.
    name : str
        Stem of the file.
    sha256 : str
        Hash of the file.
    architecture : str
        As spandrel names it, or ONNX.
    licence : str
        Of the original project, for the provenance; empty where unknown.
    scale : int
        Output pixels per input pixel.
    channels : int
        Of the input, 1 or 3.
    side_px : int
        Side of the windows.
    precision : str
        fp32, bf16 or fp16.
    weights : int
        Number of its weights.
    told_noise : bool
        Whether it uses the noise; such a network leaves the blur.
    """

    run: Callable[[Tensor, Tensor], Tensor]
    name: str
    sha256: str
    architecture: str
    licence: str
    scale: int
    channels: int
    side_px: int
    precision: str
    weights: int
    told_noise: bool = False


def require_scale(path: Path, scale: float, asked: int) -> None:
    """Refuse a network of a scale other than asked for.

    Raises
    ------
    UsageError
        No run has the scale.
    ModelScaleError
        The run has another one.
    """
    if scale not in SCALES:
        raise UsageError(f"{path} restores at x{scale:g}; bigrestore enlarges by 1, 2 or 4.")
    if scale != asked:
        raise ModelScaleError(
            f"{path} restores at x{scale:g}, and --scale is {asked}; give --scale {scale:g} or choose another model."
        )


def require_channels(path: Path, given: int, made: int) -> None:
    """Refuse a network of other images than grey and colour."""
    if given not in CHANNELS or made not in CHANNELS:
        raise UsageError(
            f"{path} makes {made} channels of {given}; bigrestore runs networks of 1 or 3 channels."
        )
