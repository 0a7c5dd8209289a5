"""The report of a scoring: a table for machines, a summary for both, a page for people.

The three are written in this order, each whole or not at all: a page never exists without its numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bigrestore.core.host.names import printable
from bigrestore.report.page.build import build_page
from bigrestore.report.table.content import Report
from bigrestore.report.table.statistics import summarise
from bigrestore.report.table.tables import plain, write_atomically, write_summary, write_tiles


def write_report(report: Report, folder: Path, *, csv: bool = False) -> dict[str, Any]:
    """Write `tiles.parquet`, `summary.json` and `report.html` into a folder, created if missing.

    Parameters
    ----------
    report : Report
        What is shown.
    folder : Path
        Of the report; files of an earlier one are replaced.
    csv : bool
        Whether `tiles.csv` is written too.

    Returns
    -------
    dict
        The summary as in `summary.json`: that of `summarise`, and the provenance under `facts`.

    Raises
    ------
    OutputError
        Where the folder cannot be written.
    """
    summary = plain(summarise(report.tiles, lower_better=report.facts.get("lower_better")))
    document: dict[str, Any] = {**summary, "facts": plain(report.facts)}
    write_tiles(folder, report.tiles, report.facts, csv=csv)
    write_summary(folder / "summary.json", document)
    page = build_page(report, summary, document["facts"])
    write_atomically(folder / "report.html", printable(page).encode())
    return document
