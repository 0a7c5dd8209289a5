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
    from bigrestore.cli.log import asked_format, configure_logging
    from bigrestore.run.stop import listen
    from bigrestore.run.view.progress import NoProgress, make_progress, phase_shown
    from bigrestore.settings.degrade import DegradeSettings

    configure_logging(verbose=asked.verbose, quiet=asked.quiet)
    settings = DegradeSettings.resolve(({"progress": "none"} if asked.quiet else {}) | given, None)
    keywords: GivenFlags = {**given, "progress": settings.progress}
    shown = make_progress(settings.progress, asked_format() or "text")
    starting = NoProgress() if settings.whole else shown  # the run of a whole section shows its own
    remedy = "go on with the same command and --resume" if settings.whole else "start again with --overwrite"

    def advance(done: int, total: int) -> None:
        if done == 1:
            shown.start("pairs", total)
        shown.advance(done, 0)

    with listen(f"The degradation of {asked.input}", remedy), phase_shown(starting, "start-up"):
        from bigrestore.degradation.api import degrade as make_pairs

        table = make_pairs(asked.input, asked.outdir, on_pair=advance, shown=shown, **keywords)
    note_output(table)
    made = (
        "The whole section"
        if settings.whole
        else "1 pair"
        if settings.count == 1
        else f"{settings.count} pairs"
    )
    if not asked.quiet:
        typer.echo(f"{made} at x{settings.scale} in {asked.outdir}, described by {table.name}")
