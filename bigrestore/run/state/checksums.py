"""The state of a written file, by which a change of it is seen.

The state is size, time of modification and checksum. A file of the same size and time is believed to be unchanged,
unless a thorough check is asked for; any other is read and compared.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from bigrestore.core.files import file_checksum

FileState = list[Any]
"""State of a file: size in bytes, time of modification in nanoseconds, checksum."""


def file_state(path: Path) -> FileState:
    """Return the state of a file."""
    return [*size_and_time(path), file_checksum(path)]


class Change(Enum):
    """How a change of a file is noticed: by its size or time, or only by reading it."""

    SEEN = "seen"
    HIDDEN = "hidden"


def change_of(path: Path, noted: FileState, *, thorough: bool = False) -> Change | None:
    """Return the change of a file, None for an unchanged one; it is read where its time is another one.

    `thorough` reads every file; otherwise one of the same size and time counts as unchanged.
    """
    try:
        size, changed = size_and_time(path)
        if not path.is_file() or size != noted[0]:
            return Change.SEEN
        same_time = changed == noted[1]
        if (same_time and not thorough) or file_checksum(path) == noted[2]:
            return None
    except (OSError, IndexError):
        return Change.SEEN
    return Change.HIDDEN if same_time else Change.SEEN


def is_unchanged(path: Path, noted: FileState, *, thorough: bool = False) -> bool:
    """Tell whether a file is unchanged, as `change_of` sees it."""
    return change_of(path, noted, thorough=thorough) is None


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
