"""Workers of a dask cluster: a running one, or jobs of a batch system started for the run.

Each dask worker gets one task: it runs the loop of `loop` and claims blocks in the journal until all are done. No array
and no graph travels. Pixels go from input to output on the worker; it needs both under the same paths. A new worker gets a
task too; blocks of a dead one are taken over by the others.

A worker abandons its blocks when its task is cancelled, as dask does when the client is gone, or when it is closed.

`carry_out` runs on the workers, all else in the client.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import attrs

from bigrestore.core.host.signals import answering
from bigrestore.errors import GpuLostError, UsageError, WorkersLostError
from bigrestore.run.children import SAFE_PATH
from bigrestore.run.pipeline import GRACE_SECONDS, Done
from bigrestore.run.plan import Plan, on_gpu
from bigrestore.run.prepared import Prepared
from bigrestore.run.state.claims import Claims
from bigrestore.run.stop import StopFlag
from bigrestore.run.workers.loop import Order, work
from bigrestore.settings import RunSettings

log = logging.getLogger(__name__)

TASK_SECONDS = 0.5

LEAVING_SECONDS = 10.0
"""How long a stopped run may take to cancel its tasks, and the jobs it has started."""

CONNECT_SECONDS = 30
"""How long a scheduler is waited for."""

COUNT_SECONDS = 5.0
"""How often the workers are counted."""

SILENCE_SECONDS = 60.0
"""How often it is said that there are no workers."""

MOST_LOST = 10
"""Workers lost without a block done in between, after which the run ends; with many workers, three times their number."""

MEMORY_RESERVE = 1.25
"""Memory asked for a job, over the estimate."""


class ClusterWorkers:
    """Has blocks done by the workers of a dask cluster.

    Parameters
    ----------
    ready : Prepared
        The run; its settings name the scheduler or the batch system.
    claims : Claims
        The blocks.
    """

    def __init__(self, ready: Prepared, claims: Claims) -> None:
        self._ready, self._claims = ready, claims
        threads = ready.plan.threads if on_gpu(ready.method) else ready.settings.threads
        self._order = attrs.asdict(Order.of(ready, claims, threads))
        self._tasks: dict[str, Any] = {}
        self._places: dict[str, int] = {}
        self._looked, self._had_workers = 0.0, time.monotonic()
        self._lost, self._most_workers = 0, 0

    def run(self, flag: StopFlag, done: Done) -> None:
        """Run the workers; see `start_workers`."""
        with (
            answering(flag.sentence, LEAVING_SECONDS),
            _client(self._ready.settings, self._ready.plan) as client,
        ):
            try:
                with flag.polled(LEAVING_SECONDS):
                    self._carry_on(client, flag, done)
            finally:
                self._leave(client)

    def _carry_on(self, client: Any, flag: StopFlag, done: Done) -> None:
        """Hand out tasks and take in finished blocks, until all have a record or the flag is set."""
        while (self._claims.open or self._tasks) and not flag:
            self._look(client)
            window = 64 + 4 * len(self._tasks) * self._ready.plan.blocks_in_flight
            for block, record in self._claims.finished(window if self._tasks else None):
                self._lost = 0
                done(record, block)
            for address in [address for address, task in self._tasks.items() if task.done()]:
                self._take(self._tasks.pop(address))
            time.sleep(TASK_SECONDS)

    def _look(self, client: Any) -> None:
        """Give every new worker a task; find out whether the scheduler is still there."""
        now = time.monotonic()
        if now - self._looked < COUNT_SECONDS:
            return
        self._looked = now
        try:
            workers = client.nthreads() if client.status == "running" else None
        except (OSError, TimeoutError):
            workers = None
        if workers is None:
            raise WorkersLostError(
                "The dask scheduler is gone; blocks that are done are kept, go on with --resume once it is back."
            )
        for address in self._tasks.keys() - workers.keys():
            log.warning("The worker %s is gone; its blocks are given to another one.", address)
            self._tasks.pop(address).cancel()
            self._lost += 1
        self._most_workers = max(self._most_workers, len(workers))
        if self._lost >= max(MOST_LOST, 3 * self._most_workers):
            raise WorkersLostError(
                f"{self._lost} workers in a row were lost before a block was done; see what their jobs wrote, give them "
                f"more memory than {self._ready.plan.memory_bytes / 2**30:.1f} GiB if it ran out, and go on with --resume."
            )
        places = self._places = places_on_nodes(sorted(workers), self._places)
        for address in workers.keys() - self._tasks.keys() if self._claims.open else ():
            key = f"bigrestore-{secrets.token_hex(8)}"
            self._tasks[address] = client.submit(
                carry_out, self._order, places[address], key=key, pure=False, workers=[address]
            )
        if workers:
            self._had_workers = now
        elif now - self._had_workers > SILENCE_SECONDS:
            self._had_workers = now
            log.warning("The cluster has no workers; waiting for some.")

    def _take(self, task: Any) -> None:
        """Raise the error of a worker; a stopped one gets another task at the next count."""
        if task.status == "error" and type(task.exception()).__name__ != "KilledWorker":
            raise task.exception()

    def _leave(self, client: Any) -> None:
        """Have the workers abandon their blocks in progress, and wait until they have."""
        if not self._tasks:
            return
        client.cancel(list(self._tasks.values()))
        deadline = time.monotonic() + GRACE_SECONDS + 2.0
        while time.monotonic() < deadline and self._ready.journal.in_progress():
            time.sleep(TASK_SECONDS)


@contextlib.contextmanager
def _client(settings: RunSettings, plan: Plan) -> Iterator[Any]:
    """Give a client of the cluster of the settings, and close it at the end."""
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
    """Return the commands of a job before its worker: those of dask's configuration, and no Python of its folder."""
    import dask.config

    configured = [
        dask.config.get(f"jobqueue.{name}.{key}", None) for key in ("job-script-prologue", "env-extra")
    ]
    return [*(next(filter(None, configured), [])), f"export {SAFE_PATH}=1"]


