"""A run hands its blocks to any sink, and without one it knows no report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_toys import Fir, go, level0, save_zarr

import bigrestore
from bigrestore.api import report_sinks
from bigrestore.core.geometry import Block
from bigrestore.errors import UsageError
from bigrestore.model.method import TileBatch
from bigrestore.run.execute import execute
from bigrestore.run.sinks import BlockSink, Sink
from bigrestore.run.state.records import BlockRecord
from bigrestore.run.tile.block import BlockWork
from bigrestore.run.view.dry_run import estimate
from bigrestore.run.view.summary import RunSummary
from bigrestore.settings import RunSettings

QUICK: dict[str, Any] = {"method": "catmull-rom", "mask": "none", "block_size": 480, "progress": "none"}


class Counter(Sink):
    """Counts the blocks of a run."""

    def __init__(self) -> None:
        self.begun, self.taken, self.calls = 0, dict[str, np.ndarray](), list[str]()
        self.records: list[BlockRecord] = []

    def forget(self, block: Block) -> None:
        self.begun += 1

    def take(self, work: BlockWork, stopping: Callable[[], bool]) -> None:
        assert not stopping()
        self.taken[work.block.name] = work.output.copy()

    def finish(self, summary: RunSummary, records: list[BlockRecord], *_: Any) -> RunSummary:
        self.calls.append("finish")
        self.records = records
        return summary

    def close(self) -> None:
        self.calls.append("close")


class Witness(Sink):
    """Writes down, in each process, which modules of the report are loaded once blocks were taken."""

    factory = "test_sinks:Witness"

    def __init__(self, settings: RunSettings) -> None:
        del settings

    def open(self, ready: Any, job: Any) -> BlockSink:
        self._folder: Path = ready.output.parent
        return self

    def close(self) -> None:
        loaded = [
            name for name in sys.modules if name.startswith(("bigrestore.report", "jinja2", "matplotlib"))
        ]
        (self._folder / f"seen-{os.getpid()}.json").write_text(json.dumps(loaded))


@pytest.fixture
def source(tmp_path: Path, tissue: np.ndarray) -> Path:
    return save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:480, :960]))


def test_a_sink_of_ones_own_takes_every_block_and_the_end(tmp_path: Path, source: Path) -> None:
    counter, out = Counter(), tmp_path / "out.zarr"
    summary = bigrestore.restore(source, out, sinks=[counter], report=False, **QUICK)
    assert (counter.begun, len(counter.taken), summary.blocks_done) == (2, 2, 2)
    assert sorted(record.name for record in counter.records) == sorted(counter.taken)
    assert counter.calls == ["finish", "close"]
    whole = np.concatenate([counter.taken[name] for name in sorted(counter.taken)], axis=1)
    np.testing.assert_array_equal(whole, level0(out))
    again = Counter()
    bigrestore.restore(source, out, sinks=[again], report=False, resume=True, **QUICK)
    assert (again.begun, again.calls) == (0, []), "a finished run has nothing for it"


def test_a_failed_block_reaches_no_sink(tmp_path: Path, source: Path) -> None:
    def hook(count: int, _: TileBatch) -> None:
        if count == 1:
            raise ValueError("the toy is broken")

    counter = Counter()
    settings = RunSettings(mask="none", block_size=480, threads=1, progress="none", report=False)
    summary = execute(source, tmp_path / "out.zarr", settings, method=Fir(hook=hook), sinks=[counter])
    assert len(summary.failed) == 1
    assert (counter.begun, len(counter.taken), len(counter.records)) == (2, 1, 2)


def test_an_error_of_a_sink_stops_the_run_and_a_resumed_one_goes_on(tmp_path: Path, source: Path) -> None:
    class Broken(Counter):
        def take(self, work: BlockWork, stopping: Callable[[], bool]) -> None:
            super().take(work, stopping)
            raise ZeroDivisionError("oops")

    broken, counter, out = Broken(), Counter(), tmp_path / "out.zarr"
    with pytest.raises(ZeroDivisionError):
        bigrestore.restore(source, out, sinks=[broken], report=False, **QUICK)
    assert (len(broken.taken), broken.calls) == (1, ["close"])
    bigrestore.restore(source, out, sinks=[counter], report=False, resume=True, **QUICK)
    assert len(counter.taken) == 1, "the block that was taken is done"


@pytest.mark.usefixtures("warm_children")
@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("", "The sink Counter cannot be made in workers"),
        ("test_sinks:Nothing", "test_sinks:Nothing cannot be"),
    ],
)
def test_workers_refuse_a_sink_they_cannot_make(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, factory: str, message: str
) -> None:
    monkeypatch.setattr(Counter, "factory", factory)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    with pytest.raises(UsageError, match=message):
        bigrestore.restore(source, tmp_path / "out.zarr", sinks=[Counter()], report=False, workers=2, **QUICK)
    assert (tmp_path / "out.zarr").exists() == bool(factory)


def test_without_a_report_no_process_loads_a_scoring_module(tmp_path: Path, source: Path) -> None:
    program = (
        "import sys\n"
        "from test_sinks import QUICK, Witness\n"
        "assert not any(name.startswith('bigrestore.report') for name in sys.modules)\n"
        "import bigrestore\n"
        f"bigrestore.restore({str(source)!r}, {str(tmp_path / 'out.zarr')!r}, sinks=[Witness(None)], report=False,"
        " workers=2, threads=1, **QUICK)\n"
    )
    package = Path(bigrestore.__file__).parents[1]
    paths = os.pathsep.join([str(package), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    seen = [json.loads(path.read_text()) for path in tmp_path.glob("seen-*.json")]
    assert seen == [[], [], []], "the first process and two workers"


def test_the_command_loads_no_scoring_module_without_a_report(tmp_path: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    flags = ["--method", "catmull-rom", "--no-report", "--block-size", "480", "--progress", "none"]
    program = (
        "import sys\n"
        "from bigrestore.cli.app import main\n"
        f"sys.argv = {['bigrestore', 'run', str(source), str(out), *flags]!r}\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print([name for name in sys.modules if name.startswith(('bigrestore.report', 'jinja2', 'matplotlib'))])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(Path(bigrestore.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert out.exists()


def test_a_dry_run_counts_the_tiles_of_its_sinks(tmp_path: Path, source: Path) -> None:
    from bigrestore.report.sink import SCORE_BYTES

    settings = RunSettings(score_tile_size=480, **QUICK)
    with_report = estimate(source, tmp_path / "out.zarr", settings, sinks=report_sinks(settings))
    without = estimate(source, tmp_path / "out.zarr", settings)
    assert (with_report.score_tiles, without.score_tiles) == (2, 0)
    assert with_report.memory_bytes > without.memory_bytes + SCORE_BYTES


def test_the_sums_for_scores_are_kept_for_a_sink_that_asks(tmp_path: Path, source: Path) -> None:
    def sums(output: Path, **settings: Any) -> list[set[str]]:
        go(source, output, "rational", overlap=32, **settings)
        folder = output.with_name(f"{output.name}.bigrestore") / "journal"
        return [set(json.loads(path.read_text())["stats"]) for path in folder.glob("*.json")]

    wanted = {"residuals", "seams"}
    assert all(wanted & stats for stats in sums(tmp_path / "with.zarr", report=True))
    assert not any(wanted & stats for stats in sums(tmp_path / "without.zarr", report=False))
