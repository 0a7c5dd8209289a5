"""Loads what the bench judges: a checkpoint by file or shipped name, or fresh weights of a preset.

`untrained:tiny` stands for fresh weights: speed, memory and the tiling do not depend on what was learnt, so
they can be measured before a model is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bigrestore.model.method import Method
from tests.bench.metrics import RESULTS

if TYPE_CHECKING:
    from bigrestore.model.nets.restorer import Restorer

UNTRAINED = "untrained:"


def load_method(
    name: str,
    *,
    scale: int | None = None,
    realness: float | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    kernel: NDArray[np.floating] | None = None,
) -> Method:
    """Return a method ready to run.

    Parameters
    ----------
    name : str
        A checkpoint file, the name of a shipped model, or `untrained:PRESET`.
    scale : int, optional
        Needed by names that do not say it.
    realness : float, optional
        Share of the prior's detail, 0..1; None: what the model states.
    device, precision : str
        As on the command line of `bigrestore run`.
    kernel : ndarray, (k, k), optional
        Blur kernel on the output grid, odd k, that replaces the estimated one.
    """
    from bigrestore.model.nets.checkpoint import load_model
    from bigrestore.model.network import NetworkMethod

    return NetworkMethod(
        load_model(model_file(name, scale or 1), scale),
        realness=realness,
        device=device,
        precision=precision,
        kernel=None if kernel is None else kernel.astype(np.float32),
    )


def default_model(scale: int = 1) -> str:
    """Return the shipped model of the scale, or fresh weights of its preset where none ships."""
    from bigrestore.model.methods.table import DEFAULT_MODEL
    from bigrestore.model.nets.checkpoint import shipped_models

    return DEFAULT_MODEL if f"{DEFAULT_MODEL}-x{scale}" in shipped_models() else f"{UNTRAINED}{DEFAULT_MODEL}"


def model_file(name: str, scale: int) -> str:
    """Return a name that `bigrestore run --model` takes; fresh weights are written to a file first."""
    if not name.startswith(UNTRAINED):
        return name
    from bigrestore.model.nets.checkpoint import save_model

    preset = name.removeprefix(UNTRAINED)
    path = RESULTS / f"untrained-{preset}-x{scale}.safetensors"
    RESULTS.mkdir(exist_ok=True)
    restorer = fresh(preset, scale)
    halo_px = 128 + -128 % restorer.alignment_px
    save_model(path, restorer, {"halo_px": halo_px, "training": "none"})
    return str(path)


def fresh(preset: str, scale: int) -> Restorer:
    """Return a restorer of a preset with initial weights, the same on every call.

    The convolutions that start at zero get small random weights: with zeros the network is an interpolation, and
    every tiling of it would agree for no reason of its own.
    """
    import torch

    from bigrestore.model.nets.restorer import Restorer
    from bigrestore.settings.presets import get_preset

    torch.manual_seed(0)
    restorer = Restorer(get_preset(preset), scale).eval()
    with torch.no_grad():
        for name, parameter in restorer.named_parameters():
            if parameter.ndim == 4 and not parameter.any() and not name.startswith("estimator"):
                parameter.normal_(0.0, 0.02)
    return restorer
