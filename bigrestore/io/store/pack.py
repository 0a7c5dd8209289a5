"""Pack a finished store into one zip file, for systems that count files or move them one by one.

The entries are stored, not compressed: the chunks already are, and a reader enters a stored entry in the middle.
Their order is fixed, metadata first from the root down, and they have no times: the same store gives the same bytes. So a
store of OME-Zarr 0.5 is what NGFF's RFC 9 recommends of an `.ozx` file, and the comment of the file says so.
The file is written under a temporary name and renamed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from bigrestore.core.files import whole_file

COPY_BYTES = 1 << 22
"""Bytes copied at a time."""

ZIP_NAMES = (".zarr.zip", ".ozx")
"""Ends of the names of a store in a zip file."""

_METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack_store(store: Path, packed: Path, *, check: Callable[[], None] | None = None) -> None:
    """Write a store as a zip file, its root at the root of the file.

    Parameters
    ----------
    store : Path
        A finished store; it stays.
    packed : Path
        The zip file, which is made or replaced.
    check : callable, optional
        Called before each file; an error of it stops the packing and keeps the former file.

    Raises
    ------
    OutputError
        If it cannot be written; `DiskFullError` if there is no space left.
    """
    paths = [Path(folder) / name for folder, _, names in os.walk(store) for name in names]
    names = [path.relative_to(store).as_posix() for path in paths]
    names.sort(key=lambda name: (Path(name).name not in _METADATA, *_from_root(name)))
    with (
        whole_file(packed) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as file,
    ):
        for name in names:
            if check is not None:
                check()
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            entry.file_size = (store / name).stat().st_size
            with (store / name).open("rb") as source, file.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, COPY_BYTES)
        file.comment = _comment(store)


def _from_root(name: str) -> tuple[int, str]:
    """Return what sorts metadata from the root down; other files by their names alone."""
    return (name.count("/") if Path(name).name in _METADATA else 0), name


def _comment(store: Path) -> bytes:
    """Return the comment of RFC 9 about a store of Zarr 3; none of another."""
    root = store / "zarr.json"
    if not root.is_file():
        return b""
    ome = json.loads(root.read_text(encoding="utf-8")).get("attributes", {}).get("ome", {})
    stated = (
        {"version": ome["version"], "zipFile": {"centralDirectory": {"jsonFirst": True}}}
        if "version" in ome
        else {}
    )
    return json.dumps({"ome": stated}).encode() if stated else b""
