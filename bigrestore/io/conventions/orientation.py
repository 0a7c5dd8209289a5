"""Turn and mirror pixels as a file's orientation says (TIFF tag 274, also in EXIF).

A camera or a scanner stores its rows as they come, and notes in the file how the picture is to be shown. Only the
windows that are read are turned: a window of the turned image is a window of the stored one. Where rows and columns
change places, so do the voxel sizes. A stated position belongs to the stored rows, and becomes unknown.
"""

from __future__ import annotations

import logging
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.io.levels import Level, OpenedImage, Triple

log = logging.getLogger(__name__)

ORIENTATION_TAG = 274

_WORDS = {
    2: "mirrored left to right",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored with rows and columns exchanged",
    6: "turned by 90 degrees clockwise",
    7: "mirrored and turned, with rows and columns exchanged",
    8: "turned by 90 degrees counterclockwise",
}
_EXCHANGED = (5, 6, 7, 8)
"""Rows become columns; what is mirrored is mirrored afterwards."""

_ROWS_REVERSED, _COLUMNS_REVERSED = (3, 4, 7, 8), (2, 3, 6, 7)


def oriented(image: OpenedImage, orientation: int, source: str) -> OpenedImage:
    """Return the image as it is to be shown.

    Parameters
    ----------
    image : OpenedImage
        As stored.
    orientation : int
        1 to 8 as in TIFF 6.0; 1, and anything else, leaves the image as it is.
    source : str
        The file, for the log.
    """
    if orientation not in _WORDS:
        return image
    log.info("%s states the orientation %d: it is %s.", source, orientation, _WORDS[orientation])
    first = image.levels[0]
    levels = tuple(_oriented_level(level, first, orientation) for level in image.levels)
    return attrs.evolve(image, levels=levels, details={**image.details, "orientation": orientation})


def _oriented_level(level: Level, first: Level, orientation: int) -> Level:
    """Return a level as it is to be shown; `first` is the finest as stored."""
    exchanged = orientation in _EXCHANGED
    reversed_rows, reversed_columns = orientation in _ROWS_REVERSED, orientation in _COLUMNS_REVERSED
    depth, height, width = level.shape
    chunk = level.chunk
    if exchanged:
        height, width, chunk = width, height, (chunk[1], chunk[0])

    def stored_window(y0: int, y1: int, x0: int, x1: int) -> tuple[int, int, int, int]:
        if reversed_rows:
            y0, y1 = height - y1, height - y0
        if reversed_columns:
            x0, x1 = width - x1, width - x0
        return (x0, x1, y0, y1) if exchanged else (y0, y1, x0, x1)

    def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        pixels = level.read(z, *stored_window(y0, y1, x0, x1))
        if exchanged:
            pixels = np.swapaxes(pixels, 0, 1)
        if reversed_rows:
            pixels = pixels[::-1]
        return pixels[:, ::-1] if reversed_columns else pixels

    def version(z: int, y0: int, y1: int, x0: int, x1: int, *, fresh: bool = False) -> list[str]:
        assert level.version is not None
        return level.version(z, *stored_window(y0, y1, x0, x1), fresh=fresh)

    return attrs.evolve(
        level,
        shape=(depth, height, width),
        chunk=chunk,
        read=read,
        voxel_size_um=_exchanged(level.voxel_size_um) if exchanged else level.voxel_size_um,
        translation_um=_oriented_start(level, first, orientation),
        version=None if level.version is None else version,
    )


def _exchanged(triple: Triple) -> Triple:
    """Exchange y and x."""
    return triple[0], triple[2], triple[1]


def _oriented_start(level: Level, first: Level, orientation: int) -> Triple:
    """Return the first voxel's centre: unknown of the finest level, of the others relative to that."""
    starts: list[float | None] = [level.translation_um[0], None, None]
    if level is not first:
        for axis in (1, 2):
            size, fine = level.voxel_size_um[axis], first.voxel_size_um[axis]
            start = level.translation_um[axis]
            if size is None or fine is None or start is None:
                continue
            start -= first.translation_um[axis] or 0.0
            shown_axis = 3 - axis if orientation in _EXCHANGED else axis
            if orientation in (_ROWS_REVERSED if shown_axis == 1 else _COLUMNS_REVERSED):
                start = (first.shape[axis] - 1) * fine - start - (level.shape[axis] - 1) * size
            starts[axis] = start
    triple: Triple = (starts[0], starts[1], starts[2])
    return _exchanged(triple) if orientation in _EXCHANGED else triple
