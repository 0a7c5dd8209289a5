"""Files beside and around an output: written whole or not at all, and removed.

Whoever reads beside a run, or after one that was killed, finds the file of before or the new one, never a torn
one: the bytes go into a neighbour with a passing name, are flushed to the disk, and are renamed into place. The passing
name ends in `.partial` and holds the process number and a number of its own, so that no two writers, of one host or of
several, write into one; it is made anew and never opened through a link that somebody put there. A sealed document
carries a checksum of itself: a flipped bit in it is found when it is read.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bigrestore.errors import output_error

PARTIAL = r"\.\d+-[0-9a-f]{8}\.partial"
"""What a passing name has after that of its file, as a pattern."""


@contextmanager
def whole_file(path: Path, *, follow: bool = False) -> Iterator[Path]:
    """Give the name to write under; what was written there takes its place when the context ends well.

    Parameters
    ----------
    path : Path
        File to be made or replaced; its folder exists, or the context makes it.
    follow : bool
        Where the path is a link: replace what it points to, as a user means who named it, or the link itself.

    Yields
    ------
    Path
        Where the context writes and closes the new file.

    Raises
    ------
    OutputError
        Where it cannot be written; what was there before stays. `DiskFullError` where there is no space left.
    """
    place = path.resolve() if follow and path.is_symlink() else path
    partial = temporary_name(place)
    try:
        with suppress(FileNotFoundError):  # the context may make the folder, in which nothing lies then
            os.close(
                os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            )
    except OSError as error:
        raise output_error(path, error) from error
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(place)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):  # gone where all went well
            partial.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Return a name beside a file that no other writer of any host uses."""
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


def remove_strays(path: Path) -> None:
    """Remove what writers of a file left beside it that were killed; OSError where it cannot be.

    Only who keeps other writers out may.
    """
    pattern = re.compile(re.escape(path.name) + PARTIAL)
    for stray in path.parent.iterdir() if path.parent.is_dir() else ():
        if pattern.fullmatch(stray.name):
            stray.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a file, a link (not what it points to) or a folder with all that it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write JSON so that a reader sees all of it or none; a link in its place is replaced, not followed.

    Raises
    ------
    OutputError
        Where it cannot be written; what was there before stays.
    """
    with whole_file(path) as partial:
        partial.write_text(_text(document))


SEAL = "crc32"
"""Name under which a sealed document holds its checksum."""


def write_sealed(path: Path, document: dict[str, Any]) -> None:
    """Write JSON with a checksum of itself, so that `read_sealed` knows it for what was written.

    Raises
    ------
    OutputError
        Where it cannot be written; what was there before stays.
    """
    write_json(path, document | {SEAL: _checksum(document)})


def sealed_text(document: dict[str, Any]) -> str:
    """Return what `write_sealed` writes."""
    return _text(document | {SEAL: _checksum(document)})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return a document of `write_sealed`; None where there is none, or it is torn or altered."""
    try:
        return parse_sealed(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def parse_sealed(text: bytes) -> dict[str, Any] | None:
    """Return the document of a sealed text; None where it is torn or altered."""
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
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            total = zlib.crc32(part, total)
    return f"{total:08x}"


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, sort_keys=True)


def _checksum(document: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(document, sort_keys=True).encode()):08x}"
