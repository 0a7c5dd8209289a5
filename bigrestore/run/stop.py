"""Stopping a run on a signal: it cleans up and says how to resume.

A scheduler gives seconds between its warning and the kill, so the block in progress is abandoned, not finished.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import attrs

from bigrestore.core.signals import WARNINGS, handled
from bigrestore.errors import StoppedError


@attrs.define
class StopFlag:
    """Set once by a signal; looked at between tiles."""

    signal_number: int | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None

    def raise_if_set(self, remedy: str) -> None:
        """Raise after a signal: KeyboardInterrupt for Ctrl-C, else StoppedError with the remedy."""
        if self.signal_number is None:
            return
        if self.signal_number == signal.SIGINT:
            raise KeyboardInterrupt(remedy)
        name = signal.Signals(self.signal_number).name
        raise StoppedError(f"The run was stopped by {name}; {remedy}.")


@contextmanager
def listen() -> Iterator[StopFlag]:
    """Give a flag set by the stopping signals."""
    flag = StopFlag()

    def note(number: int, _: FrameType | None) -> None:
        if flag:
            signal.signal(number, signal.SIG_DFL)  # asked twice: the next one ends the process
        flag.signal_number = number

    with handled((signal.SIGINT, *WARNINGS), note):
        yield flag
