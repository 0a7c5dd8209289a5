"""`bigrestore run`: restore a section or volume."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from bigrestore.cli.from_settings import Fields, GivenFlags, Part, command
from bigrestore.cli.table import note_output, print_rows

if TYPE_CHECKING:
    from pathlib import Path

    from bigrestore.settings.run import RunArguments, RunSettings


def _run_fields() -> Fields[RunArguments]:
    from bigrestore.settings.run import RunArguments, RunSettings

    return Fields(RunArguments, Part(RunSettings))


@command(_run_fields)
def run(asked: RunArguments, given: GivenFlags) -> None:
    """Restore INPUT into OUTPUT, block by block, and build its pyramid.

    Exit codes: 0 done, 2 usage, 3 input, 4 output refused, 5 finished with failed blocks, 6 --fail-if is true,
    75 stopped by a signal (go on with --resume), 130 Ctrl-C.
    """
    from bigrestore.cli.log import asked_format, configure_logging
    from bigrestore.settings.run import RunSettings

    before = {"log_format": asked_format()} | ({"progress": "none"} if asked.quiet else {})
    settings = RunSettings.resolve(before | given, asked.config)
    configure_logging(verbose=asked.verbose, quiet=asked.quiet, log_format=settings.log_format)
    guarded = {} if asked.config is None else {"configuration": asked.config}
    if asked.dry_run:
        _estimate(asked, settings, guarded)
        return
    from bigrestore.api import report_sinks  # slow to import: a wrong setting is refused before
    from bigrestore.run.output.remote import execute_to

    summary = execute_to(asked.input, asked.output, settings, guarded=guarded, sinks=report_sinks(settings))
    note_output(asked.output)
    if asked.as_json:
        typer.echo(json.dumps(summary.to_json(), indent=1))
    elif not asked.quiet:
        print_rows(summary.rows())
    summary.raise_if_failed()


def _estimate(asked: RunArguments, settings: RunSettings, guarded: dict[str, Path]) -> None:
    """Print the dry run as a table or as JSON."""
    from bigrestore.api import report_sinks
    from bigrestore.run.output.remote import settle_output
    from bigrestore.run.view.dry_run import estimate

    sinks = report_sinks(settings)
    place, destination = settle_output(asked.input, asked.output, settings)
    estimated = estimate(asked.input, place, settings, guarded=guarded, destination=destination, sinks=sinks)
    if asked.as_json:
        typer.echo(json.dumps(estimated.to_json(), indent=1))
        return
    print_rows(estimated.rows())
