"""Stopping on a signal: the run is told, clears up and says how to go on.

A scheduler gives seconds between its warning and the kill, so the block in hand is abandoned rather than
finished. Handlers live in the main thread only; a library call from another thread, or in a notebook's
worker, runs without them.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import attrs

from bigrestore.errors import StoppedError

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")


@attrs.define
class StopFlag:
    """Set once by a signal; looked at between tiles."""

    signal_number: int | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None

    def raise_if_set(self, way_out: str) -> None:
        """Raise what the signal means: KeyboardInterrupt for Ctrl-C, else StoppedError with the way out."""
        if self.signal_number is None:
            return
        if self.signal_number == signal.SIGINT:
            raise KeyboardInterrupt(way_out)
        name = signal.Signals(self.signal_number).name
        raise StoppedError(f"The run was stopped by {name}; {way_out}.")


@contextmanager
def listen() -> Iterator[StopFlag]:
    """Give a flag that the stopping signals set while the context lasts."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def note(number: int, _: FrameType | None) -> None:
        if flag:
            signal.signal(number, signal.SIG_DFL)  # asked twice: the next one ends the process
        flag.signal_number = number

    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
