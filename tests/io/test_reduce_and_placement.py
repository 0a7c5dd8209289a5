"""Guards means that drift, levels that shift, and factors that do not fit their shapes."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bigrestore.io.levels import level_factor
from bigrestore.io.store.placement import (
    dataset_transforms,
    pyramid_factors,
    pyramid_shapes,
    scaled_placement,
)
from bigrestore.io.store.reduce import area_thumbnail, block_mean, halve
from bigrestore.io.store.store_spec import StoreSpec


def half_even(value: Fraction) -> int:
    """Round half to even, exactly, without numpy."""
    whole = floor(value)
    rest = value - whole
    return whole + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1))


def reference_halve(pixels: NDArray[Any]) -> NDArray[Any]:
    """Average the voxels that exist, one output pixel at a time, in fractions."""
    _, height, width = pixels.shape
    out = np.empty((-(-height // 2), -(-width // 2)), pixels.dtype)
    for y, x in np.ndindex(*out.shape):
        block = [int(v) for v in pixels[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel()]
        out[y, x] = half_even(Fraction(sum(block), len(block)))
    return out


@given(
    depth=st.integers(1, 2),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    wide=st.booleans(),
    top=st.booleans(),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=150, deadline=None)
def test_halving_is_the_mean_of_the_voxels_that_exist(
    depth: int, height: int, width: int, wide: bool, top: bool, seed: int
) -> None:
    dtype = np.uint16 if wide else np.uint8
    high = int(np.iinfo(dtype).max)
    low = high - 3 if top else 0  # near the top of the range a sum that is too narrow overflows
    pixels = np.random.default_rng(seed).integers(low, high + 1, (depth, height, width), dtype=dtype)
    np.testing.assert_array_equal(halve(pixels), reference_halve(pixels))


def test_halving_float_keeps_the_mean() -> None:
    pixels = np.random.default_rng(1).random((2, 7, 5), dtype=np.float32)
    halved = halve(pixels)
    assert halved.dtype == np.float32
    assert halved[3, 2] == pytest.approx(pixels[:, 6:, 4:].mean(), abs=1e-7)
    assert halved[1, 1] == pytest.approx(pixels[:, 2:4, 2:4].mean(), abs=1e-7)


def test_repeated_halving_does_not_drift_to_the_bright_side() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (1, 512, 512), dtype=np.uint8)
    level = pixels
    for _ in range(4):
        level = halve(level)[np.newaxis]
    assert abs(float(level.mean()) - float(pixels.mean())) < 0.1


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_block_mean_at_the_edge_counts_only_what_exists(
    height: int, width: int, step: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width), dtype=np.uint8)
    means = block_mean(pixels, step)
    for y, x in np.ndindex(*means.shape):
        block = pixels[y * step : (y + 1) * step, x * step : (x + 1) * step]
        assert means[y, x] == pytest.approx(block.mean())


def test_thumbnail_in_strips_equals_thumbnail_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (301, 97), dtype=np.uint8)
    largest = 0

    def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        nonlocal largest
        largest = max(largest, (y1 - y0) * (x1 - x0))
        return pixels[y0:y1, x0:x1]

    whole = area_thumbnail(read, 0, 301, 97, 1, pixels.dtype, 7)
    monkeypatch.setattr("bigrestore.io.store.reduce.STRIP_BYTES", 97 * 14)
    largest = 0
    np.testing.assert_array_equal(area_thumbnail(read, 0, 301, 97, 1, pixels.dtype, 7), whole)
    assert largest <= 97 * 14


@given(st.integers(1, 5000), st.sampled_from([1, 2, 4, 8, 16, 64]), st.booleans())
def test_a_power_of_two_is_recognised_after_rounding(whole: int, factor: int, up: bool) -> None:
    reduced = -(-whole // factor) if up else whole // factor
    if reduced < 4:
        return
    assert level_factor(whole, reduced) == factor


@given(st.integers(1, 30000), st.integers(1, 30000))
def test_levels_end_at_480_and_are_two_at_least(height: int, width: int) -> None:
    spec = StoreSpec((1, height, width), np.uint8)
    shapes = pyramid_shapes(spec)
    assert max(shapes[-1]) <= 480
    assert len(shapes) >= (2 if max(height, width) > 1 else 1)
    assert all(max(shape) > 480 for shape in shapes[:-2])
    for finer, coarser in pairwise(shapes):
        assert coarser == (1, -(-finer[1] // 2), -(-finer[2] // 2))


def test_z_is_halved_only_once_the_voxel_gets_closer_to_a_cube() -> None:
    thick = StoreSpec((100, 4000, 4000), np.uint8, voxel_size_um=(20.0, 1.0, 1.0), is_volume=True)
    assert [factors[0] for factors in pyramid_factors(thick)] == [1, 1, 1, 1, 1]
    thicker = StoreSpec((100, 40000, 4000), np.uint8, voxel_size_um=(20.0, 5.0, 5.0), is_volume=True)
    assert [factors[0] for factors in pyramid_factors(thicker)] == [1, 1, 1, 2, 4, 8, 16, 32]
    cube = StoreSpec((100, 4000, 4000), np.uint8, voxel_size_um=(20.0, 21.17, 21.17), is_volume=True)
    assert [factors[0] for factors in pyramid_factors(cube)] == [1, 2, 4, 8, 16]
    unknown = StoreSpec((100, 4000, 4000), np.uint8, is_volume=True)
    assert {factors[0] for factors in pyramid_factors(unknown)} == {1}


def test_a_mean_level_is_shifted_by_half_a_block_less_half_a_voxel() -> None:
    spec = StoreSpec(
        (1, 2000, 2000), np.uint8, voxel_size_um=(None, 10.0, 5.0), translation_um=(None, 100.0, None)
    )
    scale, shift = dataset_transforms(spec, 2)
    assert scale == {"type": "scale", "scale": [40.0, 20.0]}
    assert shift == {"type": "translation", "translation": [100.0 + 15.0, 7.5]}


def test_unknown_voxel_size_counts_in_pixels() -> None:
    assert dataset_transforms(StoreSpec((1, 2000, 2000), np.uint8), 1) == [
        {"type": "scale", "scale": [2.0, 2.0]},
        {"type": "translation", "translation": [0.5, 0.5]},
    ]


def test_scaled_placement_keeps_pixel_centres_aligned() -> None:
    sizes, starts = scaled_placement((20.0, 10.0, 10.0), (0.0, 50.0, None), 2.0, (3, 100, 0))
    assert sizes == (20.0, 5.0, 5.0)
    # Output pixel 100 lies at input pixel (100 + 0.5) / 2 - 0.5 = 49.75.
    assert starts == (60.0, 50.0 + 497.5, -2.5)
    assert scaled_placement((None, None, None), (None, None, None), 2.0, (0, 64, 0)) == (
        (None, None, None),
        (None, 64.0, None),
    )
