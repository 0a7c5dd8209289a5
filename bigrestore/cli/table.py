"""Names and values in two columns, as the commands print them."""

from __future__ import annotations

from collections.abc import Iterable


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    Console(highlight=False).print(table)
