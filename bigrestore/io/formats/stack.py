"""Present section files of one shape as a volume.

The order is the natural one (pm2 before pm10); the third axis is the file. Opening reads the headers of all
files, to name a misfit before hours of work and not after: another shape, another pixel size. The files' positions
along z give the distance of the sections, where they state any. Pixels are read from one file at a time, and only
the last files in use stay open.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
from numpy.typing import NDArray

from bigrestore.errors import InputError
from bigrestore.io.access.places import InputPath
from bigrestore.io.access.versions import file_version
from bigrestore.io.conventions.direction import turned_round
from bigrestore.io.decoded import Decoded
from bigrestore.io.levels import Level, OpenedImage, Triple

log = logging.getLogger(__name__)

KEPT_OPEN = 2
"""Files kept decoded: the current one and its neighbour."""

SAME_SIZE = 1e-3
"""Share by which pixel sizes of one volume may differ, as rounded numbers do."""

EVEN_SPACING = 0.05
"""Share by which the distance of two sections may differ from the mean."""


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
        If there is none, or one differs from the others in shape, channels, dtype or pixel size.
    """
    if not paths:
        raise InputError(f"{source} is empty; give at least one section file.")
    files = tuple(paths) if ordered else tuple(sorted(paths, key=natural_key))
    first, shown = open_file(files[0]), _namer(files)
    places, parts = list[tuple[Triple, Triple]](), list[InputPath]()
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
        places.append((image.levels[0].voxel_size_um, image.levels[0].translation_um))
        parts += image.files
    size, start = _common_place(places, [shown(path) for path in files], source)
    volume = _as_volume(files, tuple(parts), first, open_file, shown)
    own = first.levels[0].translation_um
    placed = tuple(_placed(level, size, start, own) for level in volume.levels)
    if size[2] is None and first.levels[0].voxel_size_um[2] is not None:
        volume.details["voxel_size_from"] = "not known: not every section states it"
    falling = size[0] is not None and size[0] < 0
    return turned_round(attrs.evolve(volume, levels=placed), ["z" if falling else ""] * len(placed), source)


def _common_place(
    places: Sequence[tuple[Triple, Triple]], names: Sequence[str], source: str
) -> tuple[Triple, Triple]:
    """Return voxel size and translation of a volume; what the files do not agree on is unknown.

    The size along z is negative where positions fall from file to file.
    """
    size = [None, *(_common_size([place[0][axis] for place in places], names, source) for axis in (1, 2))]
    start: list[float | None] = [None, None, None]
    for axis in (1, 2):
        starts, pixel = [place[1][axis] for place in places], size[axis] or 1.0
        known = [value for value in starts if value is not None]
        if len(known) == len(starts) and max(known) - min(known) <= SAME_SIZE * pixel:
            start[axis] = known[0]
        elif known:
            log.warning("the sections of %s begin at different places along %s", source, "zyx"[axis])
    size[0], start[0] = _spacing([place[1][0] for place in places], places[0][0][0], source)
    return (size[0], size[1], size[2]), (start[0], start[1], start[2])


def _common_size(sizes: Sequence[float | None], names: Sequence[str], source: str) -> float | None:
    """Return the pixel size of all sections; refuse a mixture."""
    known = [(size, name) for size, name in zip(sizes, names, strict=True) if size is not None]
    if not known:
        return None
    (low, one), (high, other) = min(known), max(known)
    if high > low * (1 + SAME_SIZE):
        raise InputError(
            f"the sections of {source} differ: {one} has pixels of {low:g} um and {other} of {high:g} um; a volume takes "
            "files of one pixel size, so select or rescale them first."
        )
    if len(known) < len(sizes):
        missing = next(name for size, name in zip(sizes, names, strict=True) if size is None)
        log.warning(
            "%s of %s states no pixel size, so that of the volume is unknown; give --voxel-size",
            missing,
            source,
        )
        return None
    return known[0][0]


def _spacing(
    starts: Sequence[float | None], stated: float | None, source: str
) -> tuple[float | None, float | None]:
    """Return the distance of sections along z, negative where positions fall, and where the first lies."""
    known = [start for start in starts if start is not None]
    if len(known) < len(starts) or len(known) < 2 or max(known) == min(known):
        return stated, starts[0]
    steps = [after - before for before, after in pairwise(known)]
    mean = sum(steps) / len(steps)
    if any(abs(step - mean) > EVEN_SPACING * abs(mean) for step in steps):
        log.warning(
            "the sections of %s are not evenly spaced along z, so that their distance is unknown", source
        )
        return None, starts[0]
    return mean, starts[0]


def _placed(level: Level, size: Triple, start: Triple, own: Triple) -> Level:
    """Return a level of the volume with its place; what is unknown of the volume is unknown of all its levels.

    `own` is the translation of the finest level of the first file.
    """
    sizes = [
        None if volume is None else value for value, volume in zip(level.voxel_size_um, size, strict=True)
    ]
    starts = [
        None if volume is None and finest is not None else value
        for value, volume, finest in zip(level.translation_um, start, own, strict=True)
    ]
    depth = None if size[0] is None else abs(size[0])
    return attrs.evolve(
        level, voxel_size_um=(depth, sizes[1], sizes[2]), translation_um=(start[0], starts[1], starts[2])
    )


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
    parts: tuple[InputPath, ...],
    first: OpenedImage,
    open_file: Callable[[InputPath], OpenedImage],
    shown: Callable[[InputPath], str],
) -> OpenedImage:
    """Describe the volume of sections like `first`; `parts` are the files that identify them."""
    opened: Decoded[OpenedImage] = Decoded(KEPT_OPEN)

    def level(index: int) -> Level:
        flat = first.levels[index]

        def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
            image = opened.get(z, lambda: open_file(files[z]), 1)
            return image.levels[index].read(0, y0, y1, x0, x1)

        def version(z: int, *window: int, fresh: bool = False) -> list[str]:
            if flat.version is None:
                return [file_version(files[z], fresh=fresh)]
            own = opened.get(z, lambda: open_file(files[z]), 1).levels[index].version
            return [] if own is None else own(0, *window, fresh=fresh)

        return attrs.evolve(
            flat,
            shape=(len(files), *flat.shape[1:]),
            read=read,
            version=version,
            file_name=lambda z: shown(files[z]),
        )

    return attrs.evolve(
        first,
        kind="stack",
        levels=tuple(level(index) for index in range(len(first.levels))),
        axes="z" + first.axes.replace("z", ""),
        is_volume=True,
        resident_bytes=min(KEPT_OPEN, len(files)) * first.resident_bytes,
        files=parts,
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
