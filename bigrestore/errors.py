"""The exceptions of bigrestore and their exit codes.

Every message is one plain sentence: it names the thing, its value and the remedy. Each error is also the builtin
that a caller would catch (`ValueError`, `FileNotFoundError`, ...), so a missing file needs no import from here.

The sentence is all that a caller needs. So the public functions raise errors without the frames inside the package
(`without_frames`), and a notebook shows the sentence alone.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

log = logging.getLogger(__name__)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

MEMORY_WORDS = ("out of memory", "can't allocate memory", "_ALLOC_FAILED")
"""Out of memory in errors of torch, cuFFT, cuDNN, cuBLAS and their kin."""

GPU_WORDS = re.compile(
    r"\b(CUDA|HIP) (driver |runtime )?error\b|device-side assert|illegal memory access"
    r"|\b(CUDNN|CUBLAS|CUFFT|CUSOLVER|CUSPARSE|MIOPEN|HIPBLAS|HIPFFT)_\w+|\bcuFFT error\b"
)

CALL_WORDS = re.compile(r"_(NOT_SUPPORTED|BAD_PARAM|INVALID_VALUE|INVALID_SIZE)\b")
"""A library refuses one call; the GPU goes on."""


class BigrestoreError(Exception):
    """Any error foreseen by bigrestore; `exit_code` is the exit code of the command line."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython and Jupyter show instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(BigrestoreError, ValueError):
    """A setting, a flag or an argument is wrong, or two of them do not go together."""

    exit_code = 2


class InputError(BigrestoreError, OSError):
    """An input exists but is unreadable, damaged or of an unsupported kind."""

    exit_code = 3


class UnreadableSectionError(InputError):
    """Nothing of a section can be read; the others of its volume may be readable."""


class InputMissingError(InputError, FileNotFoundError):
    """An input does not exist."""


class ModelError(InputError):
    """A checkpoint is missing, damaged or foreign."""


class ModelScaleError(ModelError, UsageError):
    """A checkpoint is of another scale than asked for: one of the two flags is wrong, and no file."""

    exit_code = 2


class OutputError(BigrestoreError, OSError):
    """The output cannot be written in its place."""

    exit_code = 4


class OutputExistsError(OutputError, FileExistsError):
    """The output exists and neither resuming nor overwriting was asked for, or its settings differ."""


class DiskFullError(OutputError):
    """The output's disk is full; every further block would fail alike."""


class BlocksFailedError(BigrestoreError, RuntimeError):
    """The run ended, but some blocks failed; they are listed in the message and in the journal."""

    exit_code = 5


class CheckFailedError(BigrestoreError, AssertionError):
    """A requested check (`verify`, `--fail-if`) failed."""

    exit_code = 6


class DivergedError(CheckFailedError, ArithmeticError):
    """A training keeps diverging, however often it is reset."""


class StoppedError(BigrestoreError, InterruptedError):
    """A signal stopped the run; finished blocks are kept and the run can be resumed."""

    exit_code = 75


class GpuLostError(StoppedError):
    """A GPU refuses all further work of this process; finished blocks are kept, and another process can go on."""


class WorkersLostError(StoppedError):
    """The workers of a run are unreachable, failed to start, or died; finished blocks are kept, as after a signal."""


