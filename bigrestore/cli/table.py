"""What the commands print: names and values in two columns, and what it means if that cannot be printed.

In a pipe there is one line for each value, neither folded nor padded, for other programs to read.
Nothing is markup: a path may hold square brackets.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from bigrestore.core.host.names import visible
from bigrestore.errors import OutputError

_made: list[str] = []
"""Outputs of the present command."""


_SIGNS = "→−×⁻⁴“”–"
_PLAIN_SIGNS = str.maketrans(
    {"→": "->", "−": "-", "×": "x", "⁻": "^-", "⁴": "4", "“": '"', "”": '"', "–": "-"}
)


def note_output(output: str | Path) -> None:
    """Note that the command wrote an output: what it prints then is only a summary."""
    _made.append(str(output))


def forget_outputs() -> None:
    """Begin a command."""
    _made.clear()


def code_if_lost() -> int:
    """Return the exit code of a command whose printed lines were lost on a full disk: 0 if it wrote an output."""
    return 0 if _made else OutputError.exit_code


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed = [(name, encodable(visible(value))) for name, value in rows]
    console = Console(highlight=False)
    if not console.is_terminal:
        width = max((len(name) for name, _ in listed), default=0)
        for name, value in listed:
            console.out(f"{name:<{width}} {value}".rstrip(), highlight=False)
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in listed:
        table.add_row(Text(name), Text(value))
    console.print(table)


def shorten(text: str, longest: int) -> str:
    """Return a text, cut off with dots beyond a number of characters."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def encodable(text: str) -> str:
    """Return a text whose signs standard output can show: plain ones where it cannot."""
    try:
        _SIGNS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return text.translate(_PLAIN_SIGNS)
    return text
