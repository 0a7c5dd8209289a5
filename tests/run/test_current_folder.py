"""What lies in the folder of the data is never run: not by workers, not by scoring processes, not by jobs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from engine_toys import go, save_zarr

from bigrestore.report.pool import ScorePool
from bigrestore.report.table.tiles import EngineSpec
from bigrestore.run.children import python_command, python_environment

PLANTED = ("bigrestore.py", "json.py", "numpy.py", "torch/__init__.py")
TRAP = "import os\nopen({mark!r}, 'a').write('run by ' + str(os.getpid()))\nos._exit(3)\n"


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with modules that leave this file when one of them is run."""
    data, mark = tmp_path / "data", tmp_path / "EXECUTED"
    for name in PLANTED:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(TRAP.format(mark=str(mark)))
    monkeypatch.chdir(data)
    return mark


@pytest.mark.parametrize("paths", ["", ":", os.pathsep.join(["/nowhere", ""])])
def test_no_process_imports_from_the_current_folder(
    mark: Path, monkeypatch: pytest.MonkeyPatch, paths: str
) -> None:
    """Empty entries of PYTHONPATH name the current folder, too."""
    import subprocess

    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), paths])) + paths
    )
    seen = subprocess.run(
        [*python_command("json.tool"), "--help"],
        env=python_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "JSON" in seen.stdout
    path = [*python_command("x")[:-2], "-c", "import sys; print(sys.path)"]
    shown = subprocess.run(path, env=python_environment(), capture_output=True, text=True, check=True).stdout
    assert str(Path.cwd()) not in shown
    assert "''" not in shown
    assert not mark.exists()


def test_workers_run_nothing_of_the_data_folder(mark: Path, tissue: np.ndarray) -> None:
    source = save_zarr(Path("in.zarr").absolute(), np.ascontiguousarray(tissue[:240, :500]))
    summary = go(source, Path("out.zarr").absolute(), method="rational", scale=2, workers=2)
    assert summary.blocks_restored == 3
    assert not mark.exists()


def test_scoring_processes_run_nothing_of_the_data_folder(mark: Path) -> None:
    pool = ScorePool(EngineSpec(), 1, processes=True)
    try:
        from bigrestore.core.geometry import Box
        from bigrestore.report.table.grid import ScoreTile
        from bigrestore.report.table.tiles import Pixels, Strip

        box = Box(0, 96, 0, 96)
        grey = np.random.default_rng(0).integers(0, 255, (96, 96), dtype=np.uint8)
        strip = Strip([ScoreTile(0, 0, 0, box)], Pixels(grey, box, (0.0, 255.0)), tile_px=96)
        assert len(pool.submit(strip).result()) == 1
    finally:
        pool.close()
    assert not mark.exists()


@pytest.mark.parametrize("configured", [None, ["module load python"]])
def test_jobs_of_a_batch_system_start_python_without_their_folder(
    monkeypatch: pytest.MonkeyPatch, configured: list[str] | None
) -> None:
    config = pytest.importorskip("dask.config")
    pytest.importorskip("dask_jobqueue")
    from bigrestore.run.workers.cluster import _prologue

    with config.set({"jobqueue.slurm.job-script-prologue": configured}):
        lines = _prologue("slurm")
    assert lines == [*(configured or []), "export PYTHONSAFEPATH=1"]


def test_processes_that_are_started_further_on_are_safe_too() -> None:
    assert python_environment({"A": "1"}) | {"A": "1", "PYTHONSAFEPATH": "1"} == python_environment(
        {"A": "1"}
    )
    assert python_command("a.b") == [sys.executable, "-P", "-m", "a.b"]
