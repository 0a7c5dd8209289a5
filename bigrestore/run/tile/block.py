"""One block on its way: read with its margin, restored tile by tile, put together in the storage dtype.

Everything here works on arrays of one block; threads and order are the pipeline's business. A restored tile is
converted to the storage dtype at once, so a block in flight costs its bytes in the output and no float image
(cross-fading needs one while the block is open).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.geometry import Block, Box, Grid, Tile
from bigrestore.core.pixels import LUMA, Floats, from_unit, interpolate, luma, pad_far, to_grey, to_unit
from bigrestore.errors import BigrestoreError, gpu_failures, out_of_memory
from bigrestore.io.access.versions import Read, recording_reads
from bigrestore.io.section import Section
from bigrestore.model.method import RESIDUAL_STEP_PX, Method, TileBatch, TileResult
from bigrestore.run.neighbours.harmony import Tones
from bigrestore.run.profile.kept import Profiles
from bigrestore.run.profile.section_profile import Profile
from bigrestore.run.tile.blend import Fader
from bigrestore.run.tile.maps import rounded
from bigrestore.run.tile.mask import MARGIN_PX, Masker, Weights, at_output
from bigrestore.run.tile.realness import RealnessMap
from bigrestore.run.tile.tallies import Seams, TileSums, add_residual
from bigrestore.run.tile.unlikely import block_unlikely
from bigrestore.settings.values import FILLED, UNLIKELY_MAP

if TYPE_CHECKING:
    from bigrestore.run.neighbours.fill import Filler

log = logging.getLogger(__name__)

NEIGHBOURS = "neighbouring sections"
"""What a block's record calls the reads of sections beside its own."""

INTERPOLATION_PX = 8
"""Input pixels around what is interpolated, beyond which interpolation does not reach."""


class TileFailedError(BigrestoreError, ArithmeticError):
    """A method gave an unusable result."""


@attrs.frozen(eq=False)
class Job:
    """What all blocks of a run share.

    Attributes
    ----------
    section, method, grid : Section, Method, Grid
        Input, method and geometry.
    masker, profiles : Masker, Profiles
        Pixels to restore, and facts of each section.
    batch_size : int
        Tiles handed to the method at once.
    deterministic : bool
        Refuse to cut a tile too large for memory.
    score_tile_px : int
        Side of the score tiles for sums of residuals and seams, in output pixels; 0: none.
    maps : tuple of str
        Maps kept beside the pixels.
    realness : RealnessMap, optional
        What the method's realness is multiplied with.
    tones : mapping of int to Tone
        Tones that sections are brought to; empty: none is changed.
    filler : Filler, optional
        Fills damage from neighbouring sections; None: damage passes through.
    """

    section: Section
    method: Method
    grid: Grid
    masker: Masker
    profiles: Profiles
    batch_size: int = 1
    deterministic: bool = False
    score_tile_px: int = 0
    maps: tuple[str, ...] = ()
    realness: RealnessMap | None = None
    tones: Tones = attrs.field(factory=dict)
    filler: Filler | None = None

    @property
    def method_maps(self) -> tuple[str, ...]:
        """The maps that the method gives."""
        return tuple(name for name in self.maps if name != FILLED)


@attrs.define
class Tally:
    """Sums over the tiles of a block, for its record."""

    tiles: int = 0
    skipped: int = 0
    cut: int = 0
    split: int = 0
    seconds: float = 0.0
    residual_sum: float = 0.0
    residual_count: int = 0

    def stats(self) -> dict[str, Any]:
        """Return the figures for the journal."""
        stats: dict[str, Any] = {
            "tiles": self.tiles,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
        }
        if self.residual_count:
            stats["residual_rms"] = round((self.residual_sum / self.residual_count) ** 0.5, 7)
        if self.cut:
            stats["cut_tiles"] = self.cut
        if self.split:
            stats["split_batches"] = self.split
        return stats


