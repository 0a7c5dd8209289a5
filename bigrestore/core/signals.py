"""Handle signals while a context lasts.

A scheduler warns by SIGTERM, SIGUSR1 or SIGUSR2 and kills some seconds later; a person presses Ctrl-C. A run
and a training react differently, but listen in the same way. Handlers exist in the main thread only: a library
call from another thread, or in a notebook's worker, runs without them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

WARNINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Signals of schedulers before the time is up; systems have different ones."""

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a command that waits for its user: Ctrl-C, a kill, and the end of the terminal."""


@contextmanager
def handled(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle signals while the context lasts, in the main thread; elsewhere they stay as they are.

    Parameters
    ----------
    numbers : iterable of int
        The signals.
    handler : callable
        As `signal.signal` takes it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def ended_by_signal() -> Iterator[Callable[[], None]]:
    """Catch the signals of `ENDING` while the context lasts, in the main thread.

    One that the parent ignores, as nohup does, stays ignored.

    Yields
    ------
    callable
        Waits for such a signal, or returns at once if there was one.
    """
    signals: SimpleQueue[int] = SimpleQueue()  # unlike an Event it may be set by a handler at any moment
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    with handled(heard, lambda number, _: signals.put(number)):

        def wait() -> None:
            signals.get()

        yield wait
