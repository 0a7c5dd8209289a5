"""What a person sees in a terminal: one line for each phase, the log above it, results on standard output alone."""

from __future__ import annotations

import json
import logging
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from screen import Terminal, lines_on_screen, terminal

from bigrestore.cli.log import configure_logging
from bigrestore.run.view.progress import (
    BarProgress,
    LinesProgress,
    LossyProgress,
    Meter,
    about_text,
    make_progress,
    phase_shown,
    spent_text,
)
from tests.warm_python import WarmProcess, WarmPython

Started = Callable[..., WarmProcess]
PHASES = ("start-up", "profile", "run", "finalize", "report")
RUN = ("run", "in.png", "out.ome.zarr", "--method", "rational", "--threads", "1", "--block-size", "480")


def small_run(shown: BarProgress, *, tiles: int = 8) -> None:
    """Go through the phases of a run, with lines of the log in each."""
    log = logging.getLogger("bigrestore.test")
    for phase in PHASES:
        with phase_shown(shown, phase):
            shown.start(phase)  # again, as the command and the engine do
            log.info("Line of %s.", phase)
            if phase in ("run", "finalize"):
                shown.start(phase, tiles, 0, 3.0)
                for done in range(1, tiles + 1):
                    shown.advance(done, 1000)
                    log.info("%s %d.", phase.capitalize(), done) if done % 4 == 0 else None
                    time.sleep(0.02)


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_each_phase_is_one_line_and_the_log_stands_above_it(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))  # rich asks the real standard streams
    with terminal(columns) as there:
        monkeypatch.setattr(sys, "stderr", there.stream)
        configure_logging(verbose=False, quiet=False)
        small_run(BarProgress())
        monkeypatch.undo()
        lines = there.screen()
    assert all(len(line) <= columns for line in lines), lines
    starts = [line.split()[0] for line in lines]
    for phase in PHASES:
        assert starts.count(phase) == 1, (phase, lines)
        own = next(index for index, line in enumerate(lines) if f"Line of {phase}." in line)
        assert own < starts.index(phase), "the log stands above"
    assert sum("Run 4." in line for line in lines) == 1
    assert "8 tiles in" in lines[starts.index("run")]
    assert "━" not in "".join(lines), "a bar is of a phase that runs"


