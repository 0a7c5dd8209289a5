"""How far a run is: a bar on a terminal, plain lines in a log file, tqdm in a notebook, or nothing.

A scheduler's log is read by people and by grep, so without a terminal there are no bars and no escape codes, but one
line per interval with fields in fixed places, or one JSON object.
"""

from __future__ import annotations

import datetime
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO

from bigrestore.core.host.resources import rss_bytes

LINE_SECONDS = 10.0

UNITS = {"run": "blocks", "finalize": "shards", "scores": "tiles"}
"""What each phase counts."""


class Progress(Protocol):
    """Takes the state of a phase."""

    def start(self, phase: str, total: int, done: int = 0) -> None:
        """Begin a phase of `total` units, `done` of them already."""
        ...

    def advance(self, done: int, pixels: int) -> None:
        """Report the units done so far, and the output pixels of the last one."""
        ...

    def close(self) -> None:
        """End the phase."""
        ...


class Meter:
    """Counts units and pixels of a phase and estimates the rest."""

    def __init__(self) -> None:
        self.phase, self.total, self.done, self.pixels = "", 0, 0, 0
        self._first, self._started = 0, time.monotonic()

    def start(self, phase: str, total: int, done: int) -> None:
        """Begin anew."""
        self.phase, self.total, self.done, self.pixels = phase, total, done, 0
        self._first, self._started = done, time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the phase began."""
        return max(1e-6, time.monotonic() - self._started)

    @property
    def mpx_per_second(self) -> float:
        """Output megapixels per second of this phase."""
        return self.pixels / 1e6 / self.elapsed

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the time left at the rate so far; None before the first unit is done."""
        fresh = self.done - self._first
        return None if fresh == 0 else self.elapsed / fresh * (self.total - self.done)

    def facts(self) -> dict[str, Any]:
        """Return the state as JSON-able facts."""
        left = self.seconds_left
        return {
            "time": _now(),
            "phase": self.phase,
            "done": self.done,
            "total": self.total,
            "mpx_per_s": round(self.mpx_per_second, 2),
            "eta_s": None if left is None else round(left),
            "rss_bytes": rss_bytes(),
            "device_bytes": device_bytes(),
        }

    def line(self) -> str:
        """Return the state as one plain line."""
        percent = 100 * self.done / self.total if self.total else 100.0
        unit = UNITS.get(self.phase, "steps")
        held = device_bytes()
        device = "" if held is None else f" gpu {held / 2**30:.1f}G"
        return (
            f"{_now()} {self.phase} {self.done}/{self.total} {unit} {percent:.1f}% "
            f"{self.mpx_per_second:.1f} MPx/s eta {clock_text(self.seconds_left)} rss {rss_bytes() / 2**30:.1f}G{device}"
        )


class NoProgress:
    """Says nothing."""

    def start(self, phase: str, total: int, done: int = 0) -> None:
        """Do nothing."""

    def advance(self, done: int, pixels: int) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class LinesProgress:
    """Writes one line per interval and one at the end of a phase.

    A thread writes it, so a line comes also during a long block, and silence means a dead run.

    Parameters
    ----------
    stream : TextIO, optional
        Where to; standard error by default.
    interval : float
        Seconds between lines.
    as_json : bool
        One JSON object per line instead of text.
    """

    def __init__(
        self, stream: TextIO | None = None, interval: float = LINE_SECONDS, as_json: bool = False
    ) -> None:
        self._stream, self._interval, self._as_json = stream or sys.stderr, interval, as_json
        self._meter, self._last = Meter(), 0.0
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._beat: threading.Thread | None = None

    def start(self, phase: str, total: int, done: int = 0) -> None:
        """Begin a phase."""
        self._end_beat()
        self._meter.start(phase, total, done)
        self._last = time.monotonic()
        if self._interval > 0:
            self._ended = threading.Event()
            self._beat = threading.Thread(target=self._keep_on, args=(self._ended,), daemon=True)
            self._beat.start()

    def advance(self, done: int, pixels: int) -> None:
        """Write a line once the interval is over."""
        self._meter.done, self._meter.pixels = done, self._meter.pixels + pixels
        if time.monotonic() - self._last >= self._interval:
            self._write()

    def close(self) -> None:
        """Write the last line."""
        self._end_beat()
        if self._meter.total:
            self._write()

    def _keep_on(self, ended: threading.Event) -> None:
        """Write a line whenever nobody else has for an interval."""
        while not ended.wait(max(0.01, self._interval - (time.monotonic() - self._last))):
            if time.monotonic() - self._last >= self._interval:
                with suppress(OSError, ValueError):  # as in `LossyProgress`
                    self._write()

    def _end_beat(self) -> None:
        self._ended.set()
        if self._beat is not None:
            self._beat.join()
            self._beat = None

    def _write(self) -> None:
        with self._lock:
            self._last = time.monotonic()
            text = json.dumps(self._meter.facts()) if self._as_json else self._meter.line()
            self._stream.write(text + "\n")
            self._stream.flush()


