"""The folder of a report: its files, and whether existing ones may be replaced.

People name `-o results` and have a `summary.json` of their own in it. So only a file with our mark in it is replaced,
and all is decided before any score. Nothing else in the folder is touched.
"""

from __future__ import annotations

import json
from pathlib import Path

from bigrestore.core.files import remove_dead
from bigrestore.core.regular import open_regular, read_text
from bigrestore.errors import OutputError, OutputExistsError
from bigrestore.run.output.owned import REPORT_FILES
from bigrestore.run.output.place import require_writable

GENERATOR = '<meta name="generator" content="bigrestore">'
"""By it a page is known for one of ours; it stands in the template's head."""

REPORT_HEAD_BYTES = 4096


def settle_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse an unwritable folder, or one holding a report not to be replaced.

    Parameters
    ----------
    folder : Path
        Where the report is to lie; it need not be there.
    overwrite : bool
        Whether a report that is there may be replaced.

    Raises
    ------
    OutputExistsError
        Where it holds a report, or what has a report's names, and replacing was not asked for.
    OutputError
        Where it cannot be written, or replacing was asked for and a file in it was not written here.
    """
    require_writable(folder / REPORT_FILES[0])
    held = [folder / name for name in REPORT_FILES if (folder / name).exists()]
    foreign = [path for path in held if not _is_ours(path)]
    if foreign:
        kind = OutputError if overwrite else OutputExistsError
        kept = " and is not replaced" if overwrite else ""
        raise kind(f"{foreign[0]} is no file of a report of bigrestore{kept}; name another folder by -o.")
    if held and not overwrite:
        names = ", ".join(path.name for path in held)
        raise OutputExistsError(
            f"The folder {folder} holds a report already ({names}); replace it by --overwrite, or name another by -o."
        )
    for name in REPORT_FILES:
        remove_dead(folder / name)


def _is_ours(path: Path) -> bool:
    """Tell whether a file of a report's name bears our mark."""
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            from bigrestore.report.table.tables import METADATA_KEY

            return METADATA_KEY in (pyarrow.parquet.read_schema(path).metadata or {})
        if path.suffix == ".json":
            document = json.loads(read_text(path))
            return "bigrestore" in document["facts"]["versions"]
        with open_regular(path) as file:
            head = file.read(REPORT_HEAD_BYTES).decode(errors="replace")
    except (OSError, ValueError, KeyError, TypeError):  # Arrow's errors are ValueErrors
        return False
    if path.suffix == ".html":
        return GENERATOR in head
    from bigrestore.report.table.tiles import PLACE

    return head.startswith(",".join(f'"{name}"' for name in PLACE))
