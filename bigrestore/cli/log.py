"""The log of a command: rich on a terminal, plain lines or JSON objects in a file.

What is asked for before the command, `-v` and `--log-format json`, holds for every command. In JSON everything on
standard error is one object per line, the sentence of an error included. Secrets in URLs are taken out of every line,
whoever wrote it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from bigrestore.core.host.command import RESUME, SAME_COMMAND, repeated, typed_command
from bigrestore.core.host.names import printable
from bigrestore.core.urls import without_secrets
from bigrestore.errors import BlocksFailedError, OutputError, StoppedError

_asked: dict[str, Any] = {"verbose": False, "log_format": None}
"""What was asked for before the command, where it counts for every command."""

NOISY = (
    "py.warnings",
    "tifffile",
    "PIL",
    "fsspec",
    "s3fs",
    "aiobotocore",
    "botocore",
    "h5py",
    "asyncio",
    "nibabel",
)
"""Libraries that log what our own errors say better, and Python's warnings, which are for developers; with `-v` they are
heard."""

MOST_WARNINGS = 1000
"""Different warnings that are remembered, so that each is given once."""

RESUMABLE = (OutputError.exit_code, BlocksFailedError.exit_code, StoppedError.exit_code, 130)
"""Exit codes after which a sentence that names `--resume` is about the command's own work."""


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as JSON."""
        facts = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"), "level": record.levelname.lower()}
        facts["message"] = record.getMessage()
        if record.exc_info:
            facts["traceback"] = self.formatException(record.exc_info)
        return json.dumps(facts)


class Discreet(logging.Filter):
    """Takes passwords and signatures out of the URLs of a record, and drops a warning that was given before."""

    def __init__(self) -> None:
        super().__init__()
        self._warned: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Take secrets out of the URLs of a record, and make its names printable."""
        text = printable(record.getMessage())
        record.msg, record.args = without_secrets(text), ()
        if record.levelno != logging.WARNING or len(self._warned) >= MOST_WARNINGS:
            return True
        new = record.msg not in self._warned
        self._warned.add(record.msg)
        return new


def be_verbose(asked: bool) -> None:
    """Let every command of this process log in full, tracebacks included; False ends it."""
    _asked["verbose"] = asked
    if asked:
        configure_logging(verbose=True, quiet=False)


def use_format(log_format: str | None) -> None:
    """Let every command of this process log as text or JSON unless told otherwise."""
    _asked["log_format"] = log_format


def asked_format() -> str | None:
    """Return the format asked for before the command, if any."""
    log_format: str | None = _asked["log_format"]
    return log_format


def wanted_format(log_format: str | None) -> str:
    """Return the format of a command, else the one before the command, else text."""
    return log_format or _asked["log_format"] or "text"


def say_error(sentence: str, code: int) -> None:
    """Write the sentence of an error to standard error, with its full stop, and the command that resumes, if any."""
    sentence = printable(sentence)
    stop = "" if sentence.endswith((".", "!", "?")) else "."
    again = _command_again(sentence, code)
    if wanted_format(None) == "json":
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        facts = {"time": now, "level": "error", "message": sentence + stop, "exit_code": code}
        text = json.dumps(facts | ({"resume": again} if again else {}))
    else:
        text = f"bigrestore: {sentence}{stop}" + (f"\nbigrestore: To resume: {again}" if again else "")
    sys.stderr.write(text + "\n")


def _command_again(sentence: str, code: int) -> str:
    """Return the command by which the work of a stopped or failed one is resumed; empty without one."""
    if code not in RESUMABLE:
        return ""
    if SAME_COMMAND in sentence:
        return repeated(typed_command())
    return repeated(typed_command(), RESUME) if RESUME in sentence and "--overwrite" not in sentence else ""


def configure_logging(*, verbose: bool, quiet: bool, log_format: str | None = None) -> None:
    """Send the log to standard error: rich on a terminal, plain lines or JSON elsewhere."""
    verbose = verbose or _asked["verbose"]
    form = wanted_format(log_format)
    if form == "json":
        use_format("json")  # the sentence at the end as well
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    handler: logging.Handler
    if form == "text" and sys.stderr.isatty():
        from rich.logging import RichHandler

        from bigrestore.core.host.terminal import error_console

        handler = RichHandler(console=error_console(), show_path=False, log_time_format="%H:%M:%S")
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(
            JsonFormatter() if form == "json" else logging.Formatter("%(levelname)s %(message)s")
        )
    handler.addFilter(Discreet())
    for name in ("bigrestore", "py.warnings"):
        logging.getLogger(name).handlers[:] = [handler]
    logging.getLogger("bigrestore").setLevel(level)
    logging.getLogger("py.warnings").propagate = False
    logging.captureWarnings(True)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.NOTSET if verbose else logging.CRITICAL)
