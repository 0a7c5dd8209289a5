"""Versions of the files under an image, so that two inputs are never mixed in one output.

A run may take days; meanwhile its input may be written to, replaced, or copied to another disk. A file with unchanged
size, times (of content and inode) and inode, or behind a URL size and ETag, has unchanged content. Otherwise only the
pixels can tell. So a caller can record each window it reads: one checksum of the versions of the files under it, and
one of the very array that was read.
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

from bigrestore.core.regular import raise_circle
from bigrestore.io.access.places import InputPath

Window = tuple[int, int, int, int, int]
"""z, y0, y1, x0, x1 in pixels of the level that is read."""

STEADY_WAITS_SECONDS = (0.2, 1.0)
"""Pauses before rereading a window after a change of its files."""

UNREADABLE = "unreadable"
"""In place of the checksum of an unreadable window; it equals any other window."""

_recorded = threading.local()


@attrs.frozen
class Read:
    """A window and its version when it was read.

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
        """Return the record of a list made by `to_json`."""
        z, y0, y1, x0, x1, version, pixels = items
        return cls((int(z), int(y0), int(y1), int(x0), int(x1)), str(version), str(pixels))

    def to_json(self) -> list[Any]:
        """Return the note as a list."""
        return [*self.window, self.version, self.pixels]


@contextmanager
def recording_reads() -> Iterator[list[Read]]:
    """Yield a list of the windows that this thread reads from any section in this context."""
    before = getattr(_recorded, "reads", None)
    _recorded.reads = reads = list[Read]()
    try:
        yield reads
    finally:
        _recorded.reads = before


def recorded_reads() -> list[Read] | None:
    """Return this thread's list of read windows, None if nobody records them."""
    reads: list[Read] | None = getattr(_recorded, "reads", None)
    return reads


def file_version(place: InputPath, *, fresh: bool = False) -> str:
    """Return the version of a file; empty if it is missing.

    Parameters
    ----------
    place : Path or RemoteFile
        The file.
    fresh : bool
        Ask a server again, instead of returning the version that was read.
    """
    if not isinstance(place, Path):
        return place.version(fresh=fresh)
    return local_version(place)


def local_version(place: Path | str) -> str:
    """Return the version of a file of this machine; empty if it is missing."""
    try:
        seen = os.stat(place)  # noqa: PTH116 - asked for every chunk
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise_circle(error, place)
        raise
    return f"{seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns} {seen.st_ino}"


def checksum_of(pixels: NDArray[Any]) -> str:
    """Return a checksum of pixels, independent of byte order and layout."""
    plain = np.ascontiguousarray(pixels)
    return hashlib.blake2b(plain.view(np.uint8).data, digest_size=16).hexdigest()


def joined(versions: Iterable[str]) -> str:
    """Return the versions of several files as one checksum."""
    total = hashlib.blake2b(digest_size=16)
    for version in versions:
        total.update(f"{version}\n".encode())
    return total.hexdigest()
