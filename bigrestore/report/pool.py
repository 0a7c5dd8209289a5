"""Who computes the scores: threads of this process, or processes of their own beside a GPU.

Either way there is one pool of threads and one call. On a CPU the threads compute; beside a GPU each hands its strips
to a process of its own and waits, so the interpreter's lock stays with the threads feeding the network. A dead process
fails its strip and is started anew for the next.
"""

from __future__ import annotations

import pickle
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from bigrestore.errors import BigrestoreError
from bigrestore.report.table.tiles import EngineSpec, Strip, TileRow, score_strip
from bigrestore.run.children import python_command, python_environment

THREAD_NAME = "bigrestore-score"


class ScoringFailedError(BigrestoreError, RuntimeError):
    """A valid tile could not be scored."""


class ScorePool:
    """Scores strips, several at once.

    Parameters
    ----------
    spec : EngineSpec
        The engine.
    workers : int
        Strips at work at once.
    processes : bool
        Whether each worker has a process of its own.
    """

    def __init__(self, spec: EngineSpec, workers: int, *, processes: bool = False) -> None:
        self.engine = spec.create()  # here too where processes compute: what is wrong with it is said at once
        self.workers = workers
        self._spec, self._processes = spec, processes
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=THREAD_NAME)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._remotes: list[_Remote] = []

    def submit(self, strip: Strip) -> Future[list[TileRow]]:
        """Queue a strip; the future gives its rows, or raises the engine's error."""
        return self._threads.submit(self._score, strip)

    def run(self, work: Callable[..., None], *arguments: Any) -> None:
        """Queue a call to prepare strips, so its caller need not wait."""
        self._threads.submit(work, *arguments)

    def close(self) -> None:
        """Forget the queue, wait for the strips at work, end the processes."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for remote in self._remotes:
            remote.end()
        for remote in self._remotes:
            remote.close()

    def _score(self, strip: Strip) -> list[TileRow]:
        if not self._processes:
            return score_strip(strip, self.engine)
        remote: _Remote | None = getattr(self._local, "remote", None)
        if remote is None or not remote.alive:
            remote = self._local.remote = _Remote(self._spec)
            with self._lock:
                self._remotes.append(remote)
        return remote.score(strip)


class _Remote:
    """A scoring process."""

    def __init__(self, spec: EngineSpec) -> None:
        self._process = subprocess.Popen(
            python_command("bigrestore.report.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=python_environment({"OMP_NUM_THREADS": "1"}),
        )
        self._send(spec)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def score(self, strip: Strip) -> list[TileRow]:
        """Have a strip scored."""
        assert self._process.stdout is not None
        try:
            self._send(strip)
            answer: Any = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            self.close()
            code = self._process.returncode
            raise ScoringFailedError(
                f"a scoring process ended with {code}; its memory may have run out"
            ) from error
        if isinstance(answer, Exception):
            raise answer
        rows: list[TileRow] = answer
        return rows

    def end(self) -> None:
        """Tell the process to end."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError:
            self._process.kill()  # it is gone, and took the pipe with it

    def close(self) -> None:
        """End the process and wait for it."""
        assert self._process.stdout is not None
        self.end()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _send(self, message: Any) -> None:
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin, protocol=5)
        self._process.stdin.flush()
