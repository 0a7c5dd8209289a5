"""Sections to adapt to: sharp texture, and blurred texture, which is sharp again when it is reduced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from bigrestore.model.nets.checkpoint import load_model, save_model
from bigrestore.model.nets.restorer import Restorer
from bigrestore.settings.presets import get_preset
from tests.training.conftest import short_preparations

Pixels = NDArray[Any]


def texture(height: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """Grey values 0..255 whose power falls as f^-2.2, by 12 dB from 0.141 to 0.484 cycles/px, as that of sharp tissue."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / np.maximum(frequency, 0.02) ** 1.1
    spectrum[0, 0] = 0
    image = np.fft.irfft2(spectrum, (height, width))
    return np.clip(150 + 25 * image / image.std(), 0, 255)


def blurred(image: NDArray[np.float64], sigma: float, noise: float = 0.0, seed: int = 1) -> NDArray[np.uint8]:
    """Blur by a Gaussian, add white noise of a standard deviation of 255, and round."""
    noisy = gaussian_filter(image, sigma) + noise * np.random.default_rng(seed).standard_normal(image.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", autouse=True)
def _short_preparations() -> Iterator[None]:
    with short_preparations():
        yield


@pytest.fixture(scope="session")
def sections(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A sharp section, a blurred one, and one that is sharp at no size that holds a window."""
    folder = tmp_path_factory.mktemp("sections")
    pictures = {
        "sharp.png": texture(300, 320).astype(np.uint8),
        "soft.png": blurred(texture(520, 560, 1), 0.7),
        "softest.png": blurred(texture(300, 300, 2), 2.5),
    }
    for name, picture in pictures.items():
        Image.fromarray(picture).save(folder / name)
    return [folder / name for name in pictures]


@pytest.fixture(scope="session")
def start_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nano model for x1 with a prior: it reads 0.7 px and no noise everywhere, and is used at realness 0.2."""
    import torch

    from bigrestore.degradation.schema import Recipe
    from bigrestore.training.data.pairs import sample_kernels

    torch.manual_seed(0)
    model = Restorer(get_preset("nano"), 1, with_prior=True)
    model.basis.fit(sample_kernels(Recipe.load("default"), 1, 200))
    with torch.no_grad():
        model.estimator.mean.fill_(-1.0)
        # 0.95 (softplus(-0.373 + 0.4) + 0.03) is 0.7 px; the codes of gain and read noise say that there is none.
        model.estimator.judge[-1].bias[0] = -0.373
        model.estimator.judge[-1].bias[5:7] = -1.0
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    training: dict[str, Any] = {stage: _record() for stage in ("estimator", "fidelity", "prior", "bridge")}
    info = {"halo_px": 64, "halo_prior_px": 96, "realness": 0.2, "training": training}
    save_model(path, model, info)
    assert load_model(path).realness == 0.2
    return path


def _record() -> dict[str, Any]:
    numbers = dict.fromkeys(
        ("seconds", "steps", "batch", "threads", "seed", "files", "steps_skipped", "steps_restored"), 7
    )
    return numbers | {
        "precision": "fp32",
        "recipe": "default",
        "rate": 1e-3,
        "machine": "CPU",
        "groups": {"texture": 1.0},
        "figures": {},
    }
