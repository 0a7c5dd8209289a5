"""What a run hands on: each written block, and its summary at the end.

A run restores; it knows no scores and no report. Whoever wants its blocks hands in a sink, as `bigrestore.api` does
with the report's. Each process of the run opens the sink for itself: the first one the object handed in, a worker the
product of the sink's `factory`.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import attrs

from bigrestore.errors import UsageError

if TYPE_CHECKING:
    from bigrestore.core.geometry import Block
    from bigrestore.run.prepared import Prepared
    from bigrestore.run.state.records import BlockRecord
    from bigrestore.run.stop import StopFlag
    from bigrestore.run.tile.block import BlockWork, Job
    from bigrestore.run.view.progress import Progress
    from bigrestore.run.view.summary import RunSummary
    from bigrestore.settings import RunSettings


class BlockSink:
    """Takes the blocks of one process; override any method.

    An error raised in `forget` or `take` stops the run; `--resume` continues it.

    Attributes
    ----------
    reports : bool
        Whether `finish` leaves a report beside the output; `bigrestore status` then names a missing one.
    """

    reports: bool = False

    def forget(self, block: Block) -> None:
        """Drop everything kept of a block: it is restored anew. Called in the reading thread."""

    def take(self, work: BlockWork, stopping: Callable[[], bool]) -> None:
        """Take a written block; never a failed one. Called in the writing thread.

        A resumed run does not hand over the blocks of an earlier one.

        Parameters
        ----------
        work : BlockWork
            `block` says where, `output` holds its pixels, `pixels` those of the input in the box `read`.
        stopping : callable
            Returns whether the run is to stop; ask it while waiting.
        """

    def wait(self, stopping: Callable[[], bool]) -> None:
        """Return once all blocks taken are dealt with, or the run is to stop."""

    def finish(
        self, summary: RunSummary, records: list[BlockRecord], progress: Progress, flag: StopFlag
    ) -> RunSummary:
        """Finish once the output is whole, in the first process only; return the summary with the result.

        Parameters
        ----------
        summary : RunSummary
            Of the run.
        records : list of BlockRecord
            Of all blocks, failed ones included.
        progress : Progress
            Shows what is done.
        flag : StopFlag
            Set by a signal.
        """
        return summary

    def close(self) -> None:
        """Release threads, processes and files, however the run ended."""


@attrs.frozen
class SinkEstimate:
    """What a sink adds to a run.

    Attributes
    ----------
    tiles : int
        Score tiles.
    seconds : float
        Wall time.
    """

    tiles: int = 0
    seconds: float = 0.0


class Sink(BlockSink):
    """Follows a run; by default it takes the blocks of the first process itself.

    Attributes
    ----------
    factory : str
        `module:attribute` to be called with the settings of the run in each worker, for a sink there. A sink without
        one refuses workers.
    tally_px : int
        Side of the tiles, in output pixels, for sums of residuals and seams in the records; 0: none. Of several sinks the
        largest holds.
    bytes_per_tile : int
        Memory at work for each tile in flight.
    """

    factory: str = ""
    tally_px: int = 0
    bytes_per_tile: int = 0

    def open(self, ready: Prepared, job: Job) -> BlockSink | None:
        """Return the taker of this process's blocks; None to take none."""
        return self

    def tally_side(self, score_tile_px: int) -> int:
        """Return the side of the tiles for sums, given that of the run's score tiles; `tally_px` unless overridden."""
        return self.tally_px

    def blocks_held(self, *, gpu: bool) -> int:
        """Return the blocks kept in memory after they are written, at most."""
        return 0

    def resume(self, ready: Prepared, summary: RunSummary) -> RunSummary | None:
        """Return the summary of a finished run with the former result; None to have `finish` called again."""
        return summary

    def estimate(self, ready: Prepared) -> SinkEstimate:
        """Return this sink's part of a dry run."""
        return SinkEstimate()


@contextlib.contextmanager
def open_sinks(sinks: Iterable[Sink], ready: Prepared, job: Job) -> Iterator[list[BlockSink]]:
    """Open sinks for this process, and close them whatever happens."""
    with contextlib.ExitStack() as held:
        takers = []
        for sink in sinks:
            taker = sink.open(ready, job)
            if taker is not None:
                held.callback(taker.close)
                takers.append(taker)
        yield takers


def require_factories(sinks: Sequence[Sink]) -> None:
    """Refuse sinks that workers cannot make.

    Raises
    ------
    UsageError
        Where a sink has no factory.
    """
    for sink in sinks:
        if not sink.factory:
            raise UsageError(
                f"The sink {type(sink).__name__} cannot be made in workers; set its `factory` to 'module:attribute', or "
                "ask for no workers."
            )


def make_sink(factory: str, settings: RunSettings) -> Sink:
    """Make a sink in a worker.

    Raises
    ------
    UsageError
        Where the factory cannot be imported.
    """
    module, _, name = factory.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"The sink {factory} cannot be imported in a worker ({error}); install its module where the workers run."
        ) from error
    sink: Sink = make(settings)
    return sink
