"""The blocks phase: one thread reads ahead, several restore, one or two write behind, the caller watches.

Tiles of all blocks flow through one queue, so no core idles at the end of a block or during its compression. The number
of blocks in flight is bounded, and with it the memory. The caller's thread only takes in finished blocks and looks for
signals, which Python delivers to it alone.

A failed block is recorded and the rest goes on; its files were unlinked at its beginning, so it keeps the fill value.
An output beyond writing stops the run at once: the next block would meet the same full disk. Finished blocks are kept
for the resumed run. Transient errors, such as a file server's restart, are waited for (`bigrestore.core.retry`).
"""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs

from bigrestore.core.geometry import Block, Tile
from bigrestore.core.host.resources import give_threads_back, one_thread_per_tile
from bigrestore.core.retry import retry_transient
from bigrestore.errors import GpuLostError, InputError, OutputError, one_line, output_error
from bigrestore.io.store.ome_zarr import open_level, shard_paths, write_block
from bigrestore.io.verify.metadata import STORE_FILES
from bigrestore.run.output.place import refuse_links
from bigrestore.run.plan import Plan
from bigrestore.run.sinks import BlockSink
from bigrestore.run.state.checksums import file_state
from bigrestore.run.state.claims import Claims
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.records import BlockRecord
from bigrestore.run.stop import StopFlag
from bigrestore.run.tile.block import BlockWork, Job
from bigrestore.run.tile.maps import images

log = logging.getLogger(__name__)

RECORD_POLL_SECONDS = 0.1
GRACE_SECONDS = 1.0
"""How long a stopped run waits for the tiles at work, whose block is abandoned anyway."""

EXIT_SECONDS = 120.0
"""How long the end of a program of its own waits for these tiles: a thread inside torch cannot be ended without an abort."""

Done = Callable[[BlockRecord, Block], None]
TilesDone = Callable[[Block, int], None]


@attrs.frozen
class _TileJob:
    work: BlockWork
    tiles: list[Tile]


def _wait_for(threads: Sequence[threading.Thread]) -> None:
    """Wait for the end of stopped threads; the command line does not, and ends its process at once."""
    log.info("The tiles at work are waited for.")
    deadline = time.monotonic() + EXIT_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


