"""Several inputs of one `bigrestore run`: each by itself, into one folder, with the model loaded once.

All names are known before the first input is restored. An input that fails is listed at the end, and the others are
restored all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bigrestore.core.urls import is_remote, without_secrets
from bigrestore.errors import (
    BigrestoreError,
    InputMissingError,
    OutputError,
    StoppedError,
    UsageError,
    output_error,
)
from bigrestore.io.store.display import section_name

log = logging.getLogger(__name__)


def outputs_in(inputs: Sequence[str], folder: str, ending: str) -> list[tuple[str, str]]:
    """Return each input with its output in a folder.

    Parameters
    ----------
    inputs : sequence of str
        At least one.
    folder : str
        A folder or an s3 URL.
    ending : str
        Of the outputs' names, such as ".ome.zarr".

    Raises
    ------
    UsageError
        Two inputs would have one output.
    InputMissingError
        An input is not there.
    OutputError
        The folder is a file, or cannot be made.
    """
    pairs: dict[str, tuple[str, str]] = {}
    for source in inputs:
        name = f"{section_name(without_secrets(source).split('?')[0])}{ending}"
        key = name.casefold()  # some file systems do not tell cases apart
        if key in pairs:
            raise UsageError(
                f"{without_secrets(pairs[key][0])} and {without_secrets(source)} would both be restored into {name}; "
                "rename one, or restore them into folders of their own."
            )
        pairs[key] = (
            source,
            f"{folder.rstrip('/') or '/'}/{name}" if is_remote(folder) else str(Path(folder) / name),
        )
    for source in inputs:
        if not is_remote(source) and not _may_be_there(source):
            raise InputMissingError(f"{source} does not exist, and no input was restored; check the path.")
    if not is_remote(folder):
        _require_folder(Path(folder))
    return list(pairs.values())


class Failures:
    """The inputs that failed; the others go on."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._errors: dict[str, BigrestoreError] = {}

    @contextmanager
    def noted(self, source: str) -> Iterator[None]:
        """Note an error of one input instead of raising it; a stop ends all."""
        try:
            yield
        except (StoppedError, UsageError):
            raise
        except BigrestoreError as error:
            if self._count > 1:  # a single one is raised as it is
                log.error("%s", error)
            self._errors[without_secrets(source)] = error

    def raise_if_any(self) -> None:
        """Raise an error of the first one's kind, naming every input that failed.

        Raises
        ------
        BigrestoreError
            Where one failed.
        """
        if not self._errors:
            return
        first = next(iter(self._errors.values()))
        if self._count == 1:
            raise first
        names = ", ".join([*self._errors][:5]) + (", ..." if len(self._errors) > 5 else "")
        failed = len(self._errors)
        some = f"{failed} of {self._count}" if failed < self._count else f"All {failed}"
        others = ", and the others are done" if failed < self._count else ""
        raise type(first)(f"{some} inputs failed: {names}; their errors stand above{others}.")


def each_input(
    pairs: Sequence[tuple[str, str]],
) -> Iterator[tuple[str, str, AbstractContextManager[None]]]:
    """Yield each input, its output, and the context to restore it in; the model is loaded once.

    Raises
    ------
    BigrestoreError
        After all, where one failed.
    """
    from bigrestore.model.registry import method_kept

    failures = Failures(len(pairs))
    with method_kept():
        for index, (source, output) in enumerate(pairs, start=1):
            names = without_secrets(source), without_secrets(output)
            log.info("Input %d of %d: %s into %s.", index, len(pairs), *names)
            yield source, output, failures.noted(source)
    failures.raise_if_any()


def _may_be_there(source: str) -> bool:
    """Return whether a path exists, is a pattern, or lies in a zip file."""
    import glob

    path = Path(source)
    return path.exists() or glob.has_magic(source) or any(parent.is_file() for parent in path.parents)


def _require_folder(folder: Path) -> None:
    """Make the folder of the outputs, where it is not there."""
    if folder.is_dir():
        return
    if folder.exists() or folder.is_symlink():
        raise OutputError(f"--output-folder is {folder}, which is a file; give a folder.")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise output_error(folder, error) from error
