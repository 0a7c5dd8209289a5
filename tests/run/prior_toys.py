"""A nano network with a prior that does something everywhere, as an object and as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bigrestore.model.nets.checkpoint import Model, read_weights, save_model
from bigrestore.model.nets.parts.objective import ObjectiveHead
from bigrestore.model.nets.parts.part import save_part
from bigrestore.model.nets.restorer import Restorer
from bigrestore.model.network import NetworkMethod
from bigrestore.run.execute import execute
from bigrestore.settings import RunSettings
from bigrestore.settings.presets import get_preset

HALOS = {"halo_px": 96, "halo_prior_px": 112}


def nano(scale: int = 1, *, with_prior: bool = True) -> Restorer:
    torch.manual_seed(0)
    restorer = Restorer(get_preset("nano"), scale, with_prior=with_prior).eval()
    side = 41 if scale == 4 else 21
    kernels = torch.rand(50, side, side) ** 8
    restorer.basis.fit(kernels / kernels.sum((1, 2), keepdim=True))
    with torch.no_grad():
        for parameter in restorer.unet.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.02)
        if restorer.prior is not None:
            for level in restorer.prior.levels:
                level.grey.weight.mul_(8)
        restorer.estimator.judge[-1].bias[0] = -3  # a narrow kernel
    return restorer


def objective_file(
    folder: Path, model: Path, scale: int = 1, *, share: float | None = None, name: str = "head"
) -> Path:
    """Write a head of objectives of a model file: of one share everywhere, or of one that changes from place to place."""
    torch.manual_seed(1)
    sizes = {"features": 16, "unshuffle": 2, "scale": scale, "hidden": 8}
    head = ObjectiveHead(**sizes)
    with torch.no_grad():
        if share is None:
            for layer in (head.first, head.second, head.last):
                layer.weight.normal_(0, 0.3)
        else:
            head.last.bias.fill_(share)  # type: ignore[union-attr]
    facts = {"sizes": sizes, "halo_px": 128, "alignment_px": 16, "distance": "texture"}
    owner = {"model": model.stem, "network": read_weights(model)[0]["sha256"]}
    path = folder / f"{name}.safetensors"
    save_part(path, head, "objective", scale, facts | owner)
    return path


def network(scale: int = 1, *, with_prior: bool = True, **options: Any) -> NetworkMethod:
    info = {**HALOS, "sha256": "0" * 64, "preset": "nano"}
    if not with_prior:
        info.pop("halo_prior_px")
    model = Model(nano(scale, with_prior=with_prior), "nano", info)
    return NetworkMethod(model, precision="fp32", device="cpu", **options)


def model_file(folder: Path, scale: int = 1, *, with_prior: bool = True) -> Path:
    halos = HALOS if with_prior else {"halo_px": 96}
    path = folder / f"nano{'-prior' if with_prior else ''}{'' if scale == 1 else f'-x{scale}'}.safetensors"
    save_model(path, nano(scale, with_prior=with_prior), dict(halos), half=False)
    return path


def go(source: Path, output: Path, method: Any = None, **settings: Any) -> Any:
    """Run with small blocks and tiles, two tiles in flight, and nothing beside the image."""
    asked: dict[str, Any] = {"block_size": 480, "tile_size": 240, "threads": 2, "mask": "none"}
    asked |= {"report": False, "progress": "none", "precision": "fp32", "device": "cpu"}
    return execute(source, output, RunSettings(**(asked | settings)), method=method)
