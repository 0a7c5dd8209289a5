"""Who writes an output: one run alone, or several processes that each carry out blocks of one stored plan.

Two runs that go on with the same output at once unlink each other's shards and both report success. The lock is the
operating system's (`flock`): it goes with the process that held it, however that ended, so what a killed run
leaves is a file that nobody holds and never a reason to refuse. A run holds the output's lock alone; the parts of a job
array hold it jointly, and shut out whoever wants it alone. Below that each block in hand is held by one process
(`Journal.begin`), so that two that were given the same block do not meet in its files. A file says host and
process, for the sentence that the other one is refused by.

The file is never opened through a link: whoever can write beside an output could name any file of whoever runs there.

Where a file system has no such locks, the file is all there is: a process of this host that still lives
is believed, anything else is taken for left over, and the log says so. A file system that is mounted to be read only
needs no lock: nothing is written there, and a run that is finished can still be asked for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from bigrestore.errors import OutputError, OutputExistsError, output_error

log = logging.getLogger(__name__)

LOCK_NAME = "lock"
"""Name of the file, in the folder beside the output."""

_HELD = (errno.EWOULDBLOCK, errno.EACCES)
"""What the system says of a lock that another one holds; anything else means that it has no locks."""

_warned: set[Path] = set()
"""Folders whose file system was said to have no locks."""


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
    path = folder / LOCK_NAME
    file = _hold_or_refuse(path, output, joint=False)
    if file is None:
        yield
        return
    try:
        _say_holder(file, path)
        yield
    finally:
        let_go(file, path)


@contextlib.contextmanager
def joint_writer(folder: Path, output: Path) -> Iterator[None]:
    """Hold the lock of an output beside others that hold it jointly, while the context lasts.

    Raises
    ------
    OutputExistsError
        Where a run holds it alone, naming host and process.
    OutputError
        Where the lock cannot be written.
    """
    path = folder / LOCK_NAME
    file = _hold_or_refuse(path, output, joint=True)
    if file is None:
        yield
        return
    try:
        _say_holder(file, path, joint=True)
        yield
    finally:
        # The last one takes the file with it; who still holds it jointly keeps it.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            file.close()


def hold(path: Path, *, joint: bool = False) -> IO[str] | None:
    """Lock a file, which is made where there is none; a file that its former holder removed is made anew.

    Parameters
    ----------
    path : Path
        The file; its folder exists.
    joint : bool
        Whether others may hold it as well, jointly.

    Returns
    -------
    file or None
        The locked file, which holds the lock until it is closed; None where another one holds it.

    Raises
    ------
    OSError
        Where the file cannot be opened; an OutputError where it is a link or no file.
    """
    while True:
        file = _open(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if joint else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            found = holder(file)
            if error.errno in _HELD or (lives(found) and not (joint and found.get("joint"))):
                file.close()
                return None
            if path.parent not in _warned:
                _warned.add(path.parent)
                log.warning(
                    "%s cannot be locked (%s); start no second run on this output.", path, error.strerror
                )
            return file
        if _is_still(file, path):
            return file
        file.close()


def let_go(file: IO[str], path: Path) -> None:
    """Remove a file that is held alone, and the lock with it."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)  # while it is held: whoever waits looks again
    with contextlib.suppress(OSError):  # what a full disk did not take of it
        file.close()


def sign(file: IO[str], *, joint: bool = False) -> None:
    """Write into a locked file who holds it; OSError where it cannot be."""
    file.seek(0)
    file.truncate()
    json.dump({"host": platform.node(), "pid": os.getpid()} | ({"joint": True} if joint else {}), file)
    file.flush()


def holder(file: IO[str]) -> dict[str, Any]:
    """Return what a lock says of its holder; empty where it says nothing."""
    file.seek(0)
    try:
        found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def lives(found: dict[str, Any]) -> bool:
    """Tell whether a holder is another process of this host that is still there."""
    pid = found.get("pid")
    here = found.get("host") == platform.node() and isinstance(pid, int)
    return here and pid != os.getpid() and psutil.pid_exists(pid)


def named(found: dict[str, Any]) -> str:
    """Return a holder in words."""
    if "pid" not in found:
        return "another run"
    if found.get("host") == platform.node() and found["pid"] == os.getpid():
        return "another run of this process"
    return f"process {found['pid']} on {found.get('host', 'an unknown host')}"


def writer(folder: Path) -> tuple[bool, str]:
    """Return whether somebody writes the output that a folder lies beside, and who; nothing is held thereafter.

    Raises
    ------
    OSError
        Where the lock may not be read.
    """
    try:
        with _open(folder / LOCK_NAME, os.O_RDONLY) as file:
            found = holder(file)
            try:
                fcntl.flock(file, (fcntl.LOCK_EX if found.get("joint") else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except OSError:
                return True, "several processes" if found.get("joint") else named(found)
            return False, ""
    except FileNotFoundError:
        return False, ""


def _open(path: Path, flags: int) -> IO[str]:
    """Open a file that says who holds it, and nothing else: no link, no pipe, no second name of another file.

    Raises
    ------
    OSError
        Where it cannot be opened; an OutputError where it is something else.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a pipe or a socket
            raise _no_lock(path) from error
        raise
    seen = os.fstat(handle)
    if not stat.S_ISREG(seen.st_mode) or seen.st_nlink > 1:
        os.close(handle)
        raise _no_lock(path)
    return os.fdopen(handle, "r" if flags == os.O_RDONLY else "r+")


def _no_lock(path: Path) -> OutputError:
    return OutputError(f"{path} is a link, or no file, and is not written to; move it away and start again.")


def _hold_or_refuse(path: Path, output: Path, *, joint: bool) -> IO[str] | None:
    """Return the locked file; None where nothing can be written, and so nobody need be kept out."""
    try:
        file = hold(path, joint=joint)
        if file is not None:
            return file
        with _open(path, os.O_RDONLY) as other:
            found = holder(other)
    except FileNotFoundError:
        found = {}  # it went meanwhile; whoever starts this run again will be let in
    except OSError as error:
        if error.errno == errno.EROFS:
            return None
        raise output_error(path, error) from error
    way_out = "wait until it ends, or stop it"
    if found.get("joint"):
        way_out = "wait until all parts of it have ended, or stop them"
    raise OutputExistsError(f"The output {output} is being written by {named(found)}; {way_out}.")


def _say_holder(file: IO[str], path: Path, *, joint: bool = False) -> None:
    try:
        sign(file, joint=joint)
    except OSError as error:
        raise output_error(path, error) from error


def _is_still(file: IO[str], path: Path) -> bool:
    """Tell whether the path still names the file that was locked."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
