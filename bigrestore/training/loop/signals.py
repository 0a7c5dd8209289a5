"""Stopping a training: while steps are made a signal is a wish, before and after them it ends the work in hand.

In the loop the step in hand is finished and a checkpoint is written. While data are read or the model is written
nothing is lost by stopping at once.
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
class StopWish:
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
def stop_wishes() -> Iterator[StopWish]:
    """Turn the first signal into a wish to stop while the context lasts; a second Ctrl-C interrupts at once."""
    wish = StopWish()

    def ask(number: int, _: FrameType | None) -> None:
        if wish and number == signal.SIGINT:
            raise KeyboardInterrupt
        wish.number = wish.number or number

    with handled((*WARNINGS, signal.SIGINT), ask):
        yield wish


@contextmanager
def stopping_at_once(what: str) -> Iterator[None]:
    """Let a scheduler's warning raise StoppedError for as long as no `stop_wishes` is inside.

    Parameters
    ----------
    what : str
        What is stopped, for the sentence.
    """

    def stop(number: int, _: FrameType | None) -> None:
        raise StoppedError(
            f"{what} was stopped by {signal.Signals(number).name}; go on with the same command and --resume."
        )

    with handled(WARNINGS, stop):
        yield
