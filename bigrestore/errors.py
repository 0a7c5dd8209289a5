"""The exceptions of bigrestore, each with the exit code that the command line ends with.

Every message is one plain sentence that names the thing, its value and the way out. An error is also
the builtin that a caller of the library would catch (`ValueError`, `FileNotFoundError`, ...), so that
nobody has to import this module to handle a missing file.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path


class BigrestoreError(Exception):
    """Any error that bigrestore foresees; `exit_code` is what the command line exits with."""

    exit_code = 1


class UsageError(BigrestoreError, ValueError):
    """A setting, a flag or an argument is wrong, or two of them do not go together."""

    exit_code = 2


class InputError(BigrestoreError, OSError):
    """An input exists but is unreadable, damaged or of a kind that is not supported."""

    exit_code = 3


class InputMissingError(InputError, FileNotFoundError):
    """An input does not exist."""


class ModelError(InputError):
    """A checkpoint is missing, damaged, foreign, or of another scale than asked for."""


class OutputError(BigrestoreError, OSError):
    """The output cannot be written where it was asked for."""

    exit_code = 4


class OutputExistsError(OutputError, FileExistsError):
    """The output exists and neither resuming nor overwriting was asked for, or its settings differ."""


class DiskFullError(OutputError):
    """There is no space left where the output is written; every further block would fail alike."""


class BlocksFailedError(BigrestoreError, RuntimeError):
    """The run ended, but some blocks failed; they are listed in the message and in the journal."""

    exit_code = 5


class CheckFailedError(BigrestoreError, AssertionError):
    """A check that was asked for (`verify`, `--fail-if`) found faults."""

    exit_code = 6


class DivergedError(CheckFailedError, ArithmeticError):
    """A training keeps leaving the range where it makes sense, however often it is put back."""


class StoppedError(BigrestoreError, InterruptedError):
    """A signal stopped the run; what was finished is kept and the run can be resumed."""

    exit_code = 75


class WorkersLostError(StoppedError):
    """The workers of a run cannot be reached or started, or died; what was finished is kept, as after a signal."""


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Turn an error of the operating system during writing into a sentence with a way out.

    Use it as ``raise output_error(path, error) from error`` wherever files of an output are written. An
    `OutputError` comes back as it is, so that the sentence nearest to the cause is the one that is read.

    Parameters
    ----------
    path : str or path-like
        What was to be written, as the user knows it; the file that `error` names is often a passing one. Where
        a file or folder is in the way, that one is named.
    error : OSError
        What the operating system said; a ``PermissionError`` and its kin included.

    Returns
    -------
    OutputError
        A `DiskFullError` where there is no space left. Its `errno` is that of `error`.

    Raises
    ------
    BigrestoreError
        `error` itself, where it is a foreseen one that has nothing to do with writing: `InputError` and
        `StoppedError` are ``OSError`` too.
    """
    if isinstance(error, OutputError):
        return error
    if isinstance(error, BigrestoreError):
        raise error
    found: OutputError
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        found = DiskFullError(
            f"{os.fspath(path)} cannot be written, because there is no space left on its disk; free space and start "
            "again; a run goes on by --resume."
        )
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        found = OutputError(
            f"{os.fspath(path)} may not be written ({error.strerror}); change its permissions or choose another place "
            "for the output."
        )
    elif (obstacle := _in_the_way(error)) is not None:
        found = OutputError(
            f"{os.fspath(path)} cannot be written, because {obstacle} is in its way; move that away and start again, or "
            "choose another place."
        )
    else:
        reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
        found = OutputError(
            f"{os.fspath(path)} cannot be written ({reason}); choose another place for the output."
        )
    found.errno = error.errno
    return found


def _in_the_way(error: OSError) -> Path | None:
    """Return the file in the place of a folder, or the folder in the place of a file, that an error is about."""
    named = error.filename2 or error.filename
    if not isinstance(named, str | os.PathLike):
        return None
    place = Path(named)
    if error.errno == errno.ENOTDIR:
        return next((path for path in place.parents if path.exists() and not path.is_dir()), None)
    is_it = error.errno == errno.EISDIR or (error.errno == errno.EEXIST and not place.is_dir())
    return place if is_it else None


def out_of_memory(error: Exception) -> bool:
    """Tell whether an exception means that memory ran out, on the host or on a device."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text))
    )
