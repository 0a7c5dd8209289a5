"""Whoever carries out the blocks, the bytes are the same; two that were given one block do not meet in it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from engine_toys import Fir, go, save_zarr
from hypothesis import given
from hypothesis import strategies as st

from bigrestore.core.files import read_sealed, write_sealed
from bigrestore.core.geometry import Grid
from bigrestore.core.host.resources import share_of
from bigrestore.errors import BlocksFailedError, OutputError, OutputExistsError, UsageError, WorkersLostError
from bigrestore.run import plan
from bigrestore.run.execute import execute
from bigrestore.run.plan import choose_threads
from bigrestore.run.state import claims as claims_module
from bigrestore.run.state.checksums import file_state
from bigrestore.run.state.claims import Claims
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.lock import joint_writer, sole_writer
from bigrestore.run.state.records import BlockRecord
from bigrestore.run.workers.shards import own_blocks
from bigrestore.settings import RunSettings
from bigrestore.settings.values import parse_shard

BLOCK = "z00000-y0000-x0000"
QUICK_PAUSES = 0.01, 0.04


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:300, :500]))


def every_byte(store: Path) -> dict[str, bytes]:
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()}


def restore(source: Path, output: Path, **settings: Any) -> Any:
    return go(source, output, method="rational", scale=2, **settings)


def tiles(output: Path) -> str:
    """The table of the report in words, in which a value that is missing equals another one."""
    return str(pq.read_table(f"{output}.bigrestore/report/tiles.parquet").to_pydict())


def marks(output: Path) -> list[str]:
    return [path.name for path in Path(f"{output}.bigrestore/journal").glob("*.inflight")]


@given(
    depth=st.integers(1, 9),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    count=st.integers(1, 12),
)
def test_shards_have_every_block_once(depth: int, rows: int, columns: int, count: int) -> None:
    grid = Grid.build(
        (depth, rows * 480, columns * 480 - 7),
        scale=Fraction(1),
        alignment_px=1,
        halo_px=0,
        block_px=480,
        tile_px=480,
    )
    parts = [own_blocks(grid, (index, count)) for index in range(1, count + 1)]
    assert sorted(index for part in parts for index in part) == list(range(grid.block_total))
    assert [grid.block_at(index) for index in range(grid.block_total)] == list(grid.blocks())
    if depth >= count:
        owners = [{grid.block_at(index).z for index in part} for part in parts]
        assert sum(map(len, owners)) == depth, "a section is profiled by one part alone"


@given(count=st.integers(1, 80), cpus=st.sets(st.integers(0, 200), min_size=1, max_size=64))
def test_workers_share_every_processor_and_none_is_idle(count: int, cpus: set[int]) -> None:
    listed = sorted(cpus)
    shares = [share_of(listed, index, count) for index in range(count)]
    assert {cpu for share in shares for cpu in share} == cpus or count < 1
    assert all(shares)
    if count <= len(cpus):
        assert sum(map(len, shares)) == len(cpus)


def test_the_plan_says_why_so_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from bigrestore.core.host import resources

    monkeypatch.setattr(resources, "affinity", lambda: list(range(12)))
    monkeypatch.setattr(resources, "CGROUP", Path("/nowhere"))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert choose_threads(None, 1, gpu=False)[0] == 8
    threads, why = choose_threads(None, 3, gpu=False)
    assert threads == 2
    assert "3 workers share 8 processors (affinity 12, SLURM_CPUS_PER_TASK 8)" in why
    assert choose_threads(None, 9, gpu=False)[0] == 1
    assert choose_threads(5, 9, gpu=False)[0] == 5


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", "1/99999", ""])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        parse_shard(text)


@pytest.mark.parametrize(
    "settings",
    [
        {"init_only": True, "finalize": True},
        {"shard": "1/2", "overwrite": True},
        {"finalize": True, "overwrite": True},
        {"scheduler": "tcp://a:1", "cluster": "slurm"},
        {"scheduler": "tcp://a:1", "workers": 2},
        {"scheduler": "tcp://a:1", "shard": "1/2"},
        {"scheduler": "somewhere"},
        {"cluster": "sun-grid"},
        {"workers": 0},
    ],
)
def test_steps_that_exclude_each_other_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--"):
        RunSettings(**settings)


@pytest.mark.usefixtures("quick_scores", "quick_page")
def test_init_shards_and_finalize_give_the_bytes_of_one_run(tmp_path: Path, source: Path) -> None:
    out, calm = tmp_path / "out.zarr", tmp_path / "calm.zarr"
    restore(source, calm, report=True)
    for step in ({"shard": "1/2"}, {"finalize": True}):
        with pytest.raises(OutputError, match="--init-only"):
            restore(source, out, **step)
    for _ in range(2):
        assert restore(source, out, init_only=True).part == "init"
    with pytest.raises(BlocksFailedError, match="not done"):
        restore(source, out, finalize=True)
    with pytest.raises(OutputExistsError, match="--seed"):
        restore(source, out, init_only=True, seed=3)
    for part, blocks in (("2/2", 3), ("1/2", 3), ("2/2", 0)):
        summary = restore(source, out, shard=part, report=True)
        assert (summary.blocks_restored, summary.part) == (blocks, f"shard {part}")
    for _ in range(2):
        summary = restore(source, out, finalize=True, report=True)
        assert summary.blocks_done == 6
        assert summary.report.folder
    assert every_byte(out) == every_byte(calm)
    assert tiles(out) == tiles(calm)
    assert restore(source, out, shard="1/2").blocks_restored == 0


def test_parts_may_write_together_and_shut_out_a_run_of_its_own(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    restore(source, out, init_only=True)
    folder = Path(f"{out}.bigrestore")
    with joint_writer(folder, out), joint_writer(folder, out):
        for settings in ({"resume": True}, {"overwrite": True}, {"init_only": True}, {"finalize": True}):
            with pytest.raises(OutputExistsError, match="all parts of it have ended"):
                restore(source, out, **settings)
        assert restore(source, out, shard="1/2").blocks_restored == 3
        assert len(list(folder.glob("lock*"))) == 2, "the others still hold it"
    assert not list(folder.glob("lock*"))
    with sole_writer(folder, out), pytest.raises(OutputExistsError, match="being written by"):
        restore(source, out, shard="2/2")


def claims(journal: Journal, count: int = 1) -> Claims:
    grid = Grid.build(
        (1, 480, 480 * count),
        scale=Fraction(1),
        alignment_px=1,
        halo_px=0,
        block_px=480,
        tile_px=480,
    )
    return Claims(journal, grid, range(count))


@pytest.fixture
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process ask for blocks that another one has at short intervals."""
    monkeypatch.setattr(claims_module, "PAUSE_SECONDS", QUICK_PAUSES)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.usefixtures("quick_pauses")
