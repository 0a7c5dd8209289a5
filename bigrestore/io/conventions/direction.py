"""Read axes along which positions fall from their other end.

NIfTI, MINC and OME-Zarr may state a negative step: the first stored voxel lies farthest along the axis. OME-XML takes
positive sizes only, and validators and viewers of OME-Zarr refuse others. So such an axis is turned round on reading:
each voxel keeps its place, the step becomes positive, and the image begins with the voxel that was stored last.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
from numpy.typing import NDArray

from bigrestore.errors import UsageError
from bigrestore.io.levels import Level, OpenedImage, Triple

if TYPE_CHECKING:
    from bigrestore.io.section import Section

log = logging.getLogger(__name__)

TURNED_KEY = "turned_round"
"""Name, in the details of an image, of the axes that are read from their other end."""


def turned_round(image: OpenedImage, backwards: Sequence[str], source: str) -> OpenedImage:
    """Return an image whose positions rise along every axis.

    Parameters
    ----------
    image : OpenedImage
        As stored: sizes without their sign, translations of the first stored voxel.
    backwards : sequence of str
        For each level the axes with a negative step, of "zyx".
    source : str
        Its name, for the log.
    """
    if not any(backwards):
        return image
    names = ", ".join(sorted(set("".join(backwards))))
    log.info(
        "positions in %s fall along %s: it is turned round there, and each voxel keeps its place",
        source,
        names,
    )
    levels = tuple(_turned(level, axes) for level, axes in zip(image.levels, backwards, strict=True))
    return attrs.evolve(image, levels=levels, details=image.details | {TURNED_KEY: names})


def _turned(level: Level, backwards: str) -> Level:
    """Turn one level round."""
    depth, height, width = level.shape
    flip_z, flip_y, flip_x = (axis in backwards for axis in "zyx")

    def stored(z: int, y0: int, y1: int, x0: int, x1: int) -> tuple[int, int, int, int, int]:
        rows = (height - y1, height - y0) if flip_y else (y0, y1)
        columns = (width - x1, width - x0) if flip_x else (x0, x1)
        return depth - 1 - z if flip_z else z, *rows, *columns

    def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        pixels = level.read(*stored(z, y0, y1, x0, x1))
        return pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1]

    def version(*window: int, fresh: bool = False) -> list[str]:
        assert level.version is not None
        return level.version(*stored(*window), fresh=fresh)

    starts = [
        start
        if axis not in backwards
        else None
        if start is None or size is None
        else start - size * (count - 1)
        for axis, start, size, count in zip(
            "zyx", level.translation_um, level.voxel_size_um, level.shape, strict=True
        )
    ]
    first: Triple = (starts[0], starts[1], starts[2])
    return attrs.evolve(
        level, read=read, translation_um=first, version=None if level.version is None else version
    )


def require_same_direction(section: Section, others: Mapping[str, Section]) -> None:
    """Refuse a mask or map that is turned round along other axes than the section.

    Parameters
    ----------
    section : Section
        The input.
    others : mapping
        Images on its grid, by what they are.

    Raises
    ------
    UsageError
        Naming both, since one of them would be mirrored against the other.
    """
    own = section.details.get(TURNED_KEY, "")
    for what, other in others.items():
        theirs = other.details.get(TURNED_KEY, "")
        if theirs != own:
            raise UsageError(
                f"positions fall along {own or 'no axis'} in {section.source}, but along {theirs or 'no axis'} in the "
                f"{what} {other.source}, so that one is mirrored against the other; give the {what} with the steps or the "
                "affine of the input."
            )
