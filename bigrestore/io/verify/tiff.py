"""Verify a pyramidal TIFF: tiles decode, the levels' sizes and pixels agree, the unit is stated.

The levels are read as any other input is, tile by tile. A file of bigrestore must hold exact means; of a foreign
one only the tiles and sizes are checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from bigrestore.core.urls import error_line
from bigrestore.io.levels import Level, OpenedImage, Wanted
from bigrestore.io.store.reduce import halve
from bigrestore.io.verify.faults import DECODE_ERRORS, Fault, difference

__all__ = ["verify_tiff"]

BAND_PX = 512
"""Rows of a level that are compared at a time."""


def verify_tiff(path: Path) -> list[Fault]:
    """Return the faults of a TIFF file.

    Parameters
    ----------
    path : Path
        An existing file that begins as a TIFF does.
    """
    from bigrestore.io.formats.table import open_file

    try:
        image = open_file(path, Wanted())
        with tifffile.TiffFile(path) as file:
            xml = file.ome_metadata or ""
    except DECODE_ERRORS as err:
        return [Fault("store.unreadable", str(path), "a TIFF file", error_line(err))]
    ours = 'Creator="bigrestore"' in xml
    faults = []
    if ours and image.levels[0].voxel_size_um[2] is None and "PhysicalSizeX=" in xml:
        faults.append(
            Fault("unit.spelling", "OME-XML PhysicalSizeXUnit", "\u00b5m", "a unit that is not understood")
        )
    for index, level in enumerate(image.levels):
        faults += _tile_faults(index, level)
        if index and ours:
            faults += _level_faults(index, image)
    return faults


def _tile_faults(index: int, level: Level) -> Iterator[Fault]:
    """Yield the undecodable tiles or strips of a level."""
    depth, height, width = level.shape
    step_y, step_x = level.chunk
    for z in range(depth):
        for y0 in range(0, height, step_y):
            for x0 in range(0, width, step_x):
                try:
                    level.read(z, y0, min(y0 + step_y, height), x0, min(x0 + step_x, width))
                except DECODE_ERRORS as err:
                    location = f"level {index} z={z} y={y0} x={x0}"
                    yield Fault("chunk.undecodable", location, "bytes that decode", error_line(err))


def _level_faults(index: int, image: OpenedImage) -> Iterator[Fault]:
    """Yield a level if its size or pixels differ from the halved level before."""
    before, level = image.levels[index - 1], image.levels[index]
    wanted_shape = (before.shape[0], -(-before.shape[1] // 2), -(-before.shape[2] // 2))
    if level.shape != wanted_shape:
        yield Fault("level.shape", f"level {index}", str(wanted_shape), str(level.shape))
        return
    depth, height, width = level.shape
    for z in range(depth):
        for y0 in range(0, height, BAND_PX):
            y1 = min(y0 + BAND_PX, height)
            try:
                fine = before.read(z, 2 * y0, min(2 * y1, before.shape[1]), 0, before.shape[2])
                coarse = level.read(z, y0, y1, 0, width)
            except DECODE_ERRORS:  # already reported as undecodable
                continue
            planes = fine[..., np.newaxis] if fine.ndim == 2 else fine
            wanted = np.stack([halve(planes[np.newaxis, ..., c]) for c in range(planes.shape[-1])], axis=-1)
            yield from difference(f"level {index} z={z}", (y0, 0), wanted.reshape(coarse.shape), coarse)
