"""The scripts for schedulers name flags that exist, hold what a shell checker asks, and requeue what was stopped."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer.main

from bigrestore.cli.app import app

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(
    path
    for folder in ("slurm", "cron", "apptainer")
    for path in (EXAMPLES / folder).iterdir()
    if path.suffix in (".sh", ".sbatch")
)
COMMAND = re.compile(r"bigrestore (?:--log-format \w+ )?(run|status|verify|doctor)\b((?:[^\n;|]|\\\n)*)")


def known_flags(command: str) -> set[str]:
    found = typer.main.get_command(app).get_command(None, command)  # type: ignore[attr-defined]
    assert found is not None, f"bigrestore has no command {command}"
    return {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize(
    "script",
    [
        *SCRIPTS,
        EXAMPLES / "apptainer" / "bigrestore.def",
        EXAMPLES / "docker" / "Dockerfile",
        EXAMPLES / "nextflow" / "modules" / "bigrestore" / "main.nf",
    ],
    ids=lambda path: path.name,
)
def test_the_flags_of_the_examples_exist(script: Path) -> None:
    code = "\n".join(line for line in script.read_text().splitlines() if not line.lstrip().startswith("#"))
    for command, rest in COMMAND.findall(code):
        asked = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest))
        assert asked <= known_flags(command), f"{script.name}: {asked - known_flags(command)}"


def test_all_steps_of_a_job_array_are_used() -> None:
    text = "".join(path.read_text() for path in SCRIPTS)
    for flag in (
        "--init-only",
        "--shard",
        "--finalize",
        "--requeue",
        "--signal",
        "--dependency",
        "flock",
        "--resume",
    ):
        assert flag in text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_shell_checker_has_nothing_to_say(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=30)
    beside = Path(sys.executable).with_name("shellcheck")
    checker = shutil.which("shellcheck") or (str(beside) if beside.exists() else None)
    if checker is None:
        pytest.skip("shellcheck is not installed")
    found = subprocess.run([checker, str(script)], capture_output=True, text=True, timeout=60)
    assert not found.returncode, found.stdout


def fake(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def environment(folder: Path, **more: str) -> dict[str, str]:
    return (
        os.environ
        | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "SAID": str(folder / "said")}
        | more
    )


def said(folder: Path) -> list[str]:
    return (folder / "said").read_text().splitlines()


def test_an_array_is_submitted_in_three_steps(tmp_path: Path) -> None:
    fake(tmp_path, "sbatch", 'echo "$@" >>"$SAID"; wc -l <"$SAID" | tr -d " "')
    script = EXAMPLES / "slurm" / "submit.sh"
    subprocess.run(
        [script, "3", "in.zarr", "out put.zarr", "--scale", "2"],
        env=environment(tmp_path, SBATCH_FLAGS="--account lab", BLOCKS_FLAGS="--gres gpu:1"),
        check=True,
        timeout=30,
        capture_output=True,
    )
    first, array, last = said(tmp_path)
    assert first.endswith("init.sbatch in.zarr out put.zarr --scale 2")
    assert "--array 1-3 --dependency afterok:1" in array
    assert array.endswith("blocks.sbatch 3 in.zarr out put.zarr --scale 2")
    assert "--dependency afterany:2" in last
    assert all(line.startswith("--parsable --account lab") for line in said(tmp_path))
    assert ["--gres gpu:1" in line for line in said(tmp_path)] == [False, True, False], (
        "a pyramid needs no GPU"
    )


@pytest.mark.parametrize("parts", ["0", "-2", "three", "in.zarr"])
def test_a_count_of_parts_that_is_none_submits_nothing(tmp_path: Path, parts: str) -> None:
    fake(tmp_path, "sbatch", 'echo "$@" >>"$SAID"; echo 1')
    ended = subprocess.run(
        [EXAMPLES / "slurm" / "submit.sh", parts, "in.zarr", "out.zarr"],
        env=environment(tmp_path),
        timeout=30,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert parts in ended.stderr
    assert not (tmp_path / "said").exists()


@pytest.mark.parametrize(("ends_with", "requeued"), [(75, True), (5, False), (0, False)])
def test_a_warned_part_goes_back_into_the_queue(tmp_path: Path, ends_with: int, requeued: bool) -> None:
    """The batch shell alone is warned; the worker must hear of it, and its own exit code decides."""
    fake(tmp_path, "scontrol", 'echo "scontrol $*" >>"$SAID"')
    worker = f'echo "$@" >>"$SAID"; trap "sleep 0.2; exit {ends_with}" USR1; for i in $(seq 100); do sleep 0.1; done'
    fake(tmp_path, "bigrestore", worker)
    process = subprocess.Popen(
        ["bash", EXAMPLES / "slurm" / "blocks.sbatch", "4", "in.zarr", "out.zarr"],
        env=environment(tmp_path, SLURM_ARRAY_TASK_ID="2", SLURM_ARRAY_JOB_ID="77"),
    )
    until = time.monotonic() + 20
    while not (tmp_path / "said").exists() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == ends_with
    assert said(tmp_path)[0] == "run in.zarr out.zarr --shard 2/4 --log-format json"
    assert ("scontrol requeue 77_2" in said(tmp_path)) == requeued


def test_cron_restores_what_is_there_one_at_a_time(tmp_path: Path) -> None:
    fake(tmp_path, "bigrestore", 'echo "$@" >>"$SAID"; case "$*" in *bad*) exit 5 ;; *stop*) exit 75 ;; esac')
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a b.1.ome.tif", "bad.tif", "good.png"):
        (source / name).touch()
    script = EXAMPLES / "cron" / "restore-folder.sh"

    def call() -> int:
        return subprocess.run(
            [script, source, out, "--threads", "2"], env=environment(tmp_path, SETTLE="0"), timeout=30
        ).returncode

    assert call() == 5
    assert len(said(tmp_path)) == 3, "the sections after a failed one were left out"
    assert said(tmp_path)[0].startswith(f"--log-format json run {source}/a b.1.ome.tif {out}/a b.1.ome.zarr ")
    (source / "stop.tif").touch()
    assert call() == 75
    held = subprocess.Popen(["flock", out / ".lock", "sleep", "20"])
    try:
        time.sleep(0.5)
        count = len(said(tmp_path))
        assert call() == 0
        assert len(said(tmp_path)) == count, "a second instance was let in"
    finally:
        held.terminate()
        held.wait()


def test_cron_leaves_what_is_still_being_copied(tmp_path: Path) -> None:
    fake(tmp_path, "bigrestore", 'echo "$@" >>"$SAID"')
    (tmp_path / "in" / "growing.zarr").mkdir(parents=True)
    (tmp_path / "in" / "growing.zarr" / "zarr.json").touch()
    ended = subprocess.run(
        [EXAMPLES / "cron" / "restore-folder.sh", tmp_path / "in", tmp_path / "out"],
        env=environment(tmp_path),
        timeout=30,
    )
    assert ended.returncode == 0
    assert not (tmp_path / "said").exists()


def test_cron_without_the_command_says_how_to_name_it(tmp_path: Path) -> None:
    ended = subprocess.run(
        [EXAMPLES / "cron" / "restore-folder.sh", tmp_path, tmp_path / "out"],
        env=environment(tmp_path, BIGRESTORE=str(tmp_path / "nowhere")),
        timeout=30,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 127
    assert "BIGRESTORE" in ended.stderr


@pytest.mark.parametrize(
    ("source", "output", "binds"),
    [
        ("raw/a.tif", "out/a.ome.zarr", ["raw:{root}/raw:ro", "out"]),
        ("raw/a.tif", "raw/out/a.ome.zarr", ["raw:{root}/raw:ro", "raw/out"]),
        ("https://host/a.zarr", "out/a.ome.zarr", ["out"]),
    ],
)
def test_the_container_sees_input_and_output(
    tmp_path: Path, source: str, output: str, binds: list[str]
) -> None:
    fake(tmp_path, "apptainer", 'printf "%s\\n" "$@" >"$SAID"')
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.tif").touch()
    subprocess.run(
        [EXAMPLES / "apptainer" / "run.sh", source, output],
        env=environment(tmp_path),
        cwd=tmp_path,
        check=True,
        timeout=30,
    )
    words = said(tmp_path)
    bound = [words[at + 1] for at, word in enumerate(words) if word == "--bind"]
    assert bound == [f"{tmp_path}/{bind.format(root=tmp_path)}" for bind in binds]
    assert words[-3] == (source if "://" in source else f"{tmp_path}/{source}")