def test_a_block_in_progress_elsewhere_is_waited_for_and_not_done_again(tmp_path: Path) -> None:
    first, second = Journal(tmp_path / "out.zarr"), Journal(tmp_path / "out.zarr")
    first.create()
    shard = tmp_path / "shard"
    shard.write_bytes(b"12345")
    waiting = claims(second)
    got: list[Any] = []
    assert first.lock(BLOCK) is not None
    assert second.lock(BLOCK) is None
    assert second.in_progress() == [BLOCK]
    thread = threading.Thread(target=lambda: got.extend(waiting.blocks(lambda _: [shard], lambda: False)))
    thread.start()
    time.sleep(5 * QUICK_PAUSES[1])
    assert shard.exists(), "nobody touches what another one has in progress"
    second.abandon(BLOCK, [shard])
    assert shard.exists()
    first.complete(BlockRecord(BLOCK, "done", {"shard": file_state(shard)}))
    thread.join(10)
    assert [claim.record.status for claim in got] == ["done"]
    assert [record.status for _, record in waiting.finished()] == ["done"]
    assert shard.exists()
    assert not marks(tmp_path / "out.zarr")
    (anew,) = claims(second).blocks(lambda _: [shard], lambda: False)
    assert anew.record is None, "asked for anew it is begun anew"
    assert not shard.exists()
    second.abandon(BLOCK, [shard])


