"""Stopping a training: while steps are made a signal is a wish, before and after them it ends the work in hand.

A scheduler warns by SIGTERM, SIGUSR1 or SIGUSR2 and kills some seconds later; a person presses Ctrl-C. In the
loop the step in hand is finished and a checkpoint is written. While data are read or the model is written
nothing is lost by stopping at once. Handlers live in the main thread only.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from bigrestore.errors import StoppedError

WARNINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""What schedulers send before the time is up; systems differ in what they have."""


class StopOnSignal:
    """Turns the first signal into a wish to stop; a second Ctrl-C interrupts at once.

    Attributes
    ----------
    number : int or None
        The signal that asked, None while none has.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (*WARNINGS, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.number is not None

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number


@contextmanager
def stopping_at_once(what: str) -> Iterator[None]:
    """Let a scheduler's warning raise StoppedError for as long as no `StopOnSignal` is inside.

    Parameters
    ----------
    what : str
        What is stopped, for the sentence.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise StoppedError(
            f"{what} was stopped by {signal.Signals(number).name}; go on with the same command and --resume."
        )

    before = {number: signal.signal(number, stop) for number in WARNINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
