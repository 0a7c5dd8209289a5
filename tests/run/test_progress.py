"""Progress without a terminal: plain lines that stay as they are."""

from __future__ import annotations

import io
import json
import re
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from engine_toys import Fir, go, save_zarr

import bigrestore
from bigrestore.core.geometry import Grid
from bigrestore.core.host.resources import available_cpus, memory_limit_bytes
from bigrestore.run.view.progress import LinesProgress, clock_text, device_bytes, make_progress
from bigrestore.run.view.tile_count import TileCount

LINE = re.compile(
    r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ run \d+/\d+ tiles \d+\.\d% \d+\.\d MPx/s eta (\d\d:\d\d:\d\d|--:--:--) "
    r"rss \d+\.\dG$"
)


def test_a_line_has_its_form() -> None:
    stream = io.StringIO()
    shown = LinesProgress(stream, interval=0.0)
    shown.start("run", 29616, 1239)
    shown.advance(1240, 3840 * 3840)
    shown.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all(LINE.match(line) for line in lines), lines
    assert " run 1240/29616 tiles 4.2% " in lines[0]


@pytest.mark.parametrize("told", ["before the block ends", "after it", "around it", "by two processes"])
def test_tiles_of_a_block_count_once_whenever_they_are_told_of(told: str) -> None:
    grid = Grid.build(
        (1, 480, 960), scale=Fraction(1), alignment_px=1, halo_px=8, block_px=480, tile_px=160, exact=True
    )
    stream = io.StringIO()
    shown = LinesProgress(stream, interval=0.0, as_json=True)
    blocks = list(grid.blocks())
    whole = grid.tile_count(blocks[0].box)
    tiles = TileCount(grid, shown, len(blocks) * whole)
    tiles.start(len(blocks) * whole, None)
    for block in blocks:
        if told in ("before the block ends", "by two processes"):
            tiles.add(block, whole)
        if told == "around it":
            tiles.add(block, 1)
        tiles.end_block(block)
        if told in ("after it", "by two processes"):
            tiles.add(block, whole)
        if told == "around it":
            tiles.add(block, whole - 1)
    counts = [json.loads(line)["done"] for line in stream.getvalue().splitlines()]
    assert counts[-1] == len(blocks) * whole
    assert counts == sorted(counts)


def test_lines_come_once_per_interval() -> None:
    stream = io.StringIO()
    shown = LinesProgress(stream, interval=3600.0)
    shown.start("run", 100)
    for done in range(1, 101):
        shown.advance(done, 10)
    shown.close()
    assert len(stream.getvalue().splitlines()) == 1


def test_json_lines_are_json() -> None:
    stream = io.StringIO()
    shown = LinesProgress(stream, interval=0.0, as_json=True)
    shown.start("run", 4)
    shown.advance(1, 100)
    facts = json.loads(stream.getvalue())
    assert (facts["done"], facts["total"], facts["phase"]) == (1, 4, "run")
    assert facts["rss_bytes"] > 0


def test_without_a_terminal_there_are_no_escape_codes(
    tmp_path: Path, tissue: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    go(save_zarr(tmp_path / "in.zarr", tissue), tmp_path / "out.zarr", Fir(), progress="auto")
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert LINE.match(err.splitlines()[0]), err


@pytest.mark.parametrize("kind", ["bar", "tqdm", "none"])
def test_every_kind_of_progress_survives_a_run(tmp_path: Path, tissue: np.ndarray, kind: str) -> None:
    summary = go(save_zarr(tmp_path / "in.zarr", tissue), tmp_path / "out.zarr", Fir(), progress=kind)
    assert summary.blocks_done == 6
    assert make_progress(kind) is not None


def test_the_python_call_restores(
    tmp_path: Path, tissue: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue[:100, :100])
    summary = bigrestore.restore(source, tmp_path / "out.ome.zarr", method="catmull-rom", scale=2)
    assert summary.blocks_done == 1
    assert set(summary.seconds) == {"start-up", "profile", "blocks", "finalize", "report"}
    assert "run" in capsys.readouterr().err


def test_times_and_machine() -> None:
    assert clock_text(None) == "--:--:--"
    assert clock_text(5 * 3600 + 12 * 60 + 44) == "05:12:44"
    assert available_cpus() >= 1
    assert memory_limit_bytes() > 1 << 28


def test_slurm_and_the_control_group_limit_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigrestore.core.host import resources

    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert available_cpus() == 64
    (tmp_path / "cpu.max").write_text("800000 100000\n")
    assert available_cpus() == 8
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert available_cpus() == 3
    (tmp_path / "memory.max").write_text(str(1 << 29))
    assert memory_limit_bytes() == 1 << 29


@pytest.mark.parametrize("cuda", [None, ModuleType("torch.cuda")])
def test_a_line_while_torch_is_being_imported_asks_no_gpu(
    cuda: ModuleType | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = ModuleType("torch")
    if cuda is not None:
        half.cuda = cuda  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", half)
    assert device_bytes() is None
