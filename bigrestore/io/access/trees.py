"""The files of a store: in a folder, in a zip file, or behind a URL.

A Zarr store is a set of named files; its reader needs a file, a range of one, or the names in a folder. Three kinds
of files are refused here for all stores:

- pipes and devices, because they never end (`bigrestore.core.regular`);
- links out of the store, because a foreign store must not read its user's files. Links of git-annex, used to share
  data sets, lead to its own objects and are followed;
- files larger than they can sensibly be.
"""

from __future__ import annotations

import os
import struct
import threading
import zipfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from bigrestore.core.regular import is_regular, open_regular, raise_circle, regular_stat
from bigrestore.errors import InputError
from bigrestore.io.access.limits import DEFLATE_RATIO, too_large
from bigrestore.io.access.places import ByteRange, InputPath, RemoteFile, open_bytes
from bigrestore.io.access.versions import file_version, local_version

ANNEX = f"{os.sep}.git{os.sep}annex{os.sep}objects{os.sep}"
"""The folder of git-annex for the targets of its links."""

ASKED_AT_ONCE = 16
"""Concurrent requests for versions of files behind a URL."""

MOST_KNOWN = 65_536
"""Most files behind a URL with a remembered version."""

MOST_ENTRIES = 4_000_000
"""Files in a zip file; its directory is held whole."""


class Tree(Protocol):
    """Named files, readable in ranges by several threads at once."""

    def read(self, name: str, span: ByteRange, most: int) -> bytes:
        """Return a file, or a range of it.

        Raises
        ------
        FileNotFoundError
            If the file is missing.
        InputError
            If it holds more than `most` bytes, or is no ordinary file.
        """
        ...

    def exists(self, name: str) -> bool:
        """Tell whether the file exists."""
        ...

    def names(self, folder: str) -> list[str] | None:
        """Return the names of files and folders in a folder; None if they cannot be listed."""
        ...

    def versions(self, names: Sequence[str], *, fresh: bool = False) -> list[str]:
        """Return the versions of files, as they were read, or, if `fresh`, as they are now."""
        ...


def _bounds(span: ByteRange, size: int) -> tuple[int, int]:
    """Return the first byte of a range and the byte after its last, within a file of a size."""
    start, stop = span
    first = 0 if start is None else max(0, size + start) if start < 0 else min(start, size)
    return first, size if stop is None else max(first, min(stop, size))


