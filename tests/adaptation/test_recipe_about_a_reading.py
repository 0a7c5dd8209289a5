"""What is drawn lies about what was read, by every way that leads there, and leaves a share to everything else."""

from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest
import torch

from bigrestore.core.kernels import equivalent_sigma, gaussian
from bigrestore.core.stated_blur import averaging_sigma_px
from bigrestore.degradation.degradation import Degradation
from bigrestore.degradation.recipe import draw_degradations
from bigrestore.degradation.schema import Recipe
from bigrestore.model.nets.checkpoint import load_model
from bigrestore.model.nets.reading.kernel_family import LEAST_SIGMA_PX
from bigrestore.training.adaptation.reading import Reading, read_windows
from bigrestore.training.adaptation.recipes import DEFAULT_SHARE, recipe_about, sigma_range

TWIN = Reading(gaussian(25, 0.77), 0.77, 0.08, 0.8, 0.75, 0.0, 0.0, 0.0, 20)


def about(recipe: Recipe, scale: int, count: int = 400) -> list[Degradation]:
    """Draw from the parts of a recipe that are about the reading."""
    parts = tuple(part for part in recipe.mix if part.recipe.name != "default")
    return draw_degradations(attrs.evolve(recipe, mix=parts), scale, count, np.random.default_rng(0))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_widths_lie_about_the_reading_on_the_sections_own_grid(scale: int) -> None:
    sigmas = [
        equivalent_sigma(one.effective_kernel) / scale for one in about(recipe_about([TWIN], scale), scale)
    ]
    beyond = np.sqrt(np.maximum(np.square(sigmas) - averaging_sigma_px(scale) ** 2, 0))
    low, high = sigma_range(TWIN)
    assert 0.55 < low < 0.65
    assert 0.9 < high < 1.0
    assert np.median(beyond) == pytest.approx(0.78, abs=0.06)
    assert np.quantile(beyond, 0.02) > low - 0.12
    assert np.quantile(beyond, 0.98) < high + 0.12


def test_half_of_the_pairs_went_through_a_registration() -> None:
    drawn = about(recipe_about([TWIN], 1), 1)
    registered = [one for one in drawn if one.resampling is not None]
    assert len(registered) / len(drawn) == pytest.approx(0.5, abs=0.08)
    assert {len(one.resampling.orders) for one in registered if one.resampling} == {1, 2}
    assert any(one.scan_factor == 2 for one in registered)
    assert {one.kind for one in drawn} == {"gaussian", "anisotropic", "defocus"}


def test_a_blur_less_than_a_resamplings_is_made_by_optics_alone() -> None:
    mild = attrs.evolve(TWIN, along=0.2, across=0.2, error=0.02)
    assert all(one.resampling is None for one in about(recipe_about([mild], 1), 1, 60))


def test_everything_else_keeps_its_share() -> None:
    recipe = recipe_about([TWIN, TWIN], 1)
    weights = {part.recipe.name: part.weight for part in recipe.mix}
    assert weights["default"] == DEFAULT_SHARE
    assert sum(part.weight for part in recipe.mix) == pytest.approx(1.0)
    assert recipe.mix[-1].recipe.mix == Recipe.load("default").mix


def test_every_section_is_drawn_as_often() -> None:
    wide = attrs.evolve(TWIN, along=2.0, across=2.0)
    sigmas = np.array(
        [equivalent_sigma(one.effective_kernel) for one in about(recipe_about([TWIN, wide], 1), 1)]
    )
    assert np.mean(sigmas > 1.3) == pytest.approx(0.5, abs=0.08)


def test_noise_and_jpeg_lie_about_the_reading() -> None:
    noisy = attrs.evolve(TWIN, read_noise=3 / 255, noise_gain=1e-3, jpeg_quality=80.0)
    drawn = about(recipe_about([noisy], 1), 1)
    read = np.array([255 * one.effective_noise[1] for one in drawn])
    gain = np.array([one.effective_noise[0] for one in drawn])
    assert 1.5 < np.median(read) < 6
    assert np.mean((read > 0.7) & (read < 14)) > 0.95
    assert 3e-4 < np.median(gain) < 3e-3
    made = [one.worst_jpeg for one in drawn if one.worst_jpeg]
    assert len(made) / len(drawn) == pytest.approx(0.8, abs=0.08)
    assert 72 <= min(made) <= max(made) <= 88
    clean = [255 * one.effective_noise[1] for one in about(recipe_about([TWIN], 1), 1)]
    assert np.median(clean) < 0.4


def test_the_widest_and_the_loudest_reading_still_make_a_recipe() -> None:
    worst = attrs.evolve(
        TWIN, along=30.0, across=20.0, error=5.0, noise_gain=1.0, read_noise=0.5, jpeg_quality=1.0
    )
    for scale in (1, 2, 4):
        assert about(recipe_about([worst], scale), scale, 5)
    none = attrs.evolve(TWIN, along=0.0, across=0.0, error=0.0, jpeg_quality=100.0)
    assert about(recipe_about([none], 1), 1, 5)


def test_a_reading_is_the_estimators(start_model: Path) -> None:
    model = load_model(start_model).restorer
    with torch.no_grad():
        model.estimator.judge[-1].bias[:4] = torch.tensor([-0.5, 0.6, 0.0, 0.0])
    windows = np.random.default_rng(0).uniform(0, 1, (3, 128, 128)).astype(np.float32)
    read = read_windows(model, windows)
    assert read.windows == 3
    wide = float(torch.nn.functional.softplus(torch.tensor(-0.1))) + LEAST_SIGMA_PX
    assert read.sigma == pytest.approx(wide, abs=1e-3)
    # A stretch of 0.6 makes the kernel exp(0.6) times as wide along its direction as across it.
    assert read.along / read.across == pytest.approx(np.exp(0.6), rel=0.1)
    assert (read.along**2 + read.across**2) / 2 == pytest.approx(read.sigma**2, rel=0.01)
    assert "px" in read.says
