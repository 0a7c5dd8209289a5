"""The blocks phase: one thread reads ahead, several restore, one writes behind, the caller watches.

Tiles flow from block to block through one queue, so that no core idles while the last tile of a block is
finished or a block is compressed. The number of blocks in flight is bounded, and with it the memory. The caller's
thread does nothing but take in finished blocks and look for signals, which Python delivers to it alone.

A block that fails is recorded and the rest goes on; its files were unlinked when it was begun, so it keeps
the fill value. An output that cannot be written is another matter: the next block would fail of the same full
disk, so the run stops at the first, and what was finished is kept for the run that goes on. Errors that pass, such as
those of a network file system whose server restarts, are waited for (`bigrestore.core.retry`).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.geometry import Block, Tile
from bigrestore.core.resources import give_threads_back, one_thread_per_tile
from bigrestore.core.retry import retry_transient
from bigrestore.errors import BigrestoreError, InputError, OutputError, output_error
from bigrestore.io.store.ome_zarr import open_level, shard_paths, write_block
from bigrestore.report.blocks import RunScores
from bigrestore.run.output.place import refuse_links
from bigrestore.run.plan import Plan
from bigrestore.run.state.checksums import STORE_FILES, note_of
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.records import BlockRecord
from bigrestore.run.stop import StopFlag
from bigrestore.run.tile.block import BlockWork, Job
from bigrestore.run.tile.maps import images

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
GRACE_SECONDS = 8.0
"""How long a stopped run waits for the tiles at work; a scheduler kills soon after it warned."""

Done = Callable[[BlockRecord, Block], None]


@attrs.frozen
class _TileJob:
    work: BlockWork
    tiles: list[Tile]


class Pipeline:
    """Runs blocks through reading, restoring and writing.

    Parameters
    ----------
    job : Job
        What the blocks share.
    plan : Plan
        Threads and blocks in flight.
    store : Path
        The output store, created.
    journal : Journal
        Takes a record for each block.
    scores : RunScores, optional
        Takes the pixels of each block once it is written; None: no report is made.
    """

    def __init__(
        self, job: Job, plan: Plan, store: Path, journal: Journal, scores: RunScores | None = None
    ) -> None:
        self._job, self._plan, self._store, self._journal = job, plan, store, journal
        self._scores = scores
        self._images = images(store, plan)
        self._arrays = [open_level(image.path, 0) for image in self._images]
        self._slots = threading.Semaphore(plan.blocks_in_flight)
        self._tiles: queue.Queue[_TileJob | None] = queue.Queue()
        self._finished: queue.Queue[BlockWork | None] = queue.Queue()
        self._records: queue.Queue[tuple[BlockRecord, Block]] = queue.Queue()
        self._open: dict[str, list[Path]] = {}
        self._begun = 0
        self._all_begun = threading.Event()
        self._stop = threading.Event()
        self._flag = StopFlag()
        self._crash: list[BaseException] = []

    def run(self, blocks: Iterable[Block], flag: StopFlag, done: Done) -> None:
        """Carry out blocks; returns when there are no more and all have a record, or when the flag was set.

        Parameters
        ----------
        blocks : iterable of Block
            The blocks, in the order in which they are begun; asked for the next one in a thread, and may let it wait.
        flag : StopFlag
            Looked at all the time; once set, blocks in flight are abandoned.
        done : callable
            Called in this thread with the record of each block.
        """
        self._flag = flag
        threads_before = one_thread_per_tile()
        threads = [self._thread("reader", self._read, blocks)]
        threads += [self._thread(f"tile-{n}", self._restore) for n in range(self._plan.threads)]
        threads.append(self._thread("writer", self._write))
        taken = 0
        try:
            while not flag and not self._crash and not (self._all_begun.is_set() and taken == self._begun):
                try:
                    record, block = self._records.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
                taken += 1
                done(record, block)
        finally:
            self._shut_down(threads)
            give_threads_back(threads_before)
        while not self._records.empty():
            done(*self._records.get())
        if self._crash:
            raise self._crash[0]

    def _thread(self, name: str, target: Callable[..., None], *args: Any) -> threading.Thread:
        def guarded() -> None:
            try:
                target(*args)
            except BaseException as error:  # handed to the caller's thread, which raises it
                self._crash.append(error)
                log.debug("Thread %s ended.", name, exc_info=True)

        thread = threading.Thread(target=guarded, name=f"bigrestore-{name}", daemon=True)
        thread.start()
        return thread

    def _shut_down(self, threads: list[threading.Thread]) -> None:
        """Stop all threads and forget the blocks that were begun and not finished."""
        self._stop.set()
        self._slots.release(len(threads))
        for _ in threads:
            self._tiles.put(None)
        self._finished.put(None)
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for name, files in list(self._open.items()):
            self._journal.abandon(name, files)

    def _read(self, blocks: Iterable[Block]) -> None:
        """Read blocks ahead and queue their tiles."""
        for block in blocks:
            self._slots.acquire()
            if self.stopping():
                return
            self._begun += 1
            if self._begin(block):
                self._read_one(block)
            if self.stopping():
                return
        self._all_begun.set()

    def _begin(self, block: Block) -> bool:
        """Open a block; return whether it is to be done, and not finished by another process meanwhile."""
        files = self._files(block)
        refuse_links(*{folder for file in files for folder in file.parents if self._store in folder.parents})
        self._open[block.name] = files
        record = retry_transient(
            lambda: self._journal.begin(block.name, files, self.stopping),
            f"Block {block.name}",
            self.stopping,
        )
        if record is not None:
            self._open.pop(block.name)
            self._slots.release()
            self._records.put((record, block))
            return False
        if self.stopping():
            return False
        if self._scores is not None:
            self._scores.forget(block)
        return True

    def _read_one(self, block: Block) -> None:
        """Read a block and queue its tiles; one that cannot be read has failed."""
        try:
            work = retry_transient(lambda: BlockWork(self._job, block), f"Block {block.name}", self.stopping)
        except OutputError:  # a profile that cannot be stored
            raise
        except Exception as error:
            log.debug("Block %s cannot be read.", block.name, exc_info=True)
            fault = isinstance(error, InputError)
            self._close(BlockRecord(block.name, "failed", reason=_sentence(error), input_fault=fault), block)
            return
        for tiles in work.batches:
            self._tiles.put(_TileJob(work, tiles))

    def _restore(self) -> None:
        """Restore tiles until there are none."""
        one_thread_per_tile()
        while (job := self._tiles.get()) is not None and not self.stopping():
            work = job.work
            if not work.reason:
                try:
                    work.restore(job.tiles)
                except Exception as error:
                    log.debug("Block %s: a tile failed.", work.block.name, exc_info=True)
                    work.fail(_sentence(error))
            if work.close_batch():
                self._finished.put(work)

    def _write(self) -> None:
        """Write finished blocks and their records."""
        while (work := self._finished.get()) is not None:
            block = work.block
            started = time.perf_counter()
            if not work.reason:
                try:
                    work.finish()
                    retry_transient(
                        lambda work=work: self._write_block(work),  # type: ignore[misc]
                        f"Block {block.name}",
                        self.stopping,
                    )
                except OSError as error:
                    raise output_error(self._store, error) from error
                except Exception as error:
                    log.debug("Block %s cannot be written.", block.name, exc_info=True)
                    work.fail(_sentence(error))
            self._close(self._record(work, started), block, work)
            if self.stopping():
                return

    def _record(self, work: BlockWork, started: float) -> BlockRecord:
        """Return the record of a block that is written or has failed; of one that failed no file is left."""
        block, files = work.block, self._files(work.block)
        try:
            if work.reason:
                for file in files:
                    file.unlink(missing_ok=True)
                return BlockRecord(block.name, "failed", reason=work.reason)
            noted = {file.relative_to(self._store).as_posix(): note_of(file) for file in files}
        except OSError as error:
            raise output_error(self._store, error) from error
        stats = work.stats() | {"write_seconds": round(time.perf_counter() - started, 3)}
        reads = {what: [read.to_json() for read in windows] for what, windows in work.reads.items()}
        return BlockRecord(block.name, "empty" if work.empty else "done", noted, stats, reads=reads)

    def stopping(self) -> bool:
        """Return whether no further block is to be begun."""
        return self._stop.is_set() or bool(self._flag)

    def _close(self, record: BlockRecord, block: Block, work: BlockWork | None = None) -> None:
        """Record a block, hand it to the scores and let the next one be read."""
        retry_transient(lambda: self._journal.complete(record), f"Block {block.name}", self.stopping)
        self._open.pop(block.name, None)
        if work is not None:
            work.maps.clear()  # a block that waits to be scored holds its pixels only
        if self._scores is not None and work is not None and record.status != "failed":
            self._scores.take(work, self.stopping)
        self._slots.release()
        self._records.put((record, block))

    def _write_block(self, work: BlockWork) -> None:
        """Write a block into the image and into each map."""
        block, region = work.block, self._job.grid.region
        place = (block.z - region.z0, block.box.y0 - region.box.y0, block.box.x0 - region.box.x0)
        for image, array in zip(self._images, self._arrays, strict=True):
            # Or it would be made anew, with this one block in it and without metadata.
            if not any((image.path / "0" / name).is_file() for name in STORE_FILES):
                raise OutputError(
                    f"The output {self._store} is gone, or the disk that it lies on; bring it back, and go on with "
                    "--resume."
                )
            write_block(array, *place, work.maps[image.name] if image.name else work.output)

    def _files(self, block: Block) -> list[Path]:
        return block_files(self._store, self._plan, block)


def block_files(store: Path, plan: Plan, block: Block) -> list[Path]:
    """Return the files of the store that a block owns."""
    region, box = plan.grid.region, block.box
    place = (block.z - region.z0, box.y0 - region.box.y0, box.x0 - region.box.x0)
    return [
        path
        for image in images(store, plan)
        for path in shard_paths(image.path, image.spec, 0, *place, box.height, box.width)
    ]


def _sentence(error: Exception) -> str:
    """Return an exception as one line; the kind is named where the message alone would not be a sentence."""
    text = " ".join(str(error).split()).rstrip(".")
    return text if isinstance(error, BigrestoreError) and text else f"{type(error).__name__}: {text}"
