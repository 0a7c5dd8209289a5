"""Carry out one run by 1, 2 and 4 workers, by shards, and by a dask cluster, with deaths on the way.

    python tests/faults/workers.py [--side 1200] [--only NAME]

All stores must be the same, byte for byte: also where a worker is killed half-way, where the whole run is killed and gone
on with, and where a dask worker dies. A run that is told to stop must end with 75 within ten seconds and leave nothing
marked. Ends with 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from survival import different, digest, ended, forked, make_input, records, run, say, wait

from bigrestore.run.state.journal import Journal
from bigrestore.run.state.lock import joint_writer

Case = Callable[["Bench"], str]


class Bench:
    """One input, and the store that every way of doing it must give."""

    def __init__(self, folder: Path, side_px: int) -> None:
        self.source = make_input(folder / "in.zarr", side_px)
        self.folder, calm = folder, folder / "calm.ome.zarr"
        assert wait(forked(lambda: run(self.source, calm))) == 0
        self.wanted, self.blocks = digest(calm), len(records(calm))

    def output(self, name: str) -> Path:
        return self.folder / f"{name}.ome.zarr"

    def compare(self, output: Path) -> str:
        """Return what is wrong with a store; "" where nothing is."""
        wrong = different(self.wanted, digest(output))
        marked = list(Path(f"{output}.bigrestore/journal").glob("*.inflight"))
        if marked:
            return f"{len(marked)} blocks are still marked"
        return f"{len(wrong)} files differ, first {wrong[0]}" if wrong else ""


def until(condition: Callable[[], bool], pid: int, seconds: float = 240.0) -> None:
    """Wait until something is so, as long as the process runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        code = ended(pid)
        if code is not None or time.monotonic() > deadline:
            raise TimeoutError(f"it did not come to that; the process ended with {code}")
        time.sleep(0.005)


def workers_of(pid: int) -> list[int]:
    """Return the worker processes of a run."""
    children = psutil.Process(pid).children(recursive=True)
    return [child.pid for child in children if "bigrestore.run.workers.main" in child.cmdline()]


def by_workers(count: int) -> Case:
    def case(bench: Bench) -> str:
        output = bench.output(f"workers-{count}")
        code = wait(forked(lambda: run(bench.source, output, workers=count)))
        return f"it ended with {code}" if code else bench.compare(output)

    return case


def by_shards(bench: Bench) -> str:
    output = bench.output("shards")
    assert wait(forked(lambda: run(bench.source, output, init_only=True))) == 0
    assert wait(forked(lambda: run(bench.source, output, init_only=True))) == 0, "it may be done again"
    early = wait(forked(lambda: run(bench.source, output, finalize=True)))
    if early != 5:
        return f"an output without blocks was finished with {early}"
    parts = [
        forked(lambda part=part: run(bench.source, output, shard=f"{part}/3"))  # type: ignore[misc]
        for part in (1, 2, 3)
    ]
    codes = [wait(pid) for pid in parts]
    if any(codes):
        return f"the shards ended with {codes}"
    with joint_writer(Path(f"{output}.bigrestore"), output):
        plain = wait(forked(lambda: run(bench.source, output, resume=True)))
    if plain != 4:
        return f"a plain run was let in beside a shard and ended with {plain}"
    code = wait(forked(lambda: run(bench.source, output, finalize=True)))
    return f"finalize ended with {code}" if code else bench.compare(output)


