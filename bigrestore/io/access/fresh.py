"""Reopen a file that was replaced or written to, so that no stale bytes are read.

A reader keeps the file's directory and the segments it decoded last. After a write to the file, the directory points
anywhere and the segments are old. So the file's size, times and inode are checked before each window, and a changed
file is opened anew; another image in its place is refused.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from numpy.typing import NDArray

from bigrestore.errors import InputError
from bigrestore.io.access.versions import file_version
from bigrestore.io.levels import OpenedImage

log = logging.getLogger(__name__)


def open_fresh(path: Path, open_it: Callable[[], OpenedImage]) -> OpenedImage:
    """Open a file and reopen it whenever it changes.

    Parameters
    ----------
    path : Path
        The file.
    open_it : callable
        Opens it, now and whenever it changed.

    Returns
    -------
    OpenedImage
        Reading a window raises an InputError if the file is no longer an image of that shape.
    """
    version = file_version(path)  # taken before opening, so that any later write is noticed
    opened = open_it()
    file = _File(path, version, opened, open_it)
    levels = tuple(
        attrs.evolve(level, read=partial(file.read, index), version=level.version or file.version)
        for index, level in enumerate(opened.levels)
    )
    return attrs.evolve(opened, levels=levels)


class _File:
    """A file as it was opened last."""

    def __init__(
        self, path: Path, version: str, opened: OpenedImage, reopen: Callable[[], OpenedImage]
    ) -> None:
        self._path, self._version, self._opened, self._reopen = path, version, opened, reopen
        self._fixed = _fixed_facts(opened)
        self._lock = threading.Lock()

    def read(self, index: int, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Read a window of a level."""
        version = file_version(self._path)
        with self._lock:
            if version != self._version:
                log.warning("%s was written to since it was opened; it is reopened.", self._path)
                opened = self._reopen()
                if _fixed_facts(opened) != self._fixed:
                    raise InputError(
                        f"{self._path} was replaced by another image while it was read; put it back, or start anew."
                    )
                self._opened, self._version = opened, version
            opened = self._opened
        return opened.levels[index].read(z, y0, y1, x0, x1)

    def version(self, *_: int, fresh: bool = False) -> list[str]:
        """Return the version of the file, for any window."""
        return [file_version(self._path)]


def _fixed_facts(opened: OpenedImage) -> Any:
    """Return the facts that a reopened file must keep."""
    return [level.shape for level in opened.levels], opened.channels, opened.dtype
