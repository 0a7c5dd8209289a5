"""What the scores cannot see must be seen by the plain figures, each by its own and by no other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage import data

from bigrestore.report.metrics.columns import PLAIN, plain_measures
from bigrestore.report.metrics.measures import shading, stripes, tenengrad, tile_noise_sigma


@pytest.fixture(scope="module")
def tile() -> np.ndarray:
    grey = data.immunohistochemistry()[:480, :480] @ np.array([0.299, 0.587, 0.114])
    return (grey / 255).astype(np.float32)


def test_every_figure_is_there_and_finite(tile: np.ndarray) -> None:
    found = plain_measures(tile)
    assert tuple(found) == PLAIN
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())


def test_constant_tiles_have_nothing_of_anything() -> None:
    found = plain_measures(np.full((480, 480), 0.5, np.float32))
    assert found.pop("mean") == 0.5
    assert all(value == pytest.approx(0.0, abs=1e-12) for value in found.values())


def test_a_ramp_has_the_gradient_that_it_has() -> None:
    y, x = np.mgrid[:96, :96].astype(np.float64)
    assert tenengrad(0.003 * x + 0.004 * y) == pytest.approx(0.005**2)


def test_blurring_lowers_the_sharpness(tile: np.ndarray) -> None:
    from scipy.ndimage import gaussian_filter

    values = tile.astype(np.float64)
    assert tenengrad(gaussian_filter(values, 1.0)) < 0.6 * tenengrad(values)


@pytest.mark.parametrize("sigma", [2.0, 4.0, 8.0])
def test_white_noise_has_its_sigma_also_beside_edges(sigma: float) -> None:
    rng = np.random.default_rng(0)
    scene = np.full((480, 480), 0.4)
    scene[:, 240:] = 0.8
    scene[100:140] = 0.1
    found = tile_noise_sigma(scene + rng.normal(0, sigma / 255, scene.shape))
    assert found * 255 == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("amplitude", [0.005, 0.02])
def test_stripes_are_seen_along_their_own_axis_only(tile: np.ndarray, amplitude: float) -> None:
    y = np.arange(480)[:, None]
    striped = tile + amplitude * math.sqrt(2) * np.sin(2 * np.pi * y / 7)
    found, clean = plain_measures(striped.astype(np.float32)), plain_measures(tile)
    expected = math.hypot(amplitude, clean["stripes_rows"])
    assert found["stripes_rows"] == pytest.approx(expected, rel=0.2)
    assert found["stripes_columns"] == pytest.approx(clean["stripes_columns"], rel=0.01)
    turned = plain_measures(np.ascontiguousarray(striped.T, np.float32))
    assert turned["stripes_columns"] == pytest.approx(found["stripes_rows"], rel=1e-6)


def test_noise_is_no_stripe() -> None:
    noise = np.random.default_rng(1).normal(0.5, 0.05, (480, 480))
    assert stripes(noise) < 0.05 / math.sqrt(480) / 2


def test_shading_is_the_span_of_the_ground() -> None:
    y, x = np.mgrid[:480, :480]
    lamp = 0.6 + 0.1 * x / 480 - 0.05 * ((y - 240) / 240.0) ** 2
    centres = (np.arange(10) + 0.5) * 48
    span = 0.1 * (centres[-1] - centres[0]) / 480 + 0.05 * ((centres[0] - 240) / 240) ** 2
    cells = lamp.copy()
    cells[(y // 9 % 3 == 0) & (x // 9 % 3 == 0)] -= 0.3
    for scene in (lamp, cells):
        assert shading(scene) == pytest.approx(span, abs=0.01)


@pytest.mark.parametrize("side", [96, 192, 960])
def test_tiles_of_other_sizes_are_measured_too(side: int) -> None:
    rng = np.random.default_rng(2)
    found = plain_measures(rng.uniform(0.2, 0.8, (side, side)).astype(np.float32))
    assert all(math.isfinite(value) for value in found.values())
    assert found["clipped"] == 0.0


def test_clipped_pixels_are_those_at_the_ends() -> None:
    tile = np.full((480, 480), 0.5, np.float32)
    tile[:48], tile[48:96] = 0.0, 1.0
    assert plain_measures(tile)["clipped"] == pytest.approx(0.2)