@pytest.mark.parametrize("columns", [40, 80])
def test_the_time_left_is_there_at_once(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with terminal(columns) as there:
        monkeypatch.setattr(sys, "stderr", there.stream)
        shown = BarProgress()
        shown.start("run", 3000, 0, 7500.0)
        for _ in range(100):
            if "left" in there.written:
                break
            time.sleep(0.02)
        seen = lines_on_screen(there.written, columns)
        shown.close()
        monkeypatch.undo()
    assert any("0/3000 tiles" in line and "2 h 05 min left" in line for line in seen), seen


def test_the_cursor_is_never_left_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with terminal(80) as there:
        monkeypatch.setattr(sys, "stderr", there.stream)
        shown = BarProgress()
        shown.start("run", 3, 0)
        for _ in range(100):
            if "tiles" in there.written:
                break
            time.sleep(0.02)
        killed_here = there.written
        shown.close()
        monkeypatch.undo()
    assert killed_here.rfind("\x1b[?25h") > killed_here.rfind("\x1b[?25l")


def stop_in(shown: BarProgress, phase: str, total: int) -> None:
    """Press Ctrl-C in a phase, after one unit of a counted one."""
    with phase_shown(shown, phase):
        if total:
            shown.start(phase, total)
            shown.advance(1, 10)
        raise KeyboardInterrupt


def test_a_failed_phase_leaves_its_count_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with terminal(80) as there:
        monkeypatch.setattr(sys, "stderr", there.stream)
        shown = BarProgress()
        for phase, total in (("start-up", 0), ("run", 4)):
            with pytest.raises(KeyboardInterrupt):
                stop_in(shown, phase, total)
        monkeypatch.undo()
        lines = there.screen()
    assert len(lines) == 1
    assert lines[0].startswith("run       1 of 4 tiles in ")


@pytest.mark.parametrize(
    ("environment", "kind", "progress"),
    [
        ({"TERM": "xterm"}, "auto", BarProgress),
        ({"TERM": "dumb"}, "auto", LinesProgress),
        ({"TERM": "dumb"}, "bar", BarProgress),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "auto", BarProgress),
    ],
)
def test_a_terminal_that_cannot_redraw_gets_lines(
    environment: dict[str, str], kind: str, progress: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with terminal(80) as there:
        monkeypatch.setattr(sys, "stderr", there.stream)
        made = make_progress(kind)
        assert isinstance(made, LossyProgress)
        assert isinstance(made._shown, progress)
        with phase_shown(made, "run"):
            made.start("run", 4)
            made.advance(4, 100)
        monkeypatch.undo()
        there.screen()
    if "NO_COLOR" in environment:
        assert not re.search(r"\x1b\[[\d;]*3[0-7]m", there.written)
    if progress is LinesProgress:
        assert "\x1b" not in there.written


def test_the_time_left_goes_from_the_expected_to_the_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("bigrestore.run.view.progress.time.monotonic", lambda: now[0])
    meter = Meter()
    meter.start("run", 100, 0, 1000.0)
    assert meter.seconds_left == pytest.approx(1000, rel=1e-3)
    now[0] = 100.0
    assert meter.seconds_left == pytest.approx(900, rel=1e-3), "time goes by"
    for done in range(1, 51):
        now[0] = 20.0 * done  # twice as slow as expected
        meter.advance(done, 1)
    assert meter.seconds_left == pytest.approx(1000, rel=0.05)
    now[0] = 5000.0
    assert meter.seconds_left > 100, "what is overdue is not done at once"
    meter.start("run", 100, 0)
    assert meter.seconds_left is None, "nothing is known"


@pytest.mark.parametrize(
    ("seconds", "about", "spent"),
    [
        (0.01, "1 s", "<0.1 s"),
        (0.2, "1 s", "0.2 s"),
        (47.2, "48 s", "47 s"),
        (99.8, "2 min", "1 min 40 s"),
        (3599, "1 h 00 min", "59 min 59 s"),
        (7500, "2 h 05 min", "2 h 05 min"),
        (100_000, "1 d 3 h", "1 d 3 h"),
    ],
)
def test_durations_have_the_figures_that_they_mean(seconds: float, about: str, spent: str) -> None:
    assert about_text(seconds) == about
    assert spent_text(seconds) == spent


@pytest.fixture
def in_terminal(tmp_path: Path, warm_python: WarmPython) -> Started:
    """Give a function that starts the command line on a terminal; standard output goes there, too, or into a file."""

    def start(
        there: Terminal, *words: str, output: Any = None, shape: tuple[int, int] = (700, 1000)
    ) -> WarmProcess:
        if not (tmp_path / "in.png").exists():
            pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "in.png")
        streams = there.slave, there.slave if output is None else output.fileno(), there.slave
        variables = {"TERM": "xterm", "COLUMNS": "", "NO_COLOR": ""}
        return warm_python.bigrestore(*words, cwd=tmp_path, env=variables, streams=streams)

    return start


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--json",), ("--json", "--workers", "2")])
def test_results_in_a_file_and_bars_on_the_terminal(
    tmp_path: Path, in_terminal: Started, more: tuple[str, ...]
) -> None:
    with terminal(80) as there:
        with (tmp_path / "out.json").open("wb") as output:
            words = (*RUN, "--no-report", *more)
            assert in_terminal(there, *words, output=output).wait(120) == 0
        lines = there.screen()
    assert json.loads((tmp_path / "out.json").read_text())["blocks_done"] == 6
    starts = [line.split()[0] for line in lines]
    assert [starts.count(phase) for phase in ("start-up", "profile", "run", "finalize")] == [1, 1, 1, 1], (
        lines
    )
    assert "6 tiles in" in lines[starts.index("run")]


@pytest.mark.slow
def test_the_end_of_a_run_opens_its_result_and_a_stop_says_how_to_resume(in_terminal: Started) -> None:
    with terminal(100) as there:
        assert in_terminal(there, *RUN).wait(120) == 0
        lines = there.screen()
    text = "\n".join(lines)
    assert lines[0].startswith(("start-up", f"{time.strftime('%H')}:")), text
    assert re.search(r"^verdict +\w", text, re.M), text
    assert re.search(r"^report +out\.ome\.zarr\.bigrestore/report/report\.html$", text, re.M), text
    assert re.search(r"^open it .*bigrestore view out\.ome\.zarr --before in\.png$", text, re.M), text
    with terminal(100) as there:
        slow = (*RUN, "--overwrite", "--init-only")
        assert in_terminal(there, *slow).wait(120) == 0
    with terminal(200) as there:
        started = in_terminal(there, "status", "out.ome.zarr")
        assert started.wait(120) == 0
        text = "\n".join(there.screen())
    assert "python -m bigrestore run in.png out.ome.zarr" in text
    assert "--init-only" not in text


@pytest.mark.slow
def test_ctrl_c_ends_the_line_and_prints_the_command(in_terminal: Started) -> None:
    with terminal(200) as there:
        started = in_terminal(there, *RUN, "--no-report", shape=(4000, 6000))
        for _ in range(1200):
            if re.search(r"[1-9]\d*/117 tiles", there.written) or started.poll() is not None:
                break
            time.sleep(0.05)
        started.send_signal(signal.SIGINT)
        assert started.wait(60) == 130
        lines = there.screen()
    text = "\n".join(lines)
    assert re.search(r"^run +\d+ of 117 tiles in ", text, re.M), text
    assert "bigrestore: The run was stopped by Ctrl-C; go on with it by --resume;" in text
    assert lines[-1].startswith(
        "bigrestore: To resume: python -m bigrestore run in.png out.ome.zarr --method"
    )
    assert lines[-1].endswith("--no-report --resume")
