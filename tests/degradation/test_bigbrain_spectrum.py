"""The recipe `bigbrain` must make sharp sections look like BigBrain's to a Fourier transform."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bigrestore.degradation.recipe import Recipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "bigbrain_spectrum.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bigbrain_spectrum", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rings_weigh_white_noise_alike(example: ModuleType) -> None:
    rng = np.random.default_rng(0)
    power = np.mean([example.ring_power(rng.standard_normal((128, 128))) for _ in range(32)], axis=0)
    assert np.abs(10 * np.log10(power[2:] / power[8])).max() < 0.4


@pytest.mark.skipif("BIGRESTORE_DATA" not in os.environ, reason="needs BIGRESTORE_DATA")
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_roll_off_is_that_of_bigbrain(example: ModuleType, scale: int, tmp_path: Path) -> None:
    folder = Path(os.environ["BIGRESTORE_DATA"])
    every = {1: 3, 2: 1, 4: 1}[scale]
    clean, degraded = example.spectra(folder, Recipe.load("bigbrain"), every=every, scale=scale)
    bigbrain = np.array(example.BIGBRAIN_DB) - example.BIGBRAIN_DB[0]
    difference = example.relative_db(degraded) - bigbrain
    assert np.abs(difference).max() < 3.0
    assert np.abs(example.relative_db(clean) - bigbrain).max() > 8.0, "the recipe did it"
    example.plot(clean, degraded, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