def with_a_worker_killed(bench: Bench) -> str:
    output = bench.output("worker-killed")
    pid = forked(lambda: run(bench.source, output, workers=2))
    for share in (4, 2):
        until(lambda share=share: len(records(output)) >= bench.blocks // share, pid)  # type: ignore[misc]
        os.kill(workers_of(pid)[0], signal.SIGKILL)
    code = wait(pid)
    return f"it ended with {code}" if code else bench.compare(output)


def with_the_run_killed(bench: Bench) -> str:
    output = bench.output("run-killed")
    pid = forked(lambda: run(bench.source, output, workers=2))
    until(lambda: len(records(output)) >= bench.blocks // 2, pid)
    orphans = workers_of(pid)
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    code = wait(forked(lambda: run(bench.source, output, workers=2, resume=True)))
    if any(psutil.pid_exists(orphan) for orphan in orphans):
        return "workers outlived their run"
    return f"it ended with {code}" if code else bench.compare(output)


def with_a_signal(bench: Bench) -> str:
    output = bench.output("stopped")
    pid = forked(lambda: run(bench.source, output, workers=2))
    until(lambda: len(records(output)) >= 2, pid)
    os.kill(pid, signal.SIGTERM)
    started = time.monotonic()
    code, seconds = wait(pid), time.monotonic() - started
    if code != 75 or seconds > 10:
        return f"it ended with {code} after {seconds:.1f} s"
    if list(Path(f"{output}.bigrestore/journal").glob("*.inflight")):
        return "blocks are still marked"
    code = wait(forked(lambda: run(bench.source, output, workers=2, resume=True)))
    return f"it ended with {code}" if code else bench.compare(output)


def by_dask(bench: Bench) -> str:
    """A LocalCluster in a process of its own, one of its workers killed half-way."""
    output = bench.output("dask")

    def work() -> int:
        import threading

        from distributed import LocalCluster

        with LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster:
            victim = next(iter(cluster.workers.values())).pid

            def kill() -> None:
                while len(records(output)) < bench.blocks // 2:
                    time.sleep(0.005)
                os.kill(victim, signal.SIGKILL)

            threading.Thread(target=kill, daemon=True).start()
            return run(bench.source, output, scheduler=cluster.scheduler_address)

    code = wait(forked(work), 400)
    return f"it ended with {code}" if code else bench.compare(output)


def by_dask_and_its_run_killed(bench: Bench) -> str:
    """The workers of a run that is killed abandon its blocks, and another run may use them."""
    from distributed import LocalCluster

    output = bench.output("dask-run-killed")
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        script = (
            "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from survival import run\n"
            "run(Path(sys.argv[2]), Path(sys.argv[3]), scheduler=sys.argv[4])"
        )
        arguments = [Path(__file__).parent, bench.source, output, cluster.scheduler_address]
        with subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)]) as client:
            deadline = time.monotonic() + 120
            while len(records(output)) < bench.blocks // 4:
                if time.monotonic() > deadline or client.poll() is not None:
                    return "it did not come to that"
                time.sleep(0.005)
            client.kill()
        started = time.monotonic()
        while Journal(output).in_progress():
            if time.monotonic() - started > 15:
                return "its workers go on without it"
            time.sleep(0.05)
        if len(records(output)) == bench.blocks:
            return "it was done before it was killed"
        code = run(bench.source, output, scheduler=cluster.scheduler_address, resume=True)
    return f"it ended with {code}" if code else bench.compare(output)


def joined(bench: Bench) -> str:
    """Processes with the same part share its blocks; what one of them had that is killed is done by the others."""
    output = bench.output("joined")
    assert wait(forked(lambda: run(bench.source, output, init_only=True))) == 0
    pids = [forked(lambda: run(bench.source, output, shard="1/1")) for _ in range(3)]
    until(lambda: len(records(output)) >= bench.blocks // 4, pids[0])
    os.kill(pids[0], signal.SIGKILL)
    codes = [wait(pid) for pid in pids]
    if codes != [-signal.SIGKILL, 0, 0]:
        return f"they ended with {codes}"
    code = wait(forked(lambda: run(bench.source, output, finalize=True)))
    return f"finalize ended with {code}" if code else bench.compare(output)


CASES: dict[str, Case] = {
    "2 workers": by_workers(2),
    "4 workers": by_workers(4),
    "shards 1/3, 2/3, 3/3": by_shards,
    "1/1 three times, one killed": joined,
    "a worker killed twice": with_a_worker_killed,
    "the run killed with its workers": with_the_run_killed,
    "SIGTERM with workers": with_a_signal,
    "dask, a worker killed": by_dask,
    "dask, the run killed": by_dask_and_its_run_killed,
}


def main() -> int:
    """Try every way, and say what is wrong with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=1920, help="of the input, in pixels")
    parser.add_argument("--only", default="", help="cases whose names have this in them")
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.side)
        say(f"{bench.blocks} blocks:")
        for name, case in CASES.items():
            if options.only not in name:
                continue
            started = time.monotonic()
            wrong = case(bench)
            bad += bool(wrong)
            say(f"  {name}: {wrong or 'the same bytes'} ({time.monotonic() - started:.0f} s)")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
