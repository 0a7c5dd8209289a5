"""Checking an output by its journal: torn or altered records, missing blocks, changed files.

A store alone can only tell whether it decodes. The journal has a checksum of every file: a flipped bit is seen here, also
in formats without checksums of their own. Every file is read; its time proves nothing. The other documents beside the
output have checksums too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bigrestore.io.store.faults import Fault
from bigrestore.run.output.owned import PLAN
from bigrestore.run.state.checksums import is_readable_metadata, is_unchanged
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.lock import writer


def journal_faults(output: Path) -> list[Fault]:
    """List the faults of an output by its journal; none without a journal.

    Parameters
    ----------
    output : Path
        A store or a TIFF.
    """
    journal = Journal(output)
    if not journal.root.is_dir():
        return []
    plan = journal.plan
    if plan is None:
        place = str(journal.root / PLAN)
        return [
            Fault("plan.altered", place, "the plan that the run stored", "none, a torn or an altered one")
        ]
    return [
        *_record_faults(journal, output, plan),
        *_file_faults(journal, output),
        *_note_faults(journal),
    ]


def remedy(output: Path, faults: list[Fault]) -> str:
    """Return the remedy for the faults of an output, as the end of a sentence.

    A resumed run believes a file of unchanged size and time, so that only --check-all fixes such damage.
    """
    journal = Journal(output)
    if not journal.root.is_dir():
        return "copy or write it again"
    busy, who = writer(journal.root)
    if busy:
        return f"it is being written by {who}, so verify it again when that has ended"
    if not journal.begun:
        return "start the run anew with --overwrite"
    notes = {str(output / name): note for record in journal.records() for name, note in record.files.items()}
    listed = (journal.read("files.json") or {}).get("files", {})
    notes |= {str(output if name == "." else output / name): note for name, note in listed.items()}
    unseen = any(
        fault.location in notes and is_unchanged(Path(fault.location), notes[fault.location])
        for fault in faults
    )
    return f"mend the run by --resume{' --check-all' if unseen else ''}"


def _record_faults(journal: Journal, output: Path, plan: dict[str, object]) -> Iterator[Fault]:
    """Yield the faults of the records of blocks and of their files."""
    whole = 0
    tiff = output.is_file()  # the store that it was streamed from is gone
    for path in journal.record_files():
        record = journal.record(path.stem)
        if record is None:
            yield Fault("record.altered", str(path), "a record with its checksum", "a torn or an altered one")
            continue
        whole += 1
        if record.status == "failed":
            yield Fault("block.failed", record.name, "a block that is done", record.reason)
        for name, noted in {} if tiff else record.files.items():
            if not is_unchanged(output / name, noted, thorough=True):
                yield Fault(
                    "shard.altered", str(output / name), f"{noted[0]} bytes as written", _as_is(output / name)
                )
    total = plan.get("blocks")
    if isinstance(total, int) and whole < total:
        yield Fault(
            "blocks.missing",
            str(journal.root / "journal"),
            f"{total} records of blocks",
            f"{whole} whole ones",
        )


def _file_faults(journal: Journal, output: Path) -> Iterator[Fault]:
    """Yield the changed files of a finished output."""
    run, listed = journal.read("run.json") or {}, journal.root / "files.json"
    noted = (journal.read(listed.name) or {}).get("files")
    if noted is None:
        if run.get("finished") and not listed.exists():
            yield Fault("files.altered", str(listed), "the list of files", "none")
        return
    known = {name for record in journal.records() for name in record.files}
    for name, note in sorted(noted.items()):
        path = output if name == "." else output / name
        if (
            name not in known
            and not is_unchanged(path, note, thorough=True)
            and not is_readable_metadata(path)
        ):
            yield Fault("file.altered", str(path), f"{note[0]} bytes as written", _as_is(path))


def _note_faults(journal: Journal) -> Iterator[Fault]:
    """Yield altered profiles, summaries and reports."""
    for path in journal.altered:
        kind = "profile" if path.parent != journal.root else path.stem
        yield Fault(f"{kind}.altered", str(path), "a document with its checksum", "a torn or an altered one")
    for name, note in (journal.read("report.json") or {}).get("files", {}).items():
        path = journal.root / "report" / name
        if not is_unchanged(path, note, thorough=True):
            yield Fault("report.altered", str(path), f"{note[0]} bytes as written", _as_is(path))


def _as_is(path: Path) -> str:
    return f"{path.stat().st_size} bytes, another checksum" if path.is_file() else "no file"
