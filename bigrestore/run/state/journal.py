"""The journal: which blocks are done, and how; a run resumes from it, and its report is made from it.

A block owns whole shard files. Begin: lock it, remove its record, unlink its shards, since a file rewritten in place
can be torn. Complete: write the record beside, rename it into place, unlock. So a record stands for whole
files, whenever a process died. A block without a record is done again.

Every process of a run claims its blocks here (`claims`), one lock file for each block in progress.

The journal lies beside the output in `OUTPUT.bigrestore`, one small file for each block. Each file has a checksum of
itself, as the stored plan has. Every file of the output is listed with its checksum.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.files import PARTIAL, read_sealed, remove_strays, write_sealed
from bigrestore.errors import OutputError, output_error
from bigrestore.io.verify.metadata import read_metadata
from bigrestore.run.output.owned import (
    BLOCK,
    PLAN,
    SIDECAR_FOLDERS,
    TEMPORARY_STORE,
    Outline,
    beside_names,
    remove_named,
    strangers,
)
from bigrestore.run.state.checksums import (
    FileState,
    file_state,
    files_of,
    is_unchanged,
    size_and_time,
)
from bigrestore.run.state.lock import LOCK_FILES, LOCK_NAME
from bigrestore.run.state.lock_file import HeldLock, acquire, read_lock
from bigrestore.run.state.records import BlockRecord, read_record

log = logging.getLogger(__name__)


class Journal:
    """The sidecar folder of one output.

    Parameters
    ----------
    output : Path
        The output that the folder lies beside; the folder is `OUTPUT.bigrestore`.
    """

    def __init__(self, output: Path) -> None:
        self.root = sidecar(output)
        self._output = output
        self._records = self.root / "journal"
        self._held: dict[str, HeldLock] = {}

    def create(self) -> None:
        """Make the folders.

        Raises
        ------
        OutputError
            Where the place cannot be written, or one of them is a link.
        """
        self.refuse_links()
        try:
            self._records.mkdir(parents=True, exist_ok=True)
            (self.root / "profiles").mkdir(exist_ok=True)
        except OSError as error:
            raise output_error(self.root, error) from error

    def refuse_links(self) -> None:
        """Refuse to write into a folder behind a link.

        Raises
        ------
        OutputError
            Naming it.
        """
        for name in (*SIDECAR_FOLDERS, TEMPORARY_STORE):
            if (self.root / name).is_symlink():
                raise OutputError(
                    f"{self.root / name} is a link, behind which nothing is written; move it away and start again."
                )

    @property
    def plan(self) -> dict[str, Any] | None:
        """The stored plan of the run; None if there is none, or it is damaged."""
        plan = self.read(PLAN)
        whole = plan is not None and all(isinstance(plan.get(name), dict) for name in ("plan", "fingerprint"))
        return plan if whole else None

    @property
    def begun(self) -> bool:
        """Whether a run of this program has stored its plan here."""
        return self.plan is not None

    @property
    def plan_damaged(self) -> bool:
        """Whether the stored plan of the run is torn or altered."""
        return (self.root / PLAN).exists() and self._records.is_dir() and not self.begun

    @property
    def plan_lost(self) -> bool:
        """Whether a run was here of which no plan can be read."""
        return not self.begun and ((self.root / PLAN).exists() or self._records.is_dir())

    @property
    def outline(self) -> Outline:
        """The outline of the store's files, by the plan or else by the store's own metadata."""
        planned = Outline.from_json((self.plan or {}).get("writes"))
        passing = self.root / TEMPORARY_STORE
        return planned or Outline.of_store(passing if passing.is_dir() else self._output)

    @property
    def foreign(self) -> bool:
        """Whether something else than a journal or an empty folder is in its place."""
        if not self.root.is_symlink() and not self.root.exists():
            return False
        if self.root.is_symlink() or not self.root.is_dir():
            return True
        if self.begun or self.plan_damaged:
            return False
        return any(
            path.is_symlink() or not (path.is_dir() or re.fullmatch(f".*{PARTIAL}", path.name))
            for path in self.root.rglob("*")
            if path.parent != self.root
            or not re.fullmatch(LOCK_FILES, path.name)  # checked when it is opened
        )

    @property
    def added(self) -> Path | None:
        """A file in the folder of somebody else; None if there is none."""
        return next(strangers(self.root, *beside_names(self.outline)), None) if self.root.is_dir() else None

    def clear(self) -> None:
        """Remove all files of a run from the folder but the lock, which keeps others out.

        Raises
        ------
        OutputError
            Where it may not be removed, is no journal, or holds something else.
        """
        strange = self.root if self.foreign else self.added
        if strange is not None:
            raise OutputError(
                f"{strange} is no journal's and is not removed; move it away, or choose another output."
            )
        if not self.root.exists():
            return
        is_file, is_folder = beside_names(self.outline)
        try:
            # The plan goes last: by it the folder is known for a journal, should this process die on the way.
            remove_named(self.root, lambda name: name not in (PLAN, LOCK_NAME) and is_file(name), is_folder)
            (self.root / PLAN).unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.root, error) from error

    def reopen(self) -> None:
        """Mark the run as unfinished, before its output is touched.

        Raises
        ------
        OutputError
            Where the place cannot be written.
        """
        try:
            for name in ("run.json", "files.json"):
                (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.root, error) from error

    def forget_blocks(self) -> None:
        """Drop the records of all blocks.

        Raises
        ------
        OutputError
            Where they may not be removed.
        """
        self.forget(path.stem for path in self.record_files())

    def forget(self, names: Iterable[str]) -> None:
        """Drop the records of some blocks.

        Raises
        ------
        OutputError
            Where they may not be removed.
        """
        try:
            for name in names:
                self._path(name).unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self._records, error) from error

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a document of the folder, None if there is none, or it is torn or altered."""
        return read_sealed(self.root / name)

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Write a document of the folder, whole or not at all; may raise OutputError."""
        write_sealed(self.root / name, document)

    @property
    def held(self) -> list[HeldLock]:
        """The locks of the blocks in progress in this process."""
        return list(self._held.values())

    def lock(self, name: str, *, takeover: bool = True) -> HeldLock | None:
        """Lock a block; None: another process has it.

        Parameters
        ----------
        name : str
            The block.
        takeover : bool
            Whether to take over the lock of a process that died.

        Raises
        ------
        OutputError
            Where the place cannot be written.
        """
        try:
            lock = acquire(self._marker(name), takeover=takeover)
        except OSError as error:
            raise output_error(self.root, error) from error
        if lock is not None:
            self._held[name] = lock
        return lock

    def begin(self, name: str, files: list[Path]) -> None:
        """Drop the record and the files of a locked block.

        Raises
        ------
        OutputError
            Where the place cannot be written.
        """
        try:
            self._path(name).unlink(missing_ok=True)
            for file in files:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.root, error) from error

    def complete(self, record: BlockRecord) -> None:
        """Write the record of a block and unlock it.

        Raises
        ------
        OutputError
            Where the place cannot be written; the block stays locked and is done again by --resume.
        """
        write_sealed(self._path(record.name), attrs.asdict(record))
        self.unlock(record.name)

    def unlock(self, name: str) -> None:
        """Remove the lock of a block; OutputError if it cannot be removed."""
        lock = self._held.pop(name, None)
        try:
            if lock is not None:
                lock.release()
            else:  # a second try
                self._marker(name).unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.root, error) from error

    def abandon(self, name: str, files: list[Path]) -> None:
        """Remove the files and the lock of a block in progress, of this process or a dead one.

        After an error it stays locked, and is done again by --resume.
        """
        try:
            if name in self._held or (self._marker(name).exists() and self.lock(name) is not None):
                for file in files:
                    file.unlink(missing_ok=True)
                self.unlock(name)
        except OSError as error:
            log.warning(
                "Block %s cannot be cleared away (%s); it is done again anyhow.",
                name,
                error.strerror or error,
            )

    def in_progress(self) -> list[str]:
        """List the blocks in progress in living processes."""
        locks = ((marker.stem, read_lock(marker)) for marker in self.markers())
        return [name for name, lock in locks if lock is not None and lock.is_held()]

    def drop_dead(self) -> None:
        """Drop the records and locks of blocks of dead processes; may raise OutputError."""
        for marker in self.markers():
            if self.lock(marker.stem) is not None:
                self.forget([marker.stem])
                self.unlock(marker.stem)

    def list_files(self, output: Path) -> None:
        """Store the state of every file of a finished output, a store or a TIFF, and what its metadata say."""
        known = {name: state for record in self.records() for name, state in record.files.items()}
        states: dict[str, FileState] = {}
        outline = self.outline
        for name, path in files_of(output):
            if name != "." and not outline.is_file(name):
                continue  # somebody else's
            before = known.get(name)
            same = before is not None and before[:2] == size_and_time(path)
            states[name] = before if same and before is not None else file_state(path)
        documents = {name: read_metadata(output / name) for name in states if name != "."}
        metadata = {name: document for name, document in documents.items() if document is not None}
        self.write("files.json", {"files": states, "metadata": metadata})

    def record(self, name: str) -> BlockRecord | None:
        """Return a block's record; None if there is none, it is torn, or the block is locked."""
        if self._marker(name).exists():
            return None
        return self.last_record(name)

    def last_record(self, name: str) -> BlockRecord | None:
        """Return a block's record, locked or not; None if there is none, or it is torn."""
        return read_record(self._path(name))

    def record_time(self, name: str) -> int:
        """Return the time of a block's record in nanoseconds; 0 if there is none."""
        try:
            return self._path(name).stat().st_mtime_ns
        except OSError:
            return 0

    def intact(self, name: str, store: Path, *, thorough: bool = False) -> BlockRecord | None:
        """Return the record of a finished block with unchanged files, else None.

        `thorough` reads all files; otherwise a file of the same size and time counts as unchanged.
        """
        record = self.record(name)
        if record is None or record.status == "failed":
            return None
        for file, state in record.files.items():
            path = store / file
            if not is_unchanged(path, state, thorough=thorough):
                log.warning("Block %s is done again: %s is missing or holds something else.", name, path)
                return None
        return record

    def records(self) -> Iterator[BlockRecord]:
        """Yield all records, by name."""
        for path in self.record_files():
            record = read_record(path)
            if record is not None:
                yield record

    def record_files(self) -> list[Path]:
        """Return the files of all records, by name."""
        return sorted(self._files(".json"))

    def sweep(self, store: Path) -> None:
        """Remove the partial files of interrupted writes, of the folder, the store and a TIFF.

        The run must hold the output alone: files of others may be in use.

        Raises
        ------
        OutputError
            Where they may not be removed.
        """
        outline = self.outline
        try:
            for folder, known in ((self.root, beside_names(outline)[0]), (store, outline.is_file)):
                for stray in folder.rglob("*.partial"):
                    if known(stray.relative_to(folder).as_posix()):
                        stray.unlink(missing_ok=True)
            remove_strays(self._output)
        except OSError as error:
            raise output_error(self.root, error) from error
        self.drop_altered_profiles()

    def drop_altered_profiles(self) -> None:
        """Remove altered profiles; they are made again."""
        for path in self.profile_files():
            if read_sealed(path) is None:
                path.unlink(missing_ok=True)

    def profile_files(self) -> list[Path]:
        """Return the files of all profiles, by section."""
        folder = self.root / "profiles"
        return sorted(path for path in folder.glob("*.json") if re.fullmatch(r"z\d{5,}\.json", path.name))

    def markers(self) -> list[Path]:
        """Return the lock files of blocks in progress, in living or dead processes."""
        return sorted(self._files(".inflight"))

    def _files(self, suffix: str) -> Iterator[Path]:
        """Yield the files of blocks of one kind; others may have put their own beside them."""
        return (
            path
            for path in self._records.glob(f"*{suffix}")
            if re.fullmatch(BLOCK, path.name[: -len(suffix)])
        )

    def _path(self, name: str) -> Path:
        return self._records / f"{name}.json"

    def _marker(self, name: str) -> Path:
        return self._records / f"{name}.inflight"


def sidecar(output: Path) -> Path:
    """Return the folder beside an output with its journal, profiles, plan and timings."""
    return output.with_name(output.name + ".bigrestore")
