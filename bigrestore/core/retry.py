"""Retrying: errors of a network or its file systems may be gone a moment later.

A run of days over NFS, Lustre or http meets restarts of its servers. It must lose neither a block nor itself.
A full disk, a missing file or damaged bytes last: a retry would only hide them. So the transient errors are listed
here, each with its reason, and no other error is retried.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator, Sequence

from bigrestore.core.urls import error_line
from bigrestore.errors import Result

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.5, 2.0, 8.0)
"""Pauses before each further try. A server that fails over is back within some seconds. A dead sector costs ten
seconds, less than a block takes."""

TRANSIENT = frozenset(
    {
        errno.EIO,  # a soft-mounted NFS server that did not answer; a dead sector says the same, and fails again
        errno.ESTALE,  # a file handle of a restarted server: reopening helps
        errno.EREMOTEIO,  # the server's own disk was late
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,  # a server that is being restarted
        errno.ENOTCONN,  # a FUSE or Lustre mount that is being taken over
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENETRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EAGAIN,  # resources of the kernel that are short for a moment
        errno.EBUSY,
        errno.EINTR,
    }
)
"""Error numbers worth a further try."""

TRANSIENT_KINDS = frozenset(
    {
        *("ServerDisconnectedError", "ClientPayloadError", "ClientConnectionError", "FSTimeoutError"),
        *("EndpointConnectionError", "ConnectionClosedError", "ReadTimeoutError", "ConnectTimeoutError"),
        *("IncompleteRead", "TimeoutError"),
    }
)
"""Errors of http and object stores without a number, by name: no client need be imported."""


def transient(error: BaseException) -> bool:
    """Tell whether an error, or its cause, may be gone a moment later."""
    return any(
        (isinstance(cause, OSError) and cause.errno in TRANSIENT)
        or any(kind.__name__ in TRANSIENT_KINDS for kind in type(cause).__mro__)
        for cause in _chain(error)
    )


def retry_transient(
    work: Callable[[], Result],
    what: str,
    stopping: Callable[[], bool] = lambda: False,
    *,
    waits: Sequence[float] | None = None,
    again: Callable[[Exception], bool] = transient,
    words: Callable[[BaseException], str] = error_line,
) -> Result:
    """Call a function again after each transient error.

    Parameters
    ----------
    work : callable
        May be called several times.
    what : str
        Name in the log.
    stopping : callable
        Asked during a pause; True ends the tries.
    waits : sequence of float, optional
        Pauses in seconds; `RETRY_SECONDS` by default.
    again : callable
        Tells whether an error is worth a further try.
    words : callable
        Says an error in the log, without secrets.

    Returns
    -------
    object
        The result of `work`.

    Raises
    ------
    Exception
        The last error of `work`, or the first lasting one.
    """
    for seconds in RETRY_SECONDS if waits is None else waits:
        try:
            return work()
        except Exception as error:
            if not again(error):
                raise
            log.warning("%s: %s; trying again in %.1f s.", what, words(error).rstrip("."), seconds)
        if stopped_within(seconds, stopping):
            break
    return work()


def stopped_within(seconds: float, stopping: Callable[[], bool]) -> bool:
    """Wait; return whether the wait was cut short."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if stopping():
            return True
        time.sleep(min(0.1, left))
    return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes."""
    seen: set[int] = set()
    while id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__ or error
