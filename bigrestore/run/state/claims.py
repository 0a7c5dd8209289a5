"""Claims: how the processes of a run share its blocks, without a dispatcher.

Every process goes through the same blocks in the same order and claims the free ones. A block is claimed by its lock
in the journal and finished by its record there. Blocks of a dead process are taken over at the end of a round.

A block may kill its process, as when memory runs out. So a block of a dead process is done alone. One with three dead
processes is recorded as failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.geometry import Block, Grid
from bigrestore.core.retry import retry_transient, stopped_within
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.records import BlockRecord

PAUSE_SECONDS = (0.2, 5.0)
"""Pause before a look at the blocks of other processes: at first, and at most."""

MOST_DEATHS = 3
"""Processes that a block may cost."""

FilesOf = Callable[[Block], list[Path]]


@attrs.frozen
class Claim:
    """A block for this process to do, or a finished one.

    Attributes
    ----------
    block : Block
        The block.
    files : list of Path
        Its files of the store.
    record : BlockRecord or None
        Its record once it is finished; None: this process has claimed it.
    """

    block: Block
    files: list[Path]
    record: BlockRecord | None = None


class Claims:
    """The unfinished blocks of a run.

    Parameters
    ----------
    journal : Journal
        Of the run.
    grid : Grid
        Of the run.
    wanted : sequence of int
        Blocks by their places in the order of `Grid.blocks`, ascending.
    former : dict, optional
        Times of the records that do not count, by block; by default those of now. A failed block has one.
    processes : int
        Processes that share the blocks.
    """

    def __init__(
        self,
        journal: Journal,
        grid: Grid,
        wanted: Sequence[int],
        former: dict[str, int] | None = None,
        processes: int = 1,
    ) -> None:
        self._journal, self._grid, self._wanted, self._processes = journal, grid, wanted, processes
        if former is None:
            names = set(map(self._name, wanted))
            known = (path.stem for path in journal.record_files())
            former = {name: journal.record_time(name) for name in known if name in names}
        self._former = former
        self._open = deque(wanted)

    @classmethod
    def from_json(cls, document: dict[str, Any], journal: Journal, grid: Grid) -> Claims:
        """Return the claims of a document of `to_json`."""
        wanted = [index for first, end in document["blocks"] for index in range(first, end)]
        return cls(journal, grid, wanted, document["former"], document["processes"])

    def to_json(self) -> dict[str, Any]:
        """Return the blocks as a JSON document, for the other processes of the run."""
        ranges: list[list[int]] = []
        for index in self._wanted:
            if ranges and ranges[-1][1] == index:
                ranges[-1][1] += 1
            else:
                ranges.append([index, index + 1])
        return {"blocks": ranges, "former": self._former, "processes": self._processes}

    @property
    def open(self) -> int:
        """How many blocks `finished` has not returned yet."""
        return len(self._open)

    def finished(self, window: int | None = None) -> list[tuple[Block, BlockRecord]]:
        """Return the blocks finished since the last call.

        Parameters
        ----------
        window : int, optional
            Unfinished blocks to look at: processes take them in order. None: all.
        """
        news: list[tuple[Block, BlockRecord]] = []
        unfinished: list[int] = []
        while self._open and (window is None or len(unfinished) < window):
            index = self._open.popleft()
            name = self._name(index)
            record = self._journal.record(name) if self._is_new(name) else None
            if record is None:
                unfinished.append(index)
            else:
                news.append((self._grid.block_at(index), record))
        self._open.extendleft(reversed(unfinished))
        return news

    def blocks(self, files_of: FilesOf, stopping: Callable[[], bool]) -> Iterator[Claim]:
        """Yield every block once: claimed by this process, or finished by another one.

        Parameters
        ----------
        files_of : callable
            Lists the files of the store that a block owns; may refuse them.
        stopping : callable
            Asked often; True ends the blocks.

        Raises
        ------
        OutputError
            Where the journal cannot be written.
        """
        todo, pause = self._wanted, PAUSE_SECONDS[0]
        while todo:
            others = []
            for place, index in enumerate(todo):
                self._wait_for_own(len(todo) - place, stopping)
                if stopping():
                    return
                block = self._grid.block_at(index)
                claim = retry_transient(
                    lambda block=block: self._claim(block, files_of),  # type: ignore[misc]
                    f"Block {block.name}",
                    stopping,
                )
                if claim is None:
                    others.append(index)
                else:
                    yield claim
            pause = min(2 * pause, PAUSE_SECONDS[1]) if len(others) == len(todo) else PAUSE_SECONDS[0]
            todo = others
            if todo and stopped_within(pause, stopping):
                return

    def _wait_for_own(self, left: int, stopping: Callable[[], bool]) -> None:
        """Let this process finish its own blocks: it has a risky one, or few are left for the others."""
        while (held := self._journal.held) and (left < self._processes or any(lock.deaths for lock in held)):
            if stopped_within(PAUSE_SECONDS[0], stopping):
                return

    def _claim(self, block: Block, files_of: FilesOf) -> Claim | None:
        """Claim a block; None: another process has it, or it is risky and this process is not idle."""
        journal, name = self._journal, block.name
        if self._is_new(name) and (record := journal.record(name)) is not None:
            return Claim(block, [], record)
        files = files_of(block)
        lock = journal.lock(name, takeover=not journal.held)
        if lock is None:
            return None
        record = journal.last_record(name) if self._is_new(name) else None
        if record is not None:  # it was finished a moment ago
            journal.unlock(name)
            return Claim(block, files, record)
        try:
            journal.begin(name, files)
        except BaseException:
            journal.abandon(name, files)
            raise
        if lock.deaths < MOST_DEATHS:
            return Claim(block, files)
        record = BlockRecord(
            name, "failed", reason=f"{lock.deaths} workers died over it, as when memory runs out"
        )
        journal.complete(record)
        return Claim(block, files, record)

    def _is_new(self, name: str) -> bool:
        """Tell whether a block has a record of this run."""
        return self._journal.record_time(name) not in (0, self._former.get(name))

    def _name(self, index: int) -> str:
        return self._grid.block_at(index).name
