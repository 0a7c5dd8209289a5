"""`train` as a user meets it: absurd options and places are sentences at once, and a stop says how to go on."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from bigrestore.cli.train import train_app
from bigrestore.errors import (
    DiskFullError,
    InputError,
    OutputError,
    OutputExistsError,
    StoppedError,
    UsageError,
)
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.images import find_images
from bigrestore.training.loop import resume
from bigrestore.training.loop.logs import Board, CsvLog
from bigrestore.training.loop.options import check_model_place
from bigrestore.training.loop.resume import list_checkpoints, load_checkpoint, save_checkpoint
from bigrestore.training.loop.schedule import TrainResult
from bigrestore.training.loop.signals import stop_signals, stopping_at_once
from bigrestore.training.stages import assembly
from bigrestore.training.stages import stage as stages
from bigrestore.training.stages.stage import train_stage

FLAGS = ["--preset", "nano", "--batch", "2", "--threads", "1", "--device", "cpu"]


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(train_app, [*map(str, arguments), *FLAGS])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": -1}, "--steps is -1; it takes a whole number of steps from 1"),
        ({"steps": 0}, "--steps is 0"),
        ({"steps": 2.5}, "--steps is 2.5"),
        ({"minutes": float("nan")}, "--minutes is nan; it takes a number above 0"),
        ({"minutes": -3.0}, "--minutes is -3"),
        ({"batch": -5}, "--batch is -5"),
        ({"rate": float("nan")}, "--rate is nan"),
        ({"rate": float("inf")}, "--rate is inf"),
        ({"threads": -3}, "--threads is -3"),
        ({"seed": -1}, "--seed is -1"),
        ({"seed": 10**20}, "--seed is 1000"),
        ({"scale": 3}, "--scale is 3; choose 1, 2 or 4"),
        ({"preset": "giant"}, "--preset is 'giant'; choose nano"),
        ({"precision": "fp16"}, "--precision is 'fp16'; choose fp32 or bf16"),
    ],
)
def test_an_absurd_option_is_refused_before_anything_is_read(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        StageOptions(**wrong)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [(["--steps", "-1"], "--steps is -1"), (["--steps", "2", "--recipe", "nowhere"], "nowhere")],
)
def test_the_command_refuses_before_it_reads_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], sentence: str
) -> None:
    monkeypatch.setattr(assembly, "load_images", lambda *_: pytest.fail("images were read"))
    result = invoke("estimator", tmp_path, "-o", tmp_path / "m.safetensors", *flags)
    assert sentence in str(result.exception)
    assert isinstance(result.exception, UsageError | InputError)
    assert not list(tmp_path.iterdir())


def test_a_place_that_the_model_cannot_go_to_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(OutputError, match="is no file"):
        check_model_place("estimator", tmp_path / "folder.safetensors", resume=False)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="choose another place"):
        check_model_place("estimator", tmp_path / "file" / "m.safetensors", resume=False)
    save_checkpoint(tmp_path / "m.safetensors.train" / "estimator", 3, {})
    with pytest.raises(OutputExistsError, match="--resume"):
        check_model_place("estimator", tmp_path / "m.safetensors", resume=False)
    check_model_place("estimator", tmp_path / "m.safetensors", resume=True)
    check_model_place("fidelity", tmp_path / "m.safetensors", resume=False)
    assert not (tmp_path / "m.safetensors.train" / "fidelity").exists()


def test_a_text_of_the_users_is_not_covered_by_the_card(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My study\n")
    with pytest.raises(OutputExistsError, match="not a model card"):
        check_model_place("estimator", tmp_path / "README.safetensors", resume=False)
    (tmp_path / "m.md").write_text("# m\n\nA restorer.\n\nsha256 of the tensors: `00`\n")
    check_model_place("estimator", tmp_path / "m.safetensors", resume=False)


def test_sheets_of_a_training_are_not_trained_on(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((8, 8), np.uint8))
    sheets = tmp_path / "m.safetensors.train" / "estimator" / "sheets"
    sheets.mkdir(parents=True)
    image.save(sheets / "step-000000100.png")
    image.save(tmp_path / "clean.png")
    assert [path.name for path in find_images(tmp_path)] == ["clean.png"]


def test_ctrl_c_ends_with_130_and_a_schedulers_signal_with_75(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped_by(number: int) -> Any:
        monkeypatch.setattr(
            stages, "train_stage", lambda *_: TrainResult("stopped", 7, 1.0, {}, 0, 0, signal_number=number)
        )
        return invoke("estimator", tmp_path, "-o", tmp_path / "m.safetensors", "--steps", 9)

    result = stopped_by(signal.SIGINT)
    assert result.exit_code == 130
    assert "stopped by Ctrl-C after 7 steps; go on with the same command and --resume" in result.stderr
    error = stopped_by(signal.SIGUSR1).exception
    assert isinstance(error, StoppedError)
    assert "SIGUSR1 after 7 steps" in str(error)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGINT"])
def test_every_signal_of_a_scheduler_lets_the_current_step_end(name: str) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with stop_signals() as stop:
        os.kill(os.getpid(), number)
        assert stop.number == number
    assert signal.getsignal(number) == before


def test_a_signal_while_images_are_read_ends_with_75() -> None:
    with pytest.raises(StoppedError, match=r"The training was stopped by SIGTERM; .*--resume"):
        with stopping_at_once("The training"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_the_log_says_where_model_and_card_are_and_quiet_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trains(*_: Any) -> TrainResult:
        stages.log.info("wrote the model and its card")
        stages.log.debug("a detail")
        return TrainResult("done", 9, 1.0, {"error": 0.5}, 0, 0)

    monkeypatch.setattr(stages, "train_stage", trains)
    command = ("estimator", tmp_path, "-o", tmp_path / "[bold]m[/x].safetensors", "--steps", 9)
    plain, verbose, quiet = (invoke(*command, *flags) for flags in ([], ["-v"], ["-q"]))
    assert "INFO wrote the model and its card" in plain.stderr
    assert "a detail" not in plain.stderr
    assert "[bold]m[/x].safetensors: 9 steps" in plain.stdout
    assert "DEBUG a detail" in verbose.stderr
    assert (quiet.exit_code, quiet.output) == (0, "")


class _FullDisk:
    """A file on a disk filling up after some bytes."""

    def __init__(self, stream: Any, room: int) -> None:
        self._stream, self._room = stream, room

    def write(self, data: Any) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self._stream.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_leaves_the_former_checkpoint_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path, 5, {"weights": torch.zeros(1000)})
    honest = torch.save
    monkeypatch.setattr(resume.torch, "save", lambda state, stream: honest(state, _FullDisk(stream, 20_000)))
    with pytest.raises(DiskFullError, match=r"No space left.*step 5 is kept: free some space .* --resume"):
        save_checkpoint(tmp_path, 9, {"weights": torch.zeros(100_000)})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000005.pt"]
    assert load_checkpoint(tmp_path) is not None
    with pytest.raises(DiskFullError, match="none before it: free some space"):
        save_checkpoint(tmp_path / "new", 1, {"weights": torch.zeros(100_000)})


def test_what_a_kill_left_of_a_checkpoint_takes_no_room_for_ever(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-000000004.pt.partial").write_bytes(b"torn")
    save_checkpoint(tmp_path, 9, {})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000009.pt"]
    assert len(list_checkpoints(tmp_path)) == 1


def test_a_full_disk_under_a_log_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CsvLog(tmp_path / "log.csv", 0)
    log.add(1, {"loss": 1.0})

    class Writer:
        def add_scalar(self, *_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    board = object.__new__(Board)
    board._directory, board._writer = tmp_path, Writer()
    with pytest.raises(DiskFullError, match="--resume"):
        board.add("train", {"loss": 1.0}, 3)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DiskFullError, match=r"log\.csv.*--resume"):
        log.add(2, {"loss": 1.0})


def test_images_that_nothing_can_be_learnt_from_are_sentences(tmp_path: Path) -> None:
    options = StageOptions(preset="nano", steps=2, batch=2, threads=1)
    texture = np.random.default_rng(0).integers(0, 255, (60, 60)).astype(np.uint8)
    for name, picture in (("small", texture), ("flat", np.full((400, 400), 128, np.uint8))):
        (tmp_path / name).mkdir()
        Image.fromarray(picture).save(tmp_path / name / "a.png")
        with pytest.raises(InputError, match="give larger or sharper images"):
            train_stage("estimator", tmp_path / name, tmp_path / "m.safetensors", options)
    torn = (tmp_path / "flat" / "a.png").read_bytes()[:90]
    (tmp_path / "flat" / "b.png").write_bytes(torn)
    with pytest.raises(InputError, match=r"b\.png cannot be read .*repair or remove it"):
        train_stage("estimator", tmp_path / "flat", tmp_path / "m.safetensors", attrs.evolve(options, seed=1))
    assert not (tmp_path / "m.safetensors").exists()


def test_a_held_out_image_that_is_too_small_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (360, 360)).astype(np.uint8)
    for name, side in (("a.png", 360), ("b.png", 360), ("z.png", 60)):
        Image.fromarray(noise[:side, :side]).save(tmp_path / name)
    options = StageOptions(preset="nano", steps=2, batch=2, threads=1)
    assert train_stage("estimator", tmp_path, tmp_path / "m.safetensors", options).status == "done"
    assert "No held-out image can be used" in caplog.text
    assert "(z.png)" in caplog.text
