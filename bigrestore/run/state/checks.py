"""The checks of an output: one list, whose faults `verify` reports and a resumed run mends.

The store alone can tell whether it decodes and whether its metadata agree. Whether they are those that a run wrote, and
whether a file was changed, is known from the folder beside it: the plan, a record of each block, and the checksums of all
files. `verify` makes every check and reads every file. A resumed run makes those that say what to do again; it believes a
file of unchanged size and time, unless --check-all asks for more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

from bigrestore.core.files import read_sealed
from bigrestore.core.host.command import RESUME
from bigrestore.core.urls import error_line
from bigrestore.errors import InputError, InputMissingError
from bigrestore.io.verify.faults import Fault
from bigrestore.io.verify.metadata import metadata_faults, read_metadata
from bigrestore.io.verify.store import verify_store
from bigrestore.run.output.owned import PLAN, REPORT, REPORT_NOTE
from bigrestore.run.state.checksums import Change, FileState, change_of
from bigrestore.run.state.fingerprint import other_software
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.lock import writer

RESUME_ALL = f"{RESUME} --check-all"
ANEW = "--overwrite"

MENDED_BY = {Change.SEEN: RESUME, Change.HIDDEN: RESUME_ALL}
"""The flags with which a run sees a change of a file."""


@attrs.frozen
class OutputLook:
    """What the checks look at.

    Attributes
    ----------
    output : Path
        A store, a zip file of one, or a TIFF.
    journal : Journal
        The folder beside it.
    thorough : bool
        Whether files of unchanged size and time are read, too.
    """

    output: Path
    journal: Journal
    thorough: bool

    def changed(self, path: Path, written: FileState, kind: str) -> Iterator[Fault]:
        """Yield a fault of a kind for a file that is not as it was written."""
        change = change_of(path, written, thorough=self.thorough)
        if change is not None:
            now = f"{path.stat().st_size} bytes, another checksum" if path.is_file() else "no file"
            yield Fault(kind, str(path), f"{written[0]} bytes as written", now, MENDED_BY[change])


@attrs.frozen
class Check:
    """One check of an output by the folder beside it.

    Attributes
    ----------
    name : str
        Stable; `verify --json` lists it.
    faults : callable
        Yields the faults.
    redone : bool
        Whether a resumed run does the output again for them; otherwise only what lies beside it.
    """

    name: str
    faults: Callable[[OutputLook], Iterator[Fault]]
    redone: bool = True


@attrs.frozen
class Verified:
    """The result of `verify_output`.

    Attributes
    ----------
    faults : list of Fault
        All of them.
    checks : list of str
        The checks that were made.
    unchecked : str
        What could not be checked, one sentence; empty: nothing.
    """

    faults: list[Fault]
    checks: list[str]
    unchecked: str = ""


def verify_output(output: Path) -> Verified:
    """Make all checks of an output, and decode all of it.

    Raises
    ------
    InputError
        Where there is no output, or nothing that is verified.
    """
    journal = Journal(output)
    image = _faults_of_image(output, begun=journal.begun)
    if not journal.root.is_dir() or not (journal.begun or journal.plan_lost):
        unchecked = (
            f"no plan of a run lies beside it ({journal.root.name}), so that its pixels were decoded and its metadata "
            "compared with one another, but not with what a run wrote"
        )
        return Verified(image, ["image"], unchecked)
    look = OutputLook(output, journal, thorough=True)
    checks = CHECKS if journal.plan is not None else CHECKS[:1]
    faults = [fault for check in checks for fault in check.faults(look)]
    return Verified([*_mended(image, look, faults), *faults], ["image", *(check.name for check in checks)])


def faults_to_redo(journal: Journal, output: Path, *, thorough: bool) -> Iterator[Fault]:
    """Yield the faults for which a resumed run does a finished output again, or parts of it."""
    look = OutputLook(output, journal, thorough)
    return (fault for check in CHECKS if check.redone for fault in check.faults(look))


def remedy(output: Path, faults: Iterable[Fault]) -> str:
    """Return the remedy for the faults of an output, as the end of a sentence."""
    journal, flags = Journal(output), {fault.mended_by for fault in faults}
    if not (journal.begun or journal.plan_lost):
        return "copy or write it again"
    busy, who = writer(journal.root)
    if busy:
        return f"it is being written by {who}, so verify it again when that has ended"
    if flags & {ANEW, ""}:
        away = "" if (journal.root / PLAN).exists() else f"move {journal.root} away, and "
        return f"{away}start the run anew with {ANEW}"
    words = dict.fromkeys(word for flag in sorted(flags) for word in flag.split())
    other = other_software((journal.plan or {}).get("fingerprint", {}))
    under = f", under {' and '.join(other)}" if other else ""
    return f"mend the run by {' '.join(words)}{under}"


def _faults_of_image(output: Path, *, begun: bool) -> list[Fault]:
    """List the faults of the image itself; where a run was begun, an image that is none, or missing, is one."""
    try:
        return verify_store(output)
    except InputError as error:
        if not begun or isinstance(error.__cause__, OSError):
            raise
        kind = "output.missing" if isinstance(error, InputMissingError) else "store.unreadable"
        return [Fault(kind, str(output), "the image of the run", error_line(error))]


def _mended(image: list[Fault], look: OutputLook, faults: list[Fault]) -> Iterator[Fault]:
    """Yield the faults of the image with what mends them.

    A run that does anything again builds the pyramid and writes the metadata again. It restores the blocks whose files
    were changed; one that was written like this is restored only by a run from the start.
    """
    flags = {fault.mended_by for fault in faults}
    again = next((flag for flag in (ANEW, RESUME, RESUME_ALL) if flag in flags), ANEW)
    changed = {"metadata" if fault.id == "metadata.altered" else fault.location for fault in faults}
    records = look.journal.records() if look.output.is_dir() else ()
    blocks = {name for record in records for name in record.files}
    for fault in image:
        as_written = fault.location in blocks and not changed & {
            str(look.output / fault.location),
            "metadata",
        }
        yield attrs.evolve(fault, mended_by=ANEW if as_written else again)


def _plan_faults(look: OutputLook) -> Iterator[Fault]:
    """Yield a plan that is missing or altered."""
    if look.journal.plan is None:
        place = str(look.journal.root / PLAN)
        yield Fault(
            "plan.altered", place, "the plan that the run stored", "none, a torn or an altered one", ANEW
        )


def _record_faults(look: OutputLook) -> Iterator[Fault]:
    """Yield the faults of the records of blocks, and of their files; of one file the store is gone."""
    plan, whole, bad = look.journal.plan or {}, 0, 0
    for path in look.journal.record_files():
        record = look.journal.record(path.stem)
        if record is None:
            yield Fault(
                "record.altered", str(path), "a record with its checksum", "a torn or an altered one", RESUME
            )
            continue
        whole += 1
        if record.status == "failed":
            bad += 1
            yield Fault("block.failed", record.name, "a block that is done", record.reason, RESUME)
        for name, written in {} if look.output.is_file() else record.files.items():
            yield from look.changed(look.output / name, written, "shard.altered")
    total, place = plan.get("blocks"), str(look.journal.root / "journal")
    if isinstance(total, int) and whole < total:
        yield Fault("blocks.missing", place, f"{total} records of blocks", f"{whole} whole ones", RESUME)
    elif not bad and not (look.journal.root / "run.json").exists():
        yield Fault("run.unfinished", place, "a run that was finished", "one that was not", RESUME)


def _file_faults(look: OutputLook) -> Iterator[Fault]:
    """Yield the changed files of a finished output, and what of its metadata was changed."""
    journal, listed = look.journal, look.journal.root / "files.json"
    document = journal.read(listed.name) or {}
    states, written = document.get("files"), document.get("metadata", {})
    if not states:
        if (journal.read("run.json") or {}).get("finished") and not listed.exists():
            yield Fault("files.altered", str(listed), "the list of files", "none", RESUME)
        return
    of_blocks = {name for record in journal.records() for name in record.files}
    for name, state in sorted(states.items()):
        if name in of_blocks:
            continue
        path = look.output if name == "." else look.output / name
        for fault in look.changed(path, state, "file.altered"):
            now = read_metadata(path)
            if now is None:
                yield fault
            elif name in written:
                for part in metadata_faults(name, written[name], now):
                    yield attrs.evolve(part, mended_by=fault.mended_by)


def _summary_faults(look: OutputLook) -> Iterator[Fault]:
    """Yield an altered summary, or list of files."""
    root = look.journal.root
    return _sealed_faults("", root / "run.json", root / "files.json")


def _profile_faults(look: OutputLook) -> Iterator[Fault]:
    """Yield altered profiles."""
    return _sealed_faults("profile", *look.journal.profile_files())


def _report_faults(look: OutputLook) -> Iterator[Fault]:
    """Yield an altered report."""
    root, note = look.journal.root, look.journal.root / REPORT_NOTE
    for fault in _sealed_faults("", note):
        yield attrs.evolve(fault, mended_by=f"{fault.mended_by} --report")
    for name, state in (look.journal.read(note.name) or {}).get("files", {}).items():
        for fault in look.changed(root / REPORT / name, state, "report.altered"):
            yield attrs.evolve(fault, mended_by=f"{fault.mended_by} --report")


def _sealed_faults(kind: str, *paths: Path) -> Iterator[Fault]:
    """Yield those of some documents that are altered."""
    for path in paths:
        if path.exists() and read_sealed(path) is None:
            expected, actual = "a document with its checksum", "a torn or an altered one"
            yield Fault(f"{kind or path.stem}.altered", str(path), expected, actual, RESUME)


CHECKS = (
    Check("plan", _plan_faults, redone=False),
    Check("blocks", _record_faults),
    Check("files", _file_faults),
    Check("summary", _summary_faults),
    Check("profiles", _profile_faults, redone=False),
    Check("report", _report_faults, redone=False),
)
"""All checks by the folder beside an output; `image`, the decoding of all of it, comes before them."""
