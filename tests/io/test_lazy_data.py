"""Guards the lazy array of a section: every key that numpy takes picks the pixels that numpy picks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices
from numpy.typing import NDArray

from bigrestore.io.lazy import ArrayView
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section

GREY = np.random.default_rng(0).integers(0, 255, (3, 13, 17), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 255, (3, 13, 17, 3), dtype=np.uint8)

KEYS: list[Any] = [
    (0, slice(10), slice(10)),
    1,
    -1,
    np.int64(2),
    (slice(None), slice(None, None, 2), slice(None, None, 3)),
    (slice(None), slice(None, None, -2), slice(12, 3, -3)),
    (slice(None, None, -1), 3, -1),
    (..., 2),
    (1, ..., slice(2, 4)),
    ...,
    (),
    (None, 1, 2),
    (0, None, ..., None),
    (slice(1, 1),),
    (0, slice(5, 2), slice(None)),
    (0, slice(-4, None), slice(None, -9)),
    (slice(None), [12, 0, -1, 0]),
    (slice(None), slice(None), np.arange(17) % 3 == 0),
    ([2, 0], slice(None), slice(None)),
    ([0, 2], 4, [3, 5]),
    (slice(None), [], slice(None)),
]


def view(pixels: NDArray[Any], reads: list[Any] | None = None) -> ArrayView:
    """Return pixels behind windows, noting what is read."""

    def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        assert 0 <= z < pixels.shape[0]
        assert 0 <= y0 < y1 <= pixels.shape[1]
        assert 0 <= x0 < x1 <= pixels.shape[2]
        if reads is not None:
            reads.append((z, y0, y1, x0, x1))
        return pixels[z, y0:y1, x0:x1]

    return ArrayView(read, pixels.shape[:3], 3 if pixels.ndim == 4 else 1, pixels.dtype)


def same(actual: NDArray[Any], wanted: NDArray[Any]) -> None:
    """Compare shape, type and values."""
    assert (actual.shape, actual.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_array_equal(actual, wanted)


@pytest.fixture(scope="module", params=[GREY, COLOUR], ids=["grey", "colour"])
def section(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Section:
    """Return a section of several chunks."""
    path: Path = tmp_path_factory.mktemp("lazy") / "a"
    zarr.create_array(path, data=request.param, chunks=(1, 5, 6, 3)[: request.param.ndim])
    return open_section(path)


@pytest.mark.parametrize("key", KEYS, ids=repr)
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_a_view_is_indexed_as_numpy_is(pixels: NDArray[Any], key: Any) -> None:
    same(view(pixels)[key], pixels[key])


@pytest.mark.parametrize("key", [key for key in KEYS if repr(key) != "([0, 2], 4, [3, 5])"], ids=repr)
def test_the_dask_array_is_indexed_as_numpy_is(section: Section, key: Any) -> None:
    pixels = COLOUR if section.channels == 3 else GREY
    same(np.asarray(section.data[key].compute(scheduler="sync")), pixels[key])


def test_one_section_of_the_dask_array_can_be_reduced(section: Section) -> None:
    pixels = COLOUR if section.channels == 3 else GREY
    assert float(section.data[1].mean().compute(scheduler="sync")) == pytest.approx(pixels[1].mean())


@settings(max_examples=150, deadline=None)
@given(basic_indices((3, 13, 17), allow_ellipsis=True, allow_newaxis=True))
def test_any_basic_key_is_numpys(key: Any) -> None:
    same(view(GREY)[key], np.asarray(GREY[key]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-13, 12), max_size=20), st.lists(st.booleans(), min_size=17, max_size=17))
def test_lists_and_masks_along_an_axis_are_numpys(rows: list[int], columns: list[bool]) -> None:
    same(view(GREY)[:, rows], GREY[:, np.asarray(rows, np.intp)])
    same(view(GREY)[1, :, columns], GREY[1, :, columns])


def test_only_the_sections_and_the_window_that_a_key_needs_are_read() -> None:
    reads: list[Any] = []
    same(view(GREY, reads)[::2, 4:9:2, -3], GREY[::2, 4:9:2, -3])
    assert reads == [(0, 4, 9, 14, 15), (2, 4, 9, 14, 15)]


@pytest.mark.parametrize(
    "key",
    [3, -4, (0, 13), (0, 0, 0, 0), (..., ...), 1.5, True, (0, np.zeros((13, 17), bool)), (0, [1, 13])],
    ids=repr,
)
def test_a_key_that_fits_nothing_is_an_index_error(key: Any) -> None:
    with pytest.raises(IndexError):
        view(GREY)[key]
