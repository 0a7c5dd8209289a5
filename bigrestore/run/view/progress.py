"""How far a run is: a line for each phase on a terminal, plain lines in a log file, tqdm in a notebook, or nothing.

A scheduler's log is read by people and by grep, so without a terminal there are no bars and no escape codes, but one
line per interval with fields in fixed places, or one JSON object.
"""

from __future__ import annotations

import datetime
import json
import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from bigrestore.core.host.resources import rss_bytes

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

LINE_SECONDS = 10.0

UNITS = {
    "run": "tiles",
    "pairs": "pairs",
    "finalize": "shards",
    "scores": "tiles",
    "input": "tiles",
    "report": "tiles",
}
"""What each phase counts."""

PHASE_COLUMNS = 10
"""Columns of a phase's name on a terminal."""

SHORTEST_BAR, LONGEST_BAR = 6, 30
"""Columns of a bar."""

PRIOR_SHARE = 0.02
"""Share of a phase's units that its expected duration weighs as much as, against the units that are done."""

OVERDUE_SHARE = 0.1
"""Time left, as a share of the time waited, where a unit takes longer than expected."""


class Progress(Protocol):
    """Takes the state of a phase."""

    def start(self, phase: str, total: int = 0, done: int = 0, seconds: float | None = None) -> None:
        """Begin a phase of `total` units, `done` of them already; the running phase gets another count.

        Parameters
        ----------
        phase : str
            Its name.
        total, done : int
            Units; 0: not counted.
        seconds : float, optional
            Expected duration of the units left.
        """
        ...

    def advance(self, done: int, pixels: int) -> None:
        """Report the units done so far, and the output pixels of the last one."""
        ...

    def close(self, *, failed: bool = False) -> None:
        """End the phase; nothing happens where none runs."""
        ...


@contextmanager
def phase_shown(progress: Progress, phase: str) -> Iterator[None]:
    """Show a phase while the context lasts."""
    progress.start(phase)
    try:
        yield
    except BaseException:
        progress.close(failed=True)
        raise
    progress.close()


class Meter:
    """Counts units and pixels of a phase and estimates the rest."""

    def __init__(self) -> None:
        self.start("", 0, 0)

    def start(self, phase: str, total: int, done: int, seconds: float | None = None) -> None:
        """Begin anew."""
        self.phase, self.total, self.done, self.pixels = phase, total, done, 0
        self._first, self._started, self._marked = done, time.monotonic(), 0.0
        self._expected = None if seconds is None or total <= done else seconds / (total - done)

    def advance(self, done: int, pixels: int) -> None:
        """Count the units done so far, and the output pixels of the last one."""
        self.done, self.pixels, self._marked = done, self.pixels + pixels, self.elapsed

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
        """Estimate of the time left, by the expected duration and the units done; None without either."""
        fresh, left = self.done - self._first, self.total - self.done
        if self.total == 0 or (fresh == 0 and self._expected is None):
            return None
        if left <= 0:
            return 0.0
        weight = 0.0 if self._expected is None else max(1.0, PRIOR_SHARE * (self.total - self._first))
        each = (self._marked + weight * (self._expected or 0.0)) / (fresh + weight)
        waited = self.elapsed - self._marked
        return max(each * left - waited, OVERDUE_SHARE * waited)

    def facts(self) -> dict[str, Any]:
        """Return the state as JSON-able facts."""
        left = self.seconds_left
        return {
            "time": _now(),
            "phase": self.phase,
            "done": self.done,
            "total": self.total,
            "unit": UNITS.get(self.phase, "steps"),
            "mpx_per_s": round(self.mpx_per_second, 2),
            "eta_s": None if left is None else round(left),
            "rss_bytes": rss_bytes(),
            "device_bytes": device_bytes(),
        }

    def line(self) -> str:
        """Return the state as one plain line."""
        held = device_bytes()
        device = "" if held is None else f" gpu {held / 2**30:.1f}G"
        memory = f"rss {rss_bytes() / 2**30:.1f}G{device}"
        if not self.total:
            return f"{_now()} {self.phase} for {spent_text(self.elapsed)} {memory}"
        return (
            f"{_now()} {self.phase} {self.done}/{self.total} {UNITS.get(self.phase, 'steps')} "
            f"{100 * self.done / self.total:.1f}% {self.mpx_per_second:.1f} MPx/s eta {clock_text(self.seconds_left)} "
            f"{memory}"
        )


class NoProgress:
    """Says nothing."""

    def start(self, phase: str, total: int = 0, done: int = 0, seconds: float | None = None) -> None:
        """Do nothing."""

    def advance(self, done: int, pixels: int) -> None:
        """Do nothing."""

    def close(self, *, failed: bool = False) -> None:
        """Do nothing."""


