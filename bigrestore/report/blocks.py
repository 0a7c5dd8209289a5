"""The scores of a run: every block's tiles, before and after, while the blocks after it are restored.

A block is taken after it is written, with its pixels still in memory, and its rows are kept in a file of its own beside
the journal, `scores/BLOCK.json`, for a resumed run. What is not there at the end, whatever the reason (a tile lies
across two blocks of a region, the run was stopped between a block and its scores, the scores were switched on later, or
a GPU was faster than the scores), is read back from the output and scored then. It is the same arithmetic on the same
stored pixels, so both ways give the same row.

The pixels of the output do not depend on any of this. A failed strip is tried once more at the end; after another
failure its tiles are listed as failed, and the summary says why.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.files import write_json
from bigrestore.core.geometry import Block, Box, Grid
from bigrestore.core.regular import read_text
from bigrestore.core.sizes import SCORE_TILE_PX
from bigrestore.errors import OutputError, output_error
from bigrestore.report.images import ImageToScore, tissue_seen
from bigrestore.report.metrics.blobs import pixel_um
from bigrestore.report.metrics.enlarge import source_box
from bigrestore.report.pool import ScorePool
from bigrestore.report.rows import Columns, to_columns
from bigrestore.report.table.grid import ScoreTile, TileGrid, bounding_box, draw_sample, strips
from bigrestore.report.table.tiles import Pixels, Strip, TileRow, engine_columns, missing_rows
from bigrestore.run.sinks import BlockSink
from bigrestore.run.tile.block import BlockWork

log = logging.getLogger(__name__)

LATE = "late"
"""Name under which the rows are kept that were scored from the finished output; no block is called so."""

SLOT_POLL_SECONDS = 0.1


@attrs.frozen
class ScorePlan:
    """Which tiles of a run are scored.

    Attributes
    ----------
    grid : TileGrid
        On the output.
    native : TileGrid or None
        On the input's own grid, if it differs.
    scale : int
        Output pixels per input pixel.
    sample : int or None
        Tiles drawn, of all sections; None: every tile.
    seed : int
        Of the sample.
    """

    grid: TileGrid
    native: TileGrid | None
    scale: int
    sample: int | None
    seed: int

    @classmethod
    def of_run(
        cls, grid: Grid, largest: int, sample: int | None, seed: int, tile_px: int = SCORE_TILE_PX
    ) -> ScorePlan:
        """Lay the score tiles over the region of a run.

        Parameters
        ----------
        grid : Grid
            Of the run; its scale is a whole number.
        largest : int
            Tiles above which a sample is drawn where none is asked for.
        sample : int or None
            Tiles asked for.
        seed : int
            Of the sample.
        tile_px : int
            Side of a score tile.
        """
        region, scale = grid.region, int(grid.scale)
        output = TileGrid(region.z0, region.z1, region.box, tile_px)
        native = None
        if scale > 1:
            box = region.box
            inner = Box(-(-box.y0 // scale), box.y1 // scale, -(-box.x0 // scale), box.x1 // scale)
            native = TileGrid(region.z0, region.z1, inner, tile_px)
        if sample is None and output.count > largest:
            sample = largest
        return cls(output, native, scale, sample, seed)


@attrs.define(eq=False)
class _Open:
    """A block with strips at work."""

    name: str
    futures: dict[Future[list[TileRow]], tuple[str, list[ScoreTile]]]
    left: int


class RunScores(BlockSink):
    """Takes blocks, keeps their rows.

    Parameters
    ----------
    plan : ScorePlan
        Which tiles.
    pool : ScorePool
        Computes.
    folder : Path
        Where the rows of blocks are kept.
    digest : str
        Of the engine and this version: rows under another one are computed anew.
    source : ImageToScore
        The input, for samples.
    blocks_at_once : int
        Blocks held until they are scored, at most.
    waits : bool
        Whether a block waits for its turn (CPU), or is left for later (beside a GPU, which must not wait).

    Raises
    ------
    OutputError
        Where the folder cannot be made.
    """

    def __init__(
        self,
        plan: ScorePlan,
        pool: ScorePool,
        folder: Path,
        digest: str,
        source: ImageToScore,
        *,
        blocks_at_once: int,
        waits: bool,
    ) -> None:
        self.plan, self.pool = plan, pool
        self.failures: list[str] = []
        self._folder, self._digest, self._source, self._waits = folder, digest, source, waits
        self._slots = threading.Semaphore(blocks_at_once)
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._open = 0
        self._samples: dict[tuple[str, int], frozenset[ScoreTile]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise output_error(folder, error) from error

    def names(self, kind: str) -> list[str]:
        """Return the columns of the rows of a kind: `rows` of the output, `native` of the input's own grid."""
        return engine_columns(self.pool.engine, pair=kind == "rows", reference=False)

    def forget(self, block: Block) -> None:
        """Drop the rows of a block begun anew, and those scored from the former output.

        Raises
        ------
        OutputError
            Where they may not be removed.
        """
        for path in (self._path(block.name), self._path(LATE)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise output_error(path, error) from error

    def take(self, work: BlockWork, stopping: Callable[[], bool]) -> None:
        """Queue the tiles of a written block; waits for room, or leaves it for later."""
        if not self._slots.acquire(blocking=False):
            if not self._waits:
                return
            while not self._slots.acquire(timeout=SLOT_POLL_SECONDS):
                if stopping():
                    return
        with self._lock:
            self._open += 1
        self.pool.run(self._queue, work)

    def wait(self, stopping: Callable[[], bool]) -> None:
        """Return when no block is at work, or the run is to stop."""
        with self._idle:
            while self._open and not stopping():
                self._idle.wait(SLOT_POLL_SECONDS)

    def close(self) -> None:
        """End the threads and processes."""
        self.pool.close()

    def wanted(
        self, kind: str, z: int, background: tuple[float | None, float]
    ) -> frozenset[ScoreTile] | None:
        """Return the sampled tiles of section z, None for all.

        Every section has an equal part of the sample, or every so-manyth has one tile; within a section it is
        stratified (see `bigrestore.report.table.grid.draw_sample`).
        """
        plan = self.plan
        if plan.sample is None:
            return None
        with self._lock:
            if (kind, z) not in self._samples:
                grid, scale = (plan.grid, plan.scale) if kind == "rows" else (plan.native, 1)
                assert grid is not None
                sections, at = grid.z1 - grid.z0, z - grid.z0
                sample = plan.sample if kind == "rows" else -(-plan.sample // plan.scale**2)
                count = sample * (at + 1) // sections - sample * at // sections
                places = [place for place in grid.places(z) if grid.whole(place)]
                tissue = tissue_seen(self._source, places, background, scale, z)
                self._samples[kind, z] = frozenset(draw_sample(places, tissue, count, plan.seed + z))
            return self._samples[kind, z]

    def stored(self, name: str) -> dict[str, Columns]:
        """Return the kept rows of a block, empty without any under this engine."""
        try:
            stored = json.loads(read_text(self._path(name)))
        except (OSError, ValueError):
            return {}
        if not isinstance(stored, dict) or stored.pop("digest", None) != self._digest:
            return {}
        return stored

    def keep(self, name: str, columns: dict[str, Columns]) -> None:
        """Keep rows, by kind, for a resumed run; unkept rows are scored once more then."""
        try:
            write_json(self._path(name), {**columns, "digest": self._digest})
        except OutputError as error:
            log.warning("The scores of %s are not kept: %s", name, error)

    def _queue(self, work: BlockWork) -> None:
        """Cut a block into strips and hand them over; in a thread of the pool, because a sample needs a look first."""
        futures: dict[Future[list[TileRow]], tuple[str, list[ScoreTile]]] = {}
        try:
            for kind, strip in self._strips(work):
                futures[self.pool.submit(strip)] = kind, strip.places
        except Exception:
            log.warning("Block %s is scored at the end.", work.block.name, exc_info=True)
        opened = _Open(work.block.name, futures, len(futures))
        if not futures:
            self._finish(opened)
        for future in futures:
            future.add_done_callback(lambda _: self._one_done(opened))

    def _strips(self, work: BlockWork) -> Iterable[tuple[str, Strip]]:
        """Yield the strips of a block: of the output with its input, and of the input on its own grid."""
        plan, block = self.plan, work.block
        section = work.job.section
        known = work.profile.background, work.profile.background_sigma
        output = Pixels(work.output, block.box, section.value_range)
        source = Pixels(work.pixels, work.read, section.value_range)
        for group in strips(self._within("rows", block, block.box, known)):
            wanted = bounding_box(group)
            needed = source_box(wanted, plan.scale, work.read.y1, work.read.x1)
            yield (
                "rows",
                Strip(
                    group,
                    _cut(output, wanted),
                    _cut(source, needed),
                    scale=plan.scale,
                    tile_px=plan.grid.tile_px,
                    background=known[0],
                    sigma=known[1],
                    pixel_um=pixel_um(section.voxel_size_um, plan.scale),
                    noise_law=work.profile.noise_law,
                ),
            )
        if plan.native is not None:
            box, s = block.box, plan.scale
            inner = Box(-(-box.y0 // s), box.y1 // s, -(-box.x0 // s), box.x1 // s)
            for group in strips(self._within("native", block, inner, known)):
                part = _cut(source, bounding_box(group))
                side = plan.native.tile_px
                yield "native", Strip(group, part, tile_px=side, background=known[0], sigma=known[1])

    def _within(
        self, kind: str, block: Block, box: Box, background: tuple[float | None, float]
    ) -> list[ScoreTile]:
        grid = self.plan.grid if kind == "rows" else self.plan.native
        assert grid is not None
        wanted = self.wanted(kind, block.z, background)
        return [place for place in grid.places(block.z, box) if wanted is None or place in wanted]

    def _one_done(self, opened: _Open) -> None:
        """Count a strip; the last one of a block writes its rows."""
        with self._lock:
            opened.left -= 1
            last = opened.left == 0
        if last:
            self._finish(opened)

    def _finish(self, opened: _Open) -> None:
        """Keep the rows of a block; missing ones are scored at the end."""
        try:
            rows_by_kind: dict[str, list[TileRow]] = {"rows": [], "native": []}
            for future, (kind, _) in opened.futures.items():
                if future.cancelled():
                    return
                error = future.exception()
                if error is None:
                    rows_by_kind[kind] += future.result()
                else:
                    log.debug("Tiles of block %s cannot be scored.", opened.name, exc_info=error)
            kept: dict[str, Any] = {k: to_columns(rows, self.names(k)) for k, rows in rows_by_kind.items()}
            write_json(self._path(opened.name), kept | {"digest": self._digest})
        except (
            OutputError
        ) as error:  # they are scored again at the end; the next record of a block says the same
            log.warning("The scores of block %s are not kept: %s", opened.name, error)
        finally:
            self._slots.release()
            with self._idle:
                self._open -= 1
                self._idle.notify_all()

    def rows_of(self, future: Future[list[TileRow]], kind: str, places: list[ScoreTile]) -> list[TileRow]:
        """Return the rows of a strip; for a failed one, rows that say so, with a note of the reason."""
        error = future.exception()
        if error is None:
            return future.result()
        log.debug("A strip of %d tiles cannot be scored.", len(places), exc_info=error)
        self._note(f"section {places[0].z}, row {places[0].row} of tiles: {type(error).__name__}: {error}")
        return missing_rows(places, self.names(kind))

    def _note(self, sentence: str) -> None:
        with self._lock:
            self.failures.append(" ".join(sentence.split()).rstrip("."))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _cut(pixels: Pixels, box: Box) -> Pixels:
    """Return part of an image; no pixel is copied."""
    return attrs.evolve(pixels, values=pixels.values[box.slices(pixels.box)], box=box)
