"""The record of a block: its outcome, its files, the pixels it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs

from bigrestore.core.files import read_sealed
from bigrestore.run.state.checksums import FileState

Status = Literal["done", "empty", "failed"]


@attrs.frozen
class BlockRecord:
    """The outcome of a block.

    Attributes
    ----------
    name : str
        The block's name.
    status : str
        `done`; `empty`: wholly background, interpolated without the method; `failed`.
    files : dict
        The state of each file of the block (`FileState`), by path relative to the store.
    stats : dict
        JSON-able figures: mean before and after, residual, seconds, tiles, tiles cut after running out of memory.
    reason : str
        Why it failed, one sentence; empty otherwise.
    input_fault : bool
        Whether it failed because the input cannot be read there.
    reads : dict
        What was read for it of input, mask and realness map: for each window its place, the version of the files under
        it and a checksum of its pixels (`io.versions.Read`).
    """

    name: str
    status: Status
    files: dict[str, FileState] = attrs.field(factory=dict)
    stats: dict[str, Any] = attrs.field(factory=dict)
    reason: str = ""
    input_fault: bool = False
    reads: dict[str, list[list[Any]]] = attrs.field(factory=dict)


def read_record(path: Path) -> BlockRecord | None:
    """Return the record in a file; None if there is none, or it is torn or altered."""
    try:
        return BlockRecord(**(read_sealed(path) or {}))
    except TypeError:
        return None
