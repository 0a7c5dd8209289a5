"""`bigrestore degrade INPUT OUTDIR`: synthetic pairs of degraded and clean images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bigrestore.cli.from_settings import Fields, GivenFlags, Part, command
from bigrestore.cli.table import note_output

if TYPE_CHECKING:
    from bigrestore.settings.degrade import DegradeArguments


def _degrade_fields() -> Fields[DegradeArguments]:
    from bigrestore.settings.degrade import DegradeArguments, DegradeSettings

    return Fields(DegradeArguments, Part(DegradeSettings))


@command(_degrade_fields)
def degrade_command(asked: DegradeArguments, given: GivenFlags) -> None:
    """Make pairs of degraded and clean images, with a table of everything that was drawn."""
    from rich.console import Console
    from rich.progress import Progress

    from bigrestore.cli.log import configure_logging
    from bigrestore.degradation.api import degrade as make_pairs
    from bigrestore.run.stop import listen
    from bigrestore.settings.degrade import DegradeSettings

    configure_logging(verbose=asked.verbose, quiet=asked.quiet)
    settings = DegradeSettings.resolve(given, None)
    keywords: GivenFlags = {"progress": settings.progress, **given}
    console = Console(stderr=True)
    shown = settings.progress == "bar" or (settings.progress == "auto" and console.is_terminal)
    remedy = "go on with the same command and --resume" if settings.whole else "start again with --overwrite"
    with (
        listen(f"The degradation of {asked.input}", remedy),
        Progress(console=console, transient=True, disable=settings.whole or not shown) as bar,
    ):
        task = bar.add_task("pairs", total=settings.count)
        table = make_pairs(
            asked.input,
            asked.outdir,
            on_pair=lambda done, total: bar.update(task, completed=done, total=total),
            **keywords,
        )
    note_output(table)
    made = "The whole section" if settings.whole else f"{settings.count} pair(s)"
    if not asked.quiet:
        typer.echo(f"{made} at x{settings.scale} in {asked.outdir}, described by {table.name}")
