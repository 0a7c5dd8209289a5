"""What is wrong beside an output: records that are torn or altered, blocks that are missing, files that changed.

A store says of itself whether it decodes. Whether it holds what was written into it only the journal knows, which noted a
checksum of every file: a flipped bit that still decodes is found here, in formats that have no checksums of their own.
Everything is read; nothing is believed because of its time. What else a run notes beside its output has a checksum too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bigrestore.io.store.faults import Fault
from bigrestore.run.output.owned import PLAN
from bigrestore.run.state.checksums import is_as_noted, is_readable_metadata
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.lock import writer


def journal_faults(output: Path) -> list[Fault]:
    """Return what is wrong with an output by its journal; nothing where no journal lies beside it.

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


def way_out(output: Path, faults: list[Fault]) -> str:
    """Return what mends the faults of an output, in words that end a sentence.

    A run that goes on believes a file of the size and the time that it had, so that damage which left both as they
    were is mended only where it is told to read everything.
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
        fault.location in notes and is_as_noted(Path(fault.location), notes[fault.location])
        for fault in faults
    )
    return f"mend the run by --resume{' --check-all' if unseen else ''}"


def _record_faults(journal: Journal, output: Path, plan: dict[str, object]) -> Iterator[Fault]:
    """Yield what is wrong with the records of blocks, and with the files that they name."""
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
            if not is_as_noted(output / name, noted, thorough=True):
                yield Fault(
                    "shard.altered", str(output / name), f"{noted[0]} bytes as written", _found(output / name)
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
    """Yield the files of a finished output that are not as they were when it was finished."""
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
            and not is_as_noted(path, note, thorough=True)
            and not is_readable_metadata(path)
        ):
            yield Fault("file.altered", str(path), f"{note[0]} bytes as written", _found(path))


def _note_faults(journal: Journal) -> Iterator[Fault]:
    """Yield what else beside the output is not as it was written: profiles, the account of the run, its report."""
    for path in journal.altered:
        kind = "profile" if path.parent != journal.root else path.stem
        yield Fault(f"{kind}.altered", str(path), "a document with its checksum", "a torn or an altered one")
    for name, note in (journal.read("report.json") or {}).get("files", {}).items():
        path = journal.root / "report" / name
        if not is_as_noted(path, note, thorough=True):
            yield Fault("report.altered", str(path), f"{note[0]} bytes as written", _found(path))


def _found(path: Path) -> str:
    return f"{path.stat().st_size} bytes, another checksum" if path.is_file() else "no file"
