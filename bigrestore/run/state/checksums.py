"""The state of a written file, by which a change of it is seen.

The state is size, time of modification and checksum. A file of the same size and time is believed to be unchanged,
unless a thorough check is asked for; any other is read and compared.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bigrestore.core.files import file_checksum
from bigrestore.core.regular import read_text

STORE_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
"""The metadata files of a Zarr store."""

FileState = list[Any]
"""State of a file: size in bytes, time of modification in nanoseconds, checksum."""


def file_state(path: Path) -> FileState:
    """Return the state of a file."""
    return [*size_and_time(path), file_checksum(path)]


def is_unchanged(path: Path, noted: FileState, *, thorough: bool = False) -> bool:
    """Tell whether a file is unchanged; it is read where its time is another one."""
    try:
        size, changed = size_and_time(path)
        if not path.is_file() or size != noted[0]:
            return False
        return (changed == noted[1] and not thorough) or file_checksum(path) == noted[2]
    except (OSError, IndexError):
        return False


def size_and_time(path: Path) -> list[int]:
    """Return the size of a file in bytes and its time of modification in nanoseconds."""
    seen = path.stat()
    return [seen.st_size, seen.st_mtime_ns]


def files_of(place: Path) -> Iterator[tuple[str, Path]]:
    """Yield a file, or all files of a folder, with their paths relative to the place."""
    if place.is_file():
        yield ".", place
        return
    for folder, _, names in os.walk(place):
        for name in names:
            path = Path(folder) / name
            yield path.relative_to(place).as_posix(), path


def is_readable_metadata(path: Path) -> bool:
    """Tell whether a path is one of the small JSON files of a store and can be read."""
    if path.name not in STORE_FILES:
        return False
    try:
        json.loads(read_text(path))
    except (OSError, ValueError):
        return False
    return True
