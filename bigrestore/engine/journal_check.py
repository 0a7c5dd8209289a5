"""What is wrong beside an output: records that are torn or altered, blocks that are missing, files that changed.

A store says of itself whether it decodes. Whether it holds what was written into it only the journal knows, which noted a
checksum of every file: a flipped bit that still decodes is found here, in formats that have no checksums of their own.
Everything is read; nothing is believed because of its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bigrestore.engine.fingerprint import digest
from bigrestore.engine.journal import Journal, sidecar
from bigrestore.engine.noted import is_as_noted, is_readable_metadata
from bigrestore.files import read_sealed
from bigrestore.io.faults import Fault


def journal_faults(output: Path) -> list[Fault]:
    """Return what is wrong with an output by its journal; nothing where no journal lies beside it.

    Parameters
    ----------
    output : Path
        A store or a TIFF.
    """
    journal = Journal(output)
    if not sidecar(output).is_dir():
        return []
    plan = journal.read("plan.json")
    if plan is None or digest(plan.get("fingerprint", {})) != plan.get("digest"):
        place = str(journal.root / "plan.json")
        return [
            Fault("plan.altered", place, "the plan that the run stored", "none, a torn or an altered one")
        ]
    return [*_record_faults(journal, output, plan), *_file_faults(journal, output)]


def _record_faults(journal: Journal, output: Path, plan: dict[str, object]) -> Iterator[Fault]:
    """Yield what is wrong with the records of blocks, and with the files that they name."""
    whole = 0
    tiff = output.is_file()  # the store that it was streamed from is gone
    for path in sorted((journal.root / "journal").glob("*.json")):
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
    run = journal.read("run.json")
    if run is None or not run.get("finished"):
        return
    noted = (read_sealed(journal.root / "files.json") or {}).get("files")
    if noted is None:
        yield Fault(
            "files.altered", str(journal.root / "files.json"), "the list of files", "none, or an altered one"
        )
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


def _found(path: Path) -> str:
    return f"{path.stat().st_size} bytes, another checksum" if path.is_file() else "no file"
