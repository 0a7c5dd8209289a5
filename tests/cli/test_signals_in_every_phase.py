"""A signal ends every command within seconds, in whatever phase, and the sentence says how to go on."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from tests.warm_python import WarmProcess, WarmPython

STUCK = """
import ctypes, importlib, pathlib, sys, time
place, how, *words = sys.argv[1:]

def stuck(*_, **__):
    pathlib.Path("stuck").touch()
    if how == "library":  # waits for a lock that nobody frees, and no signal ends that
        lock, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
        libc.pthread_mutex_lock(lock)
        libc.pthread_mutex_lock(lock)
    time.sleep(60)

module, _, name = place.partition(":")
owner = importlib.import_module(module)
*outer, last = name.split(".")
for part in outer:
    owner = getattr(owner, part)
setattr(owner, last, stuck)
sys.argv = ["bigrestore", *words]
from bigrestore.__main__ import main
main()
"""

MAIN = "import sys; sys.argv[0] = 'bigrestore'; from bigrestore.__main__ import main; main()"
RUN = ("run", "in.png", "out.ome.zarr", "--method", "rational", "--threads", "1", "--progress", "none")
QUICK = (*RUN, "--no-report")
ZIP = tuple("out.ome.zarr.zip" if word == "out.ome.zarr" else word for word in QUICK)
NOTHING, GO_ON, FINISH = "nothing was written yet, start it again", "by --resume", "finish it by --resume"

PHASES = {
    "open": ("bigrestore.io.formats.table:open_file", QUICK, NOTHING),
    "plan": ("bigrestore.run.prepared:make_plan", QUICK, NOTHING),
    "look": ("bigrestore.run.execute:check_range_used", QUICK, NOTHING),
    "profile": ("bigrestore.run.profile.kept:profile_section", QUICK, NOTHING),
    "begin": ("bigrestore.run.start:prepare_store", QUICK, GO_ON),
    "blocks": (
        "bigrestore.model.methods.interpolate:InterpolateMethod.restore",
        QUICK,
        "go on with it by --resume; 0 block(s) were finished",
    ),
    "compare": ("bigrestore.run.execute:require_steady_input", QUICK, FINISH),
    "pyramid": ("bigrestore.run.finalize:build_pyramid", QUICK, FINISH),
    "pack": ("bigrestore.io.store.pack:pack_store", ZIP, FINISH),
    "report": ("bigrestore.report.table.write:write_report", RUN, "make its report by --resume"),
    "upload": (
        "bigrestore.run.output.remote:RemoteOutput.settle",
        tuple("s3://a/out.ome.zarr" if word == "out.ome.zarr" else word for word in QUICK),
        NOTHING,
    ),
    "time a tile": ("bigrestore.run.view.dry_run:time_tile", (*QUICK, "--dry-run"), "start it again"),
    "info": ("bigrestore.io.open_section:open_section", ("info", "in.png"), "start it again"),
    "verify": ("bigrestore.io.verify.store:verify_store", ("verify", "in.zarr"), "start it again"),
    "profile alone": (
        "bigrestore.run.profile.section_profile:profile_windows",
        ("profile", "in.png", "--method", "rational"),
        "start it again",
    ),
    "score": (
        "bigrestore.report.of_images:score_places",
        ("score", "in.png", "-o", "r", "--tile-size", "96"),
        "no report was written, start it again",
    ),
    "degrade": (
        "bigrestore.degradation.api:_patches",
        ("degrade", "in.png", "pairs", "--count", "1", "--patch-size", "64"),
        "start again with --overwrite",
    ),
}

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 75, signal.SIGUSR1: 75}


@pytest.fixture(autouse=True)
def an_input(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)).save(tmp_path / "in.png")
    zarr.save_array(tmp_path / "in.zarr", np.zeros((9, 9), np.uint8))


def stopped(started: WarmProcess | subprocess.Popen[str], mark: Path, number: int) -> tuple[int, str, float]:
    """Send a signal once the mark is there; return exit code, what was said, and how long the end took."""
    for _ in range(1200):
        if mark.exists() or started.poll() is not None:
            break
        time.sleep(0.05)
    time.sleep(0.1)  # until it is stuck
    assert started.poll() is None, started.communicate()
    before = time.monotonic()
    started.send_signal(number)
    try:
        _, said = started.communicate(timeout=30)
    finally:
        started.kill()
    assert started.returncode is not None
    return started.returncode, said, time.monotonic() - before


@pytest.mark.parametrize(
    ("phase", "how"),
    [*((phase, "python") for phase in PHASES), *((phase, "library") for phase in ("plan", "pack", "verify"))],
)
def test_a_signal_ends_every_phase(tmp_path: Path, warm_python: WarmPython, phase: str, how: str) -> None:
    if phase == "upload":
        pytest.importorskip("s3fs")
    place, words, remedy = PHASES[phase]
    number = list(SIGNALS)[(list(PHASES).index(phase) + len(how)) % len(SIGNALS)]
    started = warm_python.start(STUCK, place, how, *words, cwd=tmp_path, env={})
    code, said, seconds = stopped(started, tmp_path / "stuck", number)
    assert code == SIGNALS[signal.Signals(number)], said
    assert seconds < 6, "it must end within two seconds, on a machine with nothing else to do"
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    (sentence,) = (line for line in said.splitlines() if "was stopped by" in line)
    assert sentence.startswith("bigrestore: ")
    resumes = f"bigrestore: To resume: bigrestore {shlex.join(words)} --resume"
    assert said.strip().splitlines()[-1] == (resumes if "--resume" in remedy else sentence)
    assert f"was stopped by {name}; " in sentence
    assert remedy in sentence
    assert "Traceback" not in said


def test_a_signal_ends_the_import_of_a_library(tmp_path: Path) -> None:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/torch.py").write_text(
        "import pathlib, time\npathlib.Path('stuck').touch()\ntime.sleep(60)"
    )
    path = os.pathsep.join((str(tmp_path / "slow"), str(Path(__file__).parents[2])))
    started = subprocess.Popen(
        [sys.executable, "-c", MAIN, *QUICK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    code, said, seconds = stopped(started, tmp_path / "stuck", signal.SIGTERM)
    assert code == 75
    assert said.endswith("was stopped by SIGTERM; nothing was written yet, start it again.\n"), said
    assert seconds < 6


def test_an_ended_process_can_be_gone_on_with_at_once(tmp_path: Path, warm_python: WarmPython) -> None:
    place = "bigrestore.run.finalize:build_pyramid"
    started = warm_python.start(STUCK, place, "library", *QUICK, cwd=tmp_path, env={})
    assert stopped(started, tmp_path / "stuck", signal.SIGTERM)[0] == 75
    resumed = warm_python.start(MAIN, *QUICK, "--resume", cwd=tmp_path, env={})
    assert not resumed.communicate()[1].count("Traceback")
    assert resumed.returncode == 0
    assert not (tmp_path / "out.ome.zarr.bigrestore/lock").exists()


def test_a_second_signal_does_not_wait(tmp_path: Path, warm_python: WarmPython) -> None:
    place, words, _ = PHASES["plan"]
    code = STUCK.replace("time.sleep(60)", "hold()").replace(
        "def stuck",
        "def hold():\n    try:\n        time.sleep(60)\n    finally:\n        time.sleep(60)\n\ndef stuck",
    )
    started = warm_python.start(code, place, "python", *words, cwd=tmp_path, env={})
    for _ in range(1200):
        if (tmp_path / "stuck").exists():
            break
        time.sleep(0.05)
    started.send_signal(signal.SIGTERM)
    time.sleep(0.6)
    before = time.monotonic()
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=30)
    assert started.returncode == 75, said
    assert time.monotonic() - before < 1.4