class LinesProgress:
    """Writes one line per interval and one at the end of a counted phase.

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

    def start(self, phase: str, total: int = 0, done: int = 0, seconds: float | None = None) -> None:
        """Begin a phase."""
        if phase == self._meter.phase and not total:
            return
        self._end_beat()
        self._meter.start(phase, total, done, seconds)
        self._last = time.monotonic()
        if self._interval > 0:
            self._ended = threading.Event()
            self._beat = threading.Thread(target=self._keep_on, args=(self._ended,), daemon=True)
            self._beat.start()

    def advance(self, done: int, pixels: int) -> None:
        """Write a line once the interval is over."""
        self._meter.advance(done, pixels)
        if time.monotonic() - self._last >= self._interval:
            self._write()

    def close(self, *, failed: bool = False) -> None:
        """Write the last line of a counted phase."""
        self._end_beat()
        if self._meter.total:
            self._write()
        self._meter.start("", 0, 0)

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

    def start(self, phase: str, total: int = 0, done: int = 0, seconds: float | None = None) -> None:
        """Begin a phase."""
        with self._kept_quiet():
            self._shown.start(phase, total, done, seconds)

    def advance(self, done: int, pixels: int) -> None:
        """Report the units done so far."""
        with self._kept_quiet():
            self._shown.advance(done, pixels)

    def close(self, *, failed: bool = False) -> None:
        """End the phase."""
        with self._kept_quiet():
            self._shown.close(failed=failed)

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
    """One line for each phase on a terminal: redrawn while it runs, and left there once at its end."""

    def __init__(self) -> None:
        self._meter = Meter()
        self._line: Any = None

    def start(self, phase: str, total: int = 0, done: int = 0, seconds: float | None = None) -> None:
        """Begin a phase with a line of its own."""
        from bigrestore.core.host.terminal import RedrawnLine

        if self._line is not None and self._meter.phase == phase:
            if total:
                self._meter.start(phase, total, done, seconds)
            return
        self.close()
        self._meter.start(phase, total, done, seconds)
        self._line = RedrawnLine(self)
        self._line.start()

    def advance(self, done: int, pixels: int) -> None:
        """Move the bar."""
        self._meter.advance(done, pixels)

    def close(self, *, failed: bool = False) -> None:
        """Leave what the phase came to; of a failed one only its count."""
        line, self._line = self._line, None
        if line is None:
            return
        line.transient = failed and not self._meter.total
        line.update(self._result())
        line.stop()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Draw the line: what does not fit into the terminal is left out, the bar first."""
        from rich.text import Text

        meter, width = self._meter, options.max_width - 1  # terminals wrap at the last column
        head = f"{meter.phase:<{PHASE_COLUMNS}}"
        if not meter.total:
            yield Text(f"{head}{spent_text(meter.elapsed)}"[:width])
            return
        left = meter.seconds_left
        parts = [f"{meter.done}/{meter.total} {UNITS.get(meter.phase, 'steps')}"]
        if left:
            parts.append(f"{about_text(left)} left")
        if meter.pixels and len(head) + sum(map(len, parts)) + 16 < width:
            parts.insert(1, f"{rate_text(meter.mpx_per_second)}")
        said = "  ".join(parts)
        room = min(LONGEST_BAR, width - len(head) - len(said) - 2)
        if room < SHORTEST_BAR:
            yield Text((head + said)[:width])
            return
        full = round(room * meter.done / meter.total)
        mark, rest = ("#", "-") if options.ascii_only else ("\N{BOX DRAWINGS HEAVY HORIZONTAL}",) * 2
        bar = Text(mark * full, "green") + Text(rest * (room - full), "dim")
        yield Text(head) + bar + Text(f"  {said}")

    def _result(self) -> Text:
        """Return the last state of the phase."""
        from rich.text import Text

        meter = self._meter
        head = f"{meter.phase:<{PHASE_COLUMNS}}"
        if not meter.total:
            return Text(f"{head}{spent_text(meter.elapsed)}", overflow="ellipsis", no_wrap=True)
        count = f"{meter.done} of " if meter.done < meter.total else ""
        rate = f", {rate_text(meter.mpx_per_second)}" if meter.pixels else ""
        unit = UNITS.get(meter.phase, "steps")
        if meter.total == 1:
            unit = unit.removesuffix("s")
        said = f"{count}{meter.total} {unit} in {spent_text(meter.elapsed)}{rate}"
        return Text(head + said, overflow="ellipsis", no_wrap=True)


class TqdmProgress:
    """A tqdm bar for each counted phase, shown by a notebook as a widget."""

    def __init__(self) -> None:
        self._bar: Any = None

    def start(self, phase: str, total: int = 0, done: int = 0, seconds: float | None = None) -> None:
        """Begin a phase with a bar of its own."""
        if not total:
            return
        from tqdm.auto import tqdm

        self.close()
        self._bar = tqdm(total=total, initial=done, desc=phase, unit=UNITS.get(phase, "steps")[:-1])

    def advance(self, done: int, pixels: int) -> None:
        """Move the bar."""
        self._bar.update(done - self._bar.n)

    def close(self, *, failed: bool = False) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def make_progress(kind: str, log_format: str = "text") -> Progress:
    """Return the progress named by a setting; `auto` is a bar on a terminal and lines elsewhere."""
    if kind == "none" or sys.stderr is None:  # a process may have none
        return NoProgress()
    if kind == "tqdm":
        return LossyProgress(TqdmProgress())
    from bigrestore.core.host.terminal import can_redraw

    if kind == "bar" or (kind == "auto" and can_redraw() and log_format == "text"):
        return LossyProgress(BarProgress())
    return LossyProgress(LinesProgress(as_json=log_format == "json"))


def device_bytes() -> int | None:
    """Return this process's memory on its GPUs, in bytes; None without any."""
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)  # another thread may just be importing it
    if not hasattr(cuda, "memory_reserved") or not cuda.is_available() or not cuda.is_initialized():
        return None
    return sum(int(cuda.memory_reserved(index)) for index in range(cuda.device_count()))


def clock_text(seconds: float | None) -> str:
    """Return seconds as hours, minutes and seconds; dashes for unknown ones."""
    if seconds is None:
        return "--:--:--"
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def spent_text(seconds: float) -> str:
    """Return a duration that was measured, to the second at most."""
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else "<0.1 s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else about_text(seconds)


def about_text(seconds: float) -> str:
    """Return an estimated duration, to two figures or so."""
    if seconds < 59.5:
        return f"{math.ceil(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def rate_text(mpx_per_second: float) -> str:
    """Return megapixels per second with two figures."""
    return f"{mpx_per_second:.{1 if mpx_per_second >= 1 else 2}f} MPx/s"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
