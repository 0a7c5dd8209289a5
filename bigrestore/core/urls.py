"""URLs without their secrets.

A URL may hold a password or a signature, and options hold keys. Logs, messages and stored files show the URL
without them, and a command line without its options.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bigrestore.core.files import expand_home
from bigrestore.core.regular import read_text
from bigrestore.errors import InputError, UsageError

_URL = re.compile(
    r"""
    ([a-z][a-z0-9+.-]*://)
    (?: [^/\s?#]*@                      # user and password, which may hold an @ themselves
      | [^/\s?#@'"\[]* :                # or, unless a port follows, a / or a ? as well
        (?! \d{1,5} (?![^/?#\s'")\],;]) ) [^\s'"]*@ )?
    ([^\s?'"#]*)                       # host and path
    (?: [?#][^\s'"]* )?                # query, which may hold signatures
    """,
    re.IGNORECASE | re.VERBOSE,
)

OPTIONS_FLAG = "--storage-options"


def is_remote(text: object) -> bool:
    """Tell a URL from a path."""
    return isinstance(text, str) and "://" in text


def local_path(text: str, command: str) -> Path:
    """Return the path of a command's output on the disk.

    Raises
    ------
    UsageError
        If it is a URL; its output is made in the stage.
    """
    if is_remote(text):
        shown = without_secrets(text).rstrip("/")
        raise UsageError(
            f"{command} looks at outputs on a disk, and {shown} is a URL; name the output in the folder --stage in which "
            f"its run makes it, such as STAGE/{shown.rsplit('/', 1)[-1]}, or a copy of it."
        )
    return Path(expand_home(text))


def without_secrets(text: str) -> str:
    """Return a text with user, password and query (with its signatures) removed from its URLs."""
    return _URL.sub(lambda match: match[1] + match[2], text)


def error_line(error: BaseException) -> str:
    """Return an error as one line of at most 160 characters, without secrets."""
    text = without_secrets(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."


def shown_arguments(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command as they may be stored: no storage options, URLs without secrets."""
    shown: list[str] = []
    for argument in arguments:
        if shown and shown[-1] == OPTIONS_FLAG:
            shown.append("...")
        elif argument.startswith(f"{OPTIONS_FLAG}="):
            shown.append(f"{OPTIONS_FLAG}=...")
        else:
            # A password may hold characters that end a URL in a text.
            whole = re.sub(r"[\s'\"]", "_", argument) if is_remote(argument) else argument
            shown.append(without_secrets(whole))
    return shown


def parse_options(text: str | None) -> dict[str, Any]:
    """Parse storage options: a JSON object, or `@FILE` with one, for keys hidden from the list of processes.

    Raises
    ------
    UsageError
        If it is none. The message does not repeat the text, since it holds keys.
    """
    if text is None or not text.strip():
        return {}
    try:
        options = json.loads(read_text(expand_home(Path(text[1:]))) if text.startswith("@") else text)
    except InputError:
        raise
    except OSError as error:
        raise UsageError(
            f"The file of --storage-options cannot be read ({error.strerror}); check it."
        ) from error
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise UsageError(
            "--storage-options is no JSON object; give one, such as '{\"anon\": true}', or @FILE with one."
        )
    return options
