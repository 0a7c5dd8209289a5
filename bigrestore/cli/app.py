"""The command line: registers the commands, sets up the log, and turns errors into sentences and exit codes.

Importing it imports no torch, zarr, dask or numpy: `--help` answers at once, and every command imports its needs
when it is called.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from bigrestore._version import __version__
from bigrestore.cli.degrade import degrade_command
from bigrestore.cli.doctor import doctor
from bigrestore.cli.from_settings import Command, CommandGroup, add_command
from bigrestore.cli.info import info
from bigrestore.cli.log import be_verbose, say_error, use_format
from bigrestore.cli.models import models_app
from bigrestore.cli.outputs import status, verify, view
from bigrestore.cli.profile import profile
from bigrestore.cli.run import run
from bigrestore.cli.runs.trial import try_command
from bigrestore.cli.score import FIT_NAME, fit_niqe_command, score_command
from bigrestore.cli.table import code_if_lost, forget_outputs
from bigrestore.cli.train import adapt_command, train_app
from bigrestore.core.host.command import note_command
from bigrestore.core.host.names import print_any_name
from bigrestore.core.host.signals import StopRequested, ending_in_time, received, signal_name, stop_code
from bigrestore.core.host.streams import ignore_no_width, keep_streams, lost_output
from bigrestore.core.urls import without_secrets
from bigrestore.errors import BigrestoreError, UsageError
from bigrestore.settings.values import FULL

log = logging.getLogger(__name__)


RANGE_FLAGS = ("--input-range", "--before-range", "--reference-range")


class _Commands(CommandGroup):
    """The commands; one of two words goes before the one of its first word."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return name, command and remaining arguments."""
        _require_words(args)
        args = _two_words(args)
        name = " ".join(args[:2])
        command = self.get_command(ctx, name) if len(args) > 1 else None
        return super().resolve_command(ctx, args) if command is None else (name, command, args[2:])


def _require_words(args: list[str]) -> None:
    """Refuse an empty argument: an empty path is the current folder."""
    for at, word in enumerate(args):
        if not word or (word.startswith("--") and word.endswith("=")):
            raise UsageError(
                f"the argument after {args[at - 1] if at and not word else word or 'bigrestore'} is empty, as of a shell "
                "variable that is not set; give it a value, or leave it out"
            )


def _two_words(args: list[str]) -> list[str]:
    """Return arguments with `full` twice after a flag of two values: it stands for both."""
    words = []
    for at, word in enumerate(args):
        words.append(word)
        flag = (
            word.removesuffix(f"={FULL}")
            if word.endswith(f"={FULL}")
            else args[at - 1]
            if word == FULL and at
            else ""
        )
        if flag in RANGE_FLAGS:
            words.append(FULL)
    return words


app = typer.Typer(
    name="bigrestore",
    cls=_Commands,
    help="Restore large brain-histology sections and volumes, blindly and tile by tile, without a seam.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, Command[Any]] = {
    "run": run,
    "try": try_command,
    "score": score_command,
    FIT_NAME: fit_niqe_command,
    "info": info,
    "verify": verify,
    "view": view,
    "profile": profile,
    "degrade": degrade_command,
    "adapt": adapt_command,
    "status": status,
    "doctor": doctor,
}
for command_name, function in COMMANDS.items():
    add_command(app, command_name, function)
app.add_typer(train_app, name="train")
app.add_typer(models_app, name="models")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"bigrestore {__version__}")
        raise typer.Exit


def _log_format(asked: str | None) -> None:
    """Take the format as soon as it is read, for errors about the other arguments."""
    if asked not in (None, "text", "json"):
        raise typer.BadParameter(f"{asked!r} is none of text and json", param_hint="--log-format")
    use_format(asked)


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Debug log and tracebacks, of any command.")
    ] = False,
    log_format: Annotated[
        str | None,
        typer.Option(
            "--log-format", callback=_log_format, is_eager=True, help="text or json: the log of any command."
        ),
    ] = None,
) -> None:
    """Restore large brain-histology sections and volumes, blindly and tile by tile, without a seam."""
    be_verbose(verbose)


def main() -> None:
    """Run the command line and end with its exit code, soon after a signal at the latest."""
    keep_streams()
    ignore_no_width()
    print_any_name()
    note_command(sys.argv)
    forget_outputs()
    with ending_in_time(_stopped, _say) as said:
        try:
            code = app(standalone_mode=False) or 0
        except StopRequested as stop:
            said.set()
            code = stop_code(stop.number)
            _say(stop.sentence or _stopped(stop.number), code)
        except Exception as error:
            said.set()
            log.debug("The error in full:", exc_info=True)
            code = _explain(error)
        _leave(code if isinstance(code, int) else 0)


def _stopped(number: int) -> str:
    """Return the sentence of a command that was stopped before it wrote anything."""
    return f"The command was stopped by {signal_name(number)}; start it again."


def _say(sentence: str, code: int) -> None:
    """Write the last sentence of the command."""
    say_error(without_secrets(sentence), code)


def _explain(error: Exception) -> int:
    """Log the error as one sentence; return its exit code."""
    if isinstance(error, BigrestoreError):
        _say(str(error), error.exit_code)
        return error.exit_code
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is printed when the error is made
        return 2
    if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # typer's and click's usage errors
        say_error(f"{error.format_message().rstrip('.')}; see --help{_or_a_file(error)}", 2)
        return 2
    if isinstance(error, typer.Abort):
        say_error("Stopped", 130)
        return 130
    shown = " ".join(f"{type(error).__name__}: {error}".split())
    _say(f"A bug in bigrestore: {shown}. For the traceback run bigrestore -v and the rest", 1)
    return 1


def _or_a_file(error: Exception) -> str:
    """Return how to give a file named with a leading dash, if an unknown option may be one."""
    option = getattr(error, "option_name", None)
    if not option or type(error).__name__ != "NoSuchOption":
        return ""
    words = (word for word in sys.argv[1:] if word.startswith(option) and "=" not in word)
    name = next(
        (word for word in words if Path(word).suffix.strip(".0123456789") or Path(word).exists()), None
    )
    return "" if name is None else f", or give the file {name} as ./{name}"


def _leave(code: int) -> None:
    """End the process, at once if it was stopped, or left a thread inside a tile."""
    lost = lost_output()
    if lost is not None:
        _say(f"Standard output cannot be written ({lost.strerror}), and what was printed is lost", code)
        code = code or code_if_lost()
    sys.stderr.flush()
    stuck = any(t.name.startswith("bigrestore-") and t.is_alive() for t in threading.enumerate())
    if stuck or received():
        os._exit(code)
    sys.exit(code)
