"""The log of a command: rich on a terminal, plain lines or JSON objects in a file."""

from __future__ import annotations

import json
import logging
import sys

_asked = {"verbose": False}
"""Whether `-v` stands before the command, where it counts for every command."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON."""
        facts = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"), "level": record.levelname.lower()}
        facts["message"] = record.getMessage()
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts)


def be_verbose(asked: bool) -> None:
    """Let every command of this process log in full, tracebacks included, or end that."""
    _asked["verbose"] = asked
    if asked:
        configure_logging(verbose=True, quiet=False)


def configure_logging(*, verbose: bool, quiet: bool, log_format: str = "text") -> None:
    """Send the log to standard error: rich on a terminal, plain lines or JSON elsewhere."""
    verbose = verbose or _asked["verbose"]
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    handler: logging.Handler
    if log_format == "text" and sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(
            JsonFormatter() if log_format == "json" else logging.Formatter("%(levelname)s %(message)s")
        )
    logger = logging.getLogger("bigrestore")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
