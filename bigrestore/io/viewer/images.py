"""The images that are shown together: an output, its maps, and the input that it was made of.

Any input that opens can be shown: each image is a pyramid of windows, read when they are asked for. All lie on the
grid of the output. Where a voxel size is unknown the grid is that of its pixels, and the input is placed on it by the
scale and the region that the output states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.files import expand_home
from bigrestore.errors import InputError, UsageError
from bigrestore.io.access.places import input_path
from bigrestore.io.conventions.provenance import image_read, part_of, provenance_of
from bigrestore.io.conventions.stated_range import range_of_type
from bigrestore.io.formats.table import open_input
from bigrestore.io.formats.zarr import open_image_in
from bigrestore.io.levels import Level, OpenedImage, level_factor
from bigrestore.io.store.reduce import area_thumbnail
from bigrestore.io.store.store_spec import MAPS_GROUP
from bigrestore.settings.values import MAPS, is_whole

BEFORE, AFTER = "before", "after"

OVERVIEW_PX = 1920
"""Levels are added to an image until the longer side is at most this many pixels."""


@attrs.frozen(eq=False)
class ShownLevel:
    """One level of a shown image.

    Attributes
    ----------
    level : Level
        Its pixels.
    scale, start : tuple of float
        Size of a voxel and centre of the first one, (z, y, x), in the units of the image.
    """

    level: Level
    scale: tuple[float, float, float]
    start: tuple[float, float, float]


@attrs.frozen(eq=False)
class ShownImage:
    """One image of the page.

    Attributes
    ----------
    name : str
        "before", "after", or that of a map.
    levels : tuple of ShownLevel
        Finest first.
    channels : int
        1 or 3.
    dtype : numpy.dtype
        uint8, uint16 or float32.
    axes : str
        "zyx", or "yx" if the output is no volume.
    known : str
        The axes with a voxel size in micrometres; the unit of the others is a pixel of the output.
    window : tuple of float
        Values shown as black and white.
    """

    name: str
    levels: tuple[ShownLevel, ...]
    channels: int
    dtype: np.dtype[Any]
    axes: str
    known: str
    window: tuple[float, float]


@attrs.frozen
class _Grid:
    """The grid of an output: per axis (z, y, x) whether its voxel size is known, its size and first centre."""

    known: tuple[bool, bool, bool]
    size: tuple[float, float, float]
    start: tuple[float, float, float]


def shown_images(output: str, before: str | None = None) -> list[ShownImage]:
    """Open an output with its maps, and the input before it.

    Parameters
    ----------
    output : str
        An OME-Zarr image or a TIFF; a path or URL.
    before : str, optional
        Any input.

    Returns
    -------
    list of ShownImage
        The input if given, the output, its maps.

    Raises
    ------
    InputError
        If one of them cannot be opened, or the output is none that a run writes.
    """
    output = expand_home(output)
    image = open_input(output)
    if image.kind not in ("ome-zarr", "tiff"):
        raise InputError(
            f"{output} is neither an OME-Zarr image nor a TIFF, as a run writes them; give one, and name other images by "
            "--before."
        )
    stated = provenance_of(image.details)
    grid = _grid_of(image, stated)
    axes = "zyx" if image.is_volume else "yx"
    after = _shown(AFTER, image, grid, axes, _window(image))
    images = [after, *_shown_maps(output, stated, grid, axes)]
    if before is None:
        return images
    source = _open_source(before, stated)
    window = after.window if source.dtype == image.dtype else _window(source)
    placed = _source_grid(source, grid, _scale(stated, image, source))
    return [_shown(BEFORE, source, placed, axes, window), *images]


def _shown_maps(output: str, stated: Mapping[str, Any], grid: _Grid, axes: str) -> Iterator[ShownImage]:
    """Yield the maps that an output names."""
    named = part_of(stated, MAPS_GROUP)
    for name in MAPS:
        if name in named:
            place, path = input_path(output), f"{MAPS_GROUP}/{name}"
            in_zip = isinstance(place, Path) and not place.exists()
            image = open_input(f"{output}/{path}") if in_zip else open_image_in(place, path)
            yield _shown(name, image, grid, axes, _window(image))


def _open_source(before: str, stated: Mapping[str, Any]) -> OpenedImage:
    """Open the input, from the level on that the run read."""
    series, channel, level = image_read(stated)
    try:
        source = open_input(before, series=series, channel=channel)
    except UsageError:  # another file, which has no such image or channel
        source = open_input(before)
    if level < len(source.levels):
        source = attrs.evolve(source, levels=source.levels[level:])
    return source


def _window(image: OpenedImage) -> tuple[float, float]:
    """Return black and white as an image is meant to be displayed, as it states its values, or as its type says."""
    window = image.details.get("display_window")
    if window is not None:
        return window[0], window[1]
    stated = image.stated_range
    return range_of_type(image.dtype) if stated is None else (stated.low, stated.high)


def _grid_of(image: OpenedImage, stated: Mapping[str, Any]) -> _Grid:
    """Return the grid of an output."""
    first = image.levels[0]
    roi = part_of(stated, "settings").get("roi")
    spans = roi if isinstance(roi, list) and len(roi) == 3 else [None] * 3
    corner = [span[0] if isinstance(span, list) and span and is_whole(span[0]) else 0 for span in spans]
    known, size, start = [], [], []
    for axis in range(3):
        voxel = first.voxel_size_um[axis]
        known.append(voxel is not None)
        size.append(1.0 if voxel is None else voxel)
        start.append(float(corner[axis]) if voxel is None else first.translation_um[axis] or 0.0)
    return _Grid(_triple(known), _triple(size), _triple(start))


def _source_grid(source: OpenedImage, grid: _Grid, scale: tuple[float, float, float]) -> _Grid:
    """Return the grid of an input in the units of an output with `scale` pixels for each of the input's."""
    first = source.levels[0]
    size, start = [], []
    for axis in range(3):
        voxel = first.voxel_size_um[axis]
        if grid.known[axis] and voxel is not None:
            size.append(voxel)
            start.append(first.translation_um[axis] or 0.0)
            continue
        size.append(grid.size[axis] * scale[axis])
        start.append(0.0 if grid.known[axis] else (scale[axis] - 1) / 2)
    return _Grid(grid.known, _triple(size), _triple(start))


