"""What viewers show an image by: its name, and the window of a map.

They change no pixel. napari names a layer `NAME: CHANNEL`, and shows values from the window's start as black to its end
as white.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from bigrestore.io.store.ome_zarr import open_level, read_block
from bigrestore.io.store.placement import pyramid_shapes
from bigrestore.io.store.store_spec import StoreSpec

_ENDING = re.compile(r"(\.ome)?(\.(zarr(\.zip)?|ozx|tiff?|btf|png|jpe?g|mnc|nii(\.gz)?))?$", re.IGNORECASE)
"""Of the name of an input."""

MAP_BINS = 65536
"""Values of a map are counted in steps of one part in so many."""

MAP_SHARE = 0.995
"""Part of the values above 0 that are shown darker than white."""

MAP_WHITE = 16 / 255
"""White of a map that is 0 everywhere."""


def section_name(source: str) -> str:
    """Return the name of a section by the path, pattern or URL that it was opened from.

    It is the last part of the path without its ending, or the folder's where a pattern leaves nothing of that.
    """
    for part in reversed(source.split("/")):
        name = re.sub(r"[*?\[\]]", "", _ENDING.sub("", part)).strip(" ._-")
        name = "".join(letter for letter in name if letter.isprintable())
        if name:
            return name
    return "image"


def map_window(path: Path, spec: StoreSpec) -> tuple[float, float]:
    """Return black and white of a map: 0, and a value that few of its pixels exceed.

    Parameters
    ----------
    path : Path
        Its image, float32 from 0 to 1, on which `build_pyramid` has ended; the coarsest level is counted.
    spec : StoreSpec
        What the image holds.
    """
    shapes = pyramid_shapes(spec)
    depth, height, width = shapes[-1]
    array = open_level(path, len(shapes) - 1, mode="r")
    counts = np.zeros(MAP_BINS + 1, np.int64)
    for z in range(depth):
        values = read_block(array, spec.axes, z, 0, height, 0, width)
        steps = np.rint(np.clip(values, 0, 1) * np.float32(MAP_BINS)).astype(np.intp)
        counts += np.bincount(steps.ravel(), minlength=len(counts))
    counts[0] = 0
    if not counts.any():
        return 0.0, MAP_WHITE
    white = int(np.searchsorted(np.cumsum(counts), MAP_SHARE * counts.sum()))
    return 0.0, white / MAP_BINS
