"""Standard streams that never end a run.

A log's disk fills up, `head` closes its end of a pipe, a terminal goes away: none of it is worth a run of days. So
what cannot be written to standard output or standard error is lost, and the process goes on. A missing standard stream is
opened on the null device: else the next file that is opened would have its number, and take the messages of libraries.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any

PATIENCE_SECONDS = 1.0
"""How long a full pipe of a parent that does not wait is waited for."""

GONE = (errno.EPIPE, errno.EBADF, errno.ECONNRESET, errno.EIO)
"""Errors of a stream that nobody reads any more; a terminal that is gone answers with EIO."""


class LossyFile(io.RawIOBase):
    """A file to which what cannot be written is lost.

    Parameters
    ----------
    handle : int
        The open file.
    name : str
        For people.

    Attributes
    ----------
    lost : OSError or None
        The first error that lost something a reader waits for, as on a full disk; a reader who left waits for nothing.
    """

    def __init__(self, handle: int, name: str) -> None:
        super().__init__()
        self.name, self._handle = name, handle
        self.lost: OSError | None = None

    def fileno(self) -> int:
        """Return the number of the file."""
        return self._handle

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return os.isatty(self._handle)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Write bytes, or lose them; return their number, or how many were taken."""
        try:
            try:
                return os.write(self._handle, data)
            except BlockingIOError:
                select.select([], [self._handle], [], PATIENCE_SECONDS)
                return os.write(self._handle, data)
        except OSError as error:
            if error.errno not in GONE:
                self.lost = self.lost or error
            return memoryview(data).nbytes


def keep_streams() -> None:
    """Replace the standard streams of this process by ones that never fail; those of somebody else stay."""
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest free number
    for handle, name in ((1, "stdout"), (2, "stderr")):
        former = getattr(sys, name)
        if former is not None and (former is not getattr(sys, f"__{name}__") or _number(former) != handle):
            continue  # a test's, or a notebook's
        with suppress(OSError, ValueError):
            if former is not None:
                former.flush()
        errors = getattr(former, "errors", "strict")
        stream = io.TextIOWrapper(
            io.BufferedWriter(LossyFile(handle, f"<{name}>")),
            encoding=getattr(former, "encoding", "utf-8"),
            errors="backslashreplace" if errors == "strict" else errors,
            line_buffering=handle == 2 or getattr(former, "line_buffering", False),
        )
        setattr(sys, name, stream)


def ignore_no_width() -> None:
    """Forget a COLUMNS of 0, as of a terminal that does not know its width: nothing would be printed at all."""
    if os.environ.get("COLUMNS", "").isdecimal() and int(os.environ["COLUMNS"]) == 0:
        del os.environ["COLUMNS"]


def lost_output() -> OSError | None:
    """Return the error by which something printed on standard output was lost, None if nothing was."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.lost if isinstance(raw, LossyFile) else None


def _number(stream: Any) -> int | None:
    """Return the number of the file behind a stream, None without one."""
    try:
        return int(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None
