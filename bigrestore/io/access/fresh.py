"""A file that is opened again when it was replaced or written to, so that it is read as it is and not as it was.

The readers take in a file's directory when they open it, and keep what they decoded last. Of a file that was written to
since, that directory points anywhere, and what is kept is of yesterday. So before each window the file is looked at, and
where it has another size, time or inode it is opened anew; what is another image then is refused.
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
    """Open a file whose windows are read as the file is at that moment.

    Parameters
    ----------
    path : Path
        The file.
    open_it : callable
        Opens it, now and whenever it changed.

    Returns
    -------
    OpenedImage
        Reading a window raises an InputError where the file is no longer an image of that shape.
    """
    version = file_version(path)  # before it is opened: what is written after that is seen
    opened = open_it()
    file = _File(path, version, opened, open_it)
    levels = tuple(
        attrs.evolve(level, read=partial(file.read, index), version=file.version)
        for index, level in enumerate(opened.levels)
    )
    return attrs.evolve(opened, levels=levels)


class _File:
    """A file as it was opened last."""

    def __init__(
        self, path: Path, version: str, opened: OpenedImage, reopen: Callable[[], OpenedImage]
    ) -> None:
        self._path, self._version, self._opened, self._reopen = path, version, opened, reopen
        self._fixed_facts = _fixed_facts(opened)
        self._lock = threading.Lock()

    def read(self, index: int, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Read a window of a level."""
        return self._current().levels[index].read(z, y0, y1, x0, x1)

    def version(self, *_: int, fresh: bool = False) -> list[str]:
        """Return the version of the file, which is that of all its windows."""
        return [file_version(self._path)]

    def _current(self) -> OpenedImage:
        """Return the file as it is, opened anew where it changed."""
        version = file_version(self._path)
        with self._lock:
            if version != self._version:
                log.warning("%s was written to since it was opened; it is opened anew.", self._path)
                opened = self._reopen()
                if _fixed_facts(opened) != self._fixed_facts:
                    raise InputError(
                        f"{self._path} was replaced by another image while it was read; put it back, or start anew."
                    )
                self._opened, self._version = opened, version
            return self._opened


def _fixed_facts(opened: OpenedImage) -> Any:
    """Return what must be the same of a file that is opened anew."""
    return [level.shape for level in opened.levels], opened.channels, opened.dtype
