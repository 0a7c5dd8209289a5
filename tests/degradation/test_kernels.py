"""A kernel must sum to one, or regional grey changes; a wrong width teaches the wrong blur."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigrestore.core.kernels import (
    DOWNSAMPLING_FILTERS,
    compose,
    defocus,
    delta,
    downsampling_taps,
    equivalent_sigma,
    fitted,
    fold_downsampling,
    gaussian,
    generalised_gaussian,
    kernel_size,
    motion,
    narrowed,
    normalised_kernel,
    plateau,
    thickness,
)
from bigrestore.errors import UsageError

SIGMAS = st.floats(0.7, 2.2)
ANGLES = st.floats(0.0, math.pi)


def moments(kernel: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Return the centre of mass (y, x) relative to the middle and the covariance about it."""
    weights = kernel.astype(np.float64)
    ys, xs = (axis.ravel() - kernel.shape[0] // 2 for axis in np.indices(kernel.shape))
    flat = weights.ravel()
    my, mx = float(flat @ ys), float(flat @ xs)
    return my, mx, np.cov(np.stack([ys, xs]), aweights=flat, bias=True)


def assert_kernel(kernel: np.ndarray) -> None:
    assert kernel.dtype == np.float32
    assert kernel.min() >= 0.0
    assert float(kernel.sum(dtype=np.float64)) == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(SIGMAS, SIGMAS, ANGLES)
def test_a_gaussian_has_the_covariance_of_its_sigmas_and_angle(sy: float, sx: float, angle: float) -> None:
    kernel = gaussian(41, sy, sx, angle)
    assert_kernel(kernel)
    my, mx, covariance = moments(kernel)
    assert (my, mx) == pytest.approx((0.0, 0.0), abs=1e-6)
    along = np.array([math.sin(angle), math.cos(angle)])
    across = np.array([math.cos(angle), -math.sin(angle)])
    assert along @ covariance @ along == pytest.approx(sx**2, rel=0.01)
    assert across @ covariance @ across == pytest.approx(sy**2, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(SIGMAS, SIGMAS, ANGLES, st.floats(0.6, 3.0))
def test_every_family_is_a_centred_kernel(sy: float, sx: float, angle: float, shape: float) -> None:
    for kernel in (
        generalised_gaussian(21, sy, sx, angle, shape),
        plateau(21, sy, sx, angle, shape),
        defocus(21, 2 * sy),
        motion(21, 4 * sx, angle),
        thickness(21, sy, sx),
        delta(21),
    ):
        assert_kernel(kernel)
        assert moments(kernel)[:2] == pytest.approx((0.0, 0.0), abs=1e-5)


@pytest.mark.parametrize("radius", [2.2, 3.0, 4.0, 8.0])
def test_a_defocus_disk_has_the_second_moment_of_a_disk(radius: float) -> None:
    assert equivalent_sigma(defocus(21, radius)) ** 2 == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.03)


def test_a_disk_within_one_pixel_blurs_nothing() -> None:
    for kernel in (defocus(21, 0.0), defocus(21, 0.5), thickness(21, 0.0, 0.0), thickness(21, 0.0, 0.5)):
        assert np.array_equal(kernel, delta(21))


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, 2.1])
def test_a_motion_has_its_length_along_its_angle(angle: float) -> None:
    covariance = moments(motion(21, 9.0, angle))[2]
    along = np.array([math.sin(angle), math.cos(angle)])
    across = np.array([math.cos(angle), -math.sin(angle)])
    assert along @ covariance @ along == pytest.approx(81 / 12, rel=0.06)
    assert across @ covariance @ across < 0.26


@pytest.mark.parametrize(("below", "above"), [(6.0, 6.0), (8.0, 0.0), (3.0, 7.0)])
def test_a_thick_section_is_the_mean_of_its_defocus_disks(below: float, above: float) -> None:
    depths = np.linspace(-below, above, 400)
    mean = np.mean([defocus(21, abs(r)) for r in depths], axis=0)
    assert np.abs(thickness(21, below, above) - mean).max() < 0.02
    assert equivalent_sigma(thickness(21, below, above)) == pytest.approx(equivalent_sigma(mean), rel=0.03)


@pytest.mark.parametrize("name", DOWNSAMPLING_FILTERS)
@pytest.mark.parametrize("scale", [2, 4])
def test_downsampling_keeps_pixel_centres_aligned(name: str, scale: int) -> None:
    folded = fold_downsampling(gaussian(kernel_size(scale), 1.0), name, scale)
    assert_kernel(folded)
    assert moments(folded)[:2] == pytest.approx((0.5, 0.5), abs=1e-5)


def test_an_area_downsampling_adds_the_variance_of_a_box() -> None:
    folded = fold_downsampling(gaussian(41, 1.5), "area", 4)
    assert equivalent_sigma(folded) ** 2 == pytest.approx(1.5**2 + 15 / 12, rel=1e-3)


def test_bicubic_taps_are_the_clipped_cubic_of_keys() -> None:
    taps, first = downsampling_taps("bicubic", 2)
    assert (first, len(taps)) == (-3, 8)
    assert taps.min() == 0.0
    assert taps.sum() == pytest.approx(1.0)
    assert taps[3] == pytest.approx(taps[4])


@settings(max_examples=20, deadline=None)
@given(st.floats(0.7, 1.5), st.floats(0.7, 1.5))
def test_composed_gaussians_add_their_variances(first: float, second: float) -> None:
    both = compose(gaussian(41, first), gaussian(21, second))
    assert equivalent_sigma(both) == pytest.approx(math.hypot(first, second), rel=5e-3)


def test_a_second_kernel_on_the_coarse_grid_counts_scale_times_as_wide() -> None:
    both = compose(gaussian(41, 1.0), gaussian(7, 0.7), dilation=4)
    assert equivalent_sigma(both) ** 2 == pytest.approx(1.0 + 16 * 0.49, rel=0.02)


def test_equivalent_sigma_ignores_a_shift() -> None:
    assert equivalent_sigma(np.roll(gaussian(21, 1.3), 2, axis=1)) == pytest.approx(1.3, rel=1e-3)


def test_a_kernel_fits_another_square() -> None:
    small = gaussian(7, 0.8)
    assert_kernel(fitted(small, 21))
    assert np.allclose(fitted(fitted(small, 21), 7), small)


def test_a_kernel_without_anything_in_it_is_refused() -> None:
    with pytest.raises(UsageError, match="sums to 0"):
        normalised_kernel(np.zeros((3, 3)))
    with pytest.raises(UsageError, match="scale 3"):
        kernel_size(3)
    with pytest.raises(UsageError, match="lanczos"):
        downsampling_taps("lanczos", 2)


@pytest.mark.parametrize(
    "kernel", [gaussian(21, 4.5), fold_downsampling(gaussian(21, 3.9, 3.2, 0.4), "area", 2)]
)
def test_a_narrowed_kernel_keeps_its_centre_and_its_shape(kernel: np.ndarray) -> None:
    made = narrowed(kernel, 3.0)
    assert_kernel(made)
    assert equivalent_sigma(made) == pytest.approx(3.0, abs=0.1)
    before, after = moments(kernel), moments(made)
    assert after[:2] == pytest.approx(before[:2], abs=0.05)
    ratio = equivalent_sigma(kernel) / equivalent_sigma(made)
    np.testing.assert_allclose(after[2] * ratio**2, before[2], atol=0.3)
    assert np.array_equal(narrowed(kernel, 9.0), kernel)
