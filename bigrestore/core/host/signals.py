"""Stop on a signal, in every phase, within seconds.

A scheduler warns by SIGTERM, SIGUSR1 or SIGUSR2 and kills some seconds later; a person presses Ctrl-C. A signal raises
`StopRequested` in the main thread, wherever that is. A phase with threads of its own polls a flag instead. The main
thread may be inside a library for minutes, so the command line also watches the time: a thread ends the process when the
time is up. Outputs are written so that a kill at any moment loses nothing.

Handlers exist in the main thread only: a library call from another thread, or in a notebook's worker, runs without
them.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import NamedTuple

WARNINGS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Signals of schedulers before the time is up; systems have different ones."""

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a command that waits for its user: Ctrl-C, a kill, and the end of the terminal."""

STOPPING = (signal.SIGINT, *WARNINGS)
"""All signals that stop a command."""

ENDING_SECONDS = 2.0
"""How long a process may take to end by itself after a signal."""

AGAIN_SECONDS = 0.3
"""A second signal sooner than this is the same request: shells and schedulers signal a process and its group."""

SAYING_SECONDS = 0.5
"""How long the last sentence may take; a terminal may be held by Ctrl-S."""


class StopRequested(BaseException):
    """A stopping signal. It is no Exception, so that no reader takes it for a damaged file.

    Parameters
    ----------
    number : int
        The signal.
    sentence : str
        What was stopped, and the remedy; empty if unknown.
    """

    def __init__(self, number: int, sentence: str = "") -> None:
        super().__init__(sentence)
        self.number, self.sentence = number, sentence


class Answer(NamedTuple):
    """The answer to a signal in the present phase.

    Attributes
    ----------
    sentence : callable
        Returns what was stopped, and the remedy.
    seconds : float or None
        How long the process may take to end by itself; None: as long as it needs.
    """

    sentence: Callable[[int], str]
    seconds: float | None = ENDING_SECONDS


_answers: list[Answer] = []
"""Of the present phases, the innermost last."""

_received: list[int] = []
"""Signals of this process that were handled here."""


def signal_name(number: int) -> str:
    """Return the name of a signal for people."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def stop_code(number: int) -> int:
    """Return the exit code of a command stopped by a signal."""
    return 130 if number == signal.SIGINT else 75


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

    def note(number: int, frame: FrameType | None) -> None:
        _received.append(number)
        handler(number, frame)

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def answering(sentence: Callable[[int], str], seconds: float | None = ENDING_SECONDS) -> Iterator[None]:
    """State the answer to a signal while the context lasts; see `Answer`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _answers.append(Answer(sentence, seconds))
    try:
        yield
    finally:
        _answers.pop()


def received() -> bool:
    """Tell whether this process was asked to stop."""
    return bool(_received)


@contextmanager
def ended_by_signal() -> Iterator[Callable[[], None]]:
    """Catch the signals of `ENDING` while the context lasts, in the main thread.

    They end the context without an error. One that the parent ignores, as nohup does, stays ignored.

    Yields
    ------
    callable
        Waits for such a signal, or returns at once if there was one.
    """
    signals: SimpleQueue[int] = SimpleQueue()  # unlike an Event it may be set by a handler at any moment
    heard = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    with answering(lambda _: "", None), handled(heard, lambda number, _: signals.put(number)):

        def wait() -> None:
            signals.get()

        yield wait


@contextmanager
def ending_in_time(
    sentence: Callable[[int], str], say: Callable[[str, int], None]
) -> Iterator[threading.Event]:
    """Raise `StopRequested` on a signal, and end the process if it does not end in time by itself.

    Parameters
    ----------
    sentence : callable
        The answer outside of all other phases.
    say : callable
        Writes the last sentence of an ended process, given with its exit code.

    Yields
    ------
    threading.Event
        To be set once the main thread says the last sentence itself.
    """
    said = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield said
        return

    def request(number: int, _: FrameType | None) -> None:
        if len(_received) == 1:  # a second one ends the process, as soon as `_watch` sees it
            raise StopRequested(number, _answers[-1].sentence(number))

    _received.clear()
    noticed, notice = os.pipe()
    os.set_blocking(notice, False)
    former = signal.set_wakeup_fd(notice, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(noticed, said, say), name="signal-watch", daemon=True).start()
    try:
        with answering(sentence), handled(STOPPING, request):
            yield said
    finally:
        signal.set_wakeup_fd(former)
        os.close(notice)


def _watch(noticed: int, said: threading.Event, say: Callable[[str, int], None]) -> None:
    """Wait for a signal, and then for the end of the process; returns when the pipe is closed."""
    first, since = 0, 0.0
    while (news := _news(noticed, 0.05 if first else None)) is not None:
        numbers, now = [number for number in news if number in STOPPING], time.monotonic()
        if numbers and not first:
            first, since = numbers.pop(0), now
        for answer in _answers[-1:] if first else ():
            if answer.seconds is None:
                since = now
            elif now - since > (AGAIN_SECONDS if numbers else answer.seconds):
                _end(first, "" if said.is_set() else answer.sentence(first), say)
    os.close(noticed)


def _news(noticed: int, seconds: float | None) -> bytes | None:
    """Return the numbers of the signals that come within a time; None at the end of the pipe."""
    ready, _, _ = select.select([noticed], [], [], seconds)
    return (os.read(noticed, 64) or None) if ready else b""


def _end(number: int, sentence: str, say: Callable[[str, int], None]) -> None:
    """Say the sentence and end the process at once, its other threads inside libraries or not."""
    code = stop_code(number)
    if sentence:
        telling = threading.Thread(target=say, args=(sentence, code), daemon=True)
        telling.start()
        telling.join(SAYING_SECONDS)
    os._exit(code)
