"""What a training says of itself: a CSV to plot, TensorBoard for those who have it, and a live line.

The CSV is the record. A killed training leaves rows beyond its last checkpoint; on resume they are cut, because their
steps are made again. Rows are means over an interval of steps: single losses of random degradations say little.
"""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.text import Text

from bigrestore.core.files import whole_file
from bigrestore.core.host.names import printable
from bigrestore.core.host.terminal import RedrawnLine, can_redraw
from bigrestore.errors import output_error

log = logging.getLogger(__name__)

PLAIN_LINE_S = 30.0
"""Seconds between live lines without a terminal."""

REDRAW_S = 0.25
"""Seconds between redraws on a terminal: each fetches its values from the device."""


class CsvLog:
    """A CSV file with one row per step; its first column is `step`.

    Parameters
    ----------
    path : Path
        File to write or go on with.
    first_step : int
        The next step. Rows of an existing file from this step on are dropped, and an incomplete last row too. With 0
        the file starts empty.

    Raises
    ------
    OutputError
        The file cannot be written.
    """

    def __init__(self, path: Path, first_step: int) -> None:
        self.path = path
        rows = self._read() if first_step > 0 and path.exists() else []
        self._columns: list[str] = list(rows[0]) if rows else []
        self._write([row for row in rows if int(row["step"]) < first_step])

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Append the row of a step; a new name becomes a new column."""
        row = {"step": str(step)} | {name: f"{value:.6g}" for name, value in values.items()}
        try:
            if set(row) - set(self._columns):
                rows = self._read() if self._columns else []
                self._columns += [name for name in row if name not in self._columns]
                self._write([*rows, row])
                return
            with self.path.open("a", newline="", encoding="utf-8") as stream:
                csv.DictWriter(stream, self._columns, lineterminator="\n").writerow(row)
        except OSError as error:
            raise output_error(self.path, error) from error

    def _read(self) -> list[dict[str, str]]:
        """Read the complete rows."""
        text = self.path.read_text(encoding="utf-8")
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [row for row in csv.DictReader(lines) if (row.get("step") or "").isdigit()]

    def _write(self, rows: list[dict[str, str]]) -> None:
        """Replace the file by these rows, whole or not at all."""
        with whole_file(self.path) as partial:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w", newline="", encoding="utf-8") as stream:
                if self._columns:
                    writer = csv.DictWriter(stream, self._columns, lineterminator="\n", extrasaction="ignore")
                    writer.writeheader()
                    writer.writerows(rows)


class Board:
    """A TensorBoard log.

    Parameters
    ----------
    directory : Path
        Where its files go.
    first_step : int
        The next step; later steps in the log are hidden.
    """

    def __init__(self, directory: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._directory = directory
        with self._sentences():
            self._writer: Any = SummaryWriter(str(directory), purge_step=first_step)

    def add(self, room: str, values: Mapping[str, float], step: int) -> None:
        """Add the values of a step under `room/name`.

        Raises
        ------
        OutputError
            The log cannot be written.
        """
        with self._sentences():
            for name, value in values.items():
                self._writer.add_scalar(f"{room}/{name}", value, step)

    def close(self) -> None:
        """Flush and close the file."""
        with self._sentences():
            self._writer.close()

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn the errors of writing, sometimes late from the writer's own thread, into sentences."""
        try:
            yield
        except OSError as error:
            raise output_error(self._directory, error) from error


def open_board(directory: Path, first_step: int) -> Board | None:
    """Return a TensorBoard log; None, with a sentence, without TensorBoard or in a folder that it cannot name."""
    if printable(str(directory)) != str(directory):
        log.info("TensorBoard writes to no folder whose name is not UTF-8, so the CSV is the only log.")
        return None
    try:
        return Board(directory, first_step)
    except ImportError:
        log.info("TensorBoard is not installed, so the CSV is the only log; bigrestore[train] adds it.")
        return None


class LiveLine:
    """One line of progress: redrawn on a terminal, repeated at intervals elsewhere.

    Parameters
    ----------
    name : str
        Of the training, first on the line.
    console : rich.console.Console, optional
        Defaults to the console on standard error, so lines of the log come above this one.
    interval_s : float
        Seconds between lines without a terminal.
    """

    def __init__(self, name: str, console: Console | None = None, interval_s: float = PLAIN_LINE_S) -> None:
        self._name = name
        self._interval_s = interval_s
        self._last = -math.inf
        drawn = can_redraw() if console is None else console.is_terminal
        self._live = RedrawnLine(Text(""), console) if drawn else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def due(self) -> bool:
        """Say whether the line is old enough to be shown anew."""
        interval_s = REDRAW_S if self._live is not None else self._interval_s
        return time.monotonic() - self._last >= interval_s

    def show(self, text: str) -> None:
        """Show the line."""
        self._last = time.monotonic()
        if self._live is not None:
            self._live.update(Text(f"{self._name} {text}", no_wrap=True, overflow="ellipsis"))
        else:
            log.info("%s %s", self._name, text)


def duration(seconds: float) -> str:
    """Return a duration as hh:mm:ss, or `unknown`."""
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def format_values(values: Mapping[str, Any]) -> str:
    """Return `name value` pairs with four digits each."""
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())
