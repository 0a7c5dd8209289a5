"""A nano network with a prior that does something everywhere, as an object and as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bigrestore.model.nets.checkpoint import Model, save_model
from bigrestore.model.nets.restorer import Restorer
from bigrestore.model.network import NetworkMethod
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


def network(scale: int = 1, *, with_prior: bool = True, **options: Any) -> NetworkMethod:
    info = {**HALOS, "sha256": "0" * 64, "preset": "nano"}
    if not with_prior:
        info.pop("halo_prior_px")
    model = Model(nano(scale, with_prior=with_prior), "nano", info)
    return NetworkMethod(model, precision="fp32", device="cpu", **options)


def model_file(folder: Path, *, with_prior: bool = True) -> Path:
    halos = HALOS if with_prior else {"halo_px": 96}
    path = folder / f"nano{'-prior' if with_prior else ''}.safetensors"
    save_model(path, nano(with_prior=with_prior), dict(halos), half=False)
    return path
