"""The journal: which blocks are done, and what was done in them; the resume state and the report's source.

A unit of work owns whole shard files. Begin: remove its record, mark it in flight, unlink its shards (what is
rewritten in place can be torn). Complete: write the record beside, rename it into place, remove the
marker. So a record always stands for files that were written whole after it was last begun, whenever the
process died, and a block without a record is simply done again.

The journal lies beside the output in `OUTPUT.bigrestore`, one small file per block, so that any number of
processes can keep it without a lock.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import attrs

from bigrestore.errors import OutputError

log = logging.getLogger(__name__)

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
            raise OutputError(
                f"The output cannot be written at {self.root.parent} ({error.strerror or error}); "
                "choose a place where you may write."
            ) from error

    def remove(self) -> None:
        """Remove the folder and all that it holds."""
        if self.root.exists():
            shutil.rmtree(self.root)

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a JSON document of the folder, None where there is none or it is torn."""
        try:
            found = json.loads((self.root / name).read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Write a JSON document of the folder, whole or not at all."""
        write_json(self.root / name, document)

    def begin(self, name: str, files: list[Path]) -> None:
        """Open a block: drop its record, mark it, unlink the files that it owns."""
        self._path(name).unlink(missing_ok=True)
        self._marker(name).touch()
        for file in files:
            file.unlink(missing_ok=True)

    def complete(self, record: BlockRecord) -> None:
        """Close a block with its record."""
        write_json(self._path(record.name), attrs.asdict(record))
        self._marker(record.name).unlink(missing_ok=True)

    def abandon(self, name: str, files: list[Path]) -> None:
        """Forget a block that was begun: its files and its marker go, as if it had never been opened."""
        for file in files:
            file.unlink(missing_ok=True)
        self._marker(name).unlink(missing_ok=True)

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


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write JSON so that a reader sees all of it or none: a neighbour file, flushed, then renamed."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("w") as file:
        json.dump(document, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _record(path: Path) -> BlockRecord | None:
    try:
        return BlockRecord(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
