"""A terminal to test with: a pty of a size, and what a person would see of what was written to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator
from typing import TextIO

SEQUENCE = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


def lines_on_screen(written: str, columns: int) -> list[str]:
    """Return the lines that a terminal of some columns holds at the end, the scrolled ones included."""
    lines, row, column = [""], 0, 0
    for part in SEQUENCE.finditer(written):
        text, number = part[0], int(part[1]) if (part[1] or "").isdigit() else 1
        if text == "\r":
            column = 0
        elif text == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part[2] == "A":
            row = max(0, row - number)
        elif part[2] == "K":
            lines[row] = "" if part[1] == "2" else lines[row][:column]
        elif not part[2]:
            for sign in text:
                if column == columns:
                    row, column = row + 1, 0
                    lines += [""] * (row + 1 - len(lines))
                line = lines[row].ljust(column)
                lines[row] = line[:column] + sign + line[column + 1 :]
                column += 1
    return [line.rstrip() for line in lines]


class Terminal:
    """One pty; `stream` writes to it, `written` is what it was given."""

    def __init__(self, columns: int) -> None:
        self.columns, self.written = columns, ""
        self._master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream: TextIO = os.fdopen(os.dup(self.slave), "w", encoding="utf-8", buffering=1)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(self._master, 1 << 16):
                self.written += data.decode("utf-8", "replace")

    def screen(self) -> list[str]:
        """Close the terminal and return its lines, without the empty ones."""
        self.stream.close()
        os.close(self.slave)
        self._reader.join(10)
        return [line for line in lines_on_screen(self.written, self.columns) if line]


@contextlib.contextmanager
def terminal(columns: int) -> Iterator[Terminal]:
    """Give a terminal."""
    made = Terminal(columns)
    try:
        yield made
    finally:
        with contextlib.suppress(OSError, ValueError):
            made.screen()
        os.close(made._master)
