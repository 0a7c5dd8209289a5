"""Decide which reader understands an input, from what it is and not from what it is called.

A file is told by its first bytes, a directory by what lies in it. Whatever nobody understands gets a
sentence that lists what would be understood. Readers are imported when they are needed, so that a PNG
loads neither zarr nor tifffile.
"""

from __future__ import annotations

import glob
import gzip
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bigrestore.errors import InputError, InputMissingError
from bigrestore.io.levels import Found

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".btf", ".mnc", ".nii", ".nii.gz")
"""Names that a directory of section files may have."""

SUPPORTED = (
    "OME-Zarr, Zarr, TIFF, PNG, JPEG, MINC2 (.mnc), NIfTI, or a directory or pattern of such section files"
)

_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def find(path_or_glob: str | Path | Sequence[str | Path], *, labels: bool = False) -> Found:
    """Return what the right reader understands of a file, store, directory, pattern or list of files.

    Parameters
    ----------
    path_or_glob : str, Path or sequence of them
        As `bigrestore.io.section.open_section` takes it.
    labels : bool
        Whether it is a mask, which may be of bool or any integer type.

    Raises
    ------
    InputMissingError
        When nothing is there.
    InputError
        When it cannot be read or is of no supported kind.
    """
    if not isinstance(path_or_glob, str | Path):
        files = [Path(item) for item in path_or_glob]
        return _stack(files, "the list of section files", labels=labels, ordered=True)
    text = str(path_or_glob)
    if "://" in text:
        raise InputError(f"{text} is remote, and only local files are read; copy it or mount it first.")
    path = Path(path_or_glob)
    try:
        if path.is_dir():
            return _find_directory(path, labels)
        if path.exists():
            return find_file(path, labels=labels)
        if glob.has_magic(text):
            return _find_pattern(text, labels)
    except PermissionError as err:
        raise InputError(f"{text} may not be read ({err.strerror}); change its permissions.") from err
    raise InputMissingError(f"{text} does not exist; check the path.")


def _find_pattern(pattern: str, labels: bool) -> Found:
    """Open the files that a pattern matches; one file is opened as itself."""
    paths = [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - patterns may be absolute
    if not paths:
        raise InputMissingError(
            f"no file matches {pattern}; check the pattern, and quote it against the shell."
        )
    return find(paths[0], labels=labels) if len(paths) == 1 else _stack(paths, pattern, labels=labels)


def is_zarr(path: Path) -> bool:
    """Tell whether a directory is a Zarr node of any version."""
    return any((path / name).exists() for name in _ZARR_FILES)


def is_tiff(path: Path) -> bool:
    """Tell a TIFF file by its first bytes."""
    with path.open("rb") as file:
        return file.read(4) in _TIFF


def _find_directory(path: Path, labels: bool) -> Found:
    """Open a directory: a Zarr store, or section files."""
    if is_zarr(path):
        from bigrestore.io.zarr_input import find_zarr

        return find_zarr(path, labels=labels)
    files = [
        item
        for item in path.iterdir()
        if item.name.lower().endswith(SUFFIXES) and not item.name.startswith(".")
    ]
    if not files:
        raise InputError(
            f"{path} is a directory that is neither a Zarr store nor holds section files; give {SUPPORTED}."
        )
    return _stack(files, str(path), labels=labels)


def _stack(paths: list[Path], source: str, *, labels: bool, ordered: bool = False) -> Found:
    """Open section files as a volume."""
    from bigrestore.io.stack import find_stack

    return find_stack(paths, source, partial(find_file, labels=labels), ordered=ordered)


def find_file(path: Path, *, labels: bool = False) -> Found:
    """Open a single file by its first bytes."""
    if not path.exists():
        raise InputMissingError(f"{path} does not exist; check the path.")
    if path.is_dir():
        return _find_directory(path, labels)
    head = _head(path)
    if not head:
        raise InputError(f"{path} is empty (0 bytes); copy or write it again.")
    if head.startswith(_TIFF):
        from bigrestore.io.tiff_input import find_tiff

        return find_tiff(path, labels=labels)
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        from bigrestore.io.image import find_image

        return find_image(path, labels=labels)
    if head.startswith(b"\x89HDF"):
        from bigrestore.io.minc import find_minc

        return find_minc(path, labels=labels)
    if _is_nifti(head):
        from bigrestore.io.nifti import find_nifti

        return find_nifti(path, labels=labels)
    if path.name in _ZARR_FILES:
        raise InputError(f"{path} is the metadata of a Zarr store; give the directory {path.parent} instead.")
    raise InputError(f"{path} is of no kind that is read, or its beginning is damaged; give {SUPPORTED}.")


def _head(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked where it is gzipped."""
    with path.open("rb") as file:
        head = file.read(352)
    if head.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as packed:
                head = packed.read(352)
        except (OSError, EOFError) as err:
            raise InputError(f"{path} is a damaged gzip file ({err}); copy it again.") from err
    return head


def _is_nifti(head: bytes) -> bool:
    """Tell NIfTI-1 and NIfTI-2 by their magic."""
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")
