"""A worker: opens everything of a run once, and carries out the blocks that it is handed.

It is the same object whoever hands it blocks, a process of this machine or a dask worker on another. It is made from an
order that is plain JSON, and it resolves that order against the plan that lies beside the output, exactly as a run
that goes on does: a worker that sees another input, another model or another version refuses. It takes no lock of the
output; whoever gave the order holds it, and each block in hand is held by the journal.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.geometry import Block, Grid
from bigrestore.errors import OutputExistsError
from bigrestore.report.start import start_scores
from bigrestore.run.pipeline import Done, Pipeline
from bigrestore.run.prepared import Destination, Inputs, Prepared, prepare
from bigrestore.run.state.fingerprint import digest
from bigrestore.run.stop import StopFlag
from bigrestore.settings import RunSettings

POLL_SECONDS = 0.1

OF_THE_CALLER = {
    **{"overwrite": False, "resume": True, "init_only": False, "finalize": False, "shard": None},
    **{"workers": None, "scheduler": None, "cluster": None, "progress": "none", "fail_if": None},
    "check_all": False,
}
"""Settings that only concern whoever gives the order."""


@attrs.frozen
class Order:
    """What a worker must know, JSON-able.

    Attributes
    ----------
    inputs : str or list of str
        What `open_section` takes; paths are absolute, because a worker elsewhere has another working folder.
    output : str
        What the user asked for.
    settings : dict
        By name, as `RunSettings.from_mapping` takes them.
    digest : str
        Of the fingerprint of the run.
    destination : str
        Where the output is copied to; empty where it stays.
    """

    inputs: str | list[str]
    output: str
    settings: dict[str, Any]
    digest: str
    destination: str = ""

    @classmethod
    def of(cls, ready: Prepared, threads: int | None) -> Order:
        """Return the order for the workers of a run; `threads` are the tiles in flight of each, None: its own choice."""
        settings = attrs.asdict(ready.settings) | OF_THE_CALLER | {"threads": threads}
        for name in ("model", "kernel", "mask", "realness_map"):
            if settings[name] is not None:
                settings[name] = _absolute(settings[name])
        return cls(
            _inputs(ready.inputs),
            str(ready.output.absolute()),
            settings,
            digest(ready.identity),
            "" if ready.destination is None else ready.destination.url,
        )


class Feed:
    """The blocks that a worker is handed, in their order; ends when it is closed."""

    def __init__(self) -> None:
        self._queue: queue.Queue[int | None] = queue.Queue()

    def put(self, index: int) -> None:
        """Hand over a block by its place in the order of `Grid.blocks`."""
        self._queue.put(index)

    def close(self) -> None:
        """Say that there are no more."""
        self._queue.put(None)

    def blocks(self, grid: Grid, stopping: Callable[[], bool]) -> Iterator[Block]:
        """Yield the blocks; waits for the next one, but not for a run that is to stop."""
        while not stopping():
            try:
                index = self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if index is None:
                return
            yield grid.block_at(index)


class Worker:
    """Carries out blocks of a run.

    Parameters
    ----------
    order : Order
        The run.

    Raises
    ------
    OutputExistsError
        Where the stored plan is another than the order's.
    BigrestoreError
        Of the kind of what is wrong with input, model or output.
    """

    def __init__(self, order: Order) -> None:
        settings = RunSettings.from_mapping(order.settings, "The order of a worker")
        destination = Destination(order.destination) if order.destination else None
        self.ready = prepare(order.inputs, order.output, settings, destination=destination)
        if not self.ready.going_on or digest(self.ready.identity) != order.digest:
            raise OutputExistsError(
                f"The output {order.output} was begun anew by another run since this worker was called; start the "
                "run again."
            )
        job = self.ready.job(self.ready.journal.root / "profiles")
        self._scores = start_scores(job, self.ready.plan, settings, self.ready.journal)
        self._pipeline = Pipeline(job, self.ready.plan, self.ready.store, self.ready.journal, self._scores)

    def run(self, feed: Feed, flag: StopFlag, done: Done) -> None:
        """Carry out the blocks of a feed until it ends, and keep their scores; or until the flag is set.

        Raises
        ------
        OutputError
            Where the output cannot be written.
        """
        try:
            self._pipeline.run(feed.blocks(self.ready.plan.grid, self._pipeline.stopping), flag, done)
            if self._scores is not None:
                self._scores.wait(lambda: bool(flag))
        finally:
            if self._scores is not None:
                self._scores.pool.close()


def _inputs(inputs: Inputs) -> str | list[str]:
    """Return inputs as absolute paths; an address stays what it is."""
    if isinstance(inputs, str | Path):
        return _absolute(str(inputs), pattern=True)
    return [_absolute(str(item), pattern=True) for item in inputs]


def _absolute(text: str, *, pattern: bool = False) -> str:
    """Return the absolute path where a text names a file that is there, or may be a pattern of files."""
    if "://" in text or not (pattern or Path(text).exists()):
        return text
    return os.path.abspath(text)  # noqa: PTH100 - a pattern is no path, and links are not to be followed
