"""What the survival scripts share: an input, runs in processes that can be killed, and what is to be the same.

Processes are forked off one that has imported everything, because a run that is killed 25 times must not import torch 26
times. Nothing but what a run is given is shared with it: the fork happens before any thread or file is opened.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from skimage import data

from bigrestore.api import report_sinks
from bigrestore.errors import BigrestoreError
from bigrestore.model.methods import interpolate  # noqa: F401  it imports torch, before any fork
from bigrestore.run.execute import execute
from bigrestore.settings import RunSettings

SETTINGS: dict[str, Any] = {
    "method": "rational",
    "scale": 2,
    "block_size": 480,
    "tile_size": 480,
    "threads": 1,
    "progress": "none",
    "report": False,
}


def make_input(path: Path, side_px: int = 1200) -> Path:
    """Write a square section of real tissue, mirrored until it is large enough."""
    grey = np.asarray(data.immunohistochemistry()).mean(axis=2).astype(np.uint8)
    tiles = -(-side_px // grey.shape[0])
    doubled = np.block([[grey, grey[:, ::-1]], [grey[::-1], grey[::-1, ::-1]]])
    zarr.save_array(path, np.tile(doubled, (tiles, tiles))[:side_px, :side_px])
    return path


def run(source: Path, output: Path, **settings: Any) -> int:
    """Carry out a run in this process; return its exit code as the command line would."""
    try:
        resolved = RunSettings(**(SETTINGS | settings))
        summary = execute(source, output, resolved, sinks=report_sinks(resolved))
        summary.raise_if_failed()
    except BigrestoreError as error:
        logging.getLogger("bigrestore").warning("%s", error)
        return error.exit_code
    return 0


def forked(work: Callable[[], int]) -> int:
    """Start work in a process of its own; return the number of the process."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = work()
    finally:
        os._exit(code)


def ended(pid: int) -> int | None:
    """Return the exit code of a process that has ended, negative for a signal, None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def wait(pid: int, seconds: float = 300.0) -> int:
    """Wait for a process; return its exit code."""
    deadline = time.monotonic() + seconds
    while (code := ended(pid)) is None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError(f"process {pid} still ran after {seconds:.0f} s")
        time.sleep(0.005)
    return code


def digest(store: Path) -> dict[str, str]:
    """Return a checksum of every file of a store."""
    return {
        path.relative_to(store).as_posix(): hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


def records(output: Path) -> dict[str, int]:
    """Return the blocks that are recorded and not in hand, with the times of their records in nanoseconds."""
    folder = Path(f"{output}.bigrestore/journal")
    names = {path.name for path in folder.glob("*")} if folder.is_dir() else set()
    found = {}
    for name in names:
        if name.endswith(".json") and name.replace(".json", ".inflight") not in names:
            try:
                found[name] = (folder / name).stat().st_mtime_ns
            except FileNotFoundError:
                continue
    return found


def different(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Return the files that differ between two stores, or are in one of them only."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)