class LocalTree:
    """The files of a folder.

    Parameters
    ----------
    root : Path
        The folder; a link to it is followed.
    """

    def __init__(self, root: Path) -> None:
        self._shown, self._root = root, root.resolve()
        # Paths of chunks are strings: a Path takes longer to make than a small chunk to read.
        self._below, self._shown_below = (str(folder / "_")[:-1] for folder in (self._root, root))
        self._within = lru_cache(maxsize=4096)(self._is_within)

    def __str__(self) -> str:
        return str(self._shown)

    def read(self, name: str, span: ByteRange, most: int) -> bytes:
        """Return a file, or a range of it; see `Tree`."""
        path, shown = f"{self._below}{name}", f"{self._shown_below}{name}"
        linked = os.path.islink(path)  # noqa: PTH114
        if (linked and not self._is_within(path)) or not self._within(os.path.dirname(path)):  # noqa: PTH120
            raise InputError(
                f"{shown} is a link that leads out of the store; copy the store with what it links to."
            )
        try:
            file = open_regular(path, shown)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            for folder in Path(path).parents if isinstance(error, NotADirectoryError) else ():
                is_regular(folder, self._shown / folder.relative_to(self._root))
                if folder.parent == self._root:
                    break
            if linked and not Path(path).is_dir():  # a missing chunk would be read as the fill value
                raise InputError(
                    f"{shown} is a link to a file that is not there; fetch the file, or copy the store with it."
                ) from error
            raise FileNotFoundError(name) from error
        with file:
            first, stop = _bounds(span, os.fstat(file.fileno()).st_size)
            if stop - first > most:
                raise too_large(shown, stop - first, most)
            file.seek(first)
            return file.read(stop - first)

    def exists(self, name: str) -> bool:
        """Tell whether the file exists."""
        return (self._root / name).is_file()

    def names(self, folder: str) -> list[str] | None:
        """Return the names in a folder."""
        try:
            return sorted(path.name for path in (self._root / folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise_circle(error, self._shown / folder)
            raise

    def versions(self, names: Sequence[str], *, fresh: bool = False) -> list[str]:
        """Return the versions of files: size, times and inode."""
        return [local_version(f"{self._below}{name}") for name in names]

    def _is_within(self, path: str) -> bool:
        """Tell whether a path lies in the folder once its links are followed."""
        try:
            real = Path(path).resolve()
        except (RuntimeError, OSError):  # what Python says of a circle of links
            regular_stat(path, path)
            raise
        return real.is_relative_to(self._root) or ANNEX in f"{real}{os.sep}"


def _is_of_macos(name: str) -> bool:
    """Tell an entry that macOS adds to a zip file: `__MACOSX/`, `._NAME`, `.DS_Store`."""
    last = name.rsplit("/", 1)[-1]
    return name.startswith("__MACOSX/") or last.startswith("._") or last == ".DS_Store"


def _topmost_stores(names: Iterable[str]) -> list[str]:
    """Return the folders of the stores in a zip file, "" for its top; nodes in a store are no stores."""
    parts = (name.rpartition("/") for name in names)
    nodes = {folder for folder, _, last in parts if last in ("zarr.json", ".zgroup", ".zarray")}

    def is_inside(folder: str) -> bool:
        above = folder
        while above:
            above = above.rpartition("/")[0]
            if above in nodes:
                return True
        return False

    return sorted(folder for folder in nodes if not is_inside(folder))


class ZipTree:
    """The files of a zip file, local or remote; nothing of it is unpacked to the disk.

    The store lies at the top, or in the one folder that holds a store (`prefix`). Of several `stores` none is chosen.

    Parameters
    ----------
    place : Path or RemoteFile
        The zip file. It stays open as long as the tree exists.

    Raises
    ------
    InputError
        If it is damaged, or has too many entries.
    """

    def __init__(self, place: InputPath) -> None:
        self._shown, self._place = str(place), place
        self._file = open_bytes(place)
        self._lock = threading.Lock()
        try:
            self._zip = zipfile.ZipFile(self._file)
        except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, EOFError) as error:
            self._file.close()
            raise InputError(f"{place} is a damaged zip file ({error}); copy or write it again.") from error
        entries = self._zip.infolist()
        if len(entries) > MOST_ENTRIES:
            raise InputError(
                f"{place} has {len(entries)} entries, which is more than a store has; unpack it."
            )
        # No store asks for an entry without a name, and zipfile cannot tell if it is a folder.
        named = [entry for entry in entries if entry.filename and not entry.is_dir()]
        names = [entry.filename.replace("\\", "/").removeprefix("./") for entry in named]
        self._entries = {
            name: entry for name, entry in zip(names, named, strict=True) if not _is_of_macos(name)
        }
        self.stores = _topmost_stores(self._entries)
        self.prefix = f"{self.stores[0]}/" if len(self.stores) == 1 and self.stores[0] else ""

    def __str__(self) -> str:
        return self._shown

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    def read(self, name: str, span: ByteRange, most: int) -> bytes:
        """Return a file, or a range of it; see `Tree`."""
        entry = self._entries.get(self.prefix + name)
        if entry is None:
            raise FileNotFoundError(name)
        shown = f"{self._shown}/{name}"
        first, stop = _bounds(span, entry.file_size)
        if stop - first > most:
            raise too_large(shown, stop - first, most)
        if entry.file_size > entry.compress_size * DEFLATE_RATIO + 4096:
            raise too_large(shown, entry.file_size, entry.compress_size * DEFLATE_RATIO)
        try:
            with self._lock, self._zip.open(entry) as file:
                if first:
                    file.seek(first)
                content = file.read(stop - first)
        except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, struct.error) as error:
            raise InputError(f"{shown} is damaged or locked ({error}); copy or write it again.") from error
        if len(content) < stop - first:
            raise InputError(f"{shown} was cut off; copy or write it again.")
        return content

    def exists(self, name: str) -> bool:
        """Tell whether the file exists."""
        return self.prefix + name in self._entries

    def names(self, folder: str) -> list[str] | None:
        """Return the names in a folder."""
        start = self.prefix + (f"{folder.rstrip('/')}/" if folder else "")
        return sorted(
            {name[len(start) :].split("/", 1)[0] for name in self._entries if name.startswith(start)}
        )

    def versions(self, names: Sequence[str], *, fresh: bool = False) -> list[str]:
        """Return the version of the zip file, for all its entries."""
        return [file_version(self._place, fresh=fresh)]


class RemoteTree:
    """The files under a URL.

    Parameters
    ----------
    root : RemoteFile
        The URL of the store.
    """

    def __init__(self, root: RemoteFile) -> None:
        self._root = root
        # One object for all ranges of a file, because it pins their version.
        self._file = lru_cache(maxsize=MOST_KNOWN)(root.__truediv__)

    def __str__(self) -> str:
        return str(self._root)

    def read(self, name: str, span: ByteRange, most: int) -> bytes:
        """Return a file, or a range of it; see `Tree`."""
        return self._file(name).read_range(span, most)

    def exists(self, name: str) -> bool:
        """Tell whether the file exists."""
        return (self._root / name).exists()

    def names(self, folder: str) -> list[str] | None:
        """Return the names in a folder; None if the server does not list them."""
        return (self._root / folder).children()

    def versions(self, names: Sequence[str], *, fresh: bool = False) -> list[str]:
        """Return the server's versions of files, requested several at once."""
        if not fresh:
            return [file_version(self._file(name)) for name in names]
        with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            return list(pool.map(lambda name: file_version(self._root / name, fresh=True), names))
