"""The formats, in one literal table, and the choice of a reader by content, not by name.

Adding a format is its reader and one row of `INPUT_FORMATS`. The first bytes of a file decide, or the files in a
directory. An unknown input is refused with a list of the supported kinds. Readers are imported on demand: a PNG loads
neither zarr nor tifffile.
"""

from __future__ import annotations

import glob
import gzip
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import attrs

from bigrestore.core.files import expand_home, require_path
from bigrestore.core.host.installed import install_command
from bigrestore.core.regular import is_regular
from bigrestore.core.urls import is_remote
from bigrestore.errors import InputError, InputMissingError, UsageError
from bigrestore.io.access.fresh import open_fresh
from bigrestore.io.access.places import InputPath, RemoteFile, input_path, open_bytes, require_there
from bigrestore.io.access.trees import LocalTree, RemoteTree
from bigrestore.io.formats.bioio import open_by_bioio
from bigrestore.io.formats.precomputed import is_precomputed
from bigrestore.io.levels import OpenedImage, Wanted, one_channel
from bigrestore.io.section_files import section_files
from bigrestore.io.store.pack import ZIP_NAMES

Reader = Callable[..., OpenedImage]

PRECOMPUTED_SCHEME = "precomputed://"
"""What Neuroglancer writes before the URL of a precomputed volume."""

HEAD_BYTES = 352
"""Bytes of a file that are looked at: NIfTI has its magic at 344."""


@attrs.frozen
class InputFormat:
    """One kind of file.

    Attributes
    ----------
    name : str
        For people.
    reader : str
        `module:function` of `bigrestore.io.formats`; the function takes the path and `Wanted`, or the path and `labels`
        where a file holds one image.
    matches : callable
        Whether the first `HEAD_BYTES` bytes, unpacked where they are gzipped, are of this kind.
    suffixes : tuple of str
        Names that section files in a directory may have.
    remote : bool
        Whether it is read from a server, too.
    extra : str, optional
        Extra of the package that it needs.
    several : bool
        Whether a file may hold several images and channels.
    """

    name: str
    reader: str
    matches: Callable[[bytes], bool]
    suffixes: tuple[str, ...] = ()
    remote: bool = False
    extra: str | None = None
    several: bool = False

    def open(self, path: InputPath, wanted: Wanted) -> OpenedImage:
        """Import the reader and open a file.

        Raises
        ------
        InputError
            Of the reader, or where the extra is not installed.
        UsageError
            If the file has no such image or channel.
        """
        if wanted.series and not self.several:
            raise UsageError(f"--series is {wanted.series}, but {path} holds a single image; leave it out.")
        module, _, function = self.reader.partition(":")
        try:
            reader: Reader = getattr(import_module(f"bigrestore.io.formats.{module}"), function)
            if self.several:
                return reader(path, wanted)
            return one_channel(reader(path, labels=wanted.labels), wanted, str(path))
        except ImportError as err:
            if self.extra is None:
                raise
            raise InputError(
                f"{path} is {self.name}, which needs {err.name}: {install_command(self.extra)}."
            ) from err


