"""After a stop the command that resumes is printed, by the stopped run and by `status`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bigrestore.cli.log import say_error, use_format
from bigrestore.core.host import command
from bigrestore.run.view.status import run_status

RUN = ("--method", "rational", "--no-report", "--progress", "none", "--threads", "1", "--block-size", "480")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    command.forget_command()
    yield
    command.forget_command()
    use_format(None)


@pytest.mark.parametrize(
    ("typed", "again"),
    [
        ("bigrestore run a b", "bigrestore run a b --resume"),
        ("bigrestore run a b --overwrite --scale 2", "bigrestore run a b --scale 2 --resume"),
        ("/opt/bin/bigrestore run a b --no-resume", "bigrestore run a b --resume"),
        ("bigrestore run a b --resume", "bigrestore run a b --resume"),
        ("bigrestore run a b --init-only --threads 2", "bigrestore run a b --threads 2 --resume"),
        ("bigrestore run a b --shard 1/3 -q", "bigrestore run a b -q --resume"),
        ("bigrestore run a b --shard=1/3", "bigrestore run a b --resume"),
        ("/x/__main__.py run 'my scan.tif' b", "python -m bigrestore run 'my scan.tif' b --resume"),
        ("bigrestore degrade a b --whole --overwrite", "bigrestore degrade a b --whole --resume"),
    ],
)
def test_the_command_is_that_which_was_typed(typed: str, again: str) -> None:
    command.note_command(shlex.split(typed))
    assert command.repeated(command.typed_command(), "--resume") == again


def test_no_secret_is_repeated_and_another_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command.note_command(
        ["bigrestore", "run", "s3://me:hush@host/a", "b", "--storage-options", '{"key": "sesame"}']
    )
    known = command.typed_command()
    assert "sesame" not in json.dumps(known)
    assert "hush" not in json.dumps(known)
    monkeypatch.chdir("/")
    assert command.repeated(known, "--resume").startswith(f"cd {tmp_path} && bigrestore run ")


@pytest.mark.parametrize(
    ("sentence", "code", "printed"),
    [
        ("The run was stopped by Ctrl-C; go on with it by --resume; 3 block(s) were finished", 130, True),
        ("The run was stopped by SIGTERM; finish it by --resume", 75, True),
        ("1 block(s) failed; correct the cause and start again with --resume", 5, True),
        ("The run was stopped by SIGTERM; nothing was written yet, start it again", 75, False),
        ("--resume and --overwrite exclude each other; give one of them", 2, False),
        ("o.ome.zarr has 2 fault(s); mend them by --resume", 6, False),
        ("o.ome.zarr exists; go on with it by --resume, or replace it by --overwrite", 4, False),
    ],
)
def test_the_command_follows_the_sentence_it_belongs_to(
    sentence: str, code: int, printed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    command.note_command(["bigrestore", "run", "a", "b"])
    say_error(sentence, code)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"bigrestore: {sentence}."
    assert lines[1:] == ["bigrestore: To resume: bigrestore run a b --resume"] * printed
    use_format("json")
    say_error(sentence, code)
    (line,) = capsys.readouterr().err.splitlines()
    assert ("resume" in json.loads(line)) == printed


def test_a_script_has_no_command_to_repeat(capsys: pytest.CaptureFixture[str]) -> None:
    say_error("The run was stopped by SIGTERM; go on with it by --resume", 75)
    assert "To resume" not in capsys.readouterr().err


def test_status_prints_the_command(
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    grey = np.random.default_rng(0).integers(0, 255, (500, 600), np.uint8)
    Image.fromarray(grey).save("in.png")
    assert call("run", "in.png", "out.ome.zarr", *RUN) == 0
    assert run_status("out.ome.zarr").command == "", "nothing is left to do"
    beside = tmp_path / "out.ome.zarr.bigrestore"
    (beside / "run.json").unlink()
    next((beside / "journal").glob("*.json")).unlink()
    again = f"bigrestore run in.png out.ome.zarr {' '.join(RUN)} --resume"
    capsys.readouterr()
    assert call("status", "out.ome.zarr") == 0
    assert again in capsys.readouterr().out
    assert call(*shlex.split(again)[1:]) == 0
    assert run_status("out.ome.zarr").state == "finished"


def test_status_of_parts_names_the_step_that_is_left(
    tmp_path: Path, call: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((100, 100), np.uint8)).save("in.png")
    known: list[Any] = []
    for step in (("--init-only",), ("--shard", "1/1")):
        assert call("run", "in.png", "out.ome.zarr", *RUN, *step) == 0
        known.append(run_status("out.ome.zarr").command)
    assert [words.split()[-1] for words in known] == ["--resume", "--finalize"]
    assert not any("--init-only" in words or "--shard" in words for words in known)
