"""Blobs: a planted one is found where it is, an added one is invented, a removed one is lost, and each counts once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage import data

from bigrestore.core.geometry import Box
from bigrestore.report.metrics.blobs import (
    LEAST_CONTRAST,
    BlobCount,
    Blobs,
    BlobScales,
    answers,
    compare,
    find_blobs,
    invented,
    lost,
)

SCALES = BlobScales.of_voxel()
GROUND = 0.9


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    grey = data.immunohistochemistry()[:480, :480] @ np.array([0.299, 0.587, 0.114])
    return (grey / 255).astype(np.float32)


def planted(
    centres: list[tuple[float, float]], sigma: float = 3.0, contrast: float = 0.2, side: int = 160
) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    image = np.full((side, side), GROUND)
    for cy, cx in centres:
        image -= contrast * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
    return image.astype(np.float32)


def found_in(image: np.ndarray, scales: BlobScales = SCALES) -> Blobs:
    return find_blobs(answers(image, scales), scales, scales.thresholds(0.0))


@settings(deadline=None, max_examples=60)
@given(y=st.floats(40, 120), x=st.floats(40, 120), sigma=st.floats(2.0, 5.0), contrast=st.floats(0.05, 0.8))
def test_a_planted_blob_is_found_at_its_place_and_size(
    y: float, x: float, sigma: float, contrast: float
) -> None:
    found = found_in(planted([(y, x)], sigma, contrast))
    assert found.count == 1
    assert math.hypot(found.y[0] - y, found.x[0] - x) <= 1.5, "a step is two pixels"
    assert 0.72 < found.strength[0] / (contrast / 2) < 1.08, "less where the centre lies between steps"
    assert 0.7 < SCALES.sigmas_px[found.index[0]] / sigma < 1.4


def test_only_dark_blobs_of_enough_contrast_count() -> None:
    dark = planted([(80, 80)])
    assert found_in(2 * GROUND - dark).count == 0, "the rim of a light blob is a ridge, and no dark blob"
    assert found_in(planted([(80, 80)], contrast=1.2 * LEAST_CONTRAST)).count == 1
    assert found_in(planted([(80, 80)], contrast=0.8 * LEAST_CONTRAST)).count == 0
    assert found_in(np.full((64, 64), 0.5, np.float32)).count == 0


@settings(deadline=None, max_examples=25)
@given(places=st.sets(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=20), seed=st.integers(0, 99))
def test_k_added_blobs_are_k_invented_and_k_removed_are_k_lost(
    places: set[tuple[int, int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    every = [(40 * i + rng.uniform(-4, 4), 40 * j + rng.uniform(-4, 4)) for i, j in sorted(places)]
    some = [centre for centre in every if rng.random() < 0.5]
    clean, more = planted(some, side=280), planted(every, side=280)
    added = len(every) - len(some)
    assert invented(more, clean) == BlobCount(len(every), added, clean.size)
    assert lost(more, clean).unsupported == 0
    assert lost(clean, more) == BlobCount(len(every), added, clean.size)
    assert invented(clean, more).unsupported == 0


def test_the_image_itself_invents_and_loses_nothing(tissue: np.ndarray) -> None:
    same = invented(tissue, tissue)
    assert same.found > 100
    assert (same.unsupported, lost(tissue, tissue).unsupported) == (0, 0)
    assert math.isnan(invented(np.ones_like(tissue), np.ones_like(tissue)).share)


def test_noise_and_blur_invent_next_to_nothing_and_cells_do(tissue: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    rough = tissue + rng.normal(0, 2 / 255, tissue.shape).astype(np.float32)
    assert invented(rough, tissue).share < 0.002
    blurred = gaussian_filter(tissue, 1.3)
    assert invented(blurred, tissue).share < 0.002
    assert lost(blurred, tissue).share > 0.005, "blur loses blobs"
    y, x = np.mgrid[:480, :480]
    places = rng.uniform(20, 460, (40, 2))
    marks = sum(np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 12) for cy, cx in places)
    more = (tissue - 0.25 * marks).astype(np.float32)
    assert 15 <= invented(more, tissue).unsupported <= 45, "some were put where there was one already"


def test_what_the_strongest_blur_hid_may_come_back() -> None:
    sharp = planted([(80, 80)], sigma=2.0, contrast=0.5)
    blurred = gaussian_filter(sharp, 2.45)
    assert invented(sharp, blurred).unsupported == 0
    faint = GROUND + (blurred - GROUND) * np.float32(0.8)
    assert invented(sharp, faint).unsupported == 1, "less than a third is no support"


def test_a_blob_that_moved_three_pixels_is_another() -> None:
    here = planted([(80, 80)], sigma=2.0)
    assert invented(here, planted([(80, 82)], sigma=2.0)).unsupported == 0
    assert invented(here, planted([(80, 87)], sigma=2.0)).unsupported == 1


def test_a_fibre_and_the_border_of_a_layer_are_no_blobs() -> None:
    y, x = np.mgrid[:160, :160]
    for angle in (0.0, 0.3, 0.8):
        across = (y - 80) * np.cos(angle) + (x - 80) * np.sin(angle)
        fibre = GROUND - 0.3 * np.exp(-(across**2) / (2 * 3**2))
        assert found_in(fibre.astype(np.float32)).count <= 2, "where it ends, at the image's border"
        layer = GROUND - 0.4 / (1 + np.exp(-across))
        assert found_in(layer.astype(np.float32)).count <= 2


def test_the_threshold_is_three_deviations_of_the_answer_to_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, (1024, 1024)).astype(np.float32)
    measured = answers(noise, SCALES).std(axis=(1, 2))
    np.testing.assert_allclose(SCALES.thresholds(0.05), 3 * measured, rtol=0.1)
    np.testing.assert_allclose(SCALES.thresholds(0.05, 2), 2 * SCALES.thresholds(0.05))
    assert (SCALES.thresholds(0.0) == np.float32(LEAST_CONTRAST / 2)).all()


@pytest.mark.parametrize(("cut", "side"), [(96, 480), (130, 480), (200, 478)])
def test_a_core_with_its_halo_counts_each_blob_once_and_as_the_whole_does(
    tissue: np.ndarray, cut: int, side: int
) -> None:
    whole = found_in(tissue[:side, :side])
    reach, step = SCALES.reach_px, SCALES.step_px
    seen = []
    for y0 in range(0, side, cut):
        for x0 in range(0, side, cut):
            top, left = max(0, y0 - reach), max(0, x0 - reach)
            assert top % step == left % step == 0
            part = tissue[top : min(side, y0 + cut + reach), left : min(side, x0 + cut + reach)]
            core = Box(y0 - top, min(side, y0 + cut) - top, x0 - left, min(side, x0 + cut) - left)
            found = found_in(part).inside(core)
            seen += [
                (float(y) + top, float(x) + left, float(strength))
                for y, x, strength in zip(found.y, found.x, found.strength, strict=True)
            ]
    expected = zip(whole.y.tolist(), whole.x.tolist(), whole.strength.tolist(), strict=True)
    assert sorted(seen) == sorted(expected)


def test_scales_follow_the_pixel_size_where_cells_are_larger_than_pixels() -> None:
    assert BlobScales.of_voxel(20.0) == BlobScales.of_voxel(None) == SCALES
    assert SCALES.sigmas_px == pytest.approx((2.0, 3.162, 5.0), abs=1e-3)
    one = BlobScales.of_voxel(1.0)
    assert one.sigmas_px[0] * 2 * math.sqrt(2) == pytest.approx(8)
    assert one.sigmas_px[-1] * 2 * math.sqrt(2) == pytest.approx(20)
    fine = BlobScales.of_voxel(0.25)
    assert fine.step_px == 8
    sigma = fine.sigmas_px[1]
    found = found_in(planted([(200, 190)], sigma, side=400), fine)
    assert found.count == 1
    assert math.hypot(found.y[0] - 200, found.x[0] - 190) < 6
    assert found.strength[0] == pytest.approx(0.1, rel=0.12)


def test_images_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one grid"):
        compare(np.zeros((64, 64), np.float32), np.zeros((64, 66), np.float32))