def _begins(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(starts)


def _is_nifti(head: bytes) -> bool:
    """Tell NIfTI-1 or NIfTI-2."""
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0")


TIFF = InputFormat(
    "TIFF",
    "tiff.reader:open_tiff",
    _begins(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    (".tif", ".tiff", ".btf"),
    remote=True,
    several=True,
)
ZARR = InputFormat(
    "a zip file of a Zarr store",
    "zarr:open_zarr",
    _begins(b"PK\x03\x04", b"PK\x05\x06"),
    remote=True,
    several=True,
)
"""A directory of it is told by the files in it, see `is_zarr`."""

PRECOMPUTED = InputFormat(
    "a Neuroglancer precomputed volume",
    "precomputed:open_precomputed",
    _begins(),
    remote=True,
    several=True,
)
"""Told by its file `info`."""

NIFTI = InputFormat("NIfTI", "nifti:open_nifti", _is_nifti, (".nii", ".nii.gz"), extra="formats")

INPUT_FORMATS = (
    TIFF,
    InputFormat("PNG", "image:open_png_or_jpeg", _begins(b"\x89PNG\r\n\x1a\n"), (".png",), remote=True),
    InputFormat("JPEG", "image:open_png_or_jpeg", _begins(b"\xff\xd8\xff"), (".jpg", ".jpeg"), remote=True),
    ZARR,
    InputFormat("MINC2", "minc:open_minc", _begins(b"\x89HDF"), (".mnc",), extra="formats"),
    NIFTI,
)


class OtherFormat(NamedTuple):
    """A format without a reader here: its name, the command that converts it, and the package by which bioio reads it."""

    name: str
    command: str
    bioio: str = ""


OTHER_FORMATS = {
    b"CDF": OtherFormat("MINC1 (NetCDF)", "mincconvert -2 IN converted.mnc"),
    b"BZh": OtherFormat("packed by bzip2", "bunzip2 -k IN"),
    b"\xfd7zXZ": OtherFormat("packed by xz", "unxz -k IN"),
    b"\x28\xb5\x2f\xfd": OtherFormat("packed by zstd", "unzstd IN"),
    b"7z\xbc\xaf": OtherFormat("packed by 7-Zip", "7z x IN"),
    b"ZISRAWFILE": OtherFormat("a Zeiss file (CZI)", "bfconvert IN converted.ome.tif", "bioio-czi"),
    b"\xda\xce\xbe\x0a": OtherFormat("a Nikon file (ND2)", "bfconvert IN converted.ome.tif", "bioio-nd2"),
    b"\x70\0\0\0": OtherFormat("a Leica file (LIF)", "bfconvert IN converted.ome.tif", "bioio-lif"),
    b"NRRD000": OtherFormat("NRRD", "bfconvert IN converted.ome.tif"),
    b"\0\0\0\x0cjP  ": OtherFormat("JPEG 2000", "magick IN converted.tif"),
    b"GIF8": OtherFormat("GIF", "magick IN converted.png"),
    b"BM": OtherFormat("BMP", "magick IN converted.png"),
}
"""What other files begin with."""

SUFFIXES = tuple(suffix for kind in INPUT_FORMATS for suffix in kind.suffixes)
"""Names that a directory of section files may have."""

SUPPORTED = (
    "OME-Zarr, Zarr (or a zip file of one), Neuroglancer precomputed, TIFF, PNG, JPEG, MINC2 (.mnc), NIfTI, or a directory "
    "or pattern of such section files"
)

_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")


def open_input(
    path_or_glob: str | Path | Sequence[str | Path],
    *,
    labels: bool = False,
    options: Mapping[str, Any] | None = None,
    series: int | None = None,
    channel: int | None = None,
) -> OpenedImage:
    """Open a file, store, directory, pattern or list of files with its reader.

    Parameters
    ----------
    path_or_glob : str, Path or sequence of them
        As `bigrestore.io.open_section.open_section` takes it.
    labels : bool
        Whether it is a mask, which may be of bool or any integer type.
    options : mapping, optional
        Options of fsspec for a URL: keys, endpoints. None: those of the environment.
    series : int, optional
        The image of a file that holds several, of each file of a stack; None: the largest.
    channel : int, optional
        The channel of several, from 0; None: the only one, or red, green and blue.

    Raises
    ------
    InputMissingError
        If nothing is there.
    InputError
        If it is unreadable or of no supported kind.
    UsageError
        If the file has no image of the number `series`, or no such channel.
    """
    path_or_glob, wanted = expand_home(path_or_glob), Wanted(labels, series, channel)
    if not isinstance(path_or_glob, str | Path):
        several = isinstance(path_or_glob, Iterable) and not isinstance(path_or_glob, bytes)
        for item in path_or_glob if several else [path_or_glob]:
            if not isinstance(item, RemoteFile):
                require_path(item, "The input")
        files = [input_path(item, options) for item in path_or_glob]
        return _stack(files, "the list of section files", wanted, ordered=True)
    text = str(path_or_glob).removeprefix(PRECOMPUTED_SCHEME)
    if is_remote(text):
        return _open_remote(text, options, wanted)
    if "\0" in text:
        raise InputMissingError("the input has a zero character in its name; give a path without.")
    path = Path(text)
    try:
        if path.is_dir():
            return _open_folder(path, wanted)
        if is_regular(path):
            return open_file(path, wanted)
        if glob.has_magic(text):
            return _open_pattern(text, wanted)
        above = next((parent for parent in path.parents if parent.is_file()), None)
        if above is not None and is_zip(above):
            from bigrestore.io.formats.zarr import open_in_zip

            return open_in_zip(above, path.relative_to(above).as_posix(), wanted)
    except PermissionError as err:
        raise InputError(f"{text} may not be read ({err.strerror}); change its permissions.") from err
    except OSError as err:
        if isinstance(err, InputError) or err.errno is None:
            raise
        raise InputError(f"{text[:200]} cannot be read ({err.strerror}); check the path.") from err
    raise InputMissingError(f"{text} does not exist; check the path.")


def _open_pattern(pattern: str, wanted: Wanted) -> OpenedImage:
    """Open the files matching a pattern; one file is opened as itself."""
    paths = [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - patterns may be absolute
    if not paths:
        raise InputMissingError(
            f"no file matches {pattern}; check the pattern, and quote it against the shell."
        )
    if len(paths) == 1:
        return open_input(paths[0], labels=wanted.labels, series=wanted.series, channel=wanted.channel)
    return _stack(paths, pattern, wanted)


def _open_remote(url: str, options: Mapping[str, Any] | None, wanted: Wanted) -> OpenedImage:
    """Open a URL: a store, a zip file of one, an image file, or the files of a pattern."""
    place = input_path(url, options)
    assert isinstance(place, RemoteFile)
    if "*" in place.url:
        matches = place.matches()
        if not matches:
            raise InputMissingError(
                f"no file matches {place}; check the pattern, and quote it against the shell."
            )
        return _stack(list(matches), str(place), wanted)
    tree = RemoteTree(place)
    if not place.name.lower().endswith((*SUFFIXES, ".zip", ".ozx")):
        if any(map(tree.exists, _ZARR_FILES[:3])):
            return ZARR.open(place, wanted)
        if is_precomputed(tree):
            return PRECOMPUTED.open(place, wanted)
    require_there(place)
    return open_file(place, wanted)


def is_zarr(path: Path) -> bool:
    """Tell whether a directory is a Zarr node of any version."""
    return any((path / name).exists() or (path / name).is_symlink() for name in _ZARR_FILES)


def _is_store(path: Path) -> bool:
    """Tell whether a path in a folder is a Zarr store, also in a zip file."""
    return is_zarr(path) if path.is_dir() else path.name.lower().endswith(ZIP_NAMES)


def is_zip(path: InputPath) -> bool:
    """Tell a zip file by its first bytes."""
    with open_bytes(path) as file:
        return ZARR.matches(file.read(4))


def is_tiff(path: InputPath) -> bool:
    """Tell a TIFF file by its first bytes."""
    with open_bytes(path) as file:
        return TIFF.matches(file.read(4))


def _open_folder(path: Path, wanted: Wanted) -> OpenedImage:
    """Open a directory: a Zarr store, or section files."""
    if is_zarr(path):
        return ZARR.open(path, wanted)
    if is_precomputed(LocalTree(path)):
        return PRECOMPUTED.open(path, wanted)
    files = section_files(path, lambda item: item.name.lower().endswith(SUFFIXES), _is_store)
    if not files:
        raise InputError(
            f"{path} is a directory that is neither a Zarr store nor holds section files; give {SUPPORTED}."
        )
    return _stack(files, str(path), wanted)


def _stack(paths: Sequence[InputPath], source: str, wanted: Wanted, *, ordered: bool = False) -> OpenedImage:
    """Open section files as a volume."""
    from bigrestore.io.formats.stack import open_stack

    return open_stack(paths, source, partial(open_file, wanted=wanted), ordered=ordered)


def open_file(path: InputPath, wanted: Wanted) -> OpenedImage:
    """Open a single file by its first bytes, and reopen it when it changes."""
    open_it = partial(_open_by_first_bytes, path, wanted)
    return open_fresh(path, open_it) if isinstance(path, Path) and not path.is_dir() else open_it()


def _open_by_first_bytes(path: InputPath, wanted: Wanted) -> OpenedImage:
    """Open a single file by its first bytes."""
    if isinstance(path, Path) and path.is_dir():
        return _open_folder(path, wanted)
    if not (is_regular(path) if isinstance(path, Path) else path.exists()):
        raise InputMissingError(f"{path} does not exist; check the path.")
    head, gzipped = _head(path)
    if not head:
        raise InputError(f"{path} is empty (0 bytes); copy or write it again.")
    kind = next((kind for kind in INPUT_FORMATS if kind.matches(head)), None)
    if gzipped and not (kind is NIFTI and path.name.lower().endswith(".gz")):
        raise InputError(f"{path} is packed by gzip; unpack it first: gunzip -k {quote(str(path))}.")
    if isinstance(path, RemoteFile) and (kind is None or not kind.remote):
        raise InputError(
            f"{path} is of no kind that is read from a server (OME-Zarr, a zip file of one, TIFF, PNG, JPEG); copy it "
            "to a disk first."
        )
    if kind is not None:
        return kind.open(path, wanted)
    if path.name in _ZARR_FILES:
        raise InputError(f"{path} is the metadata of a Zarr store; give the directory {path.parent} instead.")
    return _open_other(path, head, wanted)


def _open_other(path: InputPath, head: bytes, wanted: Wanted) -> OpenedImage:
    """Open a file of another format by bioio, or refuse it with what reads or converts it."""
    other = next((kind for start, kind in OTHER_FORMATS.items() if head.startswith(start)), None)
    if isinstance(path, Path) and (other is None or other.bioio):
        image = open_by_bioio(path, wanted, "" if other is None else other.bioio)
        if image is not None:
            return image
    if other is not None:
        by = other.command.replace("IN", quote(str(path)))
        own = f", or install its reader: {install_command('bioio', other.bioio)}" if other.bioio else ""
        raise InputError(f"{path} is {other.name}, which is not read; convert it first: {by}{own}.")
    raise InputError(
        f"{path} is of no kind that is read, or its beginning is damaged; give {SUPPORTED}, or install a reader of bioio "
        f"for it: {install_command('bioio', 'bioio-lif')}, or another of its readers."
    )


def _head(path: InputPath) -> tuple[bytes, bool]:
    """Return the first bytes of a file, unpacked if it is gzipped, and whether it is."""
    with open_bytes(path) as file:
        head = file.read(HEAD_BYTES)
    if not isinstance(path, Path) or not head.startswith(b"\x1f\x8b"):
        return head, False
    try:
        with gzip.open(path) as packed:
            return packed.read(HEAD_BYTES), True
    except (OSError, EOFError) as err:
        raise InputError(f"{path} is a damaged gzip file ({err}); copy it again.") from err
