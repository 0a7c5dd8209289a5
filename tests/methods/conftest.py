"""Tissue and parts for the methods: networks of random weights, small enough for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from bigrestore.model.nets.parts.part import make_network, save_part

SMALL: dict[str, dict[str, Any]] = {
    "denoiser": {"channels": [8, 8], "blocks": 1},
    "resolver": {"channels": [8, 8], "blocks": 1},
    "unrolled": {"channels": [8, 8], "blocks": 1, "rounds": 2},
}
SMALL_BACKBONES: dict[str, dict[str, Any]] = {
    "uformer": {"channels": 4, "depths": [1, 2], "head_channels": 4, "side": 8, "modulators": True},
    "rft": {"channels": [4, 8], "blocks": 1, "fourier": True},
    "hat": {"channels": 8, "heads": 2, "groups": 1, "depth": 2, "side": 4},
    "unet": {"channels": [4, 8], "blocks": 1, "fourier": False},
}
PART_HALO_PX = 160


@pytest.fixture(scope="session")
def tissue() -> np.ndarray:
    """Return real tissue, 512 x 512, float32, 0..1."""
    grey: np.ndarray = np.asarray(data.immunohistochemistry()).mean(axis=2) / 255
    return grey.astype(np.float32)


@pytest.fixture(scope="session")
def part(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Return a function that gives the file of a part of a kind, or a backbone of an architecture, and a scale."""
    folder = tmp_path_factory.mktemp("parts")

    def made(kind: str, scale: int = 1) -> Path:
        path = folder / f"{kind}-x{scale}.safetensors"
        if not path.is_file():
            torch.manual_seed(3)
            sizes = SMALL.get(kind) or {"arch": kind, **SMALL_BACKBONES[kind]}
            sizes |= {"scale": scale} if kind not in ("denoiser", "resolver") else {}
            stored = kind if kind in SMALL else "backbone"
            network = make_network(stored, sizes)
            for name, weight in network.named_parameters():
                if name.endswith("tail.weight"):
                    torch.nn.init.normal_(weight, std=0.05)
            tiling = {"halo_px": PART_HALO_PX, "alignment_px": 8}
            if stored == "backbone":
                tiling = {"window_px": 128, "halo_px": 96, "alignment_px": 96}
            save_part(path, network, stored, scale, {"sizes": sizes, **tiling})
        return path

    return made
