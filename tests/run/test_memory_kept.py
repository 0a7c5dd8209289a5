"""Freed memory stays with the process of a run, so the system does not clear it again for every tile."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bigrestore.core.host.memory import keep_freed_memory

SCRIPT = """
import threading, resource
from bigrestore.core.host.memory import keep_freed_memory
kept = KEEP
def work():
    for _ in range(10):
        b'x' * 40_000_000
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=work)
    thread.start(); thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, faults())
"""


def answer(keep: bool, **environment: str) -> tuple[str, int]:
    script = SCRIPT.replace("KEEP", "keep_freed_memory()" if keep else "None")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**clean, **environment},
    )
    said, faults = ran.stdout.split()
    return said, int(faults)


@pytest.mark.skipif(
    os.confstr("CS_GNU_LIBC_VERSION") is None if hasattr(os, "confstr") else True, reason="no glibc"
)
def test_arrays_of_a_thread_take_the_memory_freed_before() -> None:
    said, kept = answer(keep=True)
    _, usual = answer(keep=False)
    assert said == "True"
    assert kept < 0.2 * usual


def test_settings_of_the_environment_hold() -> None:
    assert answer(keep=True, MALLOC_ARENA_MAX="4")[0] == "False"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_left_alone(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert not keep_freed_memory()
