"""`bigrestore run`: restore a section or volume."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import typer

from bigrestore.cli.from_settings import Fields, GivenFlags, Part, command
from bigrestore.cli.table import note_output, print_rows

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from bigrestore.run.view.dry_run import RunEstimate
    from bigrestore.run.view.summary import RunSummary
    from bigrestore.settings.run import RunArguments, RunSettings


def _run_fields() -> Fields[RunArguments]:
    from bigrestore.settings.run import RunArguments, RunSettings

    return Fields(RunArguments, Part(RunSettings))


@command(_run_fields)
def run(asked: RunArguments, given: GivenFlags) -> None:
    """Restore INPUT into OUTPUT, block by block, and build its pyramid; several by --output-folder.

    Exit codes: 0 done, 2 usage, 3 input, 4 output refused, 5 finished with failed blocks, 6 --fail-if is true,
    75 stopped by a signal (go on with --resume), 130 Ctrl-C.
    """
    from bigrestore.cli.log import asked_format, configure_logging
    from bigrestore.settings.run import RunSettings

    before = {"log_format": asked_format()} | ({"progress": "none"} if asked.quiet else {})
    settings = RunSettings.resolve(before | given, asked.config)
    configure_logging(verbose=asked.verbose, quiet=asked.quiet, log_format=settings.log_format)
    if asked.sbatch and (settings.cluster or settings.scheduler):
        from bigrestore.errors import UsageError

        raise UsageError(
            "--sbatch prints one job, and --cluster and --scheduler start their own; leave one of them out."
        )
    from bigrestore.run.view.progress import make_progress, phase_shown

    guarded = {} if asked.config is None else {"configuration": asked.config}
    shown, told = make_progress(settings.progress, settings.log_format), _Told(asked)
    try:
        for source, output, noted in _inputs_with_outputs(asked, settings):
            with noted:
                if asked.dry_run:
                    with phase_shown(shown, "dry run"):
                        estimated = _estimate(source, output, settings, guarded)
                    told.estimated(estimated)
                    continue
                with phase_shown(shown, "start-up"):  # imports take seconds; what ends the phase is inside
                    from bigrestore.api import report_sinks
                    from bigrestore.run.output.remote import execute_to

                    sinks = report_sinks(settings)
                    summary = execute_to(
                        source, output, settings, progress=shown, guarded=guarded, sinks=sinks
                    )
                told.restored(source, output, summary)
    finally:  # those that were restored are told, whatever became of the others
        told.print_json()
    told.print_job()
    told.raise_if_failed()


def _inputs_with_outputs(
    asked: RunArguments, settings: RunSettings
) -> Iterable[tuple[str, str, AbstractContextManager[None]]]:
    """Return inputs, outputs, and contexts: those of several inputs keep an error until the end."""
    if asked.output_folder is None:
        return [(asked.input, asked.output, nullcontext())]
    from bigrestore.cli.runs.many import each_input, outputs_in

    ending = ".ome.tif" if settings.format == "ome-tiff" else ".ome.zarr"
    return each_input(outputs_in(asked.paths, asked.output_folder, ending))


class _Told:
    """What a run or dry run of one input or several prints on standard output."""

    def __init__(self, asked: RunArguments) -> None:
        self._asked, self._single = asked, asked.output_folder is None
        self._documents: list[dict[str, Any]] = []
        self._estimates: list[RunEstimate] = []
        self._summary: RunSummary | None = None

    def estimated(self, estimated: RunEstimate) -> None:
        """Take the estimate of one input, and print it."""
        self._estimates.append(estimated)
        self._documents.append(estimated.to_json())
        if not self._asked.as_json and not self._asked.sbatch:
            print_rows(estimated.rows())

    def restored(self, source: str, output: str, summary: RunSummary) -> None:
        """Take the summary of one input, and print it; of several raise for failed blocks."""
        note_output(output)
        self._documents.append(summary.to_json())
        if not self._asked.as_json and not self._asked.quiet:
            print_rows([*summary.rows(), *(opening_rows(source, summary) if self._single else [])])
        if self._single:
            self._summary = summary
        else:
            summary.raise_if_failed()

    def print_json(self) -> None:
        """Print the documents by --json; a list for several inputs."""
        if self._asked.as_json and (self._documents or not self._single):
            typer.echo(json.dumps(self._documents[0] if self._single else self._documents, indent=1))

    def print_job(self) -> None:
        """Print a job of Slurm by --sbatch."""
        if self._asked.sbatch:
            from bigrestore.cli.runs.job import sbatch_script
            from bigrestore.core.host.command import typed_command

            typer.echo(sbatch_script(self._estimates, typed_command()), nl=False)

    def raise_if_failed(self) -> None:
        """Raise for failed blocks of a run of one input, after its summary."""
        if self._summary is not None:
            self._summary.raise_if_failed()


def _estimate(source: str, output: str, settings: RunSettings, guarded: dict[str, Path]) -> RunEstimate:
    """Return the dry run."""
    from bigrestore.api import report_sinks
    from bigrestore.run.output.remote import settle_output
    from bigrestore.run.view.dry_run import estimate

    sinks = report_sinks(settings)
    place, destination = settle_output(source, output, settings)
    return estimate(source, place, settings, guarded=guarded, destination=destination, sinks=sinks)


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

    from bigrestore.core.host.installed import install_command

    if not (summary.blocks_done or summary.blocks_empty) or summary.part not in ("", "finalize"):
        return []
    output = str(summary.output)
    install = "" if find_spec("neuroglancer") else f"{install_command('view')} && "
    commands = [install + shlex.join(["bigrestore", "view", output, "--before", source])]
    if output.lower().endswith(".zarr") or not Path(output).suffix:
        commands.append(f"{shlex.join(['napari', output])}  # needs napari-ome-zarr")
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    if summary.report.folder and shutil.which(opener):
        commands.append(shlex.join([opener, f"{summary.report.folder}/report.html"]))
    return [("open it", command) for command in commands]
