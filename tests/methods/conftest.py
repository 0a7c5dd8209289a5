"""Tissue and parts for the methods: networks of random weights, small enough for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from bigrestore.model.nets.parts.part import make_network, save_part

SMALL = {
    "denoiser": {"channels": [8, 8], "blocks": 1},
    "resolver": {"channels": [8, 8], "blocks": 1},
    "unrolled": {"channels": [8, 8], "blocks": 1, "rounds": 2},
}
PART_HALO_PX = 160


@pytest.fixture(scope="session")
def tissue() -> np.ndarray:
    """Return real tissue, 512 x 512, float32, 0..1."""
    grey: np.ndarray = np.asarray(data.immunohistochemistry()).mean(axis=2) / 255
    return grey.astype(np.float32)


@pytest.fixture(scope="session")
def part(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Return a function that gives the file of a part of a kind and a scale."""
    folder = tmp_path_factory.mktemp("parts")

    def made(kind: str, scale: int = 1) -> Path:
        path = folder / f"{kind}-x{scale}.safetensors"
        if not path.is_file():
            torch.manual_seed(3)
            sizes = SMALL[kind] | ({"scale": scale} if kind == "unrolled" else {})
            network = make_network(kind, sizes)
            for name, weight in network.named_parameters():
                if name.endswith("tail.weight"):
                    torch.nn.init.normal_(weight, std=0.05)
            facts = {"sizes": sizes, "halo_px": PART_HALO_PX, "alignment_px": 8}
            save_part(path, network, kind, scale, facts)
        return path

    return made
