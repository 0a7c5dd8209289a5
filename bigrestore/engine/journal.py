"""The journal: which blocks are done, and what was done in them; the resume state and the report's source.

A unit of work owns whole shard files. Begin: remove its record, mark it in flight, unlink its shards (what is
rewritten in place can be torn). Complete: write the record beside, rename it into place, remove the
marker. So a record always stands for files that were written whole after it was last begun, whenever the
process died, and a block without a record is simply done again.

The journal lies beside the output in `OUTPUT.bigrestore`, one small file per block. When the run is finished, the
sizes of all files of the output are noted, so that a finished output that was damaged later is known for one.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs

from bigrestore.engine.lock import LOCK_NAME
from bigrestore.errors import OutputError, output_error
from bigrestore.files import remove_tree, write_json

log = logging.getLogger(__name__)

STORE_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
"""The metadata files of a Zarr store."""

SIDECAR_NAMES = {
    *("plan.json", "run.json", "files.json", "report.json", LOCK_NAME),
    *("journal", "profiles", "scores", "report", "store.ome.zarr"),
}
"""What a run writes beside its output."""

REPORT_FILES = ("report.html", "summary.json", "tiles.parquet", "tiles.csv")
"""The files of a report, a run's in the folder `report`, or one that was asked for elsewhere."""

Status = Literal["done", "empty", "failed"]


@attrs.frozen
class BlockRecord:
    """What became of a block.

    Attributes
    ----------
    name : str
        The block's name.
    status : str
        `done`; `empty`: wholly background, interpolated without the method; `failed`.
    files : dict
        Files that the block owns and their sizes in bytes, by path relative to the store.
    stats : dict
        JSON-able figures: mean before and after, residual, seconds, tiles, tiles cut after running out of memory.
    reason : str
        Why it failed, one sentence; empty otherwise.
    input_fault : bool
        Whether it failed because the input cannot be read there.
    """

    name: str
    status: Status
    files: dict[str, int] = attrs.field(factory=dict)
    stats: dict[str, Any] = attrs.field(factory=dict)
    reason: str = ""
    input_fault: bool = False