def without_frames(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let a public function raise foreseen errors without their cause and the frames inside the package.

    The debug log has the error in full. Any other error, a bug, keeps its traceback.
    """

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except (BigrestoreError, KeyboardInterrupt) as error:
            log.debug("The error in full:", exc_info=True)
            raise error.with_traceback(None) from None

    return call


def output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    """Turn an operating system's error during writing into a sentence with a remedy.

    Use it as ``raise output_error(path, error) from error`` wherever files of an output are written. An `OutputError`
    is returned unchanged: the sentence nearest to the cause is shown.

    Parameters
    ----------
    path : str or path-like
        The file to be written, as the user knows it; `error` often names a temporary one. A file or folder in
        its way is named too.
    error : OSError
        The operating system's error, ``PermissionError`` and its kin included.

    Returns
    -------
    OutputError
        A `DiskFullError` if there is no space left. Its `errno` is that of `error`.

    Raises
    ------
    BigrestoreError
        `error` itself, if it is a foreseen one unrelated to writing: `InputError` and `StoppedError` are
        ``OSError`` too.
    """
    if isinstance(error, OutputError):
        return error
    if isinstance(error, BigrestoreError):
        raise error
    failure: OutputError
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        failure = DiskFullError(
            f"{os.fspath(path)} cannot be written, because there is no space left on its disk; free space and start "
            "again; continue a run by --resume."
        )
    elif error.errno == errno.EFBIG:
        failure = OutputError(
            f"{os.fspath(path)} cannot be written, because it is larger than a file may be here; raise the limit of the "
            "shell (ulimit -f) or choose another disk, and start again; continue a run by --resume."
        )
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        failure = OutputError(
            f"{os.fspath(path)} may not be written ({error.strerror}); change its permissions or choose another place "
            "for the output."
        )
    elif error.errno == errno.ENAMETOOLONG:
        failure = OutputError(
            f"{os.fspath(path)} cannot be written ({error.strerror}); choose a shorter name for the output."
        )
    elif (obstacle := _in_the_way(error)) is not None:
        failure = OutputError(
            f"{os.fspath(path)} cannot be written, because {obstacle} is in its way; move that away and start again, or "
            "choose another place."
        )
    else:
        reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
        failure = OutputError(
            f"{os.fspath(path)} cannot be written ({reason}); choose another place for the output."
        )
    failure.errno = error.errno
    return failure


def _in_the_way(error: OSError) -> Path | None:
    """Return the file in place of a folder, or the folder in place of a file, behind an error."""
    named = error.filename2 or error.filename
    if not isinstance(named, str | os.PathLike):
        return None
    place = Path(named)
    if error.errno == errno.ENOTDIR:
        return next((path for path in place.parents if path.exists() and not path.is_dir()), None)
    is_it = error.errno == errno.EISDIR or (error.errno == errno.EEXIST and not place.is_dir())
    return place if is_it else None


def one_line(error: Exception) -> str:
    """Return an error as part of a sentence; its kind is named unless the message is a sentence of ours."""
    text = " ".join(str(error).split()).rstrip(".")
    return text if isinstance(error, BigrestoreError) and text else f"{type(error).__name__}: {text}"


def out_of_memory(error: Exception) -> bool:
    """Tell whether an exception means out of memory, on the host or on a device."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(words in text for words in MEMORY_WORDS))
    )


def gpu_lost(error: Exception) -> bool:
    """Tell whether an exception ends all work of this process on its GPU: a CUDA error other than out of memory."""
    if not isinstance(error, RuntimeError) or out_of_memory(error):
        return False
    text = str(error)
    return type(error).__name__ == "AcceleratorError" or (
        GPU_WORDS.search(text) is not None and CALL_WORDS.search(text) is None
    )


@contextlib.contextmanager
def gpu_failures() -> Iterator[None]:
    """Raise the loss of a GPU as a `GpuLostError`.

    After a CUDA error such as an illegal access every further call in the process fails, so each further block would.
    """
    try:
        yield
    except RuntimeError as error:
        if not gpu_lost(error):
            raise
        first = str(error).strip().splitlines()[0].rstrip(".")
        raise GpuLostError(
            f"The GPU does no more work for this process ({first}); what is finished is kept, go on by --resume."
        ) from error


@contextlib.contextmanager
def first_of_group() -> Iterator[None]:
    """Raise the first of several errors alone: newer versions of zarr read parts of a file as tasks of one group."""
    try:
        yield
    except ExceptionGroup as group:
        first: Exception = group
        while isinstance(first, ExceptionGroup):
            first = first.exceptions[0]
        raise first from first.__cause__
