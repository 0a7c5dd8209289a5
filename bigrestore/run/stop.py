"""Stopping a run on a signal: it cleans up and says how to resume.

A signal ends opening, planning and finishing at once. While blocks are restored by other threads or processes it only
sets a flag, which they poll. A scheduler gives seconds between its warning and the kill, so the blocks in progress are
abandoned, not finished.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import attrs

from bigrestore.core.host.signals import (
    AGAIN_SECONDS,
    ENDING_SECONDS,
    STOPPING,
    StopRequested,
    answering,
    handled,
    signal_name,
)
from bigrestore.errors import StoppedError


@attrs.define
class StopFlag:
    """Set once by a signal.

    Attributes
    ----------
    signal_number : int or None
        The first signal.
    what : str
        What is stopped, for the sentence.
    remedy : str
        How to go on, by the present phase.
    """

    signal_number: int | None = None
    what: str = "The run"
    remedy: str = "start it again"
    _polled: bool = attrs.field(default=False, init=False)
    _since: float = attrs.field(default=0.0, init=False)

    def __bool__(self) -> bool:
        return self.signal_number is not None

    def sentence(self, number: int) -> str:
        """Say what was stopped by which signal, and how to go on."""
        return f"{self.what} was stopped by {signal_name(number)}; {self.remedy}."

    def raise_if_set(self, remedy: str) -> None:
        """Raise after a signal: KeyboardInterrupt for Ctrl-C, else StoppedError, with the remedy."""
        if self.signal_number is None:
            return
        self.remedy = remedy
        sentence = self.sentence(self.signal_number)
        if self.signal_number == signal.SIGINT:
            raise KeyboardInterrupt(sentence)
        raise StoppedError(sentence)

    def handle(self, number: int, _: FrameType | None) -> None:
        """Handle a signal: set the flag; raise unless it is polled, or where a second one comes later."""
        now = time.monotonic()
        if not self:
            self.signal_number, self._since = number, now
            if not self._polled:
                raise StopRequested(number)
        elif now - self._since > AGAIN_SECONDS:
            raise StopRequested(number)

    @contextmanager
    def polled(self, seconds: float | None = ENDING_SECONDS) -> Iterator[None]:
        """Let a first signal only set the flag while the context lasts: its code looks at the flag all the time.

        `seconds` is how long it may take to end after that; None: as long as it needs.
        """
        with answering(self.sentence, seconds):
            self._polled = True
            try:
                yield
            finally:
                self._polled = False


@contextmanager
def listen(what: str = "The run", remedy: str = "start it again") -> Iterator[StopFlag]:
    """Give a flag set by the stopping signals, which end the context.

    Raises
    ------
    StoppedError, KeyboardInterrupt
        After a signal, with the remedy.
    """
    flag = StopFlag(what=what, remedy=remedy)
    with handled(STOPPING, flag.handle), answering(flag.sentence):
        try:
            yield flag
        except StoppedError:
            raise
        except KeyboardInterrupt as stop:  # of a caller's own handler, without a sentence
            if str(stop):
                raise
            raise KeyboardInterrupt(flag.sentence(signal.SIGINT)) from stop
        except (StopRequested, Exception):  # what fails after a signal fails because of it
            flag.raise_if_set(flag.remedy)
            raise
