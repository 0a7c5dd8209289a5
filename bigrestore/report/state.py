"""Whether the report beside an output is there, whole, and the output's.

A note of its files is written when the report is complete, and taken away before anything of the output is touched;
the files go with it, so that no page says of tiles that they failed which were restored since. So a finished run
that is started again knows what there is, and makes a report that is missing without computing a pixel anew.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from bigrestore.errors import output_error
from bigrestore.model.method import Method
from bigrestore.report.columns_of_tiles import blob_rows, reading_rows, score_rows
from bigrestore.report.place import remove_files
from bigrestore.report.start import score_plan
from bigrestore.report.table.condition import Condition, condition_values
from bigrestore.run.output.owned import REPORT_FILES
from bigrestore.run.plan import Plan
from bigrestore.run.state.checksums import FileState, file_state, is_unchanged
from bigrestore.run.state.journal import Journal
from bigrestore.run.view.summary import ReportResult
from bigrestore.settings import RunSettings

REPORT = "report"
"""Folder of the report, beside the journal."""

NOTE = "report.json"
"""What is noted of it, in the journal's folder."""

SHOWN = ("niqe", "brisque", "piqe", "sharpness", "noise", "residual", "invented")
"""Figures of the summary that the command line prints."""


def note_report(journal: Journal, sample: int | None, failures: list[str]) -> None:
    """Note that the report is complete: its files, the tiles that were asked for, and what could not be scored.

    Raises
    ------
    OutputError
        Where the note cannot be written.
    """
    noted = {path.name: file_state(path) for path in _files(journal.root / REPORT)}
    journal.write(NOTE, {"files": noted, "sample": sample, "failures": failures})


def forget_report(journal: Journal) -> None:
    """Take away the note and the files of a report that is to be made anew, or that is no longer the output's.

    Raises
    ------
    OutputError
        Where they may not be removed.
    """
    try:
        (journal.root / NOTE).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(journal.root, error) from error
    remove_files(journal.root / REPORT)


def former_report(journal: Journal, plan: Plan, method: Method, settings: RunSettings) -> ReportResult | None:
    """Return the report that a finished run left, with the condition checked against it.

    Returns
    -------
    ReportResult or None
        An empty one where no report is wanted; None where one is to be made: there is none, a file of it is
        missing or damaged, tiles could not be scored, or another sample is asked for.
    """
    if score_plan(plan, method, settings) is None:
        return ReportResult()
    noted, folder = journal.read(NOTE), journal.root / REPORT
    if noted is None or not _as_noted(folder, noted["files"]) or noted.get("failures"):
        return None
    if settings.report_sample not in (None, noted.get("sample")):
        return None
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report_result(folder, summary, [], settings)


def report_result(
    folder: Path, summary: dict[str, Any], failures: list[str], settings: RunSettings
) -> ReportResult:
    """Return what a run says of its report: the figures for people, what failed, and what `--fail-if` came to."""
    facts = summary["facts"]
    rows = reading_rows(facts) + score_rows(summary, SHOWN) + blob_rows(facts)
    return ReportResult(str(folder), rows, failures, failed_check(summary, settings))


def failed_check(summary: dict[str, object], settings: RunSettings) -> str:
    """Return why the condition that was asked for fails a summary; "" where it passes or there is none."""
    if settings.fail_if is None:
        return ""
    condition = Condition.parse(settings.fail_if)
    missing = dict.fromkeys(condition.names, math.nan)
    return condition.failure(missing | condition_values(summary)) or ""


def _files(folder: Path) -> list[Path]:
    """Return the files of a report that are there."""
    return [path for path in (folder / name for name in REPORT_FILES) if path.is_file()]


def _as_noted(folder: Path, noted: dict[str, FileState]) -> bool:
    """Tell whether a folder holds exactly the files of a report that were noted, as they were."""
    paths = _files(folder)
    return {path.name for path in paths} == noted.keys() and all(
        is_unchanged(path, noted[path.name]) for path in paths
    )
