"""Present section files of one shape as a volume.

The order is the natural one (pm2 before pm10); the third axis is the file. Opening reads the headers of all
files, to name a misfit before hours of work and not after. Pixels are read from one file at a time, and only the
last files in use stay open.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
from numpy.typing import NDArray

from bigrestore.errors import InputError
from bigrestore.io.access.places import InputPath
from bigrestore.io.access.versions import file_version
from bigrestore.io.decoded import Decoded
from bigrestore.io.levels import Level, OpenedImage

KEPT_OPEN = 2
"""Files kept decoded: the current one and its neighbour."""


def natural_key(path: InputPath) -> tuple[list[list[tuple[int, int, str]]], str]:
    """Return a sorting key that compares numbers in folder and file names as numbers.

    Names that read alike, as `a` and `A`, are ordered by the exact path, never by the directory's listing.
    """
    names = [re.split(r"(\d+)", part) for part in path.parts]
    return [[_token(token) for token in tokens] for tokens in names], str(path)


def _token(text: str) -> tuple[int, int, str]:
    """Return the sorting key of a part of a name; int() reads decimal digits of any script, and no others."""
    return (1, int(text), text) if text.isdecimal() else (0, 0, text.lower())


def open_stack(
    paths: Sequence[InputPath],
    source: str,
    open_file: Callable[[InputPath], OpenedImage],
    *,
    ordered: bool = False,
) -> OpenedImage:
    """Open section files as the sections of one volume.

    Parameters
    ----------
    paths : list of Path
        The files.
    source : str
        Their source, for messages.
    open_file : callable
        Opens one of them.
    ordered : bool
        Whether to keep their order; otherwise they are put into natural order.

    Raises
    ------
    InputError
        If there is none, or one differs from the first in shape, channels or dtype.
    """
    if not paths:
        raise InputError(f"{source} is empty; give at least one section file.")
    files = tuple(paths) if ordered else tuple(sorted(paths, key=natural_key))
    first, shown = open_file(files[0]), _namer(files)
    for path in files:
        image = first if path is files[0] else open_file(path)
        if image.levels[0].shape[0] != 1:
            raise InputError(
                f"{path} is a volume of {image.levels[0].shape[0]} sections itself; open it on its own."
            )
        if _shape_and_type(image) != _shape_and_type(first):
            raise InputError(
                f"the sections of {source} differ: {shown(files[0])} is {_shape_and_type(first)} and {shown(path)} is "
                f"{_shape_and_type(image)}; a volume takes files of one shape and dtype, so select or pad them first."
            )
    return _as_volume(files, first, open_file, shown)


def _namer(files: tuple[InputPath, ...]) -> Callable[[InputPath], str]:
    """Return a function that names a file within the files' common folder."""
    folders = {path.parent for path in files}
    try:
        common = Path(os.path.commonpath(folders))
    except ValueError:  # absolute and relative paths share nothing
        return str
    return lambda path: str(path.relative_to(common))


def _as_volume(
    files: tuple[InputPath, ...],
    first: OpenedImage,
    open_file: Callable[[InputPath], OpenedImage],
    shown: Callable[[InputPath], str],
) -> OpenedImage:
    """Describe the volume of files like `first`."""
    opened: Decoded[OpenedImage] = Decoded(KEPT_OPEN)

    def level(index: int) -> Level:
        flat = first.levels[index]

        def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
            image = opened.get(z, lambda: open_file(files[z]), 1)
            return image.levels[index].read(0, y0, y1, x0, x1)

        def version(z: int, *_: int, fresh: bool = False) -> list[str]:
            return [file_version(files[z], fresh=fresh)]

        return attrs.evolve(flat, shape=(len(files), *flat.shape[1:]), read=read, version=version)

    return attrs.evolve(
        first,
        kind="stack",
        levels=tuple(level(index) for index in range(len(first.levels))),
        axes="z" + first.axes.replace("z", ""),
        is_volume=True,
        resident_bytes=min(KEPT_OPEN, len(files)) * first.resident_bytes,
        files=files,
        details={**first.details, "sections": len(files), "first": shown(files[0]), "last": shown(files[-1])},
    )


def _shape_and_type(image: OpenedImage) -> str:
    """Return the facts that all sections of a volume share."""
    height, width = image.levels[0].shape[1:]
    colour = " RGB" if image.channels == 3 else ""
    levels = f", {len(image.levels)} levels" if len(image.levels) > 1 else ""
    stated = image.stated_range
    values = "" if stated is None else f" of {stated.low:g} to {stated.high:g}"
    return f"{height} x {width} (y, x) {image.dtype.name}{values}{colour}{levels}"
