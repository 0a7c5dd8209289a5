"""Limits of time for whole requests to servers.

A server may send a byte now and then, which no limit between two bytes ends. So a request has a time, which grows only
with what comes: an answer of any size arrives, as long as it comes faster than `SLOWEST_BYTES_PER_SECOND`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager

from bigrestore.errors import Result

REQUEST_SECONDS = 60.0
"""Time for a request, and for what comes slowly."""

LISTING_SECONDS = 600.0
"""Time for a list of files, which takes a request for each thousand of them."""

SLOWEST_BYTES_PER_SECOND = 64 << 10
"""Bytes that are worth a further second."""


class TooSlowError(OSError):
    """A request took longer than its time; it is not repeated."""


def seconds_for(nbytes: int) -> float:
    """Return the time for a request that moves so many bytes."""
    return REQUEST_SECONDS + nbytes / SLOWEST_BYTES_PER_SECOND


class Received:
    """Counts what came of an answer, and gives it time.

    Parameters
    ----------
    limit : asyncio.Timeout
        Of the request.
    """

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit, self._begun_s = limit, asyncio.get_running_loop().time()
        self.nbytes = 0

    def add(self, nbytes: int) -> None:
        """Count bytes that came."""
        self.nbytes += nbytes
        self._limit.reschedule(self._begun_s + seconds_for(self.nbytes))


@asynccontextmanager
async def limited_time(expected: int = 0) -> AsyncIterator[Received]:
    """Limit the time of a request and its answer.

    Parameters
    ----------
    expected : int
        Bytes that have their time from the beginning; 0: only those that came.

    Raises
    ------
    TooSlowError
        When it is over, saying how much came.
    """
    limit = asyncio.timeout(seconds_for(expected))
    received = Received(limit)
    try:
        async with limit:
            yield received
    except TimeoutError as error:
        if not limit.expired():  # a limit of the library
            raise
        seconds = seconds_for(received.nbytes or expected)
        came = f"only {received.nbytes} bytes" if received.nbytes else "no whole answer"
        raise TooSlowError(f"{came} came within the limit of {seconds:.0f} s") from error


def in_time(request: Callable[[], Result], seconds: float) -> Result:
    """Send a request by a library without such a limit, in a thread that is left alone when the time is over.

    Raises
    ------
    TooSlowError
        When it is over.
    Exception
        Any error of `request`.
    """
    answer: Future[Result] = Future()

    def send() -> None:
        try:
            answer.set_result(request())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            answer.set_exception(error)

    threading.Thread(target=send, name="remote-request", daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError as error:
        if answer.done():
            raise
        raise TooSlowError(f"no whole answer came within the limit of {seconds:.0f} s") from error
