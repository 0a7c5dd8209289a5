"""The command of this process as it was typed, to be given again after a stop.

Only the command line notes it: in a script of the user there is no command to repeat.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bigrestore.core.urls import shown_arguments

RESUME = "--resume"

SAME_COMMAND = "by the same command"
"""How a sentence says that the command is repeated as it was."""

ONCE = ("--overwrite", "--no-resume", "--init-only", "--finalize", "--shard")
"""Flags that a resumed command leaves out; the last takes a value."""

_typed: dict[str, Any] = {}


def note_command(arguments: Sequence[str]) -> None:
    """Note the arguments of the command line, the program first, without secrets."""
    program = Path(arguments[0]).name
    words = ["python", "-m", "bigrestore"] if program == "__main__.py" else [program]
    _typed.update(words=[*words, *shown_arguments(arguments[1:])], folder=os.getcwd())  # noqa: PTH109 - no Path needed


def forget_command() -> None:
    """Forget the command."""
    _typed.clear()


def typed_command() -> dict[str, Any]:
    """Return words and working folder of the command, JSON-able; empty outside the command line."""
    return dict(_typed)


def repeated(command: Mapping[str, Any], *flags: str) -> str:
    """Return a command of `typed_command` to be pasted, with further flags; empty for no command.

    Parameters
    ----------
    command : mapping
        Words and folder.
    *flags : str
        Take the place of those of `ONCE`; none: the command is repeated as it was.
    """
    if not command:
        return ""
    import shlex  # loaded after a stop alone

    words = _without_once(command["words"]) if flags else list(command["words"])
    line = shlex.join([*words, *(flag for flag in flags if flag not in words)])
    if command["folder"] == os.getcwd():  # noqa: PTH109 - as above
        return line
    return f"cd {shlex.quote(command['folder'])} && {line}"


def _without_once(words: Sequence[str]) -> list[str]:
    """Return the words without the flags of `ONCE`."""
    kept: list[str] = []
    skipped = False
    for word in words:
        if skipped:
            skipped = False
        elif word.partition("=")[0] in ONCE:
            skipped = word == ONCE[-1]
        else:
            kept.append(word)
    return kept
