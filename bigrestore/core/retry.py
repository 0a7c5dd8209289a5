"""Retry transient errors of networks and network file systems.

A run of days over NFS, Lustre or http meets a server restart, and should not give up a block for it. Retrying a
full disk, a missing file or damaged bytes would only hide the error. So the retried error numbers are listed here,
each with its reason; nothing else is retried.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from bigrestore.core.urls import error_line

log = logging.getLogger(__name__)

Outcome = TypeVar("Outcome")

RETRY_WAITS_SECONDS = (0.5, 2.0, 8.0)
"""Pauses before each retry. A server that fails over is back within some seconds; a dead sector costs ten seconds for
a block that takes longer to restore."""

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
"""Retried error numbers."""

TRANSIENT_KINDS = frozenset(
    {
        *("ServerDisconnectedError", "ClientPayloadError", "ClientConnectionError", "FSTimeoutError"),
        *("EndpointConnectionError", "ConnectionClosedError", "ReadTimeoutError", "ConnectTimeoutError"),
        *("IncompleteRead", "TimeoutError"),
    }
)
"""Names of retried exceptions of http and object stores, without a number; no client need be imported."""


def transient(error: BaseException) -> bool:
    """Tell whether an error, or one of its causes, may be gone a moment later."""
    return any(
        (isinstance(cause, OSError) and cause.errno in TRANSIENT)
        or any(kind.__name__ in TRANSIENT_KINDS for kind in type(cause).__mro__)
        for cause in _chain(error)
    )


def retry_transient(
    work: Callable[[], Outcome], what: str, stopping: Callable[[], bool] = lambda: False
) -> Outcome:
    """Call `work`, and again after a transient error, waiting each of `RETRY_WAITS_SECONDS`.

    Parameters
    ----------
    work : callable
        May be called several times.
    what : str
        Name in the log.
    stopping : callable
        Polled while waiting; if it is true, there is no further wait.

    Returns
    -------
    object
        The result of `work`.

    Raises
    ------
    Exception
        The last error of `work`, or the first one that is not transient.
    """
    for seconds in RETRY_WAITS_SECONDS:
        try:
            return work()
        except Exception as error:
            if not transient(error):
                raise
            log.warning("%s: %s; trying again in %.1f s.", what, error_line(error).rstrip("."), seconds)
        if _stopped_within(seconds, stopping):
            break
    return work()


def _stopped_within(seconds: float, stopping: Callable[[], bool]) -> bool:
    """Wait, and tell whether `stopping` cut it short."""
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
