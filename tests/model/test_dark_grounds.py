"""The shipped estimator on what it was not trained on: dark grounds, whose noise it must read all the same."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from bigrestore.core.pixels import Floats
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings
from tests.bench.restorers import windows_of

IMAGES = {"cell": data.cell, "coins": data.coins, "cat": lambda: data.cat().mean(axis=2)}


def darkened(name: str, noise_sd: float) -> Floats:
    """Return an image, 0..1, under a gamma of 2.2 and noise of 255."""
    dark = (np.asarray(IMAGES[name](), np.float32) / 255) ** 2.2
    noisy = dark + np.random.default_rng(0).normal(0, noise_sd / 255, dark.shape)
    return (np.clip(np.rint(255 * noisy), 0, 255) / 255).astype(np.float32)


def noise_read(image: Floats) -> float:
    """Return the noise read of an image at its mean grey, of 255."""
    read = create_method(RunSettings(realness=0.0)).analyse(windows_of(image))
    return float(255 * np.sqrt(read.noise_gain * image.mean() + read.read_noise**2))


@pytest.mark.parametrize("name", IMAGES)
def test_loud_noise_on_a_dark_ground_is_read(name: str) -> None:
    assert 4.8 < noise_read(darkened(name, 8)) < 10.5


@pytest.mark.parametrize("name", IMAGES)
def test_a_clean_dark_ground_is_read_as_clean(name: str) -> None:
    assert noise_read(darkened(name, 0)) < 1