def test_a_failed_block_is_tried_once_by_all_processes_together(tmp_path: Path) -> None:
    first, second = Journal(tmp_path / "out.zarr"), Journal(tmp_path / "out.zarr")
    first.create()
    first.complete(BlockRecord(BLOCK, "failed", reason="of a former run"))
    mine, other = claims(first), Claims.from_json(claims(second).to_json(), second, claims(second)._grid)
    (claim,) = mine.blocks(lambda _: [], lambda: False)
    assert claim.record is None, "the record of a former run does not count"
    first.complete(BlockRecord(BLOCK, "failed", reason="of this run"))
    (claim,) = other.blocks(lambda _: [], lambda: False)
    assert claim.record is not None
    assert claim.record.reason == "of this run"


def dying(journal: Journal, blocks: int = 1) -> None:
    """Claim blocks in a process that dies."""
    pid = os.fork()
    if not pid:
        claimed = claims(journal, 3).blocks(lambda _: [], lambda: False)
        names = [claim.block.name for _, claim in zip(range(blocks), claimed, strict=False)]
        os._exit(0 if len(names) == blocks else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_block_that_costs_three_processes_has_failed_and_the_others_are_done(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.zarr")
    journal.create()
    for _ in range(3):
        dying(journal)
        assert marks(tmp_path / "out.zarr") == [f"{BLOCK}.inflight"]
    first, second, third = claims(journal, 3).blocks(lambda _: [], lambda: False)
    assert first.record is not None
    assert (first.block.name, first.record.status) == (BLOCK, "failed")
    assert "3 workers died over it" in first.record.reason
    assert second.record is third.record is None
    journal.drop_dead()
    assert len(journal.held) == 2, "what is in progress is left alone"


@pytest.mark.usefixtures("quick_pauses")
def test_a_risky_block_is_done_by_a_process_that_has_no_other(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.zarr")
    journal.create()
    dying(journal)
    got: list[str] = []
    stop = threading.Event()

    def take() -> None:
        got.extend(claim.block.name for claim in claims(journal, 3).blocks(lambda _: [], stop.is_set))

    assert journal.lock("z00000-y0000-x0001") is not None
    thread = threading.Thread(target=take)
    thread.start()
    try:
        wait_until(lambda: bool(got))
        time.sleep(5 * QUICK_PAUSES[1])
        assert got == ["z00000-y0000-x0002"], "the process has others in progress"
        for name in ("z00000-y0000-x0001", *got):
            journal.complete(BlockRecord(name, "done"))
        wait_until(lambda: len(got) > 1)
        time.sleep(5 * QUICK_PAUSES[1])
        assert got[1:] == [BLOCK], "it comes alone"
        journal.complete(BlockRecord(BLOCK, "done"))
        thread.join(10)
        assert got[2:] == ["z00000-y0000-x0001"]
    finally:
        stop.set()


def test_overwriting_waits_for_workers_that_outlived_their_run(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    restore(source, out)
    orphan = Journal(out)
    orphan.lock("z00000-y0000-x0000")
    with pytest.raises(OutputExistsError, match="still in the hands"):
        restore(source, out, overwrite=True)
    orphan.abandon("z00000-y0000-x0000", [])
    assert restore(source, out, overwrite=True).blocks_done == 6


def test_a_method_that_is_handed_in_has_no_workers(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UsageError, match="no workers"):
        execute(source, tmp_path / "out.zarr", RunSettings(workers=2), method=Fir())


@pytest.mark.usefixtures("warm_children", "quick_page")
def test_two_workers_give_the_bytes_and_the_report_of_one(tmp_path: Path, source: Path) -> None:
    out, calm = tmp_path / "out.zarr", tmp_path / "calm.zarr"
    restore(source, calm, report=True)
    summary = restore(source, out, workers=2, threads=None, report=True)
    assert (summary.blocks_done, summary.blocks_restored, summary.workers) == (6, 6, 2)
    assert every_byte(out) == every_byte(calm)
    assert tiles(out) == tiles(calm)
    assert not marks(out)


@pytest.mark.usefixtures("warm_children")
def test_a_worker_that_sees_another_plan_refuses_and_ends_the_run(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigrestore.run.workers import local
    from bigrestore.run.workers.loop import Order

    out = tmp_path / "out.zarr"
    restore(source, out, init_only=True)
    plan = Path(f"{out}.bigrestore/plan.json")
    stored = read_sealed(plan)
    assert stored is not None
    other = json.loads(json.dumps(stored).replace('"settings.seed": 0', '"settings.seed": 5'))

    class Meddler:
        @staticmethod
        def of(ready: Any, claims: Claims, threads: int | None) -> Order:
            write_sealed(plan, other)
            return Order.of(ready, claims, threads)

    with monkeypatch.context() as patch:
        patch.setattr(local, "Order", Meddler)
        with pytest.raises(OutputExistsError, match="--seed"):
            restore(source, out, workers=2, resume=True)
    write_sealed(plan, stored)
    assert restore(source, out, resume=True).blocks_done == 6


def test_dask_workers_give_the_bytes_of_one_run(tmp_path: Path, source: Path) -> None:
    distributed = pytest.importorskip("distributed")
    out, calm = tmp_path / "out.zarr", tmp_path / "calm.zarr"
    restore(source, calm)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="tcp://"
    ) as cluster:
        assert restore(source, out, scheduler=cluster.scheduler_address, threads=None).blocks_restored == 6
    assert every_byte(out) == every_byte(calm)


@pytest.mark.usefixtures("warm_children")
def test_jobs_of_a_batch_system_carry_out_the_blocks(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dask_jobqueue")
    from bigrestore.run.workers import cluster

    monkeypatch.setattr(cluster, "COUNT_SECONDS", 0.2)
    out, calm, tools = tmp_path / "out.zarr", tmp_path / "calm.zarr", tmp_path / "bin"
    restore(source, calm)
    tools.mkdir()
    sbatch = '#!/bin/sh\ncp "$1" "$0.job"\nbash "$0.job" >"$0.log" 2>&1 &\necho "Submitted batch job $!"\n'
    for name, script in {"sbatch": sbatch, "scancel": '#!/bin/sh\nkill "$@"\n'}.items():
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    summary = restore(source, out, cluster="slurm", workers=1, threads=1)
    assert summary.blocks_restored == 6
    assert every_byte(out) == every_byte(calm)
    with pytest.raises(UsageError, match="how many processors a job has"):
        restore(source, tmp_path / "no.zarr", cluster="pbs", threads=None)


def test_workers_that_are_lost_again_and_again_end_the_run(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    from bigrestore.run.workers import cluster

    class Restless:
        """A cluster whose only worker is killed before it does anything, as when its memory is too little."""

        status, scheduler = "running", itertools.count()

        def nthreads(self) -> dict[str, int]:
            return {f"tcp://127.0.0.1:{next(self.scheduler)}": 1}

        def submit(self, *_: Any, **__: Any) -> Any:
            return SimpleNamespace(done=lambda: False, cancel=lambda: None)

        def cancel(self, tasks: list[Any]) -> None:
            pass

    monkeypatch.setattr(cluster, "_client", lambda *_: contextlib.nullcontext(Restless()))
    for name in ("COUNT_SECONDS", "TASK_SECONDS"):
        monkeypatch.setattr(cluster, name, 0.0)
    with pytest.raises(WorkersLostError, match=r"10 workers in a row were lost .* memory than 0\.[0-9] GiB"):
        restore(source, tmp_path / "out.zarr", scheduler="tcp://127.0.0.1:1")


def test_a_scheduler_that_is_not_there_is_a_sentence(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    from bigrestore.run.workers import cluster

    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(UsageError, match="no dask scheduler answers"):
        restore(source, tmp_path / "out.zarr", scheduler="tcp://127.0.0.1:9")


@pytest.mark.parametrize("kills", [4])
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(
    tmp_path: Path, source: Path, kills: int
) -> None:
    out, calm = tmp_path / "out.zarr", tmp_path / "calm.zarr"
    restore(source, calm)
    records = Path(f"{out}.bigrestore/journal")
    for killed in range(kills):
        pid = os.fork()
        if not pid:
            try:
                restore(source, out, resume=True, threads=1)
            finally:
                os._exit(0)
        wanted = min(killed + 1, 5)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if records.is_dir() and len(list(records.glob("*.json"))) >= wanted:
                break
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    restore(source, out, resume=True)
    assert every_byte(out) == every_byte(calm)


@pytest.mark.parametrize(("built", "more"), [(None, 0), ("13.0", plan.CUDA_BUILD_BYTES)])
def test_a_build_of_torch_with_cuda_counts_in_the_memory(
    built: str | None, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(version=SimpleNamespace(cuda=built)))
    assert plan._base_bytes() == plan.BASE_BYTES + more