class Pipeline:
    """Runs blocks through reading, restoring and writing.

    Parameters
    ----------
    job : Job
        What the blocks share.
    plan : Plan
        Threads, writers and blocks in flight.
    store : Path
        The output store, created.
    journal : Journal
        Takes a record for each block.
    sinks : sequence of BlockSink
        Take each block once it is written.
    ends_with_gpu : bool
        Whether the process ends when its GPU is lost. Its blocks stay locked then, as those of a killed process: a block
        that costs three processes has failed (`bigrestore.run.state.claims`).
    """

    def __init__(
        self,
        job: Job,
        plan: Plan,
        store: Path,
        journal: Journal,
        sinks: Sequence[BlockSink] = (),
        *,
        ends_with_gpu: bool = False,
    ) -> None:
        self._job, self._plan, self._store, self._journal = job, plan, store, journal
        self._sinks, self._ends_with_gpu = sinks, ends_with_gpu
        self._images = images(store, plan)
        self._arrays = [open_level(image.path, 0) for image in self._images]
        self._slots = threading.Semaphore(plan.blocks_in_flight)
        self._tiles: queue.Queue[_TileJob | None] = queue.Queue()
        self._finished: queue.Queue[BlockWork | None] = queue.Queue()
        self._records: queue.Queue[tuple[BlockRecord, Block]] = queue.Queue()
        self._restored: queue.SimpleQueue[tuple[Block, int]] = queue.SimpleQueue()
        self._open: dict[str, list[Path]] = {}
        self._closing, self._handing_on = threading.Lock(), threading.Lock()
        self._begun = 0
        self._all_begun = threading.Event()
        self._stop = threading.Event()
        self._flag = StopFlag()
        self._crash: list[BaseException] = []

    def run(self, claims: Claims, flag: StopFlag, done: Done, tiles_done: TilesDone) -> None:
        """Carry out blocks; returns when all have a record, or when the flag was set.

        Parameters
        ----------
        claims : Claims
            The blocks, some of which other processes may do.
        flag : StopFlag
            Looked at all the time; once set, blocks in flight are abandoned.
        done : callable
            Called in this thread with the record of each block.
        tiles_done : callable
            Called in this thread with a block at work and how many more of its tiles are restored.
        """
        self._flag = flag
        threads_before = one_thread_per_tile()
        tasks: dict[str, Callable[[], None]] = {"reader": partial(self._read, claims)}
        tasks |= {f"tile-{number}": self._restore for number in range(self._plan.threads)}
        tasks |= {f"writer-{number}": self._write for number in range(self._plan.writers)}
        threads = []
        for name, task in tasks.items():
            threads.append(threading.Thread(target=task, name=f"bigrestore-{name}", daemon=True))
            threads[-1].start()
        taken = 0
        try:
            while not flag and not self._crash and not (self._all_begun.is_set() and taken == self._begun):
                while not self._restored.empty():
                    tiles_done(*self._restored.get())
                try:
                    record, block = self._records.get(timeout=RECORD_POLL_SECONDS)
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

    @contextmanager
    def _errors_kept(self) -> Iterator[None]:
        """Keep an error that ends a thread; it is raised in the caller's."""
        try:
            yield
        except BaseException as error:
            self._crash.append(error)
            log.debug("Thread %s ended.", threading.current_thread().name, exc_info=True)

    def _shut_down(self, threads: list[threading.Thread]) -> None:
        """Stop all threads and abandon the blocks in progress."""
        self._stop.set()
        self._slots.release(len(threads))
        for _ in threads:
            self._tiles.put(None)
            self._finished.put(None)
        deadline = time.monotonic() + GRACE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if inside := [thread for thread in threads if thread.is_alive()]:
            atexit.register(_wait_for, inside)
        if self._ends_with_gpu and any(isinstance(error, GpuLostError) for error in self._crash):
            return
        with self._closing:
            for name in list(self._open):  # the reader may be adding one
                self._journal.abandon(name, self._open.pop(name))

    def _read(self, claims: Claims) -> None:
        """Read claimed blocks ahead and queue their tiles."""
        with self._errors_kept():
            blocks = claims.blocks(self._checked_files, self.stopping)
            while True:
                self._slots.acquire()  # before a block is claimed: another process may be idle
                claim = None if self.stopping() else next(blocks, None)
                if claim is None:
                    break
                self._begun += 1
                if claim.record is not None:
                    self._slots.release()
                    self._records.put((claim.record, claim.block))
                    continue
                self._open[claim.block.name] = claim.files
                for sink in self._sinks:
                    sink.forget(claim.block)
                self._read_one(claim.block)
            self._all_begun.set()

    def _read_one(self, block: Block) -> None:
        """Read a block and queue its tiles; an unreadable one has failed."""
        try:
            work = retry_transient(lambda: BlockWork(self._job, block), f"Block {block.name}", self.stopping)
        except (OutputError, GpuLostError):  # a profile that cannot be stored, or none can be made
            raise
        except Exception as error:
            log.debug("Block %s cannot be read.", block.name, exc_info=True)
            fault = isinstance(error, InputError)
            self._close(BlockRecord(block.name, "failed", reason=one_line(error), input_fault=fault), block)
            return
        for tiles in work.batches:
            self._tiles.put(_TileJob(work, tiles))

    def _restore(self) -> None:
        """Restore tiles until there are none."""
        with self._errors_kept():
            one_thread_per_tile()
            while (job := self._tiles.get()) is not None and not self.stopping():
                work = job.work
                if not work.reason:
                    try:
                        work.restore(job.tiles)
                    except GpuLostError:
                        raise
                    except Exception as error:
                        log.debug("Block %s: a tile failed.", work.block.name, exc_info=True)
                        work.fail(one_line(error))
                self._restored.put((work.block, len(job.tiles)))
                if work.close_batch():
                    self._finished.put(work)

    def _write(self) -> None:
        """Write finished blocks and their records."""
        with self._errors_kept():
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
                        work.fail(one_line(error))
                self._close(self._record(work, started), block, work)
                if self.stopping():
                    return

    def _record(self, work: BlockWork, started: float) -> BlockRecord:
        """Return the record of a written or failed block; a failed one keeps no file."""
        block, files = work.block, self._files(work.block)
        try:
            if work.reason:
                for file in files:
                    file.unlink(missing_ok=True)
                return BlockRecord(block.name, "failed", reason=work.reason)
            noted = {file.relative_to(self._store).as_posix(): file_state(file) for file in files}
        except OSError as error:
            raise output_error(self._store, error) from error
        stats = work.stats() | {"write_seconds": round(time.perf_counter() - started, 3)}
        reads = {what: [read.to_json() for read in windows] for what, windows in work.reads.items()}
        return BlockRecord(block.name, "empty" if work.empty else "done", noted, stats, reads=reads)

    def stopping(self) -> bool:
        """Return whether no further block is to be begun."""
        return self._stop.is_set() or bool(self._flag)

    def _close(self, record: BlockRecord, block: Block, work: BlockWork | None = None) -> None:
        """Record a block, hand it to the sinks and let the next one be read; nothing for an abandoned one."""
        with self._closing:
            if block.name not in self._open:
                return
            retry_transient(lambda: self._journal.complete(record), f"Block {block.name}", self.stopping)
            del self._open[block.name]
        if work is not None:
            work.maps.clear()  # a block that waits for its sinks holds its pixels only
            with self._handing_on:
                for sink in self._sinks if record.status != "failed" else ():
                    sink.take(work, self.stopping)
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

    def _checked_files(self, block: Block) -> list[Path]:
        """Return the files of a block; refuse a folder that is a link."""
        files = self._files(block)
        refuse_links(*{folder for file in files for folder in file.parents if self._store in folder.parents})
        return files


def block_files(store: Path, plan: Plan, block: Block) -> list[Path]:
    """Return a block's files in the store."""
    region, box = plan.grid.region, block.box
    place = (block.z - region.z0, box.y0 - region.box.y0, box.x0 - region.box.x0)
    return [
        path
        for image in images(store, plan)
        for path in shard_paths(image.path, image.spec, 0, *place, box.height, box.width)
    ]
