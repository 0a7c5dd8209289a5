"""One run at a time writes an output: a lock in the folder beside it, which says who holds it.

Two runs that go on with the same output at once unlink each other's shards and both report success. The lock is the
operating system's (`flock`): it goes with the process that held it, however that ended, so what a killed run
leaves is a file that nobody holds and never a reason to refuse. The file says host and process, for the
sentence that the other run is refused by.

Where a file system has no such locks, the file is all there is: a process of this host that still lives
is believed, anything else is taken for left over, and the log says so.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from bigrestore.errors import OutputExistsError, output_error

log = logging.getLogger(__name__)

LOCK_NAME = "lock"
"""Name of the file, in the folder beside the output."""


@contextlib.contextmanager
def sole_writer(folder: Path, output: Path) -> Iterator[None]:
    """Hold the lock of an output while the context lasts; the folder exists.

    Raises
    ------
    OutputExistsError
        Where another run holds it, naming host and process.
    OutputError
        Where the lock cannot be written.
    """
    path = folder / LOCK_NAME
    file = _open_and_lock(path, output)
    try:
        try:
            file.seek(0)
            file.truncate()
            json.dump({"host": platform.node(), "pid": os.getpid()}, file)
            file.flush()
        except OSError as error:
            raise output_error(path, error) from error
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)  # while it is held: whoever waits looks again
        with contextlib.suppress(OSError):  # what a full disk did not take of it
            file.close()


def _open_and_lock(path: Path, output: Path) -> IO[str]:
    """Return the locked file; a file that its former holder removed meanwhile is opened anew."""
    while True:
        try:
            file = path.open("a+")
        except OSError as error:
            raise output_error(path, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held = error.errno in (errno.EWOULDBLOCK, errno.EACCES)
            holder = _holder(file)
            if held or _lives(holder):
                file.close()
                raise OutputExistsError(
                    f"The output {output} is being written by {_named(holder)}; wait until it ends, or stop it."
                ) from error
            log.warning("%s cannot be locked (%s); start no second run on this output.", path, error.strerror)
            return file
        if _is_still(file, path):
            return file
        file.close()


def _is_still(file: IO[str], path: Path) -> bool:
    """Tell whether the path still names the file that was locked."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder(file: IO[str]) -> dict[str, Any]:
    """Return what a lock says of its holder; empty where it says nothing."""
    file.seek(0)
    try:
        found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lives(holder: dict[str, Any]) -> bool:
    """Tell whether the holder is another process of this host that is still there."""
    pid = holder.get("pid")
    here = holder.get("host") == platform.node() and isinstance(pid, int)
    return here and pid != os.getpid() and psutil.pid_exists(pid)


def _named(holder: dict[str, Any]) -> str:
    """Return the holder in words."""
    if "pid" not in holder:
        return "another run"
    if holder.get("host") == platform.node() and holder["pid"] == os.getpid():
        return "another run of this process"
    return f"process {holder['pid']} on {holder.get('host', 'an unknown host')}"