class Journal:
    """The sidecar folder of one output.

    Parameters
    ----------
    output : Path
        The output that the folder lies beside; the folder is `OUTPUT.bigrestore`.
    """

    def __init__(self, output: Path) -> None:
        self.root = sidecar(output)
        self._records = self.root / "journal"

    def create(self) -> None:
        """Make the folders.

        Raises
        ------
        OutputError
            Where the place cannot be written.
        """
        try:
            self._records.mkdir(parents=True, exist_ok=True)
            (self.root / "profiles").mkdir(exist_ok=True)
        except OSError as error:
            raise output_error(self.root, error) from error

    @property
    def begun(self) -> bool:
        """Whether a run of this program has stored its plan here."""
        plan = self.read("plan.json")
        return (
            plan is not None
            and isinstance(plan.get("plan"), dict)
            and isinstance(plan.get("fingerprint"), dict)
        )

    @property
    def foreign(self) -> bool:
        """Whether the folder's place is taken by something that is no journal of a run, and not even empty."""
        if not self.root.is_symlink() and not self.root.exists():
            return False
        if self.root.is_symlink() or not self.root.is_dir():
            return True
        return not self.begun and any(
            path.name != LOCK_NAME and not path.name.endswith(".partial")
            for path in self.root.rglob("*")
            if not path.is_dir()
        )

    @property
    def added(self) -> Path | None:
        """Something in the folder, or among the files of its report, that no run wrote; None where there is nothing."""
        for folder, known in ((self.root, SIDECAR_NAMES), (self.root / "report", {*REPORT_FILES})):
            paths = sorted(folder.iterdir()) if folder.is_dir() else []
            for path in paths:
                if path.name not in known and not path.name.endswith(".partial"):
                    return path
        return None

    def clear(self) -> None:
        """Remove all that the folder holds but the lock, by which this run keeps others out.

        Raises
        ------
        OutputError
            Where it may not be removed, or is no journal.
        """
        if self.foreign:
            raise OutputError(
                f"{self.root} is no journal of a run and is not removed; move it away, or choose another output."
            )
        if not self.root.exists():
            return
        # The plan goes last: by it the folder is known for a journal, should this process die on the way.
        paths = sorted(self.root.iterdir(), key=lambda path: path.name == "plan.json")
        try:
            for path in paths:
                if path.name != LOCK_NAME:
                    remove_tree(path)
        except OSError as error:
            raise output_error(self.root, error) from error

    def reopen(self) -> None:
        """Take back that the run is finished, before anything of the output is touched.

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
        try:
            for path in self._records.iterdir():
                path.unlink()
        except OSError as error:
            raise output_error(self._records, error) from error

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a JSON document of the folder, None where there is none or it is torn."""
        try:
            found = json.loads((self.root / name).read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Write a JSON document of the folder, whole or not at all; OutputError where it cannot be."""
        write_json(self.root / name, document)

    def begin(self, name: str, files: list[Path]) -> None:
        """Open a block: drop its record, mark it, unlink the files that it owns.

        Raises
        ------
        OutputError
            Where the place cannot be written.
        """
        try:
            self._path(name).unlink(missing_ok=True)
            self._marker(name).touch()
            for file in files:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.root, error) from error

    def complete(self, record: BlockRecord) -> None:
        """Close a block with its record.

        Raises
        ------
        OutputError
            Where the place cannot be written; the block stays open, and is done again by the run that goes on.
        """
        write_json(self._path(record.name), attrs.asdict(record))
        try:
            self._marker(record.name).unlink(missing_ok=True)
        except OSError as error:
            raise output_error(self.root, error) from error

    def abandon(self, name: str, files: list[Path]) -> None:
        """Forget a block that was begun: its files and its marker go, as if it had never been opened.

        What cannot be removed stays marked, which means the same to the run that goes on.
        """
        try:
            for file in files:
                file.unlink(missing_ok=True)
            self._marker(name).unlink(missing_ok=True)
        except OSError as error:
            log.warning(
                "Block %s cannot be cleared away (%s); it is done again anyhow.", name, error.strerror
            )

    def note_files(self, output: Path) -> None:
        """Note the size of every file of a finished output, a store or a TIFF, so that damage is known later."""
        self.write("files.json", file_sizes(output))

    def damaged(self, output: Path) -> list[Path]:
        """Return the files of a finished output that are not as they were noted; the output where none were.

        Pixels have the size that they had. Metadata may have been edited since and need only be readable.
        """
        noted = self.read("files.json")
        if not noted:
            return [output]
        now = file_sizes(output)
        return [
            output / name
            for name, size in sorted(noted.items())
            if now.get(name) != size and not is_readable_metadata(output / name)
        ]

    def record(self, name: str) -> BlockRecord | None:
        """Return a block's record, None where there is none, it is torn, or the block is in flight."""
        if self._marker(name).exists():
            return None
        return _record(self._path(name))

    def intact(self, name: str, store: Path) -> BlockRecord | None:
        """Return the record of a block that need not be done again.

        That is one that is done or empty and whose files are there with the sizes that the record names.
        """
        record = self.record(name)
        if record is None or record.status == "failed":
            return None
        for file, size in record.files.items():
            path = store / file
            if not path.is_file() or path.stat().st_size != size:
                log.warning("Block %s is done again: %s is missing or of another size.", name, path)
                return None
        return record

    def records(self) -> Iterator[BlockRecord]:
        """Yield all records, by name."""
        for path in sorted(self._records.glob("*.json")):
            record = _record(path)
            if record is not None:
                yield record

    def sweep(self) -> None:
        """Remove what an interrupted write left: `*.partial` files of the folder."""
        for stray in self.root.rglob("*.partial"):
            stray.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._records / f"{name}.json"

    def _marker(self, name: str) -> Path:
        return self._records / f"{name}.inflight"


def sidecar(output: Path) -> Path:
    """Return the folder beside an output that holds journal, profiles, plan and timings."""
    return output.with_name(output.name + ".bigrestore")


def file_sizes(place: Path) -> dict[str, int]:
    """Return the size of a file, or of all files of a folder, by path relative to the place, in bytes."""
    if place.is_file():
        return {".": place.stat().st_size}
    return {
        (Path(folder) / name).relative_to(place).as_posix(): (Path(folder) / name).stat().st_size
        for folder, _, names in os.walk(place)
        for name in names
    }


def is_readable_metadata(path: Path) -> bool:
    """Tell whether a path is one of the small JSON files of a store and can be read."""
    if path.name not in STORE_FILES:
        return False
    try:
        json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return True


def _record(path: Path) -> BlockRecord | None:
    try:
        return BlockRecord(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