def _not_installed(settings: RunSettings) -> UsageError:
    flag = "--cluster" if settings.cluster else "--scheduler"
    return UsageError(f"{flag} needs dask.distributed and dask-jobqueue; install bigrestore[hpc].")


def places_on_nodes(addresses: Sequence[str], former: Mapping[str, int]) -> dict[str, int]:
    """Return the number of each worker on its node, from 0; those there before keep theirs."""
    places = {address: former[address] for address in addresses if address in former}
    for address in addresses:
        if address not in places:
            taken = {place for other, place in places.items() if _node(other) == _node(address)}
            places[address] = next(place for place in itertools.count() if place not in taken)
    return places


def _node(address: str) -> str | None:
    """Return the host in the address of a worker."""
    return urlsplit(address).hostname


def carry_out(order: dict[str, Any], place: int = 0) -> None:
    """Do blocks of a run on a dask worker, until all are done or the task is cancelled.

    `place` is its number on its node, by which it takes a GPU. After the loss of that GPU its process ends, and its
    nanny starts another one; without a nanny the run ends.
    """
    from distributed import get_worker

    worker, flag, over = get_worker(), StopFlag(), threading.Event()
    settings = order["settings"] | {"threads": order["settings"]["threads"] or worker.state.nthreads}
    if order["on_gpu"] and settings["device"] in ("auto", "cuda"):
        from bigrestore.model.device import gpu_of_dask_worker

        settings |= {"device": gpu_of_dask_worker(place, worker.address)}
    key = worker.get_current_task()

    def watch() -> None:
        while not over.wait(TASK_SECONDS):
            task = worker.state.tasks.get(key)
            if task is None or task.state != "executing" or "clos" in worker.status.name:
                flag.signal_number = int(signal.SIGTERM)
                return

    threading.Thread(target=watch, name="task-watch", daemon=True).start()
    try:
        work(Order(**(order | {"settings": settings})), flag, ends_with_gpu=bool(worker.nanny))
    except GpuLostError as error:
        if not worker.nanny:
            raise
        log.warning("%s", error)
        os._exit(error.exit_code)
    finally:
        over.set()
