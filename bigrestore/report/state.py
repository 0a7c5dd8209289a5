"""Whether the report beside an output is there, whole, and the output's.

A note of its files is written once the report is complete, and removed with them before the output is touched, so no
page calls a tile failed after its repair. So a finished run, started again, makes a missing report without computing a
pixel anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bigrestore.core.regular import read_text
from bigrestore.report.rows import score_rows
from bigrestore.report.table.condition import Condition, condition_values
from bigrestore.run.output.owned import REPORT, REPORT_FILES, REPORT_NOTE
from bigrestore.run.state.checksums import FileState, file_state, is_unchanged
from bigrestore.run.state.journal import Journal
from bigrestore.run.view.summary import ReportResult
from bigrestore.settings import RunSettings


def note_report(
    journal: Journal, sample: int | None, failures: list[str], judges: Sequence[str] = ()
) -> None:
    """Note the complete report: its files, the tiles and judges asked for, and the failures.

    Raises
    ------
    OutputError
        Where the note cannot be written.
    """
    noted = {path.name: file_state(path) for path in _report_files(journal.root / REPORT)}
    journal.write(
        REPORT_NOTE, {"files": noted, "sample": sample, "failures": failures, "judges": list(judges)}
    )


def former_report(journal: Journal, settings: RunSettings) -> ReportResult | None:
    """Return the report of a finished run, with the condition checked against it.

    Returns
    -------
    ReportResult or None
        None to make one: the old is missing, incomplete or damaged, or of another sample, or without a judge.
    """
    noted, folder = journal.read(REPORT_NOTE), journal.root / REPORT
    if (
        noted is None
        or not _as_noted(folder, noted["files"], thorough=settings.check_all)
        or noted.get("failures")
    ):
        return None
    if not set(settings.judges) <= set(noted.get("judges", ())):
        return None
    if settings.report_sample not in (None, noted.get("sample")):
        return None
    try:
        summary = json.loads(read_text(folder / "summary.json"))
    except (OSError, ValueError):
        return None
    return report_result(folder, summary, [], settings)


def report_result(
    folder: Path, summary: dict[str, Any], failures: list[str], settings: RunSettings
) -> ReportResult:
    """Return the result of a report: the figures for people, the failures, and the check of `--fail-if`."""
    return ReportResult(str(folder), score_rows(summary), failures, failed_check(summary, settings))


def failed_check(summary: dict[str, object], settings: RunSettings) -> str:
    """Return why the condition fails a summary; "" if it passes or there is none."""
    if settings.fail_if is None:
        return ""
    condition = Condition.parse(settings.fail_if)
    missing = dict.fromkeys(condition.names, math.nan)
    return condition.failure(missing | condition_values(summary)) or ""


def _report_files(folder: Path) -> list[Path]:
    """Return the existing files of a report."""
    return [path for path in (folder / name for name in REPORT_FILES) if path.is_file()]


def _as_noted(folder: Path, noted: dict[str, FileState], *, thorough: bool) -> bool:
    """Tell whether a folder holds exactly the noted files of a report, unchanged."""
    paths = _report_files(folder)
    return {path.name for path in paths} == noted.keys() and all(
        is_unchanged(path, noted[path.name], thorough=thorough) for path in paths
    )
