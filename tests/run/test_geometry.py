"""The grid of blocks and tiles, for any size, scale, alignment and halo."""

from __future__ import annotations

from fractions import Fraction

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bigrestore.core.geometry import Box, Grid, Region, choose_tile_px
from bigrestore.run.tile.blend import window

QUICK = settings(deadline=None, max_examples=50)
SCALES = [Fraction(1), Fraction(2), Fraction(4), Fraction(1, 2), Fraction(1, 4)]


@st.composite
def grids(draw: st.DrawFn, fade: bool = False, exact: bool | None = None) -> Grid:
    scale = draw(st.sampled_from(SCALES))
    alignment = draw(st.sampled_from([1, 2, 4, 8, 16])) * scale.denominator
    unit = int(alignment * scale)
    tile = unit * draw(st.integers(1, 8))
    overlap = 2 * draw(st.integers(1, max(1, tile // 4))) if fade else 0
    return Grid.build(
        (draw(st.integers(1, 3)), *(draw(st.integers(1, 45 * alignment)) for _ in "yx")),
        scale=scale,
        alignment_px=alignment,
        halo_px=alignment * draw(st.integers(0, 3)),
        block_px=unit * draw(st.integers(8, 20)),
        tile_px=max(tile, 2 * overlap),
        overlap_px=overlap if 2 * overlap <= unit * 4 else 0,
        exact=draw(st.booleans()) if exact is None else exact,
    )


def regions_of(grid: Grid, data: st.DataObject) -> Grid:
    """Return the grid with a region drawn from its output."""
    y0, x0 = (data.draw(st.integers(0, n - 1)) for n in grid.shape[1:])
    y1, x1 = (data.draw(st.integers(a + 1, n)) for a, n in zip((y0, x0), grid.shape[1:], strict=True))
    return attrs.evolve(grid, region=Region(0, 1, Box(y0, y1, x0, x1)))


@QUICK
@given(grids(), st.data())
def test_cores_cover_every_output_pixel_once(whole: Grid, data: st.DataObject) -> None:
    grid = regions_of(whole, data)
    for block in (grid.block(0, 0, 0), grid.block(0, grid.block_counts[1] - 1, grid.block_counts[2] - 1)):
        seen = np.zeros((block.box.height, block.box.width), int)
        for tile in grid.tiles(block.box):
            seen[tile.keep.intersect(block.box).slices(block.box)] += 1
        assert (seen == 1).all()


@QUICK
@given(grids())
def test_blocks_cover_the_output_once(grid: Grid) -> None:
    seen = np.zeros(grid.shape[1:], np.uint8)
    for block in (block for block in grid.blocks() if block.z == 0):
        seen[block.box.slices(grid.region.box)] += 1
    assert (seen == 1).all()
    assert len(list(grid.blocks())) == grid.block_total


@QUICK
@given(grids())
def test_tiles_begin_on_the_alignment_and_read_halo_inside_the_section(grid: Grid) -> None:
    for tile in grid.tiles(grid.region.box):
        for axis, keep, read, padded in (
            (grid.y, (tile.keep.y0, tile.keep.y1), (tile.read.y0, tile.read.y1), tile.padded_height),
            (grid.x, (tile.keep.x0, tile.keep.x1), (tile.read.x0, tile.read.x1), tile.padded_width),
        ):
            assert read[0] % axis.alignment_px == 0
            assert padded % axis.alignment_px == 0
            assert 0 <= read[0] < read[1] <= axis.size_px
            assert read[0] <= max(0, keep[0] / grid.scale - axis.halo_px)
            assert read[1] >= min(axis.size_px, keep[1] / grid.scale + axis.halo_px)
            assert 0 <= padded - (read[1] - read[0]) < axis.alignment_px
            assert read[1] == axis.size_px or padded == read[1] - read[0], "padding away from the far edge"


@QUICK
@given(grids(exact=False), st.data())
def test_a_region_uses_the_tiles_of_the_whole_where_cuts_show(grid: Grid, data: st.DataObject) -> None:
    part = regions_of(grid, data)
    whole = {(t.row, t.column): t for t in grid.tiles(grid.region.box)}
    for block in part.blocks():
        assert all(whole[t.row, t.column] == t for t in part.tiles(block.box))


@QUICK
@given(grids(exact=True), st.data())
def test_an_exact_method_keeps_no_pixel_outside_the_region(whole: Grid, data: st.DataObject) -> None:
    grid = regions_of(whole, data)
    for block in grid.blocks():
        assert all(tile.keep == tile.keep.intersect(block.box) for tile in grid.tiles(block.box))


@QUICK
@given(grids(exact=True))
def test_whole_blocks_are_cut_alike_for_all_methods(grid: Grid) -> None:
    other = attrs.evolve(grid, y=attrs.evolve(grid.y, exact=False), x=attrs.evolve(grid.x, exact=False))
    for block in grid.blocks():
        assert [t.keep for t in grid.tiles(block.box)] == [t.keep for t in other.tiles(block.box)]


@QUICK
@given(grids(fade=True))
def test_windows_sum_to_one_and_never_more_than_two_overlap(grid: Grid) -> None:
    for axis in (grid.y, grid.x):
        total, terms = np.zeros(axis.out_px, np.float32), np.zeros(axis.out_px, int)
        for index in range(axis.count):
            start, stop = axis.keep(index)
            weights = window(axis, index)
            assert (weights >= 0).all()
            total[start:stop] += weights
            terms[start:stop] += 1
        np.testing.assert_allclose(total, 1, atol=2e-7)
        assert terms.max() <= 2


@QUICK
@given(grids())
def test_quarters_make_up_the_tile(grid: Grid) -> None:
    tile = grid.tiles(grid.region.box)[0]
    parts = grid.quarter(tile)
    assert sum(part.keep.pixels for part in parts) == tile.keep.pixels
    assert all(
        part.read.y0 % grid.y.alignment_px == 0 == part.read.x0 % grid.x.alignment_px for part in parts
    )
    assert len(parts) == 1 or max(part.keep.pixels for part in parts) < tile.keep.pixels


@QUICK
@given(grids(fade=True))
def test_work_counts_what_the_blocks_compute(grid: Grid) -> None:
    tiles = [tile for block in grid.blocks() if block.z == 0 for tile in grid.tiles(block.box)]
    assert grid.work.tiles == len(tiles)
    assert grid.work.computed_px == sum(tile.padded_height * tile.padded_width for tile in tiles)
    assert grid.work.largest_tile_px == max(tile.padded_height * tile.padded_width for tile in tiles)


@pytest.mark.parametrize(
    ("size", "threads", "memory_px", "time_px", "limit", "expected"),
    [
        (15360, 2, 1 << 24, 1 << 24, 1.3, 3840),
        (15360, 2, 2200**2, 1 << 24, 1.3, 1920),
        (15360, 2, 1 << 24, 1100**2, 1.3, 1920),  # redundancy goes before time
        (15360, 2, 1100**2, 1 << 24, 1.3, 768),  # memory goes before redundancy
        (3840, 8, 1 << 24, 1 << 24, 2.0, 960),  # small sections are cut so that all threads work
        (2048, 2, 1 << 24, 1 << 24, 1.1, 1920),  # also where that computes more than the limit
        (2048, 1, 1 << 24, 1 << 24, 1.1, 3840),
    ],
)
def test_tile_size_obeys_memory_then_redundancy_then_time(
    size: int, threads: int, memory_px: int, time_px: int, limit: float, expected: int
) -> None:
    grid = Grid.build(
        (1, size, size), scale=Fraction(1), alignment_px=16, halo_px=128, block_px=3840, tile_px=3840
    )
    chosen = choose_tile_px(
        grid, threads=threads, memory_px=memory_px, time_px=time_px, redundancy_limit=limit
    )
    assert chosen == expected


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize(
    "box",
    [
        Box(1700, 2212, 1650, 2162),
        Box(0, 512, 3584, 4096),
        Box(3800, 3900, 3801, 3901),
        Box(7, 4001, 2000, 2031),
        Box(1, 3842, 100, 3941),
    ],
    ids=["inside", "corner", "across blocks", "strip", "more than a block"],
)
@pytest.mark.parametrize(("scale", "halo"), [(1, 192), (2, 96), (4, 64)])
def test_a_region_costs_at_most_half_more_than_its_pixels_and_halo(
    scale: int, halo: int, box: Box, threads: int
) -> None:
    grid = Grid.build(
        (1, 4096, 4096),
        scale=Fraction(scale),
        alignment_px=16,
        halo_px=halo,
        block_px=3840,
        tile_px=3840,
        exact=True,
        region=Region(0, 1, box),
    )
    side = choose_tile_px(grid, threads=threads, memory_px=1 << 24, time_px=1 << 18, redundancy_limit=1.3)
    chosen = attrs.evolve(grid, y=attrs.evolve(grid.y, tile_px=side), x=attrs.evolve(grid.x, tile_px=side))
    (y0, y1), (x0, x1) = grid.y.read_for(box.y0, box.y1), grid.x.read_for(box.x0, box.x1)
    needed = (y1 - y0) * (x1 - x0)
    assert needed <= chosen.work.computed_px <= 1.5 * needed
    largest = attrs.evolve(grid, y=attrs.evolve(grid.y, tile_px=3840), x=attrs.evolve(grid.x, tile_px=3840))
    assert largest.work.largest_tile_px <= needed, "a large tile is clipped at the region"


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("threads", [1, 2, 16])
def test_a_slow_method_of_a_wide_halo_does_not_compute_halos_alone(scale: int, threads: int) -> None:
    """Windows of 256 px on steps of 192, of a network that takes longer than any tile may."""
    grid = Grid.build(
        (1, 4000, 4000), scale=Fraction(scale), alignment_px=192, halo_px=192, block_px=3840, tile_px=3840
    )
    side = choose_tile_px(
        grid, threads=threads, memory_px=1 << 24, time_px=4000, redundancy_limit=float("inf")
    )
    chosen = attrs.evolve(grid, y=attrs.evolve(grid.y, tile_px=side), x=attrs.evolve(grid.x, tile_px=side))
    assert chosen.work.redundancy < 1.3 * grid.work.redundancy < 3.5


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_a_small_region_is_not_computed_by_the_largest_tile(threads: int) -> None:
    box = Box(2000, 2010, 2000, 2010)
    grid = Grid.build(
        (1, 8000, 8000),
        scale=Fraction(1),
        alignment_px=16,
        halo_px=96,
        block_px=3840,
        tile_px=3840,
        region=Region(0, 1, box),
    )
    side = choose_tile_px(grid, threads=threads, memory_px=1 << 24, time_px=1 << 24, redundancy_limit=1.3)
    chosen = attrs.evolve(grid, y=attrs.evolve(grid.y, tile_px=side), x=attrs.evolve(grid.x, tile_px=side))
    assert chosen.work.computed_px <= (2 * 128 + 2 * 96) ** 2
