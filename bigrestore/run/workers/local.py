"""Workers of this machine: processes claim blocks in the journal, and are replaced when they die.

Each process has an interpreter, a part of the processors, and one of several GPUs. Its blocks in progress die with it;
another one takes them over.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import signal
import subprocess
import threading
import time
from typing import Any

import attrs

from bigrestore import errors
from bigrestore.core.host.resources import affinity, out_of_memory_kills, share_of
from bigrestore.errors import BigrestoreError, WorkersLostError
from bigrestore.run.children import python_command, python_environment
from bigrestore.run.pipeline import GRACE_SECONDS, Done, TilesDone, block_files
from bigrestore.run.plan import on_gpu
from bigrestore.run.prepared import Prepared
from bigrestore.run.state.claims import MOST_DEATHS, Claims
from bigrestore.run.stop import StopFlag
from bigrestore.run.workers.loop import Order

log = logging.getLogger(__name__)

MESSAGE_SECONDS = 0.1

JOURNAL_SECONDS = 0.5
"""How often the journal is looked at: a file system may be slow."""


Message = tuple["WorkerProcess", dict[str, Any]]


class LocalWorkers:
    """Has blocks done by processes of this machine.

    Parameters
    ----------
    ready : Prepared
        The run; its plan says how many workers, and how many threads each has.
    claims : Claims
        The blocks.
    """

    def __init__(self, ready: Prepared, claims: Claims) -> None:
        self._ready, self._plan, self._claims = ready, ready.plan, claims
        self._order = attrs.asdict(Order.of(ready, claims, ready.plan.threads))
        self._messages: queue.Queue[Message] = queue.Queue()
        self._processes: list[WorkerProcess] = []
        self._died_unready = 0

    def run(self, flag: StopFlag, done: Done, tiles_done: TilesDone) -> None:
        """Run the workers; see `start_workers`."""
        window, looked = 64 + 4 * self._plan.workers * self._plan.blocks_in_flight, 0.0
        try:
            for index in range(min(self._plan.workers, self._claims.open)):
                self._start(index)
            while not flag and (self._processes or self._claims.open):
                self._listen(tiles_done)
                ended = [process for process in self._processes if process.has_ended()]
                if ended or time.monotonic() - looked >= JOURNAL_SECONDS:
                    looked = time.monotonic()
                    for block, record in self._claims.finished(window if self._processes != ended else None):
                        done(record, block)
                for process in ended:
                    self._bury(process)
                if not self._processes and self._claims.open:  # all were stopped by somebody else
                    self._start(0)
        finally:
            self._dismiss()
        for block, record in self._claims.finished():
            done(record, block)

    def _start(self, index: int) -> None:
        cpus = share_of(affinity(), index, self._plan.workers)
        level = logging.getLogger("bigrestore").getEffectiveLevel()
        first = json.dumps({"order": self._order, "cpus": cpus, "log_level": level})
        self._processes.append(WorkerProcess(index, first, self._gpu(index), self._messages))

    def _gpu(self, index: int) -> dict[str, str]:
        """Return the environment of a worker with its GPU, one of several."""
        if not on_gpu(self._ready.method):
            return {}
        from bigrestore.model.device import gpu_of_local_worker

        return gpu_of_local_worker(index, self._ready.settings.device)

    def _listen(self, tiles_done: TilesDone) -> None:
        """Take a message of a worker, or wait for one a moment."""
        try:
            process, message = self._messages.get(timeout=MESSAGE_SECONDS)
        except queue.Empty:
            return
        if "log" in message:
            level, name, text = message["log"]
            logging.getLogger(name).log(level, "worker %d: %s", process.index + 1, text)
        elif "tiles" in message:
            z, row, column, tiles = message["tiles"]
            tiles_done(self._plan.grid.block(z, row, column), tiles)
        elif "ready" in message:
            process.ready, self._died_unready = True, 0
            log.debug("Worker %d is ready, process %d.", process.index + 1, process.pid)
        else:
            raise as_error(*message["fatal"])

    def _bury(self, process: WorkerProcess) -> None:
        """Replace a dead worker while there is work."""
        self._processes.remove(process)
        why = process.why()
        process.leave(0.0)
        if process.returncode == 0 or not self._claims.open:
            return
        if not process.ready:
            self._died_unready += 1
            if self._died_unready >= MOST_DEATHS:
                raise WorkersLostError(
                    f"{self._died_unready} workers in a row {why} before they were ready; see what they wrote above, "
                    "and start the run again with --resume, or with fewer --workers."
                )
        log.warning(
            "Worker %d (process %d) %s; its blocks are given to another one.",
            process.index + 1,
            process.pid,
            why,
        )
        self._start(process.index)

    def _dismiss(self) -> None:
        """Have every worker abandon its blocks in progress, and end it; clear up after killed ones."""
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS + 0.3
        for process in self._processes:
            process.leave(max(0.0, deadline - time.monotonic()))
        self._processes.clear()
        journal, grid = self._ready.journal, self._plan.grid
        names = {marker.stem for marker in journal.markers()}
        for block in (block for block in grid.blocks() if names and block.name in names):
            journal.abandon(block.name, block_files(self._ready.store, self._plan, block))


class WorkerProcess(subprocess.Popen[str]):
    """One worker, by its number from 0; its messages are queued."""

    def __init__(
        self, index: int, first_line: str, environment: dict[str, str], messages: queue.Queue[Message]
    ) -> None:
        self.index, self.ready, self._messages, self._kills = index, False, messages, out_of_memory_kills()
        super().__init__(
            python_command("bigrestore.run.workers.main"),
            stdin=subprocess.PIPE,  # kept open: its end tells the worker that this process is dead
            stdout=subprocess.PIPE,
            env=python_environment(environment),
            text=True,
            encoding="utf-8",
        )
        with contextlib.suppress(OSError):  # it died at once
            assert self.stdin is not None
            self.stdin.write(first_line + "\n")
            self.stdin.flush()
        self._listener = threading.Thread(target=self._listen, name=f"worker-{index}", daemon=True)
        self._listener.start()

    def has_ended(self) -> bool:
        """Tell whether it has ended and all its messages were taken."""
        return self.poll() is not None and not self._listener.is_alive() and self._messages.empty()

    def why(self) -> str:
        """Return in words how a dead worker ended."""
        code = self.wait()
        if code >= 0:
            return f"ended with the exit code {code}"
        name = signal.Signals(-code).name
        if out_of_memory_kills() > self._kills:
            return f"was killed by {name}, because memory ran out; use fewer --workers or --threads"
        return f"was killed by {name}{', as the system does when memory runs out' * (name == 'SIGKILL')}"

    def leave(self, seconds: float) -> None:
        """Wait for the process; kill it after the time."""
        try:
            self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
        self._listener.join(1.0)
        for pipe in filter(None, (self.stdin, self.stdout)):
            with contextlib.suppress(OSError):  # it broke
                pipe.close()

    def _listen(self) -> None:
        """Queue the messages of the worker."""
        assert self.stdout is not None
        with contextlib.suppress(ValueError):  # its death cut a line short, or the pipe was closed
            for line in self.stdout:
                self._messages.put((self, json.loads(line)))


def as_error(kind: str, message: str) -> Exception:
    """Return the error of a worker as a run without workers would have raised it."""
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, BigrestoreError):
        return known(message)
    return RuntimeError(f"a worker ended with {kind}: {message}")
