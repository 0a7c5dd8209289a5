"""The grid of score tiles is one and the same whatever region is asked for, and a sample covers it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bigrestore.core.geometry import Box
from bigrestore.core.sizes import fitting_score_tile
from bigrestore.report.table.grid import ScoreTile, TileGrid, bounding_box, draw_sample, strips, tile_worth

edges = st.tuples(st.integers(0, 2000), st.integers(1, 2500))


def worth(places: list[ScoreTile]) -> np.ndarray:
    boxes = [(p.z, p.box.y0, p.box.x0, p.box.height, p.box.width) for p in places]
    return tile_worth(*np.array(boxes, np.int64).T)


@given(y=edges, x=edges)
def test_whole_tiles_cover_the_region_and_lie_on_the_one_lattice_but_at_its_borders(
    y: tuple[int, int], x: tuple[int, int]
) -> None:
    region = Box(y[0], y[0] + y[1], x[0], x[0] + x[1])
    grid = TileGrid(3, 5, region)
    places = list(grid.places(3))
    covered = np.zeros((region.height, region.width), np.uint8)
    for place in places:
        covered[place.box.slices(region)] += 1
        assert place.box.intersect(region) == place.box
        for start, extent, index, low, high in (
            (place.box.y0, place.box.height, place.row, region.y0, region.y1),
            (place.box.x0, place.box.width, place.column, region.x0, region.x1),
        ):
            assert extent == min(480, high - low) or high - low < 480
            assert start == index * 480 or start in (low, high - 480)
    assert covered.all()
    assert len({place.box for place in places}) == len(places) == len(list(grid.places(4)))
    assert grid.count == 2 * len(places)
    if min(y[1], x[1]) >= 480:
        assert all(grid.whole(place) for place in places)
        assert worth(places).sum() * 480**2 == pytest.approx(region.pixels)


@pytest.mark.parametrize(
    ("height", "width", "starts"),
    [
        (512, 640, [(0, 0), (0, 160), (32, 0), (32, 160)]),
        (480, 961, [(0, 0), (0, 480), (0, 481)]),
        (960, 480, [(0, 0), (480, 0)]),
    ],
)
def test_the_last_tile_is_anchored_at_the_border(
    height: int, width: int, starts: list[tuple[int, int]]
) -> None:
    places = list(TileGrid(0, 1, Box(0, height, 0, width)).places(0))
    assert [(place.box.y0, place.box.x0) for place in places] == starts


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [
        (3840, 3840, 480),
        (960, 1440, 480),
        (960, 1439, 384),
        (1000, 1030, 384),
        (512, 640, 192),
        (300, 10_000, 288),
        (200, 300, 192),
        (150, 9000, 96),
        (50, 50, 96),
    ],
)
def test_six_tiles_fill_a_section_where_it_is_large_enough(height: int, width: int, side: int) -> None:
    assert fitting_score_tile(height, width) == side
    assert side == 192 or side == 96 or height * width >= 6 * side**2


@pytest.mark.parametrize("region", [Box(300, 780, 0, 960), Box(0, 480, 0, 480), Box(470, 1440, 5, 485)])
def test_tiles_within_a_block_have_the_names_that_they_have_in_the_region(region: Box) -> None:
    grid = TileGrid(0, 1, region)
    places = set(grid.places(0))
    for block in (region, Box(0, 960, 0, 480), Box(480, 1440, 0, 960)):
        inside = set(grid.places(0, block))
        assert inside == {place for place in places if place.box.intersect(block) == place.box}


@given(y=edges, x=edges)
def test_cut_tiles_cover_the_region_once_and_lie_on_the_one_lattice(
    y: tuple[int, int], x: tuple[int, int]
) -> None:
    region = Box(y[0], y[0] + y[1], x[0], x[0] + x[1])
    grid = TileGrid(3, 5, region, anchored=False)
    places = list(grid.places(3))
    assert sum(place.box.pixels for place in places) == region.pixels
    assert grid.count == 2 * len(places) == len(list(grid.places(3))) + len(list(grid.places(4)))
    for place in places:
        lattice = Box(place.row * 480, place.row * 480 + 480, place.column * 480, place.column * 480 + 480)
        assert place.box == lattice.intersect(region)
        assert grid.whole(place) == (place.box == lattice)


@given(region=st.tuples(edges, edges), cut=st.integers(1, 2500))
def test_what_two_parts_do_not_hold_lies_across_them(
    region: tuple[tuple[int, int], tuple[int, int]], cut: int
) -> None:
    (y, height), (x, width) = region
    box = Box(y, y + height, x, x + width)
    grid, middle = TileGrid(0, 1, box), min(y + cut, y + height)
    upper, lower = (
        set(grid.places(0, part))
        for part in (Box(y, middle, x, x + width), Box(middle, y + height, x, x + width))
    )
    assert not upper & lower
    for place in set(grid.places(0)) - upper - lower:
        assert place.box.y0 < middle < place.box.y1


def test_strips_hold_neighbours_of_one_row_and_every_tile_once() -> None:
    grid = TileGrid(0, 2, Box(0, 1000, 0, 9000))
    places = [place for z in (0, 1) for place in grid.places(z) if place.column % 3]
    groups = list(strips(places))
    assert [place for group in groups for place in group] == places
    for group in groups:
        assert len({(place.z, place.row) for place in group}) == 1
        assert bounding_box(group).width <= 8 * 480


def lattice(depth: int, rows: int, columns: int) -> list[ScoreTile]:
    grid = TileGrid(0, depth, Box(0, rows * 480, 0, columns * 480))
    return [place for z in range(depth) for place in grid.places(z)]


def test_a_sample_takes_its_share_of_every_section_and_every_kind_of_tile() -> None:
    places = lattice(4, 20, 20)
    tissue = np.array([0.0 if p.row < 5 else 0.6 if p.row < 10 else 1.0 for p in places])
    found = draw_sample(places, tissue, 120, 7)
    assert len(found) == len(set(found)) == 120
    assert found == sorted(found)
    for z in range(4):
        rows = [place.row for place in found if place.z == z]
        assert len(rows) == 30
        assert min(rows) >= 5, "background is never drawn"
        assert sum(row < 10 for row in rows) in (9, 10, 11), "a third of the tissue is at the border"


def test_a_sample_is_the_same_for_the_same_seed_only() -> None:
    places = lattice(1, 20, 20)
    tissue = np.ones(len(places))
    assert draw_sample(places, tissue, 10, 1) == draw_sample(places, tissue, 10, 1)
    assert len({tuple(draw_sample(places, tissue, 10, seed)) for seed in range(8)}) > 1


def test_a_sample_of_more_than_there_is_takes_all_tissue() -> None:
    places = lattice(1, 3, 3)
    tissue = np.array([0.0, 0.5, 1.0] * 3)
    assert len(draw_sample(places, tissue, 100, 0)) == 6
    assert draw_sample(places, np.zeros(9), 100, 0) == []
    assert draw_sample(places, np.ones(9), 0, 0) == []
