"""A program that calls `restore` ends as Python ends it, also while a tile is inside torch."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zarr

from tests.warm_python import WarmPython

PROGRAM = """
import torch
import bigrestore
from bigrestore.model.methods.interpolate import InterpolateMethod
from bigrestore.run import pipeline

def restore(self, *_, **__):
    print("inside", flush=True)
    return torch.mm(torch.ones((2500, 2500)), torch.ones((2500, 2500)))  # without Python's lock, and longer than the grace

pipeline.GRACE_SECONDS = 0.01
InterpolateMethod.restore = restore
bigrestore.restore("in.zarr", "out.ome.zarr", method="rational", threads=1, progress="none", report=False)
"""


@pytest.mark.parametrize(
    ("number", "code", "last"),
    [
        (signal.SIGTERM, 1, "StoppedError: The run was stopped by SIGTERM"),
        (signal.SIGUSR1, 1, "StoppedError: The run was stopped by SIGUSR1"),
        (signal.SIGUSR2, 1, "StoppedError: The run was stopped by SIGUSR2"),
        (signal.SIGINT, -signal.SIGINT, "KeyboardInterrupt: The run was stopped by Ctrl-C"),
    ],
)
def test_a_stopped_program_does_not_abort(
    tmp_path: Path, warm_python: WarmPython, number: signal.Signals, code: int, last: str
) -> None:
    zarr.save_array(
        str(tmp_path / "in.zarr"), np.random.default_rng(0).integers(1, 255, (300, 300), np.uint8)
    )
    words = [warm_python.executable, "-c", PROGRAM]
    with subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "inside\n"
        program.send_signal(number)
        _, said = program.communicate(timeout=100)
    assert program.returncode == code, said
    assert said.splitlines()[-1].startswith(("bigrestore.errors." if code == 1 else "") + last)
