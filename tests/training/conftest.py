"""Shared by the tests of the stages: training images, and a model of the first two stages."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from bigrestore.training.data import pairs
from bigrestore.training.stages import bridge, estimator, fidelity, halo
from bigrestore.training.stages.parts import denoiser, resolver, unrolled


@contextmanager
def short_preparations() -> Iterator[None]:
    """Fit a kernel basis to few kernels, hold few pairs out, and measure a halo at one place, up to 32 px."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "BASIS_KERNELS", 100)
        patch.setattr(estimator, "ESTIMATOR_HELD_OUT", 2 * estimator.TOGETHER)
        patch.setattr(fidelity, "FIDELITY_HELD_OUT", 4)
        patch.setattr(halo, "FIRST_WINDOWS", (0,))
        patch.setattr(halo, "LIMIT_PX", 32)
        patch.setattr(halo, "PRIOR_LIMIT_PX", 48)
        yield


@pytest.fixture(scope="module", autouse=True)
def _short_preparations() -> Iterator[None]:
    with short_preparations():
        yield


@pytest.fixture
def measured_halo() -> None:
    """Ask for a measured halo; elsewhere a stated one saves most of the time of so short a training."""


@pytest.fixture(autouse=True)
def _stated_halo(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """State a halo; models that a module shares were trained before, with a measured one."""
    if "measured_halo" not in request.fixturenames:
        for stage in (fidelity, bridge):
            monkeypatch.setattr(stage, "measure_halo", lambda *_, **__: (64, {"64": 0.0}))
        for part in (denoiser, unrolled, resolver):
            monkeypatch.setattr(part, "measure_method_halo", lambda *_: 64)


@contextmanager
def stopped_at(stage: Any, step: int) -> Iterator[None]:
    """Send the process the signal of a scheduler when a stage comes to a step."""
    make_step = stage.step

    def interrupted(self: Any, number: int, progress: float) -> dict[str, Tensor]:
        if number == step:
            os.kill(os.getpid(), signal.SIGTERM)
        made: dict[str, Tensor] = make_step(self, number, progress)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "step", interrupted)
        yield


@pytest.fixture
def stop_at() -> Callable[[Any, int], AbstractContextManager[None]]:
    """Give the context in which a stage is stopped at a step."""
    return stopped_at


@pytest.fixture(scope="session")
def tissue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sharp images of dark discs on light ground."""
    folder = tmp_path_factory.mktemp("tissue")
    rng = np.random.default_rng(0)
    for index in range(4):
        image = np.full((360, 360), 225.0)
        for _ in range(500):
            y, x, r = rng.uniform(0, 360), rng.uniform(0, 360), rng.uniform(2, 8)
            top, left = max(0, int(y) - 8), max(0, int(x) - 8)
            part = image[top : top + 18, left : left + 18]
            yy, xx = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
            part[(yy - y) ** 2 + (xx - x) ** 2 < r * r] = rng.uniform(60, 160)
        Image.fromarray(image.astype(np.uint8)).save(folder / f"section{index}.png")
    return folder


@pytest.fixture(scope="session")
def fidelity_model(tissue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano model for x1 that two steps of each of the first two stages have made."""
    from bigrestore.settings.train import StageOptions
    from bigrestore.training.stages.stage import train_stage

    output = tmp_path_factory.mktemp("model") / "nano.safetensors"
    options = StageOptions(preset="nano", scale=1, steps=2, batch=2, threads=1)
    with short_preparations():
        for stage in ("estimator", "fidelity"):
            train_stage(stage, tissue, output, options)
    return output
