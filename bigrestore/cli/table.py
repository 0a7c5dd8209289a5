"""Names and values in two columns, as the commands print them.

In a pipe there is one line for each value, neither folded nor padded, for other programs to read.
Nothing is markup: a path may hold square brackets.
"""

from __future__ import annotations

from collections.abc import Iterable

from bigrestore.core.names import printable


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed = [(name, printable(value)) for name, value in rows]
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
