"""Workers of a dask cluster: one that runs already, or jobs of a batch system that are started for the run.

One task is one block. A dask worker opens the run at its first task, once, and keeps it open; blocks come and go. What
dies with a worker is given to another one by dask, and the journal keeps the two apart should the first one still be
alive. No array and no graph travels: a task is a number, its answer a record, and the pixels go from input to
output on the worker, which therefore sees both under the same paths.

Parts of this module run in the client, and `carry_out` and what it calls on the workers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import secrets
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import attrs

from bigrestore.core.geometry import Block
from bigrestore.errors import UsageError, WorkersLostError
from bigrestore.run.children import SAFE_PATH
from bigrestore.run.pipeline import GRACE_SECONDS, Done, block_files
from bigrestore.run.plan import Plan, on_gpu
from bigrestore.run.prepared import Prepared
from bigrestore.run.state.records import BlockRecord
from bigrestore.run.stop import StopFlag
from bigrestore.run.workers.crew import as_error
from bigrestore.run.workers.worker import Feed, Order, Worker
from bigrestore.settings import RunSettings

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1

CONNECT_SECONDS = 30
"""How long a scheduler is waited for."""

LOOK_SECONDS = 5.0
"""How often the workers are counted, and whether the scheduler is still there."""

SILENCE_SECONDS = 60.0
"""How often it is said that there are no workers."""

MEMORY_RESERVE = 1.25
"""Memory asked for a job, over the estimate."""


class ClusterCrew:
    """Carries out blocks by the workers of a dask cluster.

    Parameters
    ----------
    ready : Prepared
        The run; its settings name the scheduler or the batch system.
    """

    def __init__(self, ready: Prepared) -> None:
        self._ready, self._grid = ready, ready.plan.grid
        threads = ready.plan.threads if on_gpu(ready.method) else ready.settings.threads
        self._order = attrs.asdict(Order.of(ready, threads))
        self._token = secrets.token_hex(8)
        self._events: queue.Queue[Any] = queue.Queue()
        self._futures: dict[Any, int] = {}
        self._room, self._looked, self._said = 0, 0.0, time.monotonic()

    def run(self, blocks: Iterable[int], flag: StopFlag, done: Done) -> None:
        """Carry out blocks; returns when all have a record, or when the flag was set.

        Parameters
        ----------
        blocks : iterable of int
            Places in the order of `Grid.blocks`.
        flag : StopFlag
            Looked at all the time; once set, workers abandon what they have in hand.
        done : callable
            Called in this thread with the record of each block.

        Raises
        ------
        UsageError
            Where there is no such cluster, or what it needs is not installed.
        WorkersLostError
            Where the scheduler is gone.
        BigrestoreError
            What a worker could not go on for, such as a full disk.
        """
        todo = deque(blocks)
        with _client(self._ready.settings, self._ready.plan) as client:
            finished = False
            try:
                while (todo or self._futures) and not flag:
                    self._look(client)
                    while todo and len(self._futures) < self._room:
                        self._submit(client, todo.popleft())
                    try:
                        future = self._events.get(timeout=POLL_SECONDS)
                    except queue.Empty:
                        continue
                    self._take(future, todo, done)
                finished = not flag
            finally:
                self._leave(client, finished=finished)

    def _look(self, client: Any) -> None:
        """Count the workers from time to time, and find out whether the scheduler is still there."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            threads = client.nthreads() if client.status == "running" else None
        except (OSError, TimeoutError):
            threads = None
        if threads is None:
            raise WorkersLostError(
                "The dask scheduler is gone; blocks that are done are kept, go on with --resume once it is back."
            )
        # As many tasks as there are threads, and as many again that wait at the workers.
        self._room = 2 * sum(threads.values()) if threads else 1
        if threads:
            self._said = now
        elif now - self._said > SILENCE_SECONDS:
            self._said = now
            log.warning("The cluster has no workers; waiting for some.")

    def _submit(self, client: Any, index: int) -> None:
        name = self._grid.block_at(index).name
        key = f"bigrestore-{self._token}-{name}-{secrets.token_hex(2)}"
        future = client.submit(carry_out, self._order, self._token, index, key=key, pure=False)
        self._futures[future] = index
        future.add_done_callback(self._events.put)

    def _take(self, future: Any, todo: deque[int], done: Done) -> None:
        """Deal with a task that has ended."""
        index = self._futures.pop(future, None)
        if index is None:
            return
        block = self._grid.block_at(index)
        if future.status == "finished":
            answer = future.result()
            if "fatal" in answer:
                raise as_error(*answer["fatal"])
            if "record" in answer:
                done(BlockRecord(**answer["record"]), block)
            else:  # its worker was told to stop by somebody else
                todo.append(index)
        elif future.status == "error":
            error = future.exception()
            if type(error).__name__ != "KilledWorker":
                raise error
            self._give_up(block, done)
        else:  # lost with a scheduler that was restarted
            todo.append(index)

    def _give_up(self, block: Block, done: Done) -> None:
        """Record a block as failed that no worker survives."""
        log.debug("Block %s took its workers with it.", block.name)
        files = block_files(self._ready.store, self._ready.plan, block)
        self._ready.journal.begin(block.name, files)
        record = BlockRecord(
            block.name,
            "failed",
            reason="several workers of the cluster died over it, as when memory runs out",
        )
        self._ready.journal.complete(record)
        done(record, block)

    def _leave(self, client: Any, *, finished: bool) -> None:
        """Have the workers close the run, or abandon what they have in hand, and wait until they have."""
        if not finished:
            client.cancel(list(self._futures))
        self._futures.clear()
        call = threading.Thread(
            target=_call_all, args=(client, self._token, finished), name="cluster-leave", daemon=True
        )
        call.start()
        call.join(None if finished else GRACE_SECONDS + 1.0)


