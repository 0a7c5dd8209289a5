"""Write, check and remove files beside an output.

A file is written whole or not at all. The bytes go into a temporary neighbour, are flushed to the disk, and are
renamed into place; a reader sees the old file or the new one. The folder is flushed as well: what a file was made of
may be removed as soon as it is there. A temporary name ends in `.partial` and holds the
process number and a random number, so no two writers share one, on one host or on several. It is created
exclusively and never opened through a link.

A sealed document carries its own checksum, so reading it reveals a flipped bit.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import psutil

from bigrestore.core.regular import open_regular
from bigrestore.errors import InputError, UsageError, output_error

DEAD_SECONDS = 86_400.0
"""Age of a temporary file of another host whose writer is taken for dead."""

OWN_FILE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Flags of a file that is never opened through a link, nor by a child; systems have different ones."""

PARTIAL = r"\.\d+-(?:[0-9a-f]{4})?[0-9a-f]{8}\.partial"
"""The end of a temporary name, after that of its file, as a pattern."""

LONGEST_NAME = 255
"""Bytes of the longest name that file systems take."""

ROOM = 40
"""Bytes for the end of a temporary name; a process has a number of at most ten digits."""


def expand_home(path: Any) -> Any:
    """Return a path, or a list of paths, with `~` at its beginning replaced by the home folder, as a shell does.

    Raises
    ------
    UsageError
        For an empty path, which would be the current folder.
    """
    if isinstance(path, list | tuple):
        return type(path)(expand_home(item) for item in path)
    if isinstance(path, str) and not path:
        raise UsageError("a path is empty, as of a shell variable that is not set; name the file")
    if isinstance(path, str):
        return os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser refuses a name that only begins with ~
    return Path(expand_home(str(path))) if isinstance(path, PurePath) else path


def require_path(given: object, name: str) -> None:
    """Refuse what is no path, such as an array.

    Raises
    ------
    UsageError
        Naming its type.
    """
    if not isinstance(given, str | os.PathLike) or isinstance(os.fspath(given), bytes):
        raise UsageError(f"{name} is of the type {type(given).__name__}; give a path.")


@contextmanager
def whole_file(path: Path, *, follow: bool = False) -> Iterator[Path]:
    """Yield a temporary name to write under; the finished file is renamed into place.

    Parameters
    ----------
    path : Path
        File to be made or replaced; its folder exists, or the context makes it.
    follow : bool
        Whether to replace the target of a link, as meant by a user who names it, or the link itself.

    Yields
    ------
    Path
        The temporary name; the context writes and closes the new file there.

    Raises
    ------
    OutputError
        If it cannot be written; the former file stays. `DiskFullError` if there is no space left.
    """
    place = path.resolve() if follow and path.is_symlink() else path
    if follow:
        remove_dead(place)
    partial = temporary_name(place, _host_mark() if follow else "")
    try:
        with suppress(FileNotFoundError):  # the context may make the folder, still empty then
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OWN_FILE, 0o666))
    except OSError as error:
        raise output_error(path, error) from error
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(place)
        sync_folder(place.parent)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):  # already renamed after success
            partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, on systems that can; OSError where the disk fails."""
    if os.name != "posix":
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a folder may be written to and not read
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def temporary_name(path: Path, mark: str = "") -> Path:
    """Return a name beside a file that no other writer of any host uses, with a mark of this host, if given."""
    return path.with_name(f"{_fitting(path.name)}.{os.getpid()}-{mark}{secrets.token_hex(4)}.partial")


def _fitting(name: str) -> str:
    """Return a name that leaves room for the end of a temporary one: itself, or its beginning and a checksum."""
    if len(os.fsencode(name)) <= LONGEST_NAME - ROOM:
        return name
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()
    while len(os.fsencode(name)) + 1 + len(digest) > LONGEST_NAME - ROOM:
        name = name[:-1]
    return f"{name}~{digest}"


@cache
def _host_mark() -> str:
    """Return four digits for this host, or this container: both have numbers of processes of their own."""
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.blake2b(f"{platform.node()} {space}".encode(), digest_size=2).hexdigest()


def remove_strays(path: Path) -> None:
    """Remove temporary files of killed writers beside a file; OSError if that fails.

    Call it only while other writers are locked out.
    """
    pattern = re.compile(re.escape(_fitting(path.name)) + PARTIAL)
    for stray in path.parent.iterdir() if path.parent.is_dir() else ():
        if pattern.fullmatch(stray.name):
            stray.unlink(missing_ok=True)


def remove_dead(path: Path) -> None:
    """Remove temporary files of dead writers beside a file; those without a mark of this host once they are old.

    What cannot be removed stays.
    """
    pattern = re.compile(re.escape(_fitting(path.name)) + r"\.(\d+)-([0-9a-f]{4})?[0-9a-f]{8}\.partial")
    with suppress(OSError, OverflowError):
        for stray in path.parent.iterdir():
            match = pattern.fullmatch(stray.name)
            if match is None:
                continue
            old = time.time() - stray.lstat().st_mtime > DEAD_SECONDS
            if old or (match[2] == _host_mark() and not psutil.pid_exists(int(match[1]))):
                stray.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a file, a link (not its target) or a folder with its content."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write JSON whole or not at all; a link in its place is replaced, not followed.

    Raises
    ------
    OutputError
        If it cannot be written; the former file stays.
    """
    with whole_file(path) as partial:
        partial.write_text(_json_text(document), encoding="ascii")


SEAL = "crc32"
"""Name under which a sealed document holds its checksum."""


def write_sealed(path: Path, document: dict[str, Any]) -> None:
    """Write JSON with a checksum of itself, for `read_sealed`.

    Raises
    ------
    OutputError
        If it cannot be written; the former file stays.
    """
    write_json(path, document | {SEAL: _checksum(document)})


def sealed_text(document: dict[str, Any]) -> str:
    """Return the text of a sealed document, as `write_sealed` writes it."""
    return _json_text(document | {SEAL: _checksum(document)})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return a document of `write_sealed`; None if it is missing, torn or altered."""
    try:
        with open_regular(path) as file:
            return parse_sealed(file.read())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, InputError):
        return None


def parse_sealed(text: bytes) -> dict[str, Any] | None:
    """Return the document of a sealed text; None if it is torn or altered."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.pop(SEAL, None) != _checksum(document):
        return None
    return document


def file_checksum(path: Path) -> str:
    """Return the CRC-32 of a file's bytes as eight hexadecimal digits; it finds damage, not malice."""
    total = 0
    with open_regular(path) as file:
        while part := file.read(1 << 22):
            total = zlib.crc32(part, total)
    return f"{total:08x}"


def _json_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True)


def _checksum(document: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(document, sort_keys=True).encode()):08x}"


def is_picture_of(path: Path, software: str) -> bool:
    """Return whether a file is a picture that names a program as its maker."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.info.get("Software") == software
    except (OSError, UnidentifiedImageError):
        return False
