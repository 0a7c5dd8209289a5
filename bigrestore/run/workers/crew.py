"""Workers of this machine: processes that are handed blocks one by one, and replaced when they die.

A process of its own has an interpreter of its own, a share of the processors, and, where there are several, a GPU. What
dies with it is what it had in hand, and that is given to another one. A block that takes three workers with it is
recorded as failed, because a fourth would die as well.

Each worker is handed one block ahead of the one that it restores, so that reading and writing overlap with restoring
as they do in a run without workers.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import attrs

from bigrestore import errors
from bigrestore.core.resources import affinity, out_of_memory_kills, share_of
from bigrestore.errors import BigrestoreError, WorkersLostError
from bigrestore.run.children import python_command, python_environment
from bigrestore.run.pipeline import GRACE_SECONDS, Done, block_files
from bigrestore.run.plan import on_gpu
from bigrestore.run.prepared import Prepared
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.records import BlockRecord
from bigrestore.run.stop import StopFlag
from bigrestore.run.workers.worker import Order

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1

MOST_DEATHS = 3
"""Workers that a block may cost, and workers in a row that may die before they are ready."""

AHEAD = 2
"""Blocks that a worker is handed at once: one that it restores, and one to read meanwhile."""

Event = tuple["_Process", dict[str, Any] | None]


class Crew:
    """Carries out blocks by processes of this machine.

    Parameters
    ----------
    ready : Prepared
        The run; its plan says how many workers, and how many threads each has.
    """

    def __init__(self, ready: Prepared) -> None:
        self._ready, self._plan = ready, ready.plan
        self._order = Order.of(ready, ready.plan.threads)
        self._events: queue.Queue[Event] = queue.Queue()
        self._processes: list[_Process] = []
        self._todo: deque[int] = deque()
        self._deaths: dict[int, int] = {}
        self._unready = 0

    def run(self, blocks: Iterable[int], flag: StopFlag, done: Done) -> None:
        """Carry out blocks; returns when all have a record, or when the flag was set.

        Parameters
        ----------
        blocks : iterable of int
            Places in the order of `Grid.blocks`.
        flag : StopFlag
            Looked at all the time; once set, workers are told to abandon what they have in hand.
        done : callable
            Called in this thread with the record of each block.

        Raises
        ------
        BigrestoreError
            What a worker could not go on for, such as a full disk.
        """
        self._todo.extend(blocks)
        count = min(self._plan.workers, len(self._todo))
        try:
            for index in range(count):
                self._start(index)
            while not flag and (self._todo or any(process.has for process in self._processes)):
                self._hand_out()
                try:
                    process, message = self._events.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    continue
                self._take(process, message, done)
            if not flag:
                self._end(done, flag)
        finally:
            self._dismiss(flag)

    def _start(self, index: int) -> None:
        process = _Process(index, self._order, self._environment(index), self._cpus(index), self._events)
        self._processes.append(process)

    def _cpus(self, index: int) -> list[int]:
        return share_of(affinity(), index, self._plan.workers)

    def _environment(self, index: int) -> dict[str, str]:
        """Return what a worker's environment has besides: its GPU, where the workers share several."""
        if not on_gpu(self._ready.method) or self._ready.settings.device not in ("auto", "cuda"):
            return {}
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
        if not seen:
            import torch

            seen = [str(number) for number in range(torch.cuda.device_count())]
        return {"CUDA_VISIBLE_DEVICES": seen[index % len(seen)]} if seen else {}

    def _hand_out(self) -> None:
        """Give blocks to workers that have room: first to the idle ones, and ahead where there are plenty."""
        for room in range(AHEAD):
            for process in self._processes:
                plenty = room == 0 or len(self._todo) >= self._plan.workers
                if not (self._todo and plenty and process.ready and len(process.has) <= room):
                    continue
                if any(index in self._deaths for index in (*process.has, self._todo[0])) and process.has:
                    continue  # what may have killed a worker is handed out alone, so that it costs no other block
                process.give(self._todo.popleft())

    def _take(self, process: _Process, message: dict[str, Any] | None, done: Done) -> None:
        """Deal with what a worker says, or with its death."""
        if message is None:
            self._bury(process, done)
        elif "log" in message:
            level, name, text = message["log"]
            logging.getLogger(name).log(level, "worker %d: %s", process.index + 1, text)
        elif "record" in message:
            process.has.remove(message["block"])
            self._deaths.pop(message["block"], None)
            done(BlockRecord(**message["record"]), self._plan.grid.block_at(message["block"]))
        elif "ready" in message:
            process.ready, self._unready = True, 0
            log.debug("Worker %d is ready, process %d.", process.index + 1, process.pid)
        elif "fatal" in message:
            process.ended = True
            raise as_error(*message["fatal"])
        else:
            process.ended = True

    def _bury(self, process: _Process, done: Done) -> None:
        """Give the blocks of a dead worker to another one, and start one in its place where there is work."""
        why = process.why()
        process.leave(0.0)
        self._processes.remove(process)
        if process.ended and not process.has:
            return
        if not process.ready:
            self._unready += 1
            if self._unready >= MOST_DEATHS:
                raise WorkersLostError(
                    f"{self._unready} workers in a row {why} before they were ready; see what they wrote above, and "
                    "start the run again with --resume, or with fewer --workers."
                )
        lost = [self._plan.grid.block_at(index).name for index in process.has]
        what = f"; {', '.join(lost)} is given to another one" if lost else ""
        log.warning("Worker %d (process %d) %s%s.", process.index + 1, process.pid, why, what)
        for index in reversed(process.has):
            self._deaths[index] = self._deaths.get(index, 0) + 1
            if self._deaths[index] < MOST_DEATHS:
                self._todo.appendleft(index)
            else:
                self._give_up(index, why, done)
        if self._todo:
            self._start(process.index)

    def _give_up(self, index: int, why: str, done: Done) -> None:
        """Record a block as failed that no worker survives."""
        block = self._plan.grid.block_at(index)
        journal, files = self._ready.journal, block_files(self._ready.store, self._plan, block)
        journal.begin(block.name, files)
        record = BlockRecord(block.name, "failed", reason=f"{MOST_DEATHS} workers {why} over it")
        journal.complete(record)
        done(record, block)

    def _end(self, done: Done, flag: StopFlag) -> None:
        """Say that there are no more blocks, and wait until the scores of the last ones are kept."""
        for process in self._processes:
            process.say(end=True)
        while self._processes and not flag:
            try:
                process, message = self._events.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if message is None and not process.has:
                process.leave(1.0)
                self._processes.remove(process)  # its scores, where it died over them, are made at the end
            else:
                self._take(process, message, done)

    def _dismiss(self, flag: StopFlag) -> None:
        """Have every worker abandon what it has in hand, and end it; what one of them leaves is cleared up."""
        for process in self._processes:
            process.stop(int(flag.signal_number or signal.SIGTERM))
        deadline = time.monotonic() + GRACE_SECONDS + 0.5
        for process in self._processes:
            process.leave(max(0.0, deadline - time.monotonic()))
        journal: Journal = self._ready.journal
        for process in self._processes:
            for index in process.has:
                block = self._plan.grid.block_at(index)
                if journal.record(block.name) is None:
                    journal.abandon(block.name, block_files(self._ready.store, self._plan, block))
        self._processes.clear()


