"""`bigrestore run`: restore a section or volume."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from bigrestore.cli.from_settings import Fields, GivenFlags, Part, command
from bigrestore.cli.table import note_output, print_rows

if TYPE_CHECKING:
    from pathlib import Path

    from bigrestore.run.view.dry_run import RunEstimate
    from bigrestore.run.view.summary import RunSummary
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
    from bigrestore.run.view.progress import make_progress, phase_shown

    shown = make_progress(settings.progress, settings.log_format)
    if asked.dry_run:
        with phase_shown(shown, "dry run"):
            estimated = _estimate(asked, settings, guarded)
        if asked.as_json:
            typer.echo(json.dumps(estimated.to_json(), indent=1))
        else:
            print_rows(estimated.rows())
        return
    with phase_shown(shown, "start-up"):  # imports take seconds; what ends the phase is inside
        from bigrestore.api import report_sinks
        from bigrestore.run.output.remote import execute_to

        summary = execute_to(
            asked.input,
            asked.output,
            settings,
            progress=shown,
            guarded=guarded,
            sinks=report_sinks(settings),
        )
    note_output(asked.output)
    if asked.as_json:
        typer.echo(json.dumps(summary.to_json(), indent=1))
    elif not asked.quiet:
        print_rows([*summary.rows(), *opening_rows(asked.input, summary)])
    summary.raise_if_failed()


def _estimate(asked: RunArguments, settings: RunSettings, guarded: dict[str, Path]) -> RunEstimate:
    """Return the dry run."""
    from bigrestore.api import report_sinks
    from bigrestore.run.output.remote import settle_output
    from bigrestore.run.view.dry_run import estimate

    sinks = report_sinks(settings)
    place, destination = settle_output(asked.input, asked.output, settings)
    return estimate(asked.input, place, settings, guarded=guarded, destination=destination, sinks=sinks)


def opening_rows(source: str, summary: RunSummary) -> list[tuple[str, str]]:
    """Return at most three commands that open the output, its input or its report; none for a part of a run.

    Parameters
    ----------
    source : str
        The input as it was given.
    summary : RunSummary
        Of the run.
    """
    import shlex
    import shutil
    import sys
    from importlib.util import find_spec
    from pathlib import Path

    if not (summary.blocks_done or summary.blocks_empty) or summary.part not in ("", "finalize"):
        return []
    output = str(summary.output)
    install = "" if find_spec("neuroglancer") else "pip install 'bigrestore[view]' && "
    commands = [install + shlex.join(["bigrestore", "view", output, "--before", source])]
    if output.lower().endswith(".zarr") or not Path(output).suffix:
        commands.append(f"{shlex.join(['napari', output])}  # needs napari-ome-zarr")
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    if summary.report.folder and shutil.which(opener):
        commands.append(shlex.join([opener, f"{summary.report.folder}/report.html"]))
    return [("open it", command) for command in commands]
