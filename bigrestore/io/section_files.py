"""Choose the section files of a folder: not hidden ones, not masks or thumbnails, and none twice.

A folder from the field holds more than its sections. What the name tells to be something else is left out with a line
in the log. What could be either is refused by name: a file too many shifts all sections behind it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

from bigrestore.errors import InputError

log = logging.getLogger(__name__)

_NO_SECTION = re.compile(
    r"(?<![a-z])(masks?|thumbs?|thumbnails?|overviews?|previews?|macro|labels?|annotations?|segmentations?)(?![a-z])",
    re.IGNORECASE,
)
_SUFFIXES = re.compile(r"(\.ome)?(\.nii\.gz|\.zarr\.zip|\.\w+)$", re.IGNORECASE)
_COPY = re.compile(r"^copy of |[ _-]+copy([ _-]*\d+| \(\d+\))?$|[ _]?\(\d+\)$", re.IGNORECASE)


def section_files(
    folder: Path, is_file: Callable[[Path], bool], is_store: Callable[[Path], bool]
) -> list[Path]:
    """Return the section files of a folder, or its stores where it has no such files.

    Parameters
    ----------
    folder : Path
        The folder.
    is_file, is_store : callable
        Whether a path is named as a section file, and whether it is a Zarr store.

    Raises
    ------
    InputError
        If a section is there twice.
    """
    there = sorted(folder.iterdir())
    files = [path for path in there if is_file(path)]
    stores = [path for path in there if not is_file(path) and is_store(path)]
    visible = [path for path in files or stores if not path.name.startswith(".")]
    sections = [path for path in visible if not _NO_SECTION.search(path.name)] or visible
    left_out = {
        "hidden": [path for path in files or stores if path not in visible],
        "masks or thumbnails by their names": [path for path in visible if path not in sections],
        "stores among section files": stores if files else [],
    }
    for reason, paths in left_out.items():
        if paths:
            names = ", ".join(path.name for path in paths[:5]) + (", ..." if len(paths) > 5 else "")
            log.warning("%s: %d left out that are %s (%s)", folder, len(paths), reason, names)
    _require_once(folder, sections)
    return sections


def _require_once(folder: Path, sections: list[Path]) -> None:
    """Refuse a section that is there in two formats, or with a copy of it."""
    known: dict[str, Path] = {}
    for path in sections:
        stem = _SUFFIXES.sub("", path.name)
        if stem in known:
            raise _twice(folder, known[stem], path)
        known[stem] = path
    for stem, path in known.items():
        original = known.get(_COPY.sub("", stem), path)
        if original is not path:
            raise _twice(folder, original, path)


def _twice(folder: Path, one: Path, other: Path) -> InputError:
    return InputError(
        f"{folder} holds a section twice, as {one.name} and {other.name}; move one of them away, or give a pattern that "
        f"one of them matches, such as '{folder / '*'}{one.suffix}'."
    )