def _call_all(client: Any, token: str, finished: bool) -> None:
    """Call every worker to leave a run; one that is gone has left it."""
    try:
        client.run(leave, token, finished, on_error="ignore")
    except Exception:  # the run is over, whatever became of the cluster
        log.debug("Not every worker of the cluster answered.", exc_info=True)


@contextlib.contextmanager
def _client(settings: RunSettings, plan: Plan) -> Iterator[Any]:
    """Give a client of the cluster that the settings name, and leave it at the end."""
    try:
        from distributed import Client
    except ImportError as error:
        raise _not_installed(settings) from error
    with contextlib.ExitStack() as held:
        if settings.cluster:
            cluster = held.enter_context(_start_jobs(settings, plan))
            address = cluster.scheduler_address
        else:
            address = settings.scheduler
        try:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"--scheduler is {address}, but no dask scheduler answers there; check the address, or start one by "
                "dask scheduler."
            ) from error
        held.callback(client.close)
        log.info("Blocks are carried out by the dask cluster at %s.", address)
        yield client


def _start_jobs(settings: RunSettings, plan: Plan) -> Any:
    """Start the jobs of a batch system, each a worker."""
    import dask.config

    try:
        from dask_jobqueue import LSFCluster, PBSCluster, SLURMCluster
    except ImportError as error:
        raise _not_installed(settings) from error
    kinds = {"slurm": SLURMCluster, "pbs": PBSCluster, "lsf": LSFCluster}
    name = str(settings.cluster)
    cores = settings.threads or dask.config.get(f"jobqueue.{name}.cores", None)
    if not cores:
        raise UsageError(
            f"--cluster is {name}, but how many processors a job has is said nowhere; give --threads, or set "
            f"jobqueue.{name}.cores in the configuration of dask."
        )
    memory = dask.config.get(f"jobqueue.{name}.memory", None)
    estimate = f"{int(plan.memory_bytes * MEMORY_RESERVE) >> 20}MiB"
    try:
        cluster = kinds[name](
            cores=cores, processes=1, memory=memory or estimate, job_script_prologue=_prologue(name)
        )
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"--cluster is {name}, but dask-jobqueue refuses its configuration ({error}); correct it in the file "
            "jobqueue.yaml of dask."
        ) from error
    jobs = settings.workers or 1
    cluster.scale(jobs=jobs)
    log.info(
        "%d job(s) of %s with %d processor(s) and %s each were asked for.",
        jobs,
        name,
        cores,
        memory or estimate,
    )
    return cluster