def _scale(stated: Mapping[str, Any], image: OpenedImage, source: OpenedImage) -> tuple[float, float, float]:
    """Return the pixels of an output for one of its input: as stated, else by the sizes of the two."""
    try:
        scale = float(Fraction(str(part_of(stated, "method")["scale"])))
    except (KeyError, ValueError, ZeroDivisionError, OverflowError):
        scale = 0.0
    if not scale > 0:
        (_, height, width), (_, rows, columns) = image.levels[0].shape, source.levels[0].shape
        return 1.0, height / rows, width / columns
    return 1.0, scale, scale


def _triple(values: list[Any]) -> tuple[Any, Any, Any]:
    return values[0], values[1], values[2]


def _shown(name: str, image: OpenedImage, grid: _Grid, axes: str, window: tuple[float, float]) -> ShownImage:
    """Place the levels of an image on a grid."""
    levels = []
    first = image.levels[0]
    for level in _with_overviews(image):
        factors = [
            size / base
            if (size := level.voxel_size_um[axis]) and (base := first.voxel_size_um[axis])
            else level_factor(first.shape[axis], level.shape[axis])
            for axis in range(3)
        ]
        scale = [size * factor for size, factor in zip(grid.size, factors, strict=True)]
        start = [
            begin + size * (factor - 1) / 2
            for begin, size, factor in zip(grid.start, grid.size, factors, strict=True)
        ]
        levels.append(ShownLevel(level, _triple(scale), _triple(start)))
    known = "".join(axis for axis, is_known in zip("zyx", grid.known, strict=True) if is_known)
    return ShownImage(name, tuple(levels), image.channels, image.dtype, axes, known, window)


def _with_overviews(image: OpenedImage) -> Iterator[Level]:
    """Yield the levels of an image, and means of the last one until it is small."""
    yield from image.levels
    last, step = image.levels[-1], 2
    while max(last.shape[1:]) > OVERVIEW_PX * step // 2:
        yield _overview(last, step, image)
        step *= 2


def _overview(level: Level, step: int, image: OpenedImage) -> Level:
    """Return a level reduced by a whole factor, computed when it is read."""
    depth, height, width = level.shape

    def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        top, left = y0 * step, x0 * step

        def inside(z: int, a: int, b: int, c: int, d: int) -> NDArray[Any]:
            return level.read(z, top + a, top + b, left + c, left + d)

        rows, columns = min(y1 * step, height) - top, min(x1 * step, width) - left
        return area_thumbnail(inside, z, rows, columns, image.channels, image.dtype, step)

    shape = (depth, -(-height // step), -(-width // step))
    sizes = [
        None if size is None else size * factor
        for size, factor in zip(level.voxel_size_um, (1, step, step), strict=True)
    ]
    return Level(shape, level.chunk, read, _triple(sizes))
