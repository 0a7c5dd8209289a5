"""Opening input files that end: regular files, and links to them.

A pipe or a socket waits for a writer for ever, a device never ends, and links may lead in a circle. Every reader opens
its files here, where each of these is refused by its name.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

from bigrestore.errors import InputError

_ENDLESS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular_stat(path: Path | str, shown: object = None) -> os.stat_result:
    """Return the state of a regular file.

    Parameters
    ----------
    path : Path or str
        The file, or a link to it.
    shown : object, optional
        Its name in messages.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is none, or a folder.
    InputError
        If it is a pipe, a socket or a device, or a link in a circle.
    OSError
        If it cannot be looked at.
    """
    try:
        seen = os.stat(path)  # noqa: PTH116 - asked for every chunk
    except OSError as error:
        raise_circle(error, shown or path)
        raise
    kind = stat.S_IFMT(seen.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind in _ENDLESS:
        raise InputError(
            f"{shown or path} is {_ENDLESS[kind]} and no file; copy what it holds into a file, and give that."
        )
    return seen


def open_regular(path: Path | str, shown: object = None) -> io.BufferedReader:
    """Open a regular file for reading bytes; see `regular_stat`."""
    regular_stat(path, shown)
    return open(path, "rb")  # noqa: PTH123 - asked for every chunk


def read_text(path: Path) -> str:
    """Return the text of a regular file in UTF-8; see `regular_stat`."""
    with open_regular(path) as file:
        return file.read().decode("utf-8")


def is_regular(path: Path, shown: object = None) -> bool:
    """Tell whether a path is a regular file, or a link to one; False if there is nothing, or a folder.

    Raises
    ------
    InputError
        If it is a pipe, a socket or a device, or a link in a circle.
    """
    try:
        regular_stat(path, shown)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
    return True


def raise_circle(error: OSError, shown: object) -> None:
    """Raise an InputError for a link in a circle; return for any other error."""
    if error.errno == errno.ELOOP:
        raise InputError(
            f"{shown} is a link that leads in a circle; remove it, or link it to a file."
        ) from error