class LossyProgress:
    """Another progress that may fail to be shown: its log may be full or gone, which is no reason to end a run.

    Parameters
    ----------
    shown : Progress
        The other one.
    """

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    def start(self, phase: str, total: int, done: int = 0) -> None:
        """Begin a phase."""
        with self._kept_quiet():
            self._shown.start(phase, total, done)

    def advance(self, done: int, pixels: int) -> None:
        """Report the units done so far."""
        with self._kept_quiet():
            self._shown.advance(done, pixels)

    def close(self) -> None:
        """End the phase."""
        with self._kept_quiet():
            self._shown.close()

    @contextmanager
    def _kept_quiet(self) -> Iterator[None]:
        """Show nothing any more after an error; of a closed stream it is a ValueError."""
        try:
            yield
        except (OSError, ValueError):
            failed, self._shown = self._shown, NoProgress()
            with suppress(OSError, ValueError, AttributeError):
                failed.close()


class BarProgress:
    """A live bar on a terminal."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._meter = Meter()
        self._bar = Progress(
            TextColumn("{task.description:9}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.percentage:5.1f}%"),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
        )
        self._task: Any = None

    def start(self, phase: str, total: int, done: int = 0) -> None:
        """Begin a phase with a bar of its own."""
        self._meter.start(phase, total, done)
        self._task = self._bar.add_task(phase, total=total, completed=done, state="")
        self._bar.start()

    def advance(self, done: int, pixels: int) -> None:
        """Move the bar."""
        self._meter.done, self._meter.pixels = done, self._meter.pixels + pixels
        state = f"{self._meter.mpx_per_second:.1f} MPx/s eta {clock_text(self._meter.seconds_left)}"
        self._bar.update(self._task, completed=done, state=state)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


class TqdmProgress:
    """A tqdm bar, shown by a notebook as a widget."""

    def __init__(self) -> None:
        self._bar: Any = None

    def start(self, phase: str, total: int, done: int = 0) -> None:
        """Begin a phase with a bar of its own."""
        from tqdm.auto import tqdm

        self._bar = tqdm(total=total, initial=done, desc=phase, unit=UNITS.get(phase, "steps")[:-1])

    def advance(self, done: int, pixels: int) -> None:
        """Move the bar."""
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()


def make_progress(kind: str, log_format: str = "text") -> Progress:
    """Return the progress named by a setting; `auto` is a bar on a terminal and lines elsewhere."""
    if kind == "none" or sys.stderr is None:  # a process may have none
        return NoProgress()
    if kind == "tqdm":
        return LossyProgress(TqdmProgress())
    if kind == "bar" or (kind == "auto" and sys.stderr.isatty() and log_format == "text"):
        return LossyProgress(BarProgress())
    return LossyProgress(LinesProgress(as_json=log_format == "json"))


def device_bytes() -> int | None:
    """Return this process's memory on its GPUs, in bytes; None without any."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return sum(int(torch.cuda.memory_reserved(index)) for index in range(torch.cuda.device_count()))


def clock_text(seconds: float | None) -> str:
    """Return seconds as hours, minutes and seconds; dashes for unknown ones."""
    if seconds is None:
        return "--:--:--"
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
