"""The filters and sums that the scores rest on: against slow ones that are plainly right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import correlate
from scipy.special import gamma

from bigrestore.report.metrics.nss.mscn import TAPS, half_size, normalised, zero_edged
from bigrestore.report.metrics.nss.shapes import (
    Sums,
    fit_asymmetric,
    fit_symmetric,
    neighbour_sums,
    whole_sums,
)
from bigrestore.report.metrics.nss.workspace import Workspace

shapes = st.tuples(st.integers(7, 75), st.integers(7, 75))


def random_image(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float64]:
    return np.rint(np.random.default_rng(seed).random(shape) * 255)


def slow_field(image: NDArray[Any], mode: str) -> NDArray[np.float64]:
    offsets = np.arange(-3, 4)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    mean = correlate(image, window, mode=mode)
    contrast = np.sqrt(np.abs(correlate(image * image, window, mode=mode) - mean**2))
    return (image - mean) / (contrast + 1)


@given(shape=shapes)
@pytest.mark.parametrize(("edge", "mode"), [("replicate", "nearest"), ("zero", "constant")])
def test_field_is_that_of_a_plain_two_dimensional_filter(
    edge: Any, mode: str, shape: tuple[int, int]
) -> None:
    image = random_image(shape)
    assert np.abs(normalised(image, edge) - slow_field(image, mode)).max() < 1e-6


@given(shape=shapes)
def test_the_frame_alone_tells_zero_edges_from_replicated_ones(shape: tuple[int, int]) -> None:
    image = random_image(shape)
    field = normalised(image)
    kept = field.copy()
    assert np.abs(zero_edged(image, field) - normalised(image, "zero")).max() < 1e-12
    assert (field == kept).all()


@pytest.mark.parametrize("level", [0.0, 1.0, 77.0, 200.0, 255.0, np.rint(255.0 * 0.3 * 2**18) / 2**18])
def test_flat_areas_are_exactly_zero(level: float) -> None:
    image = random_image((60, 50))
    image[10:40, 8:45] = level
    assert (normalised(image)[13:37, 11:42] == 0.0).all()
    half = half_size(image)
    assert (half[8:17, 7:19] == level).all()
    assert (normalised(half)[11:14, 10:16] == 0.0).all()


def test_taps_sum_to_one_exactly_and_hardly_differ_from_the_gaussian() -> None:
    gaussian = np.exp(-(np.arange(4) ** 2) / (2 * (7 / 6) ** 2))
    gaussian /= gaussian[0] + 2 * gaussian[1:].sum()
    assert TAPS[0] + 2 * TAPS[1:].sum() == 1.0
    assert np.abs(TAPS - gaussian).max() < 1e-7


def test_contrast_is_the_local_deviation() -> None:
    image = random_image((40, 40))
    contrast = np.empty_like(image)
    field = normalised(image, contrast=contrast)
    mean = image - field * (contrast + 1)
    assert 30 < contrast.mean() < 90
    assert abs(mean.mean() - image.mean()) < 1


@given(shape=shapes)
def test_half_size_is_cubic_convolution_with_mirrored_borders(shape: tuple[int, int]) -> None:
    def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x = np.abs(x)
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        return np.where(x <= 1, near, np.where(x <= 2, far, 0))

    def matrix(size: int) -> NDArray[np.float64]:
        out = np.zeros((-(-size // 2), size))
        for place in range(len(out)):
            for tap in range(2 * place - 4, 2 * place + 6):
                inside = tap if 0 <= tap < size else (-1 - tap if tap < 0 else 2 * size - 1 - tap)
                out[place, inside] += cubic((tap - 2 * place - 0.5) / 2) / 2
        return out

    image = random_image(shape)
    expected = matrix(shape[0]) @ image @ matrix(shape[1]).T
    assert np.abs(half_size(image) - expected).max() < 1e-10


def test_a_workspace_that_served_another_tile_changes_nothing() -> None:
    workspace = Workspace()
    normalised(random_image((90, 130), 1), workspace=workspace)
    half_size(random_image((90, 130), 1), workspace=workspace)
    image = random_image((50, 61), 2)
    assert (normalised(image, workspace=workspace) == normalised(image)).all()
    assert (half_size(image, workspace=workspace) == half_size(image)).all()
    assert workspace.take("any", (3, 5)).ctypes.data % 64 == 0


def slow_sums(block: NDArray[np.float64]) -> NDArray[np.float64]:
    turned = [block, *(block * np.roll(block, shift, (0, 1)) for shift in ((0, 1), (1, 0), (1, 1), (1, -1)))]
    return np.array(
        [
            [(x < 0).sum(), (x > 0).sum(), np.abs(x).sum(), (x * x).sum(), (x * np.abs(x)).sum()]
            for x in turned
        ]
    )


def as_table(sums: Sums, row: int = 0, column: int = 0) -> NDArray[np.float64]:
    parts = (sums.below, sums.above, sums.absolute, sums.square, sums.signed)
    return np.stack([part[:, row, column] for part in parts], axis=1)


@given(rows=st.integers(1, 3), columns=st.integers(1, 3), height=st.integers(2, 70), width=st.integers(2, 40))
def test_sums_are_those_of_circular_shifts_of_every_block(
    rows: int, columns: int, height: int, width: int
) -> None:
    field = np.random.default_rng(0).standard_normal((rows * height, columns * width))
    field[field < -1.5] = 0.0
    sums = neighbour_sums(field, (height, width))
    for row in range(rows):
        for column in range(columns):
            block = field[row * height : (row + 1) * height, column * width : (column + 1) * width]
            np.testing.assert_allclose(as_table(sums, row, column), slow_sums(block), rtol=1e-10, atol=1e-10)


@given(
    rows=st.integers(1, 3), columns=st.integers(1, 3), height=st.integers(16, 50), width=st.integers(16, 50)
)
def test_sums_over_the_whole_follow_from_those_over_blocks(
    rows: int, columns: int, height: int, width: int
) -> None:
    rng = np.random.default_rng(0)
    field = rng.standard_normal((rows * height, columns * width))
    framed = rng.standard_normal(field.shape)
    framed[3:-3, 3:-3] = field[3:-3, 3:-3]
    blocks = neighbour_sums(field, (height, width))
    found = whole_sums(blocks, field, (height, width), framed, 3)
    assert found.count == field.size
    np.testing.assert_allclose(as_table(found), slow_sums(framed), rtol=1e-9, atol=1e-8)


def draw_asymmetric(
    rng: np.random.Generator, shape: tuple[int, int], left: float, right: float, count: int
) -> NDArray[np.float64]:
    """Values of an asymmetric generalised Gaussian with the given scales."""
    size = rng.gamma(1 / shape, 1.0, count) ** (1 / shape)
    on_left = rng.random(count) < left / (left + right)
    return np.where(on_left, -left * size, right * size)


@pytest.mark.parametrize(
    ("shape", "left", "right"), [(0.6, 0.3, 0.3), (1.0, 0.5, 0.2), (2.0, 1.0, 1.4), (3.5, 0.2, 0.4)]
)
def test_the_fit_finds_the_distribution_that_was_drawn(
    shape: tuple[int, int], left: float, right: float
) -> None:
    values = draw_asymmetric(np.random.default_rng(1), shape, left, right, 640_000).reshape(800, 800)
    fit = fit_asymmetric(neighbour_sums(values, (800, 800)))
    assert fit.shape[0, 0, 0] == pytest.approx(shape, rel=0.02)
    assert fit.left_scale[0, 0, 0] == pytest.approx(left, rel=0.02)
    assert fit.right_scale[0, 0, 0] == pytest.approx(right, rel=0.02)
    assert fit.mean_factor[0, 0, 0] == pytest.approx(gamma(2 / shape) / gamma(1 / shape), rel=0.02)
    mean = (fit.right_scale - fit.left_scale) * fit.mean_factor
    assert mean[0, 0, 0] == pytest.approx(values.mean(), abs=0.01)


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
def test_the_symmetric_fit_finds_the_distribution_that_was_drawn(shape: tuple[int, int]) -> None:
    values = draw_asymmetric(np.random.default_rng(2), shape, 1.0, 1.0, 500_000)
    found, variance = fit_symmetric(values.size, np.array(np.abs(values).sum()), np.array((values**2).sum()))
    assert float(found) == pytest.approx(shape, rel=0.02)
    assert float(variance) == pytest.approx(values.var(), rel=0.01)


def test_the_fit_takes_the_nearest_entry_of_the_authors_grid() -> None:
    grid = np.arange(0.2, 10.0005, 0.001)
    ratios = gamma(2 / grid) ** 2 / (gamma(1 / grid) * gamma(3 / grid))
    rng = np.random.default_rng(3)
    for scale in (0.1, 1.0, 10.0):
        values = rng.standard_normal((48, 48)) ** 3 * scale
        ratio = np.abs(values).mean() ** 2 / (values**2).mean()
        left, right = (np.sqrt((values[side] ** 2).mean()) for side in (values < 0, values > 0))
        skew = left / right
        ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
        fit = fit_asymmetric(neighbour_sums(values, (48, 48)))
        assert fit.shape[0, 0, 0] == pytest.approx(grid[np.abs(ratios - ratio).argmin()], abs=1e-9)


@pytest.mark.parametrize("values", [np.zeros((48, 48)), np.full((48, 48), 2.0), np.full((48, 48), -2.0)])
def test_values_of_one_sign_have_no_fit_and_say_so(values: NDArray[np.float64]) -> None:
    fit = fit_asymmetric(neighbour_sums(values, (48, 48)))
    assert np.isnan(fit.shape[0]).all()
    assert np.isnan(fit.left_scale[0]).all()
    shape, _ = fit_symmetric(values.size, np.array(np.abs(values).sum()), np.array((values**2).sum()))
    assert np.isnan(shape) == (not values.any())