class BlockWork:
    """A block with its input read.

    Parameters
    ----------
    job : Job
        What all blocks share.
    block : Block
        The block.
    """

    def __init__(self, job: Job, block: Block) -> None:
        section, grid = job.section, job.grid
        self.job, self.block = job, block
        self.read: Box = grid.read_box(block.box, max(MARGIN_PX, INTERPOLATION_PX))
        self.reads: dict[str, list[Read]] = {}
        with self._noting("input"):
            self.pixels: NDArray[Any] = section.read(
                block.z, self.read.y0, self.read.y1, self.read.x0, self.read.x1
            )
        self.profile: Profile = job.profiles.of(block.z)
        with self._noting("mask"):
            self.weights: Weights = job.masker.weights(
                block.z, block.box, self.read, self.pixels, self.profile
            )
        self.filled: NDArray[np.bool_] | None = None
        if job.filler is not None and self.weights.valid is not None:
            with self._noting(NEIGHBOURS):
                self.pixels, self.filled = job.filler.fill(
                    block.z, self.read, self.pixels, self.weights.valid
                )
        shape = (block.box.height, block.box.width, 3)[: 2 + (section.channels == 3)]
        self.output: NDArray[Any] = np.empty(shape, section.dtype)
        with self._noting("realness map"):
            self.realness = None if job.realness is None else job.realness.read(block.z, self.read)
        fades = not job.method.exact or grid.y.overlap_px > 0
        self.fader = Fader(grid, block.box) if fades else None
        self.map_faders = [Fader(grid, block.box) for _ in self.job.method_maps] if fades else []
        self.maps: dict[str, Floats] = {name: np.zeros(shape[:2], np.float32) for name in job.maps}
        side = job.score_tile_px
        self.residuals = TileSums(side) if side else None
        self.seams = Seams(grid, block.box, side) if side and grid.y.overlap_px else None
        self.empty = self.weights.empty(block.box)
        self.batches = self._batches()
        self.tally = Tally()
        self.reason = ""
        self._open = len(self.batches)
        self._lock = threading.Lock()

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Keep the reads of the context for the block's record."""
        with recording_reads() as reads:
            yield
        if reads:
            self.reads[what] = reads

    def _batches(self) -> list[list[Tile]]:
        """Group the tiles: neighbours of one size in batches, skipped tiles alone."""
        batches: list[list[Tile]] = []
        for tile in self.job.grid.tiles(self.block.box):
            last = batches[-1] if batches else []
            joins = (
                0 < len(last) < self.job.batch_size
                and (last[0].padded_height, last[0].padded_width) == (tile.padded_height, tile.padded_width)
                and not self._skips(last[0])
                and not self._skips(tile)
            )
            if joins:
                last.append(tile)
            else:
                batches.append([tile])
        return batches

    def _skips(self, tile: Tile) -> bool:
        return self.weights.empty(tile.keep.intersect(self.block.box))

    def fail(self, reason: str) -> None:
        """Note why the block cannot be finished; the first reason stays."""
        with self._lock:
            self.reason = self.reason or reason

    def close_batch(self) -> bool:
        """Count a batch as dealt with; return whether it was the last."""
        with self._lock:
            self._open -= 1
            return self._open == 0

    def restore(self, tiles: list[Tile]) -> None:
        """Restore one batch of tiles into the block."""
        if self._skips(tiles[0]):
            self._put(tiles[0], None)
            with self._lock:
                self.tally.skipped += 1
            return
        started = time.perf_counter()
        for tile, values in zip(tiles, self._values(tiles), strict=True):
            self._put(tile, values)
        with self._lock:
            self.tally.tiles += len(tiles)
            self.tally.seconds += time.perf_counter() - started

    def finish(self) -> None:
        """Complete the output once all tiles are in."""
        if self.fader is not None:
            box = self.block.box
            self.output[...] = self._stored(box, None if self.empty else self.fader.values)
            for name, fader in zip(self.job.method_maps, self.map_faders, strict=True):
                self._keep_map(name, box, fader.values)
        if FILLED in self.maps and self.filled is not None:
            self.maps[FILLED] = at_output(self.filled, self.read, self.block.box, self.job.grid.scale).astype(
                np.float32
            )

    def stats(self) -> dict[str, Any]:
        """Return the figures for the journal: the sums over tiles, and the mean grey before and after."""
        box, scale = self.block.box, self.job.grid.scale
        core = Box(*(int(edge / scale) for edge in (box.y0, box.y1, box.x0, box.x1)))
        means = {
            "mean_before": self._mean(self.pixels[core.slices(self.read)]),
            "mean_after": self._mean(self.output),
        }
        stats = self.tally.stats() | means
        if self.filled is not None and self.weights.valid is not None:
            part = core.slices(self.read)
            stats["damaged_px"] = int((~self.weights.valid[part]).sum())
            stats["filled_px"] = int(self.filled[part].sum())
        for name, sums in (("residuals", self.residuals), ("seams", self.seams and self.seams.sums)):
            totals = sums.totals() if sums else {}
            if totals:  # by score tile, `row,column`
                stats[name] = {f"{row},{column}": values for (row, column), values in sorted(totals.items())}
        if UNLIKELY_MAP in self.maps:
            weights = self.weights.of(box)
            restored = None if weights is None else weights > 0
            stats[UNLIKELY_MAP] = block_unlikely(self.maps[UNLIKELY_MAP], restored, box, self.block.z)
        return stats

    def _mean(self, pixels: NDArray[Any]) -> float | None:
        """Return the mean luma of storage values, 0..1: luma is linear, so the luma of the channels' means."""
        if not pixels.size:
            return None
        low, high = self.job.section.value_range
        mean = pixels.mean(axis=(0, 1), dtype=np.float64)
        grey = float(mean @ LUMA) if pixels.ndim == 3 else float(mean)
        return round((grey - low) / (high - low), 6)

    def _put(self, tile: Tile, planes: Floats | None) -> None:
        """Keep a tile's part of the block, its pixels and then its maps; None for a skipped tile."""
        wanted = tile.keep.intersect(self.block.box)
        values = None if planes is None else planes[0]
        if self.fader is not None:
            self.fader.add(tile, values)
            for index, fader in enumerate(self.map_faders, start=1):
                fader.add(tile, None if planes is None else planes[index])
            if self.seams is not None:
                self.seams.add(tile, values)
            return
        part = None if values is None else values[wanted.slices(tile.keep)]
        self.output[wanted.slices(self.block.box)] = self._stored(wanted, part)
        if planes is not None:
            for name, plane in zip(self.job.method_maps, planes[1:], strict=True):
                self._keep_map(name, wanted, plane[wanted.slices(tile.keep)])

    def _keep_map(self, name: str, box: Box, values: Floats) -> None:
        """Keep a map in a box, weighted as the image is: 0 outside the restored pixels."""
        weights = self.weights.of(box)
        kept = values if weights is None else values * weights
        self.maps[name][box.slices(self.block.box)] = rounded(kept)

    def _stored(self, box: Box, restored: Floats | None) -> NDArray[Any]:
        """Mix restored grey with passed-through pixels, carry colour, change the tone, convert to storage values."""
        weights = self.weights.of(box)
        if restored is not None and weights is None and self.pixels.ndim == 2:
            values = restored
        else:
            base = self._passed_through(box)
            grey = luma(base) if base.ndim == 3 else base
            change = np.zeros_like(grey) if restored is None else restored - grey
            if weights is not None:
                change *= weights
            values = base + (change[..., None] if base.ndim == 3 else change)
        tone = self.job.tones.get(self.block.z)
        if tone is not None:
            values = tone.of(values)
        return from_unit(values, self.job.section.value_range, self.output.dtype)

    def _passed_through(self, box: Box) -> Floats:
        """Interpolate the input at an output box; the margin makes it independent of the cut."""
        scale, grid = self.job.grid.scale, self.job.grid
        down, up = scale.denominator, scale.numerator
        margin = INTERPOLATION_PX if scale > 1 else 0
        area = Box(
            max(0, box.y0 * down // up - margin),
            min(grid.y.size_px, -(-box.y1 * down // up) + margin),
            max(0, box.x0 * down // up - margin),
            min(grid.x.size_px, -(-box.x1 * down // up) + margin),
        )
        unit = to_unit(self.pixels[area.slices(self.read)], self.job.section.value_range)
        values = interpolate(unit, scale)
        y0, x0 = box.y0 - int(area.y0 * scale), box.x0 - int(area.x0 * scale)
        return values[y0 : y0 + box.height, x0 : x0 + box.width]

    def _values(self, tiles: list[Tile]) -> list[Floats]:
        """Hand tiles of one size to the method and cut out their kept boxes; out of memory, in smaller parts.

        Returns
        -------
        list of ndarray, (1 + maps, height, width)
            For each tile the pixels, then the maps in their order.
        """
        scale, name, fits = self.job.grid.scale, self.job.method.name, True
        try:
            batch = self._batch(tiles)
            with gpu_failures():
                result = self.job.method.restore(batch, self.profile.statistics)
        except Exception as error:
            if not out_of_memory(error):
                raise
            self._require_smaller(tiles, error)
            fits = False
        if not fits:  # outside of the handler, which would keep the memory of the failed try alive
            return self._in_parts(tiles)
        if not isinstance(result, TileResult):
            raise TileFailedError(f"the method {name} gave {type(result).__name__} and no TileResult")
        planes = [result.pixels, *(result.maps[each] for each in self.job.method_maps)]
        values = []
        for index, tile in enumerate(tiles):
            y0 = tile.keep.y0 - int(tile.read.y0 * scale)
            x0 = tile.keep.x0 - int(tile.read.x0 * scale)
            core = np.s_[index, y0 : y0 + tile.keep.height, x0 : x0 + tile.keep.width]
            kept = (
                np.stack([plane[core] for plane in planes]) if len(planes) > 1 else result.pixels[core][None]
            )
            if kept.shape[1:] != (tile.keep.height, tile.keep.width):
                raise TileFailedError(
                    f"the method {name} gave {result.pixels.shape[1:]} pixels for a tile of {batch.pixels.shape[1:]} at "
                    f"scale {scale}"
                )
            if not np.isfinite(kept.sum(dtype=np.float64)):
                raise TileFailedError(
                    f"the method {name} gave values that are no numbers at output y {tile.keep.y0}, x {tile.keep.x0}"
                )
            values.append(kept)
            if result.residual is not None:
                self._count(tile, result.residual[index], batch.pixels[index])
        return values

    def _require_smaller(self, tiles: list[Tile], error: Exception) -> None:
        """Raise for tiles out of memory if smaller parts are refused or impossible."""
        if self.job.deterministic:
            raise TileFailedError(
                f"memory ran out ({' '.join(str(error).split())[:120] or type(error).__name__}), and "
                "--deterministic refuses a smaller batch or tile; give a smaller --batch-size, --tile-size or "
                "--threads"
            ) from error
        if len(tiles) == 1 and len(self.job.grid.quarter(tiles[0])) == 1:
            raise error

    def _in_parts(self, tiles: list[Tile]) -> list[Floats]:
        """Restore tiles one by one, or a single one in quarters."""
        if len(tiles) > 1:
            log.warning("Block %s: %d tiles at once do not fit into memory.", self.block.name, len(tiles))
            with self._lock:
                self.tally.split += 1
            return [self._values([tile])[0] for tile in tiles]
        log.warning("Block %s: a tile does not fit into memory and is cut in four.", self.block.name)
        with self._lock:
            self.tally.cut += 1
        keep = tiles[0].keep
        whole = np.empty((1 + len(self.job.method_maps), keep.height, keep.width), np.float32)
        for part in self.job.grid.quarter(tiles[0]):
            whole[:, *part.keep.slices(keep)] = self._values([part])[0]
        return [whole]

    def _batch(self, tiles: list[Tile]) -> TileBatch:
        """Cut tiles out of the block's pixels, the far edge replicated up to the alignment."""
        height, width = tiles[0].padded_height, tiles[0].padded_width
        pixels = np.empty((len(tiles), height, width), np.float32)
        valid = None if self.weights.valid is None else np.empty(pixels.shape, np.bool_)
        for index, tile in enumerate(tiles):
            place = tile.read.slices(self.read)
            grey = to_grey(self.pixels[place], self.job.section.value_range)
            pixels[index] = pad_far(grey, height, width)
            if valid is not None and self.weights.valid is not None:
                valid[index] = pad_far(self.weights.valid[place], height, width)
        origins = np.array([(tile.read.y0, tile.read.x0) for tile in tiles], np.int64)
        realness = None
        if self.realness is not None:
            parts = (pad_far(self.realness[tile.read.slices(self.read)], height, width) for tile in tiles)
            realness = np.stack(list(parts))
        return TileBatch(pixels, valid, origins, self.block.z, realness, self.job.method_maps)

    def _count(self, tile: Tile, residual: Floats, pixels: Floats) -> None:
        """Add the residual in a tile's core to the block's sums, and to those of the score tiles."""
        core = tile.keep.intersect(self.block.box)
        scale = self.job.grid.scale
        rows, columns = (
            slice(int(start / scale) - first, max(int(stop / scale), int(start / scale) + 1) - first)
            for start, stop, first in (
                (core.y0, core.y1, tile.read.y0),
                (core.x0, core.x1, tile.read.x0),
            )
        )
        step = RESIDUAL_STEP_PX
        part = residual[
            -(-rows.start // step) : -(-rows.stop // step),
            -(-columns.start // step) : -(-columns.stop // step),
        ]
        with self._lock:
            self.tally.residual_sum += float(np.square(part, dtype=np.float64).sum())
            self.tally.residual_count += part.size
        if self.residuals is not None:
            known = self.profile.statistics
            variance = known.noise_gain * pixels[::step, ::step] + known.read_noise**2
            add_residual(self.residuals, tile, core, scale, residual, variance, step)
