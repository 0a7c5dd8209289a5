"""The share of invented detail: nothing for what a filter can do, something for what was put in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import data

from bigrestore.core.geometry import Box
from bigrestore.core.interpolation import catmull_rom
from bigrestore.report.metrics.detail import invented_share
from bigrestore.report.metrics.enlarge import enlarge, enlarged_box, source_box
from bigrestore.report.metrics.measures import tile_noise_sigma


@pytest.fixture(scope="module")
def tile() -> np.ndarray:
    grey = data.immunohistochemistry()[:480, :480] @ np.array([0.299, 0.587, 0.114])
    return (grey / 255).astype(np.float32)


def eight_bits(image: np.ndarray) -> np.ndarray:
    return (np.rint(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


def inverse(image: np.ndarray, sigma: float, regular: float) -> np.ndarray:
    """Undo a Gaussian blur by its regularised inverse filter."""
    y, x = np.fft.fftfreq(480)[:, None], np.fft.rfftfreq(480)[None, :]
    gain = np.exp(-2 * np.pi**2 * sigma**2 * (y**2 + x**2))
    spectrum = np.fft.rfft2(image) * gain / (gain**2 + regular)
    return np.fft.irfft2(spectrum, s=image.shape).astype(np.float32)


def with_cells(tile: np.ndarray, count: int) -> np.ndarray:
    rng, found = np.random.default_rng(1), tile.copy()
    y, x = np.mgrid[:480, :480]
    for _ in range(count):
        distance = np.hypot(y - rng.uniform(0, 480), x - rng.uniform(0, 480))
        found -= (0.3 * np.clip(rng.uniform(1.5, 4) - distance, 0, 1)).astype(np.float32)
    return np.clip(found, 0, 1)


def noisy(tile: np.ndarray, levels: float) -> np.ndarray:
    return tile + np.random.default_rng(0).normal(0, levels / 255, tile.shape).astype(np.float32)


def test_the_input_itself_invents_nothing(tile: np.ndarray) -> None:
    for noise in (0.0, 0.01):
        assert invented_share(tile, tile, noise) == pytest.approx(0.0, abs=1e-6)


def test_sharpening_by_an_inverse_filter_invents_next_to_nothing(tile: np.ndarray) -> None:
    blurred = eight_bits(noisy(gaussian_filter(tile, 1.3, mode="wrap"), 2))
    sharp = eight_bits(inverse(blurred, 1.3, 1e-2))
    assert np.var(sharp - gaussian_filter(sharp, 2)) > 3 * np.var(blurred - gaussian_filter(blurred, 2))
    assert invented_share(sharp, blurred, 2 / 255) < 0.02


def test_contrast_and_blur_are_filters(tile: np.ndarray) -> None:
    assert invented_share(1.4 * tile, tile, 0.0) < 1e-6
    assert invented_share(gaussian_filter(tile, 1.0), tile, 0.0) < 0.03


def test_added_cells_count_and_more_of_them_count_more(tile: np.ndarray) -> None:
    shares = [invented_share(with_cells(tile, count), tile, 0.0) for count in (20, 100, 500)]
    assert 0.005 < shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.15


def test_noise_does_not_hide_added_cells(tile: np.ndarray) -> None:
    rough = noisy(tile, 2)
    found = invented_share(with_cells(rough, 100), rough, tile_noise_sigma(rough.astype(np.float64)))
    assert found > 0.5 * invented_share(with_cells(tile, 100), tile, 0.0)


def test_taking_noise_away_is_no_invention(tile: np.ndarray) -> None:
    assert invented_share(tile, noisy(tile, 4), 4 / 255) < 0.02
    assert invented_share(tile, noisy(tile, 4), 0.0) > 0.05, "without the noise it would look like one"


def test_another_image_is_all_invented(tile: np.ndarray) -> None:
    assert invented_share(tile, np.rot90(tile).copy(), 0.0) > 0.95


@pytest.mark.parametrize("scale", [2, 4])
def test_interpolation_invents_nothing_and_the_truth_does(tile: np.ndarray, scale: int) -> None:
    small = tile.reshape(480 // scale, scale, 480 // scale, scale).mean(axis=(1, 3))
    before = enlarge(small, scale)
    assert invented_share(before, before, 0.0, scale) < 1e-6
    rough = enlarge(noisy(small, 5), scale)
    assert invented_share(before, rough, 5 / 255, scale) < 0.05, "the noise was enlarged, too"
    assert invented_share(tile, before, 0.0, scale) > 0.1


def test_a_smooth_tile_has_no_detail_to_speak_of() -> None:
    assert math.isnan(invented_share(*(np.full((480, 480), 0.5, np.float32),) * 2, 0.0))
    assert math.isnan(invented_share(*(np.zeros((48, 96), np.float32),) * 2, 0.0))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_input_on_the_output_grid_is_that_of_the_runs(tile: np.ndarray, scale: int) -> None:
    found = enlarge(tile[:96, :120], scale)
    wanted = catmull_rom(torch.from_numpy(tile[None, None, :96, :120].copy()), scale)[0, 0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("box", [Box(0, 96, 0, 96), Box(480, 560, 0, 31), Box(137, 260, 411, 480)])
def test_a_part_is_interpolated_as_the_whole(tile: np.ndarray, box: Box) -> None:
    small = tile[:280, :240]
    source = source_box(box, 2, *small.shape)
    part = enlarged_box(small[source.slices(Box(0, 280, 0, 240))], source, box, 2)
    np.testing.assert_array_equal(part, enlarge(small, 2)[box.slices(Box(0, 560, 0, 480))])
