"""The lock of an output: one run holds it alone, or the parts of a job array together.

A run holds the output's lock alone. Each part of a job array has a lock file of its own beside it, and they shut out a
whole run. Each block in progress has a lock too (`Journal.lock`). A read-only file system needs no lock.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bigrestore.errors import OutputExistsError, output_error
from bigrestore.run.state.lock_file import HeldLock, acquire, file_system_time, read_lock

log = logging.getLogger(__name__)

LOCK_NAME = "lock"
"""Name of an output's lock, in the folder beside it."""

LOCK_FILES = rf"{LOCK_NAME}(\.[0-9a-f]{{8}})?"
"""Names of the lock of a run and those of its parts, as a pattern."""

SETTLE_SECONDS = 1.0
"""How long a part waits for a run that is about to see the other parts, and to step back."""

RECHECK_SECONDS = 0.5


def writer(folder: Path) -> tuple[bool, str]:
    """Return whether a process writes the output of a folder, and its name.

    Raises
    ------
    OSError
        Where a lock may not be read.
    """
    lock = read_lock(folder / LOCK_NAME, os.O_RDONLY)
    if lock is not None and lock.is_held():
        return True, lock.holder()
    parts = (read_lock(path, os.O_RDONLY) for path in _part_files(folder))
    return (True, "several processes") if any(part and part.is_held() for part in parts) else (False, "")


@contextlib.contextmanager
def sole_writer(folder: Path, output: Path) -> Iterator[None]:
    """Hold the lock of an output alone while the context lasts; the folder exists.

    Raises
    ------
    OutputExistsError
        Where another run holds it, naming host and process.
    OutputError
        Where the lock cannot be written.
    """
    with _released(lambda: _acquire_alone(folder, output), folder):
        yield


@contextlib.contextmanager
def joint_writer(folder: Path, output: Path) -> Iterator[None]:
    """Hold an output beside its other parts while the context lasts; the folder exists.

    Raises
    ------
    OutputExistsError
        Where a run holds it alone, naming host and process.
    OutputError
        Where the lock cannot be written.
    """
    with _released(lambda: _acquire_part(folder, output), folder):
        yield


@contextlib.contextmanager
def _released(take: Callable[[], HeldLock], folder: Path) -> Iterator[None]:
    """Hold a lock while the context lasts; none on a read-only file system."""
    try:
        lock = take()
    except OSError as error:
        if error.errno != errno.EROFS:
            raise output_error(folder / LOCK_NAME, error) from error
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            lock.release()


def _acquire_alone(folder: Path, output: Path) -> HeldLock:
    path = folder / LOCK_NAME
    # Before the lock too: a new part must not meet the lock of a run about to be refused.
    for part in _part_files(folder):
        _await_release(part, output)
    while (lock := acquire(path)) is None:
        _await_release(path, output)
    try:
        for part in _part_files(folder):
            _await_release(part, output)
            part.unlink(missing_ok=True)
    except BaseException:
        lock.release()
        raise
    return lock


def _acquire_part(folder: Path, output: Path) -> HeldLock:
    lock = acquire(folder / f"{LOCK_NAME}.{secrets.token_hex(4)}")
    assert lock is not None
    try:
        _await_release(folder / LOCK_NAME, output, SETTLE_SECONDS)
    except BaseException:
        lock.release()
        raise
    return lock


def _await_release(path: Path, output: Path, settle_s: float = 0.0) -> None:
    """Return when a lock is free; refuse a living holder.

    A holder on another host is alive if it touches the lock. The lease of a dead one is waited for.
    """
    started, touched = time.monotonic(), None
    while (lock := read_lock(path, os.O_RDONLY)) is not None and lock.is_held(lambda: file_system_time(path)):
        if touched is None and not lock.is_here:
            log.info("%s is held by %s; waiting for a sign of life.", path, lock.holder())
        touched = touched or lock.seen.st_mtime_ns
        settled = time.monotonic() - started >= settle_s
        if (lock.is_here and settled) or lock.seen.st_mtime_ns != touched:
            part = path.name != LOCK_NAME
            remedy = (
                "wait until all parts of it have ended, or stop them"
                if part
                else "wait until it ends, or stop it"
            )
            raise OutputExistsError(f"The output {output} is being written by {lock.holder()}; {remedy}.")
        time.sleep(RECHECK_SECONDS)


def _part_files(folder: Path) -> list[Path]:
    """Return the lock files of the parts of a run."""
    return [path for path in folder.glob(f"{LOCK_NAME}.*") if re.fullmatch(LOCK_FILES, path.name)]
