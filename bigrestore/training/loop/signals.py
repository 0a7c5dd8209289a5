"""Stopping a training by a signal.

In the loop the current step is finished and a checkpoint is written, however long that takes. While data are read or the
model is written, stopping at once loses nothing.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import attrs

from bigrestore.core.host.signals import STOPPING, answering, handled, signal_name
from bigrestore.run.stop import listen

AGAIN_BY_RESUME = "go on with the same command and --resume"


@attrs.define
class StopSignal:
    """Whether a training was asked to stop.

    Attributes
    ----------
    number : int or None
        The first signal received, else None.
    """

    number: int | None = None

    def __bool__(self) -> bool:
        return self.number is not None


@contextmanager
def stop_signals() -> Iterator[StopSignal]:
    """Record the first signal while the context lasts; a second Ctrl-C interrupts at once."""
    stop = StopSignal()

    def sentence(number: int) -> str:
        return f"The training was stopped by {signal_name(number)}; {AGAIN_BY_RESUME}."

    def record(number: int, _: FrameType | None) -> None:
        if stop and number == signal.SIGINT:
            raise KeyboardInterrupt(sentence(number))
        stop.number = stop.number or number

    with handled(STOPPING, record), answering(sentence, None):
        yield stop


@contextmanager
def stopping_at_once(what: str) -> Iterator[None]:
    """Let a signal raise StoppedError or KeyboardInterrupt outside of any `stop_signals`.

    Parameters
    ----------
    what : str
        Subject of the error's sentence.
    """
    with listen(what, AGAIN_BY_RESUME):
        yield
