"""Shared by the tests of the stages: training images, and a model of the first two stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sharp images of dark discs on light ground."""
    folder = tmp_path_factory.mktemp("tissue")
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:360, :360]
    for index in range(4):
        image = np.full((360, 360), 225.0)
        for _ in range(500):
            y, x, r = rng.uniform(0, 360), rng.uniform(0, 360), rng.uniform(2, 8)
            image[(yy - y) ** 2 + (xx - x) ** 2 < r * r] = rng.uniform(60, 160)
        Image.fromarray(image.astype(np.uint8)).save(folder / f"section{index}.png")
    return folder


@pytest.fixture(scope="session")
def fidelity_model(tissue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano model for x1 that two steps of each of the first two stages have made."""
    from bigrestore.settings.train import StageOptions
    from bigrestore.training.stages.stage import train_stage

    output = tmp_path_factory.mktemp("model") / "nano.safetensors"
    options = StageOptions(preset="nano", scale=1, steps=2, batch=2, threads=1)
    for stage in ("estimator", "fidelity"):
        train_stage(stage, tissue, output, options)
    return output
