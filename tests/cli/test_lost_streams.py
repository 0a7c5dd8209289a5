"""A closed, broken or full standard stream ends no command, and changes no exit code but that of one that only prints."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bigrestore.core.host.streams import LossyFile
from bigrestore.run.view.progress import LinesProgress, LossyProgress
from tests.warm_python import WarmPython

RUN = "run in.png out.ome.zarr --method rational --no-report --threads 1"
COLD = ("--version", "run --nonsense", f"{RUN} --progress lines >&- 2>&-")


@pytest.fixture
def shell(tmp_path: Path, warm_python: WarmPython) -> Callable[[str], tuple[int, str, str]]:
    """Give a function that runs `bigrestore` with redirections; it returns exit code, output and log.

    What imports no large library is run by Python itself, and so is one run without output and log.
    """
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)).save(tmp_path / "in.png")
    home = str(Path(__file__).parents[2])

    def run(words: str) -> tuple[int, str, str]:
        cold = words.startswith(COLD)
        line = f"{sys.executable if cold else warm_python.executable} -m bigrestore {words}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": home},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    "words",
    [
        f"{RUN} --progress lines 2>&-",
        f"{RUN} --progress bar 2>/dev/full",
        f"-v --log-format json {RUN} --progress lines 2>/dev/full",
        f"{RUN} --progress lines 2>&1 | head -c 1",
        f"{RUN} --progress lines >&-",
        f"{RUN} --progress lines >/dev/full",
        f"{RUN} --progress lines >&- 2>&-",
        f"{RUN} --progress lines >/dev/full 2>/dev/full",
    ],
)
def test_a_run_goes_on_without_a_log(shell: Any, tmp_path: Path, words: str) -> None:
    code, _, said = shell(words)
    assert code == 0, said
    assert json.loads((tmp_path / "out.ome.zarr.bigrestore/run.json").read_text())["finished"]
    assert "Traceback" not in said
    assert "Exception" not in said


def test_workers_go_on_without_a_log(shell: Any) -> None:
    assert shell(f"{RUN} --workers 2 --progress lines >&- 2>&-")[0] == 0


@pytest.mark.parametrize("words", ["info in.png", "--version", "models list", "info in.png --json"])
@pytest.mark.parametrize("lost", [">&-", "| head -c 0"])
def test_a_reader_who_left_is_no_error(shell: Any, words: str, lost: str) -> None:
    assert shell(f"{words} {lost}")[::2] == (0, "")


@pytest.mark.parametrize("words", ["info in.png", "--version"])
def test_what_a_command_only_prints_is_missed_on_a_full_disk(shell: Any, words: str) -> None:
    code, _, said = shell(f"{words} >/dev/full")
    assert code == 4
    assert said == (
        "bigrestore: Standard output cannot be written (No space left on device), and what was printed is lost.\n"
    )


@pytest.mark.parametrize("words", [("info", "in.png"), ("models", "list"), ("run", "--help")])
def test_a_width_of_zero_loses_nothing(
    shell: Any,
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    assert call(*words) == 0
    wide = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "0")
    assert call(*words) == 0
    assert capsys.readouterr().out == wide
    assert len(wide.splitlines()) > 5


@pytest.mark.parametrize("lost", ["2>&-", "2>/dev/full", ">&- 2>&-", "2>&1 | head -c 0"])
@pytest.mark.parametrize(("words", "code"), [("info nothing.png", 3), ("run --nonsense", 2)])
def test_an_error_keeps_its_exit_code(shell: Any, words: str, code: int, lost: str) -> None:
    assert shell(f"{words} {lost}")[0] == code


def lossy(handle: int) -> tuple[io.TextIOWrapper, LossyFile]:
    raw = LossyFile(handle, "<log>")
    return io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True), raw


def test_a_broken_pipe_is_written_to_without_an_error() -> None:
    read, write = os.pipe()
    os.close(read)
    stream, raw = lossy(write)
    stream.write("a line\n" * 1000)
    stream.flush()
    assert raw.lost is None, "nobody waits for it"
    os.close(write)
    stream.write("a line\n")  # closed
    assert raw.lost is None


def test_a_full_disk_is_noted_and_written_to_again(tmp_path: Path) -> None:
    handle = os.open("/dev/full", os.O_WRONLY)
    stream, raw = lossy(handle)
    stream.write("lost\n")
    assert raw.lost is not None
    assert raw.lost.errno == errno.ENOSPC
    with (tmp_path / "log").open("w") as file:
        os.dup2(file.fileno(), handle)  # there is space again
        stream.write("kept\n")
    os.close(handle)
    assert (tmp_path / "log").read_text() == "kept\n"


def test_a_full_pipe_of_a_parent_that_does_not_wait_loses_lines() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    stream, raw = lossy(write)
    raw.write(bytes(1 << 16))
    stream.write("too much\n" * 10)
    os.close(read)
    os.close(write)


class Broken(io.StringIO):
    """A stream that fails from the first line on."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_progress_that_cannot_be_shown_is_given_up() -> None:
    shown = LossyProgress(LinesProgress(Broken(), interval=0.0))
    shown.start("run", 3)
    for done in range(1, 4):
        shown.advance(done, 100)
    shown.close()
    closed = io.StringIO()
    shown = LossyProgress(LinesProgress(closed, interval=0.01))
    shown.start("run", 3)
    closed.close()
    shown.advance(1, 100)
    shown.close()


def test_a_log_that_is_gone_stops_no_caller(caplog: pytest.LogCaptureFixture) -> None:
    handler = logging.StreamHandler(lossy(os.open("/dev/full", os.O_WRONLY))[0])
    logging.getLogger("bigrestore").addHandler(handler)
    logging.getLogger("bigrestore").error("nobody reads this")
