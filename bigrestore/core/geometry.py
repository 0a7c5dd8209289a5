"""The positions of blocks and tiles: integers only, no pixels, no files.

All positions are absolute output pixels of level 0. A block is a unit of work: it owns whole shards of the
output. Tiles of an exact method may be cut anywhere, so they are laid over each block, and a region costs its own
area and a halo. Tiles whose cut shows in the pixels, and cross-faded ones, lie on one global grid, which
depends on the section, the method and the block size, never on the region; a block computes every tile that touches
it. Either way a region has exactly the pixels of the whole run.

A tile keeps its core, and half an overlap on each side if tiles are cross-faded. It reads that area, scaled
back, plus the halo. The halo is clipped at the section's border, because padding there changes the result;
only the far edge is replicated, up to a multiple of the alignment. Origins are multiples of the alignment,
because a strided network answers differently off its own phase.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from itertools import pairwise

import attrs

from bigrestore.core.sizes import BLOCK_PX as BLOCK_PX
from bigrestore.core.sizes import CHUNK_PX as CHUNK_PX

SPARING = 1.3
"""Pixels computed for each one of the least possible, at most, by tiles that take too long in any size."""


def round_down(value: int, multiple: int) -> int:
    """Return the largest multiple of `multiple` not above `value`."""
    return value // multiple * multiple


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` not below `value`."""
    return -(-value // multiple) * multiple


@attrs.frozen(order=True)
class Box:
    """A rectangle of pixels, `y0 <= y < y1` and `x0 <= x < x1`."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def height(self) -> int:
        """Rows in the box."""
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        """Columns in the box."""
        return self.x1 - self.x0

    @property
    def pixels(self) -> int:
        """Pixels in the box."""
        return self.height * self.width

    def intersect(self, other: Box) -> Box:
        """Return the common part; it has no pixels if the two do not touch."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        return Box(y0, max(y0, min(self.y1, other.y1)), x0, max(x0, min(self.x1, other.x1)))

    def union(self, other: Box) -> Box:
        """Return the smallest box around both."""
        return Box(
            min(self.y0, other.y0), max(self.y1, other.y1), min(self.x0, other.x0), max(self.x1, other.x1)
        )

    def enlarged(self, scale: int) -> Box:
        """Return the box on a grid of `scale` times as many pixels along each axis."""
        return Box(self.y0 * scale, self.y1 * scale, self.x0 * scale, self.x1 * scale)

    def slices(self, origin: Box) -> tuple[slice, slice]:
        """Return the (y, x) slices of this box in an array that starts at `origin`."""
        return (
            slice(self.y0 - origin.y0, self.y1 - origin.y0),
            slice(self.x0 - origin.x0, self.x1 - origin.x0),
        )


@attrs.frozen
class Axis:
    """One axis of the tile grid of a section.

    Attributes
    ----------
    size_px : int
        Extent of the section, in input pixels.
    scale : Fraction
        Output pixels per input pixel; 1/s for a degradation by s.
    alignment_px, halo_px : int
        As stated by the method, in input pixels.
    block_px, tile_px : int
        Side of a block and largest side of a tile's core, in output pixels.
    overlap_px : int
        Output pixels of the cross-fade between neighbouring tiles; even; 0 for an exact method.
    exact : bool
        Whether the pixels of a tile are the same wherever it is cut.
    """

    size_px: int
    scale: Fraction
    alignment_px: int
    halo_px: int
    block_px: int
    tile_px: int
    overlap_px: int = 0
    exact: bool = False

    @property
    def out_px(self) -> int:
        """Extent of the output: the scaled section, a partial last pixel included."""
        return -(-self.size_px * self.scale.numerator // self.scale.denominator)

    @property
    def unit_px(self) -> int:
        """Output pixels per step of the alignment; edges of tiles are multiples of it."""
        return int(self.alignment_px * self.scale)

    @cached_property
    def edges(self) -> tuple[int, ...]:
        """Edges of the cores of the global grid, in output pixels, from 0 to the extent; it is cut block by block."""
        edges = [0]
        for start in range(0, self.out_px, self.block_px):
            edges += self._cut(start, min(start + self.block_px, self.out_px))[1:]
        return tuple(edges)

    def _cut(self, start: int, stop: int) -> list[int]:
        """Return the edges of the cores of an output range, both ends included; those within lie on the alignment.

        As few cores of at most `tile_px` as will do, as equal as the alignment allows: equal tiles need one plan in
        the convolution library and leave no sliver. Of a range that starts off the alignment one may be larger, by
        less than a step of it.
        """
        first = start // self.unit_px
        units = -(-stop // self.unit_px) - first
        count = -(-(stop - start) // round_down(max(self.tile_px, self.unit_px), self.unit_px))
        inner = [(first + units * k // count) * self.unit_px for k in range(1, count)]
        return [start, *inner, stop]

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self.edges) - 1

    def keep(self, index: int) -> tuple[int, int]:
        """Return the output range of tile `index`: core and half an overlap, clipped."""
        half = self.overlap_px // 2
        return max(0, self.edges[index] - half), min(self.out_px, self.edges[index + 1] + half)

    def read_for(self, start: int, stop: int) -> tuple[int, int]:
        """Return the input range of an output range: scaled back, with halo, aligned, clipped."""
        down, up = self.scale.denominator, self.scale.numerator
        first = start * down // up - self.halo_px
        last = -(-stop * down // up) + self.halo_px
        first = max(0, first // self.alignment_px * self.alignment_px)
        return first, min(self.size_px, round_up(last, self.alignment_px))

    def padded(self, start: int, stop: int) -> int:
        """Return the pixels of an input range after padding to whole steps of the alignment."""
        return round_up(stop - start, self.alignment_px)

    def tiles(self, start: int, stop: int) -> list[tuple[int, tuple[int, int]]]:
        """Return index and output range of each tile for the output range of a block.

        The tiles are those of the global grid, or, where they may be cut anywhere, the block's own, counted from 0.
        """
        if self.exact and not self.overlap_px:
            return list(enumerate(pairwise(self._cut(start, stop))))
        return [(index, self.keep(index)) for index in self.touching(start, stop)]

    def touching(self, start: int, stop: int) -> range:
        """Return the indices of the tiles of the global grid that contribute to an output range."""
        half = self.overlap_px // 2
        first = bisect_right(self.edges, start - half) - 1
        return range(max(0, first), min(self.count, bisect_left(self.edges, stop + half)))


@attrs.frozen
class Tile:
    """The unit handed to a method.

    Attributes
    ----------
    row, column : int
        Place in the global grid, or in the block.
    keep : Box
        Output pixels of the tile, absolute.
    read : Box
        Input pixels to read, absolute: inside the section, first pixel aligned.
    padded_height, padded_width : int
        Input pixels given to the method, after the far edge is replicated.
    """

    row: int
    column: int
    keep: Box
    read: Box
    padded_height: int
    padded_width: int


@attrs.frozen
class Block:
    """A unit of work.

    Attributes
    ----------
    z : int
        Section, absolute in the input.
    row, column : int
        Place in the grid of blocks of this run.
    box : Box
        Output pixels, absolute.
    """

    z: int
    row: int
    column: int
    box: Box

    @property
    def name(self) -> str:
        """Name in the journal and in messages."""
        return f"z{self.z:05d}-y{self.row:04d}-x{self.column:04d}"


@attrs.frozen
class Region:
    """A region of interest in absolute output pixels, and absolute sections along z."""

    z0: int
    z1: int
    box: Box

    @property
    def sections(self) -> range:
        """Sections along z."""
        return range(self.z0, self.z1)


@attrs.frozen
class Grid:
    """The tiles of a section and the blocks of a run."""

    y: Axis
    x: Axis
    region: Region

    @classmethod
    def build(
        cls,
        shape: tuple[int, int, int],
        *,
        scale: Fraction,
        alignment_px: int,
        halo_px: int,
        block_px: int,
        tile_px: int,
        overlap_px: int = 0,
        exact: bool = False,
        region: Region | None = None,
    ) -> Grid:
        """Lay the grid over a section or volume of the input shape (z, y, x), in pixels."""
        depth, height, width = shape
        y, x = (
            Axis(size, scale, alignment_px, halo_px, block_px, tile_px, overlap_px, exact)
            for size in (height, width)
        )
        return cls(y, x, region or Region(0, depth, Box(0, y.out_px, 0, x.out_px)))

    @property
    def scale(self) -> Fraction:
        """Output pixels per input pixel."""
        return self.y.scale

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (z, y, x) of the output of this run."""
        return self.region.z1 - self.region.z0, self.region.box.height, self.region.box.width

    @property
    def block_counts(self) -> tuple[int, int, int]:
        """Blocks along z, y and x."""
        side = self.y.block_px
        return self.shape[0], -(-self.shape[1] // side), -(-self.shape[2] // side)

    @property
    def block_total(self) -> int:
        """Blocks of the run."""
        z, y, x = self.block_counts
        return z * y * x

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks, section by section, row by row."""
        depth, rows, columns = self.block_counts
        for z in range(self.region.z0, self.region.z0 + depth):
            for row in range(rows):
                for column in range(columns):
                    yield self.block(z, row, column)

    def block(self, z: int, row: int, column: int) -> Block:
        """Return one block, the last of a row or column clipped to the region."""
        side, box = self.y.block_px, self.region.box
        y0, x0 = box.y0 + row * side, box.x0 + column * side
        return Block(z, row, column, Box(y0, min(y0 + side, box.y1), x0, min(x0 + side, box.x1)))

    def block_at(self, index: int) -> Block:
        """Return the block at a place in the order of `blocks`."""
        _, rows, columns = self.block_counts
        z, rest = divmod(index, rows * columns)
        return self.block(self.region.z0 + z, *divmod(rest, columns))

    def tiles(self, box: Box) -> list[Tile]:
        """Return the tiles for the output box of a block, row by row."""
        return [
            self.tile(row, column, Box(*y, *x))
            for row, y in self.y.tiles(box.y0, box.y1)
            for column, x in self.x.tiles(box.x0, box.x1)
        ]

    def tile_count(self, box: Box) -> int:
        """Return the number of tiles for the output box of a block."""
        return len(self.y.tiles(box.y0, box.y1)) * len(self.x.tiles(box.x0, box.x1))

    def tile(self, row: int, column: int, keep: Box) -> Tile:
        """Return the tile of the output box `keep`."""
        y0, y1 = self.y.read_for(keep.y0, keep.y1)
        x0, x1 = self.x.read_for(keep.x0, keep.x1)
        return Tile(row, column, keep, Box(y0, y1, x0, x1), self.y.padded(y0, y1), self.x.padded(x0, x1))

    def quarter(self, tile: Tile) -> list[Tile]:
        """Cut a tile into up to four on the alignment; an indivisible tile is returned alone."""
        rows = _halved_range(tile.keep.y0, tile.keep.y1, self.y.unit_px)
        columns = _halved_range(tile.keep.x0, tile.keep.x1, self.x.unit_px)
        return [self.tile(tile.row, tile.column, Box(*y, *x)) for y in rows for x in columns]

    def read_box(self, box: Box, margin_px: int = 0) -> Box:
        """Return the input pixels for an output box: its tiles' reads, and at least the margin."""
        tiles = self.tiles(box)
        reads = tiles[0].read.union(tiles[-1].read)
        down, up = self.scale.denominator, self.scale.numerator
        return Box(
            min(reads.y0, max(0, box.y0 * down // up - margin_px)),
            max(reads.y1, min(self.y.size_px, -(-box.y1 * down // up) + margin_px)),
            min(reads.x0, max(0, box.x0 * down // up - margin_px)),
            max(reads.x1, min(self.x.size_px, -(-box.x1 * down // up) + margin_px)),
        )

    @property
    def needed_px(self) -> int:
        """Input pixels of the region and its halo, in one section: of one tile around it."""
        tile = self.tile(0, 0, self.region.box)
        return tile.padded_height * tile.padded_width

    @cached_property
    def work(self) -> Work:
        """The work of the run; cheap, because every block is a product of rows and columns."""
        rows, columns = self._axis_work(self.y, 0), self._axis_work(self.x, 1)
        return Work(
            sections=self.shape[0],
            tiles=len(rows) * len(columns),
            computed_px=sum(rows) * sum(columns),
            largest_tile_px=max(rows) * max(columns),
            output_px=self.shape[1] * self.shape[2],
            scale=self.scale,
        )

    def _axis_work(self, axis: Axis, dimension: int) -> list[int]:
        """Return the padded input extent of every tile of every block along one axis."""
        box = self.region.box
        start, stop = ((box.y0, box.y1), (box.x0, box.x1))[dimension]
        extents: list[int] = []
        for first in range(start, stop, axis.block_px):
            tiles = axis.tiles(first, min(first + axis.block_px, stop))
            extents.extend(axis.padded(*axis.read_for(*keep)) for _, keep in tiles)
        return extents


@attrs.frozen
class Work:
    """The computation for one section of a run.

    Attributes
    ----------
    sections : int
        Sections of the run; the other numbers are for one of them.
    tiles, computed_px, largest_tile_px : int
        Tiles, and the input pixels the method sees: of all tiles, and of the largest.
    output_px : int
        Pixels kept.
    scale : Fraction
        Output pixels per input pixel.
    """

    sections: int
    tiles: int
    computed_px: int
    largest_tile_px: int
    output_px: int
    scale: Fraction

    @property
    def redundancy(self) -> float:
        """Pixels computed for every pixel kept."""
        return float(self.computed_px * self.scale * self.scale / self.output_px)

    def makespan_px(self, threads: int) -> int:
        """Estimate the input pixels of the busiest of `threads` for the whole run."""
        tiles = self.tiles * self.sections
        even = -(-self.computed_px * self.sections // threads)
        return max(even, self.largest_tile_px * -(-tiles // threads) if tiles < 4 * threads else 0)


def _halved_range(start: int, stop: int, unit: int) -> list[tuple[int, int]]:
    """Cut an output span in two at a multiple of the unit near its middle."""
    middle = (start + stop) // 2 // unit * unit
    return [(start, middle), (middle, stop)] if start < middle < stop else [(start, stop)]


WASTE_LIMIT = 1.5
"""Pixels computed, for each one of the region and its halo, that may be spent to keep all threads at work."""

WORTH_WASTE = 0.2
"""Share of the time that this must save."""


def choose_tile_px(
    grid: Grid,
    *,
    threads: int,
    memory_px: int,
    time_px: int,
    redundancy_limit: float,
) -> int:
    """Choose the side of a tile's core, in output pixels.

    Parameters
    ----------
    grid : Grid
        The run's grid; its own tile size is ignored.
    threads : int
        Tiles in flight.
    memory_px : int
        Largest tile, in input pixels with halo, that memory allows.
    time_px : int
        Largest tile, in input pixels with halo, that a method computes within the time a tile may take.
    redundancy_limit : float
        Accepted pixels computed per pixel kept, if any tile in memory reaches it.

    Returns
    -------
    int
        The side that finishes first within the limits. If limits exclude each other, memory comes first, then
        redundancy, then time. The halo of a small region may be larger than itself: no side is within the limit of
        redundancy, and the side with the least computation is chosen. The limit of redundancy gives way where threads
        would idle: to a side that computes up to 1.5 times the pixels of the region and its halo, and finishes in less
        than four fifths of the time.
    """
    unit, block = grid.y.unit_px, grid.y.block_px
    sides = sorted({max(unit, round_up(-(-block // n), unit)) for n in range(1, block // unit + 1)})
    trials = {
        side: attrs.evolve(
            grid, y=attrs.evolve(grid.y, tile_px=side), x=attrs.evolve(grid.x, tile_px=side)
        ).work
        for side in sides
        if side >= min(128, block)
    }
    allowed = [s for s in trials if trials[s].largest_tile_px <= memory_px] or [min(trials)]
    least = min(trials[s].computed_px for s in allowed)
    thrifty = [s for s in allowed if trials[s].redundancy <= redundancy_limit]
    thrifty = thrifty or [s for s in allowed if trials[s].computed_px == least]
    quick = [s for s in allowed if trials[s].computed_px <= WASTE_LIMIT * grid.needed_px] or thrifty
    best = [_quickest(trials, sides, threads, time_px) for sides in (thrifty, quick)]
    saved = 1 - trials[best[1]].makespan_px(threads) / trials[best[0]].makespan_px(threads)
    return best[saved > WORTH_WASTE]


def _quickest(trials: Mapping[int, Work], sides: Sequence[int], threads: int, time_px: int) -> int:
    """Return the side with the smallest makespan among those whose tiles stay within the time limit."""
    in_time = [side for side in sides if trials[side].largest_tile_px <= time_px]
    # Where all take longer, the smallest would spend most of the time on halos.
    bound = SPARING * min(trials[side].computed_px for side in sides)
    in_time = in_time or [side for side in sides if trials[side].computed_px <= bound][:1]
    return min(in_time, key=lambda side: (trials[side].makespan_px(threads), -side))
