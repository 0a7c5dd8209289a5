"""`run --dry-run --sbatch`: a job that a shell takes, with the plan's memory and time, and that does the run."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr

from bigrestore.cli.runs.job import sbatch_script

Call = Callable[..., int]


def estimate(**known: Any) -> Any:
    facts = {
        "seconds": 3600.0,
        "memory_bytes": 8 << 30,
        "threads": 4,
        "workers": 1,
        "method": {"device": "cpu"},
    }
    return SimpleNamespace(**(facts | known))


@pytest.mark.parametrize(
    ("estimates", "asked"),
    [
        ([estimate()], ["--mem 10G", "--time 01:45:00", "--cpus-per-task 4"]),
        ([estimate(seconds=1.0, memory_bytes=1)], ["--mem 2G", "--time 00:16:00"]),
        ([estimate(), estimate(memory_bytes=40 << 30)], ["--mem 50G", "--time 03:15:00"]),
        ([estimate(method={"device": "cuda"}, workers=2)], ["--gres gpu:1", "--cpus-per-task 8"]),
    ],
)
def test_a_job_asks_for_what_the_plan_estimates(estimates: list[Any], asked: list[str]) -> None:
    words = ["bigrestore", "run", "a b.tif", "out.zarr", "--dry-run", "--sbatch", "--scale", "2"]
    script = sbatch_script(estimates, {"words": words, "folder": "/data/it's here"})
    for line in asked:
        assert f"#SBATCH {line}\n" in script
    assert "bigrestore run 'a b.tif' out.zarr --scale 2 \"$how\"" in script
    assert "how=--resume" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_overwriting_is_for_the_first_start_alone() -> None:
    words = ["bigrestore", "run", "a", "b", "--overwrite", "--dry-run"]
    script = sbatch_script([estimate()], {"words": words, "folder": "/"})
    assert "how=--overwrite\n" in script
    assert 'bigrestore run a b "$how"' in script


def test_the_command_prints_the_job_alone(
    tmp_path: Path, call: Call, capfd: pytest.CaptureFixture[str]
) -> None:
    zarr.save_array(tmp_path / "in.zarr", np.random.default_rng(0).integers(0, 255, (90, 80), dtype=np.uint8))
    words = (
        "run",
        tmp_path / "in.zarr",
        tmp_path / "o.zarr",
        "--method",
        "rational",
        "--input-range",
        "full",
    )
    assert call(*words, "--dry-run", "--sbatch") == 0
    script = capfd.readouterr().out
    assert script.startswith("#!/usr/bin/env bash\n#SBATCH --job-name bigrestore\n")
    assert re.search(
        r"^bigrestore run \S+in\.zarr \S+o\.zarr --method rational --input-range full", script, re.M
    )
    assert not (tmp_path / "o.zarr").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--sbatch",), "give --dry-run, too"),
        (("--sbatch", "--dry-run", "--json"), "--sbatch and --json print one thing each"),
        (("--sbatch", "--dry-run", "--cluster", "slurm", "--workers", "2"), "start their own"),
    ],
)
def test_flags_that_do_not_go_together(
    call: Call, capfd: pytest.CaptureFixture[str], flags: tuple[str, ...], sentence: str
) -> None:
    assert call("run", "a", "b", *flags) == 2
    assert sentence in capfd.readouterr().err