class _Process:
    """One worker, and what it has in hand."""

    def __init__(
        self,
        index: int,
        order: Order,
        environment: dict[str, str],
        cpus: list[int],
        events: queue.Queue[Event],
    ) -> None:
        self.index, self.has, self.ready, self.ended = index, list[int](), False, False
        self._events, self._kills = events, out_of_memory_kills()
        self._process = subprocess.Popen(
            python_command("bigrestore.run.workers.main"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=python_environment(environment),
            text=True,
            encoding="utf-8",
        )
        self.pid = self._process.pid
        level = logging.getLogger("bigrestore").getEffectiveLevel()
        self.say(order=attrs.asdict(order), cpus=cpus, log_level=level)
        self._listener = threading.Thread(target=self._listen, name=f"crew-{index}", daemon=True)
        self._listener.start()

    def give(self, index: int) -> None:
        """Hand over a block."""
        self.has.append(index)
        self.say(block=index)

    def say(self, **message: Any) -> None:
        """Send a message; one that is dead is noticed by its silence."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except OSError:
            log.debug("Worker %d does not listen any more.", self.index + 1)

    def stop(self, number: int) -> None:
        """Have it abandon what it has in hand; one that is not ready has nothing, and is ended at once."""
        if self.ready:
            self.say(stop=number)
        else:
            self._process.kill()

    def why(self) -> str:
        """Return in words how a dead worker ended."""
        code = self._process.wait()
        if code >= 0:
            return f"ended with the exit code {code}"
        name = signal.Signals(-code).name
        if out_of_memory_kills() > self._kills:
            return f"was killed by {name}, because memory ran out; use fewer --workers or --threads"
        hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
        return f"was killed by {name}{hint}"

    def leave(self, seconds: float) -> None:
        """Wait for the process, and kill it where it does not end in time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(1.0)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:
                log.debug("A pipe of worker %d broke.", self.index + 1)

    def _listen(self) -> None:
        """Queue what the worker says, and its end."""
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._events.put((self, json.loads(line)))
        except ValueError:  # a line that its death cut short, or a pipe that was closed
            log.debug("Worker %d was cut short.", self.index + 1)
        self._events.put((self, None))


def as_error(kind: str, message: str) -> Exception:
    """Return what ended a worker as the error that a run without workers would have raised."""
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, BigrestoreError):
        return found(message)
    return RuntimeError(f"a worker ended with {kind}: {message}")
