"""A lock file: created, kept alive, read, and taken over from a dead holder, on any file system.

A lock is a file, created exclusively, as every file system can, those without `flock` too. It names its holder,
who touches it every ten seconds. It is stale when its holder was a process of this host and is gone, or when nobody
touched it for a minute by the file system's own clock. A stale lock is taken over.

A process asleep for longer than its lease may meet its successor in a block. Both write the same bytes.

No lock file is opened through a link, which could lead to any file of the user.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import platform
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import psutil

from bigrestore.core.files import OWN_FILE, temporary_name
from bigrestore.errors import OutputError

HEARTBEAT_SECONDS = 10.0

LEASE_SECONDS = 60.0
"""Age at which a lock of another host is stale: five heartbeats of a slow server may be lost."""

SIGNING_SECONDS = 2.0
"""Age at which a lock without a name is stale: its process died between creating and signing it."""

NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | OWN_FILE
"""Flags to open a file nobody else has created."""

KINDS: dict[str, type] = {"host": str, "space": str, "pid": int, "started": float, "deaths": int}
"""Entries of a lock file."""

_held: dict[tuple[int, int], int] = {}
"""Locks of this process: open files by device and inode."""

_guard = threading.Lock()
_heart: list[threading.Thread] = []


@attrs.frozen(eq=False)
class HeldLock:
    """A lock of this process.

    Attributes
    ----------
    path : Path
        The file.
    handle : int
        The file, open.
    deaths : int
        Its former holders in a row, all dead.
    """

    path: Path
    handle: int
    deaths: int = 0

    def release(self) -> None:
        """Remove the file, unless another process has taken it over; may raise OSError."""
        own = os.fstat(self.handle)
        with _guard:
            _held.pop((own.st_dev, own.st_ino), None)
        try:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(own, self.path.stat(follow_symlinks=False)):
                    self.path.unlink()
        finally:
            os.close(self.handle)


@attrs.frozen(eq=False)
class LockFile:
    """The contents of a lock file.

    Attributes
    ----------
    path : Path
        The file.
    facts : dict
        Its holder; empty until it is signed.
    seen : os.stat_result
        Its state at the time of reading.
    """

    path: Path
    facts: dict[str, Any]
    seen: os.stat_result

    @property
    def is_here(self) -> bool:
        """Whether the holder is a process of this host and container."""
        here = _here()
        return isinstance(self.facts.get("pid"), int) and all(
            self.facts.get(name, value) == value for name, value in here.items()
        )

    def is_held(self, now: Callable[[], float] = time.time) -> bool:
        """Tell whether the holder lives, as far as can be known; `now` is the time of the file system."""
        if self.is_here:
            if self.facts["pid"] == os.getpid():
                return (self.seen.st_dev, self.seen.st_ino) in _held
            runs = _is_running(self.facts["pid"], self.facts.get("started"))
            if runs is not None:
                return runs
        return now() - self.seen.st_mtime < (LEASE_SECONDS if self.facts else SIGNING_SECONDS)

    def holder(self) -> str:
        """Return the holder in words."""
        if "pid" not in self.facts:
            return "another run"
        if self.is_here and self.facts["pid"] == os.getpid():
            return "another run of this process"
        return f"process {self.facts['pid']} on {self.facts.get('host', 'an unknown host')}"


def identity() -> dict[str, Any]:
    """Return the entry of this process in a lock file."""
    return _here() | {"pid": os.getpid(), "started": psutil.Process().create_time()}


def acquire(path: Path, *, takeover: bool = True) -> HeldLock | None:
    """Take a lock, without waiting.

    Parameters
    ----------
    path : Path
        The lock file; its folder exists.
    takeover : bool
        Whether to take over a stale lock.

    Returns
    -------
    HeldLock or None
        None where another process holds it.

    Raises
    ------
    OSError
        If the file cannot be created; an OutputError for a link or no file.
    """
    while True:
        try:
            handle = os.open(path, NEW_FILE, 0o666)
        except FileExistsError:
            former = read_lock(path)
            if former is None:  # released in between
                continue
            if former.is_held(lambda: file_system_time(path)) or not takeover:
                return None
            return _take_over(former)
        return _signed(path, path, handle, 0)


def _take_over(stale: LockFile) -> HeldLock | None:
    """Replace a stale lock by one of this process; None if another process is faster.

    The path never stays empty, or a third process could create its lock there meanwhile. So the new lock is renamed onto
    the stale one, by the one process to create the mark of this stale lock.
    """
    mark = _mark_of(stale)
    if mark is None:
        return None
    try:
        current = read_lock(stale.path)
        if current is None or _facts_of(current) != _facts_of(stale):
            return None
        own = stale.is_here and stale.facts["pid"] == os.getpid()
        deaths = stale.facts.get("deaths", 0) + (1 if stale.facts and not own else 0)
        new = temporary_name(stale.path)
        lock = _signed(new, stale.path, os.open(new, NEW_FILE, 0o666), deaths)
        try:
            new.rename(stale.path)
        except OSError:
            lock.release()
            new.unlink(missing_ok=True)
            raise
        return lock
    finally:
        mark.unlink(missing_ok=True)


def _mark_of(stale: LockFile) -> Path | None:
    """Create the mark for the takeover of a stale lock; None while another process has it.

    A mark as old as a lease is of a process killed during the takeover; the next number is tried then.
    """
    digest = hashlib.blake2b(repr(_facts_of(stale)).encode(), digest_size=4).hexdigest()
    for number in itertools.count():
        mark = stale.path.with_name(f"{stale.path.name}.{number}-{digest}.partial")
        try:
            os.close(os.open(mark, NEW_FILE, 0o666))
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if file_system_time(stale.path) - mark.stat(follow_symlinks=False).st_mtime > LEASE_SECONDS:
                    continue
            return None
        return mark
    raise AssertionError


def _facts_of(lock: LockFile) -> tuple[object, ...]:
    """Return what tells a lock file from its successors."""
    return lock.seen.st_ino, lock.seen.st_mtime_ns, sorted(lock.facts.items())


def _signed(file: Path, path: Path, handle: int, deaths: int) -> HeldLock:
    """Sign a new lock file, to be found at `path`, and keep it alive; a failure removes it."""
    lock = HeldLock(path, handle, deaths)
    _keep_alive(handle)
    try:
        sign(handle, identity() | {"deaths": deaths})
    except OSError:
        with contextlib.suppress(OSError):
            lock.release()
            file.unlink(missing_ok=True)
        raise
    return lock


def sign(handle: int, facts: dict[str, Any]) -> None:
    """Write the holder into a new lock file; may raise OSError."""
    os.write(handle, json.dumps(facts).encode())
    os.fsync(handle)  # other clients of a network file system see nothing before


def read_lock(path: Path, flags: int = os.O_RDWR) -> LockFile | None:
    """Read a lock file; None if there is none.

    Raises
    ------
    OSError
        If it cannot be opened; an OutputError for a link, a pipe or another name of a file.
    """
    try:
        handle = os.open(path, flags | OWN_FILE | getattr(os, "O_NONBLOCK", 0))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a pipe or a socket
            raise _no_lock(path) from error
        raise
    with os.fdopen(handle, "rb") as file:
        seen = os.fstat(handle)  # of the open file: a network file system asks its server anew
        if seen.st_nlink == 0:
            return None
        if not stat.S_ISREG(seen.st_mode) or seen.st_nlink > 1:
            raise _no_lock(path)
        try:
            facts = json.loads(file.read(4096))
        except ValueError:
            facts = {}
    known = facts.items() if isinstance(facts, dict) else ()
    return LockFile(
        path, {name: value for name, value in known if isinstance(value, KINDS.get(name, ()))}, seen
    )


def file_system_time(path: Path) -> float:
    """Return the time by the file system's clock: a server's may differ from this host's."""
    probe = temporary_name(path)
    handle = os.open(probe, NEW_FILE, 0o666)
    try:
        return os.fstat(handle).st_mtime
    finally:
        os.close(handle)
        probe.unlink(missing_ok=True)