def _prologue(name: str) -> list[str]:
    """Return what a job does before its worker starts: what dask's configuration says, and no Python of its folder."""
    import dask.config

    configured = [
        dask.config.get(f"jobqueue.{name}.{key}", None) for key in ("job-script-prologue", "env-extra")
    ]
    return [*(next(filter(None, configured), [])), f"export {SAFE_PATH}=1"]


def _not_installed(settings: RunSettings) -> UsageError:
    flag = "--cluster" if settings.cluster else "--scheduler"
    return UsageError(f"{flag} needs dask.distributed and dask-jobqueue; install bigrestore[hpc].")


# What follows runs on the workers.

_sites: dict[str, Site] = {}
_left: set[str] = set()
_lock = threading.Lock()


def carry_out(order: dict[str, Any], token: str, index: int) -> dict[str, Any]:
    """Carry out a block on a dask worker.

    Parameters
    ----------
    order : dict
        As of `Order`.
    token : str
        Of the run that calls; a worker has one run open at a time.
    index : int
        Place of the block in the order of `Grid.blocks`.

    Returns
    -------
    dict
        `record`, or `fatal` with kind and sentence of what the run cannot go on for, or `stopped`.
    """
    try:
        site = _site(order, token)
    except Exception as error:  # noqa: BLE001 - it is the answer, and raised by the client
        return {"fatal": [type(error).__name__, str(error)]}
    return {"stopped": True} if site is None else site.carry_out(index)


async def leave(token: str, finished: bool) -> None:
    """Close a run on a worker, whose event loop calls this; what it has in hand is abandoned unless all is done."""
    with _lock:
        _left.add(token)
        site = _sites.pop(token, None)
    if site is None:
        return
    site.close(finished=finished)
    while site.alive:
        await asyncio.sleep(POLL_SECONDS)


def _site(order: dict[str, Any], token: str) -> Site | None:
    """Return the run as this worker has it open, None where it was told to leave it."""
    with _lock:
        if token in _left:
            return None
        if token not in _sites:
            for former in _sites.values():  # of a client that died
                former.close(finished=False)
            _sites.clear()
            _sites[token] = Site(order)
        return _sites[token]


class Site:
    """A run that a dask worker has open.

    Parameters
    ----------
    order : dict
        As of `Order`.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        from distributed import get_worker

        settings = dict(order["settings"])
        settings["threads"] = settings["threads"] or get_worker().state.nthreads
        self._worker = Worker(Order(**(order | {"settings": settings})))
        self._grid = self._worker.ready.plan.grid
        self._feed, self._flag = Feed(), StopFlag()
        self._waiting: dict[str, Future[dict[str, Any]]] = {}
        self._ended: dict[str, Any] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="bigrestore-site", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still has something in hand."""
        return self._thread.is_alive()

    def carry_out(self, index: int) -> dict[str, Any]:
        """Carry out a block and return the answer; several threads may call at once."""
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            if self._ended is not None:
                return self._ended
            self._waiting[self._grid.block_at(index).name] = answer
            self._feed.put(index)
        return answer.result()

    def close(self, *, finished: bool) -> None:
        """Take no more blocks; abandon those in hand unless all are finished."""
        if not finished:
            self._flag.signal_number = int(signal.SIGTERM)
        self._feed.close()

    def _serve(self) -> None:
        ended: dict[str, Any] = {"stopped": True}
        try:
            self._worker.run(self._feed, self._flag, self._done)
        except Exception as error:
            log.debug("The run ends on this worker.", exc_info=True)
            ended = {"fatal": [type(error).__name__, str(error)]}
        with self._lock:
            self._ended = ended
            for answer in self._waiting.values():
                answer.set_result(ended)
            self._waiting.clear()

    def _done(self, record: BlockRecord, block: Block) -> None:
        with self._lock:
            answer = self._waiting.pop(block.name, None)
        if answer is not None:
            answer.set_result({"record": attrs.asdict(record)})
