"""Windows of one place are registered to a tenth of a pixel, and those of two places have no correlation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from bigrestore.core.registration import band_passed, find_offset, overlapping
from tests.fitting.made_pairs import tissue_image

WHOLE = tissue_image(240, 260, seed=3)


@pytest.mark.parametrize("sigma_px", [0.5, 2.0])
@pytest.mark.parametrize("noise", [0.0, 8 / 255])
@pytest.mark.parametrize("moved", [(0.0, 0.0), (0.3, -0.45), (-7.2, 3.6), (11.5, 12.8), (-15.0, -0.1)])
def test_a_shift_is_found_to_a_tenth_of_a_pixel(
    moved: tuple[float, float], noise: float, sigma_px: float
) -> None:
    other = gaussian_filter(shift(WHOLE, moved, order=5, mode="nearest"), sigma_px)
    other += np.random.default_rng(0).normal(0, noise, other.shape).astype(np.float32)
    offset = find_offset(WHOLE[30:200, 30:220], other[30:200, 30:220], 16)
    assert (offset.y, offset.x) == pytest.approx(moved, abs=0.1)
    assert offset.correlation > 0.9


@pytest.mark.parametrize(("height", "width"), [(128, 128), (97, 64), (20, 33)])
@pytest.mark.parametrize("sigmas_px", [(1.5, 16.0), (4.0, 16.0)])
def test_a_band_is_the_difference_of_two_gaussians(
    height: int, width: int, sigmas_px: tuple[float, float]
) -> None:
    window = WHOLE[:height, :width]
    fine, coarse = (gaussian_filter(window.astype(float), sigma) for sigma in sigmas_px)
    np.testing.assert_allclose(band_passed(window, *sigmas_px), fine - coarse, atol=1e-4)


@pytest.mark.parametrize("side", [96, 128, 200])
def test_other_places_mirrored_ones_and_noise_do_not_correlate(side: int) -> None:
    own = WHOLE[:side, :side]
    noise = np.random.default_rng(1).random(own.shape).astype(np.float32)
    for other in (tissue_image(side, side, seed=9), own[::-1], own[:, ::-1], noise):
        assert find_offset(own, np.ascontiguousarray(other), 16).correlation < 0.45


@pytest.mark.parametrize(("height", "width"), [(160, 160), (20, 160), (31, 31)])
def test_a_flat_or_a_tiny_window_has_no_correlation(height: int, width: int) -> None:
    flat = np.full((height, width), 0.5, np.float32)
    assert find_offset(flat, flat, 16).correlation == 0
    if min(height, width) < 32:
        assert find_offset(WHOLE[:height, :width], WHOLE[:height, :width], 16).correlation == 0


@pytest.mark.parametrize(("y", "x"), [(0, 0), (3, -2), (-5, 4)])
def test_overlapping_parts_show_the_same(y: int, x: int) -> None:
    other = np.roll(WHOLE, (y, x), (0, 1))
    one, two = overlapping(WHOLE, other, y, x)
    assert one.shape == (240 - abs(y), 260 - abs(x))
    assert np.array_equal(one, two)
