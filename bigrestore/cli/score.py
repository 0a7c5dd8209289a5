"""`bigrestore score IMAGE`: scores and a page of them for any image; `bigrestore score fit-niqe`: a NIQE model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer

from bigrestore.cli.from_settings import Fields, GivenFlags, Part, command
from bigrestore.cli.table import note_output, print_rows

if TYPE_CHECKING:
    from bigrestore.settings.score import FitArguments, ScoreArguments

FIT_NAME = "score fit-niqe"
"""The second command, registered under both words."""


def _score_fields() -> Fields[ScoreArguments]:
    from bigrestore.settings.score import ScoreArguments, ScoreSettings

    return Fields(ScoreArguments, Part(ScoreSettings))


@command(_score_fields)
def score_command(asked: ScoreArguments, given: GivenFlags) -> None:
    """Score IMAGE tile by tile, alone, against what it was made of, or against a clean reference.

    The scores (BRISQUE, NIQE, PIQE: lower is better) were trained on photographs: use them for the same field before
    and after. A NIQE model of your own good histology is made by `bigrestore score fit-niqe`.

    Exit codes: 0 done, 2 usage or images that cannot be compared, 3 input, 4 output refused, 6 --fail-if is true.
    """
    from bigrestore.cli.log import asked_format, configure_logging
    from bigrestore.settings.score import ScoreSettings

    settings = ScoreSettings.resolve({"log_format": asked_format()} | given, None)
    configure_logging(verbose=asked.verbose, quiet=asked.quiet, log_format=settings.log_format)
    from bigrestore.run.view.progress import make_progress, phase_shown

    kind = "none" if asked.quiet else settings.progress
    shown = make_progress(kind, settings.log_format)
    with phase_shown(shown, "start-up"):  # imports take seconds
        from bigrestore.report.of_images import execute_score

        summary = execute_score(
            asked.image,
            asked.output,
            settings,
            before=asked.before,
            reference=asked.reference,
            progress=shown,
        )
    if asked.output is not None:
        note_output(asked.output)
    if asked.as_json:
        typer.echo(json.dumps(summary.summary, indent=1))
    elif not asked.quiet:
        print_rows(summary.rows())
    summary.raise_if_failed()


def _fit_fields() -> Fields[FitArguments]:
    from bigrestore.settings.score import FitArguments

    return Fields(FitArguments)


@command(_fit_fields)
def fit_niqe_command(asked: FitArguments, _: GivenFlags) -> None:
    """Fit a NIQE model to sections that are GOOD, for `--niqe-model`.

    By the recipe of NIQE's authors: blocks of 96 pixels whose mean local contrast exceeds three quarters of the
    section's largest.
    """
    from bigrestore.cli.log import configure_logging

    configure_logging(verbose=asked.verbose, quiet=asked.quiet)
    from bigrestore.report.fit import fit_niqe_model

    model = fit_niqe_model(asked.good, asked.output, input_range=asked.input_range, overwrite=asked.overwrite)
    note_output(asked.output)
    if not asked.quiet:
        facts = [(name.replace("_", " "), str(value)) for name, value in model.facts.items()]
        print_rows([("model", str(asked.output)), ("sha256", model.sha256), *facts])