def _here() -> dict[str, Any]:
    """Return the host and the space of process numbers: containers of one host differ in it."""
    space = ""
    with contextlib.suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return {"host": platform.node(), "space": space}


def _is_running(pid: int, started: float | None) -> bool | None:
    """Tell whether a process of this host runs; None: its number may be another one's by now."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        pass
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return True if started is None or abs(process.create_time() - started) < 2 else None
    except psutil.Error:
        return None


def _keep_alive(handle: int) -> None:
    """Touch a lock file from now on, in a thread of its own."""
    seen = os.fstat(handle)
    with _guard:
        _held[seen.st_dev, seen.st_ino] = handle
        if not _heart:
            _heart.append(threading.Thread(target=_beat, name="lock-heartbeat", daemon=True))
            _heart[0].start()


def _beat() -> None:
    while True:
        time.sleep(HEARTBEAT_SECONDS)
        with _guard:
            for handle in _held.values():
                with contextlib.suppress(OSError):
                    os.utime(handle)


def _after_fork() -> None:
    """Leave the locks of the parent to it."""
    global _guard
    _guard = threading.Lock()
    _held.clear()
    _heart.clear()


os.register_at_fork(after_in_child=_after_fork)


def _no_lock(path: Path) -> OutputError:
    return OutputError(f"{path} is a link, or no file, and is not written to; move it away and start again.")
