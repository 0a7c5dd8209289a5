"""The promise of the engine: no tile, block, region or thread can be seen in the result."""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_toys import Fir, Moody, go, level0, save_zarr

from bigrestore.core.geometry import Grid
from bigrestore.run.tile.blend import Fader


def as_uint8(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 1) * np.float32(255)).astype(np.uint8)


Whole = Callable[[int | Fraction], np.ndarray]
OVERLAPS = {Fir: 0, Moody: 32}


@pytest.fixture(scope="module")
def source(tissue: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_zarr(tmp_path_factory.mktemp("tissue") / "in.zarr", tissue)


@pytest.fixture(scope="module")
def whole_of(tissue: np.ndarray) -> Whole:
    """Return a function that gives the tissue as the toy of a scale makes it in one piece."""
    return functools.cache(
        lambda scale: as_uint8(Fir(scale).whole(tissue.astype(np.float32) / np.float32(255)))
    )


@pytest.fixture(scope="module")
def restored_by(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[type[Fir]], np.ndarray]:
    """Return a function that gives the whole section as a toy restores it."""

    @functools.cache
    def restored(kind: type[Fir]) -> np.ndarray:
        output = tmp_path_factory.mktemp("whole") / "whole.zarr"
        go(source, output, kind(), overlap=OVERLAPS[kind])
        return level0(output)

    return restored


@pytest.mark.parametrize("scale", [1, 2, Fraction(1, 2), Fraction(1, 4)])
@pytest.mark.parametrize(
    "cut",
    [
        {"tile_size": 64},
        {"tile_size": 160, "threads": 4, "batch_size": 3},
        {"tile_size": 480, "threads": 1},
        {"tile_size": 200, "block_size": 960},
        {"tile_size": 3840, "block_size": 3840},
    ],
    ids=lambda cut: "-".join(f"{k}{v}" for k, v in cut.items()),
)
def test_tiled_is_the_whole_to_the_bit(
    tmp_path: Path, source: Path, whole_of: Whole, scale: int | Fraction, cut: dict[str, int]
) -> None:
    go(source, tmp_path / "out.zarr", Fir(scale), **cut)
    np.testing.assert_array_equal(level0(tmp_path / "out.zarr"), whole_of(scale))


@pytest.mark.parametrize("kind", [Fir, Moody])
@pytest.mark.parametrize("roi", ["3:11,5:1000", "190:700,333:334", "100:620,0:1030"])
def test_a_region_is_exactly_the_pixels_of_the_whole(
    tmp_path: Path, source: Path, restored_by: Callable[[type[Fir]], np.ndarray], kind: type[Fir], roi: str
) -> None:
    go(source, tmp_path / "part.zarr", kind(), overlap=OVERLAPS[kind], roi=roi)
    (y0, y1), (x0, x1) = (map(int, span.split(":")) for span in roi.split(","))
    np.testing.assert_array_equal(level0(tmp_path / "part.zarr"), restored_by(kind)[y0:y1, x0:x1])


@pytest.mark.parametrize("scale", [1, 2, Fraction(1, 2)])
@pytest.mark.parametrize(
    "cut", [{"tile_size": 96, "block_size": 480}, {"tile_size": 3840, "block_size": 3840}]
)
def test_a_region_of_any_scale_is_exactly_the_pixels_of_the_whole(
    tmp_path: Path, source: Path, whole_of: Whole, scale: int | Fraction, cut: dict[str, int]
) -> None:
    go(source, tmp_path / "part.zarr", Fir(scale), roi="13:301,101:502", **cut)
    np.testing.assert_array_equal(level0(tmp_path / "part.zarr"), whole_of(scale)[13:301, 101:502])


def test_a_region_lies_where_it_was_cut_in_the_world(tmp_path: Path, tissue: np.ndarray) -> None:
    import zarr

    source = save_zarr(tmp_path / "in.zarr", tissue)
    go(source, tmp_path / "part.zarr", Fir(2), roi="100:300,40:90", voxel_size=(None, 2.0, 4.0))
    dataset = dict(zarr.open_group(tmp_path / "part.zarr").attrs)["ome"]["multiscales"][0]["datasets"][0]
    scale, shift = (t[t["type"]] for t in dataset["coordinateTransformations"])
    assert scale == [1.0, 2.0]
    # output pixel u lies at input (u + 0.5) / 2 - 0.5; the first is u = 100 and u = 40
    assert shift == [2.0 * (100.5 / 2 - 0.5), 4.0 * (40.5 / 2 - 0.5)]


def test_cross_fading_leaves_no_step_where_tiles_disagree(tmp_path: Path) -> None:
    flat = np.full((700, 1030), 100, np.uint8)
    source = save_zarr(tmp_path / "in.zarr", flat)
    go(source, tmp_path / "hard.zarr", Moody(), overlap=0)
    go(source, tmp_path / "soft.zarr", Moody(), overlap=64)
    inside = (slice(20, -20), slice(20, -20))  # the FIR sees zeros at the border
    hard, soft = (level0(tmp_path / f"{name}.zarr").astype(int)[inside] for name in ("hard", "soft"))
    assert max(np.abs(np.diff(hard, axis=a)).max() for a in (0, 1)) >= 10, "the toy tiles must disagree"
    assert max(np.abs(np.diff(soft, axis=a)).max() for a in (0, 1)) <= 1


def test_the_order_of_tiles_cannot_change_a_bit() -> None:
    grid = Grid.build(
        (1, 500, 500), scale=Fraction(1), alignment_px=1, halo_px=0, block_px=480, tile_px=96, overlap_px=48
    )
    box = grid.block(0, 0, 0).box
    rng = np.random.default_rng(0)
    values = {
        (t.row, t.column): rng.random((t.keep.height, t.keep.width), np.float32) for t in grid.tiles(box)
    }
    results = []
    for seed in range(3):
        fader, tiles = Fader(grid, box), grid.tiles(box)
        np.random.default_rng(seed).shuffle(tiles)  # type: ignore[arg-type]
        for tile in tiles:
            fader.add(tile, values[tile.row, tile.column])
        results.append(fader.values.tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("shape", [(1, 1), (3, 700), (481, 960), (480, 480)])
def test_odd_shapes_go_through(tmp_path: Path, tissue: np.ndarray, shape: tuple[int, int]) -> None:
    part = np.ascontiguousarray(tissue[: shape[0], : shape[1]])
    go(save_zarr(tmp_path / "in.zarr", part), tmp_path / "out.zarr", Fir(2))
    wanted = as_uint8(Fir(2).whole(part.astype(np.float32) / np.float32(255)))
    np.testing.assert_array_equal(level0(tmp_path / "out.zarr"), wanted)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_dtype_and_values_come_back_as_they_were(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(1)
    full = rng.random((90, 70), np.float32)
    pixels = full if dtype == "float32" else (full * np.iinfo(dtype).max).astype(dtype)
    go(save_zarr(tmp_path / "in.zarr", pixels), tmp_path / "out.zarr", method="rational")
    out = level0(tmp_path / "out.zarr")
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, pixels)


@pytest.mark.parametrize("method", ["rational", "catmull-rom"])
def test_interpolation_does_not_depend_on_the_cut(tmp_path: Path, source: Path, method: str) -> None:
    cuts: list[dict[str, Any]] = [{"tile_size": 96}, {"tile_size": 3840, "block_size": 3840}]
    for index, cut in enumerate(cuts):
        go(source, tmp_path / f"{index}.zarr", method, scale=2, **cut)
    np.testing.assert_array_equal(level0(tmp_path / "0.zarr"), level0(tmp_path / "1.zarr"))
