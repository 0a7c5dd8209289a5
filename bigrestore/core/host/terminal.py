"""The one console on standard error, for the log and for bars.

A line of the log comes above a bar only where both are written by one console. Standard output stays free for results.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

DUMB = ("dumb", "unknown")
"""Values of TERM of terminals that cannot redraw a line."""


def error_console() -> Console:
    """Return the console on standard error; there is one for each stream."""
    return _console_on(getattr(sys.stderr, "rich_proxied_file", sys.stderr))


def can_redraw() -> bool:
    """Tell whether standard error is a terminal on which a line can be drawn again."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in DUMB


@lru_cache(maxsize=1)
def _console_on(_: Any) -> Console:
    return Console(stderr=True)  # its stream is looked up at each line, as a live line replaces sys.stderr


class RedrawnLine(Live):
    """A line on standard error that is redrawn below the log until it is stopped.

    The cursor stays visible: a killed process could not show it again. Standard output is left alone.
    """

    def __init__(self, shown: RenderableType, console: Console | None = None) -> None:
        console = console or error_console()
        super().__init__(shown, console=console, refresh_per_second=4, redirect_stdout=False)

    def start(self, refresh: bool = False) -> None:
        """Show the line."""
        super().start(refresh)
        self.console.show_cursor(True)
