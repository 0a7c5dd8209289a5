"""Which version of its files an image is read from, so that two inputs are never mixed in one output.

A run may take days, and its input may be written to meanwhile, replaced, or copied to another disk. A file that has the
size, the times (of its content and of its inode) and the inode that it had, or behind a URL the size and the ETag, holds
what it held. Of any other only its
pixels can tell. So whoever asks for it gets a note of each window that is read: the versions of the files under it, as
one checksum, and one of its pixels, taken from the very array that was read.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.io.access.places import InputPath

Window = tuple[int, int, int, int, int]
"""z, y0, y1, x0, x1 in pixels of the level that is read."""

STEADY_WAITS_SECONDS = (0.2, 1.0)
"""Pauses before a window is read again whose files changed meanwhile."""

UNREADABLE = "unreadable"
"""Stands for the checksum of a window that cannot be read; such a window is equal to any other one."""

_notes = threading.local()


@attrs.frozen
class Read:
    """A window that was read.

    Attributes
    ----------
    window : tuple of int
        z, y0, y1, x0, x1.
    version : str
        Of the files under it, when it was read.
    pixels : str
        Checksum of the pixels.
    """

    window: Window
    version: str
    pixels: str

    @classmethod
    def from_json(cls, items: list[Any]) -> Read:
        """Return what `to_json` made a list of."""
        z, y0, y1, x0, x1, version, pixels = items
        return cls((int(z), int(y0), int(y1), int(x0), int(x1)), str(version), str(pixels))

    def to_json(self) -> list[Any]:
        """Return the note as a list."""
        return [*self.window, self.version, self.pixels]


@contextmanager
def recording_reads() -> Iterator[list[Read]]:
    """Give a list to which each window is added that this thread reads of any section while the context lasts."""
    before = getattr(_notes, "reads", None)
    _notes.reads = reads = list[Read]()
    try:
        yield reads
    finally:
        _notes.reads = before


def recorded_reads() -> list[Read] | None:
    """Return the list that this thread's reads are to be noted in, None where nobody asked."""
    reads: list[Read] | None = getattr(_notes, "reads", None)
    return reads


def file_version(place: InputPath, *, fresh: bool = False) -> str:
    """Return what identifies the version of a file; empty where there is none.

    Parameters
    ----------
    place : Path or RemoteFile
        The file.
    fresh : bool
        Ask a server again, rather than say what was read from it.
    """
    if not isinstance(place, Path):
        return place.version(fresh=fresh)
    try:
        seen = os.stat(place)  # noqa: PTH116 - asked for every chunk
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return f"{seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns} {seen.st_ino}"


def checksum_of(pixels: NDArray[Any]) -> str:
    """Return a checksum of pixels, whatever their byte order and layout."""
    plain = np.ascontiguousarray(pixels)
    return hashlib.blake2b(plain.view(np.uint8).data, digest_size=16).hexdigest()


def joined(versions: Iterable[str]) -> str:
    """Return the versions of several files as one checksum."""
    total = hashlib.blake2b(digest_size=16)
    for version in versions:
        total.update(f"{version}\n".encode())
    return total.hexdigest()
