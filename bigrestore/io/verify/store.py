"""Verify a written pyramid: everything decodes, and facts stated twice agree.

Faults are collected, not raised, each with a stable id, a location and the expected value. A store written by
bigrestore must hold every shard, and every level exactly as the mean of the one before. A foreign store may be
sparse and reduced in another way, so its levels only have to show the same picture.

Version 0.4 has no checksums: a flipped bit that still decodes shows only as a level that disagrees with the one
before. In 0.5 bigrestore writes a checksum of every chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import zarr
from numpy.typing import NDArray

from bigrestore.core.regular import is_regular
from bigrestore.core.urls import error_line
from bigrestore.errors import InputError, InputMissingError, first_of_group
from bigrestore.io.access.tree_store import open_node
from bigrestore.io.access.trees import Tree
from bigrestore.io.formats.ome_metadata import Multiscale, multiscales_body, parse_multiscales
from bigrestore.io.formats.resolution import micrometres_per
from bigrestore.io.formats.table import is_tiff, is_zarr, is_zip
from bigrestore.io.formats.zarr import AxisMap, map_axes, tree_of
from bigrestore.io.formats.zarr_bounded import bounded
from bigrestore.io.levels import Wanted, level_factor
from bigrestore.io.store.ome_zarr import ZarrArray
from bigrestore.io.store.pyramid import reduced_window
from bigrestore.io.store.reduce import area_thumbnail
from bigrestore.io.store.store_spec import MAPS_GROUP
from bigrestore.io.verify.faults import DECODE_ERRORS, Fault, difference
from bigrestore.io.verify.own_statements import maps_stated, own_faults

FOREIGN_TOLERANCE = 0.03
"""Mean difference of a foreign level's thumbnail from level 0's, as a part of the range."""

MOST_LEVEL_FILES = 2**40
"""A level of more files than that is no level but a damaged shape."""

VERIFIED_WINDOW_PX = 3840
"""Stores are decoded in windows of about this side."""


@attrs.frozen(eq=False)
class _VerifiedLevel:
    """One readable level: its array, the meaning of its axes, scale and translation per axis."""

    name: str
    array: ZarrArray
    axes: AxisMap
    scale: tuple[float, ...]
    translation: tuple[float, ...]

    def read(self, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Read a window of one section."""
        return self.axes.read(self.array, z, y0, y1, x0, x1)


def verify_store(path: str | Path) -> list[Fault]:
    """Check an OME-Zarr store, or a pyramidal TIFF, by decoding all of it.

    Parameters
    ----------
    path : str or Path
        A store or file.

    Returns
    -------
    list of Fault
        Empty if there is none.

    Raises
    ------
    InputMissingError
        If nothing is there.
    InputError
        If it is neither an OME-Zarr image nor a TIFF file, or may not be read.
    """
    place = Path(path)
    try:
        if not place.is_dir() and not is_regular(place):
            raise InputMissingError(f"{place} does not exist; check the path.")
        packed = place.is_file() and is_zip(place)
        known = is_zarr(place) if place.is_dir() else packed or is_tiff(place)
    except InputError:
        raise
    except OSError as err:
        raise InputError(f"{place} may not be read ({err.strerror}); change its permissions.") from err
    if not known:
        raise InputError(
            f"{place} is neither an OME-Zarr store nor a TIFF file, and nothing else is verified; give one of those."
        )
    if place.is_file() and not packed:
        from bigrestore.io.verify.tiff import verify_tiff

        return verify_tiff(place)
    return _verify_group(place)


def _verify_group(place: Path) -> list[Fault]:
    """Verify an existing store."""
    try:
        tree = tree_of(place)
        root = open_node(tree)
        attributes = dict(root.attrs)
    except DECODE_ERRORS as err:
        return [Fault("store.unreadable", str(place), "an OME-Zarr image", error_line(err))]
    if isinstance(root, zarr.Array):
        raise InputError(
            f"{place} is a bare Zarr array, of which nothing is known to verify; give the image."
        )
    try:
        multiscale = parse_multiscales(attributes, str(place))
    except InputError as err:
        return [
            Fault("multiscales.damaged", str(place), "multiscales metadata that can be read", error_line(err))
        ]
    if multiscale is None and "bigrestore" not in attributes:
        raise InputError(
            f"{place} is a Zarr group without multiscales metadata; give an OME-Zarr image, or finish the run that "
            "writes it by --resume."
        )
    if multiscale is None:
        return [
            Fault("multiscales.missing", str(place), "multiscales metadata", "none: the run was not finished")
        ]
    ours = "bigrestore" in attributes
    faults = _image_faults(tree, root, attributes, multiscale, ours=ours)
    if ours:
        faults += own_faults(root, attributes["bigrestore"], multiscale)
        for name in maps_stated(attributes["bigrestore"]):
            faults += _map_faults(tree, root, f"{MAPS_GROUP}/{name}")
    return faults


def _map_faults(tree: Tree, root: zarr.Group, place: str) -> list[Fault]:
    """Check one map of a store, an image in a group of its own."""
    try:
        group = root[place]
        attributes = dict(group.attrs)
        multiscale = parse_multiscales(attributes, place)
    except DECODE_ERRORS as err:
        return [Fault("map.missing", place, "an OME-Zarr image", error_line(err))]
    if multiscale is None or isinstance(group, zarr.Array):
        return [Fault("map.missing", place, "an OME-Zarr image", "none, or one that is not finished")]
    datasets = tuple(attrs.evolve(item, path=f"{place}/{item.path}") for item in multiscale.datasets)
    multiscale = attrs.evolve(multiscale, datasets=datasets)
    return _image_faults(tree, root, attributes, multiscale, ours=True)


def _image_faults(
    tree: Tree, root: zarr.Group, attributes: Mapping[str, Any], multiscale: Multiscale, *, ours: bool
) -> list[Fault]:
    """Check the levels of one image; paths of datasets start from the root."""
    faults = list(_unit_faults(attributes))
    levels = list(_open_levels(root, multiscale, faults))
    for index, level in enumerate(levels):
        faults += _placement_faults(levels[0], level, ours)
        if ours and multiscale.version == "0.5":
            faults += _name_faults(level, multiscale.axes)
        faults += _decode_faults(tree, level, ours)
        if index:
            faults += _agreement_faults(levels[0], levels[index - 1], level, ours)
    return faults


def _unit_faults(attributes: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield axes with units that viewers do not understand."""
    body = multiscales_body(attributes)
    for index, axis in enumerate(body["multiscales"][0].get("axes") or []):
        if not isinstance(axis, Mapping) or axis.get("unit") is None or axis.get("type") != "space":
            continue
        unit = str(axis["unit"])
        factor = micrometres_per(unit, f"axis {index}")
        if factor is not None and unit.islower() and unit.endswith("meter"):
            continue
        if factor == 1.0 or (factor is None and unit.lower() != "pixel"):
            yield Fault("unit.spelling", f"multiscales[0].axes[{index}].unit", "micrometer", unit)


def _open_levels(root: zarr.Group, multiscale: Multiscale, faults: list[Fault]) -> Iterator[_VerifiedLevel]:
    """Yield the readable levels, and collect faults of the others."""
    for dataset in multiscale.datasets:
        try:
            array = root[dataset.path]
            if not isinstance(array, zarr.Array):
                raise InputError("a group")
            axes = map_axes(multiscale.axes, array.shape, array.dtype, dataset.path, Wanted())
            if min(array.shards or array.chunks) < 1 or math.prod(_unit_counts(array)) > MOST_LEVEL_FILES:
                raise InputError(f"shape {array.shape} in pieces of {array.shards or array.chunks}")
            array = bounded(array, dataset.path)
        except DECODE_ERRORS as err:
            faults.append(Fault("level.missing", dataset.path, "the array of this level", error_line(err)))
            continue
        yield _VerifiedLevel(dataset.path, array, axes, dataset.scale, dataset.translation)


def _placement_faults(first: _VerifiedLevel, level: _VerifiedLevel, ours: bool) -> Iterator[Fault]:
    """Yield scales that disagree with the shapes, and translations that disagree with the scales."""
    sizes = zip(level.axes.axes, first.axes.shape, level.axes.shape, strict=True)
    for index, (axis, whole, reduced) in enumerate(sizes):
        if axis not in "zyx":
            continue
        scale, base = level.scale[index], first.scale[index]
        if not scale > 0:
            yield Fault("scale.disagrees", f"{level.name} scale {axis}", "a positive number", f"{scale:g}")
            continue
        if not base > 0:
            continue  # reported at the first level
        factor = scale / base
        if not 1e-6 < factor < 1e12:
            fits = []
        elif ours and factor >= 1:
            fits = [-(-whole // round(factor))]
        else:  # a foreign tool may round a fractional size down, up, or to the nearest, and keep one pixel
            fits = [int(whole / factor), int(whole / factor) + 1, max(1, int(whole / factor))]
        if reduced not in fits:
            yield Fault(
                "scale.disagrees",
                f"{level.name} scale {axis}",
                f"{base * level_factor(whole, reduced):g}",
                f"{scale:g}",
            )
            continue
        shift = first.translation[index] + base * (factor - 1) / 2
        slack = 1e-6 * scale if ours else scale
        if abs(level.translation[index] - shift) > slack:
            yield Fault(
                "translation.disagrees",
                f"{level.name} translation {axis}",
                f"{shift:g}",
                f"{level.translation[index]:g}",
            )


def _name_faults(level: _VerifiedLevel, axes: str) -> Iterator[Fault]:
    """Yield a level if its dimension names are not its axes."""
    names = getattr(level.array.metadata, "dimension_names", None)
    if tuple(names or ()) != tuple(axes):
        yield Fault(
            "dimension_names.disagree", level.name, ",".join(axes), ",".join(map(str, names or ("none",)))
        )


MOST_MISSING = 1000
"""Missing files of a level that are listed one by one: metadata may claim any number of them."""


def _decode_faults(tree: Tree, level: _VerifiedLevel, ours: bool) -> Iterator[Fault]:
    """Yield undecodable shards or chunks, and missing ones of bigrestore."""
    missing = 0
    for selection, location in _stored_files(level):
        if ours and not tree.exists(location):
            missing += 1
            if missing > MOST_MISSING:
                yield Fault("shard.missing", level.name, "all files of the level", "and more without a file")
                return
            yield Fault(
                "shard.missing", location, "a file: every block is written, even an empty one", "no file"
            )
            continue
        try:
            with first_of_group():
                np.asarray(level.array[selection])
        except DECODE_ERRORS as err:
            yield Fault("chunk.undecodable", location, "bytes that decode", error_line(err))


def _unit_counts(array: ZarrArray) -> tuple[int, ...]:
    """Return the number of stored files along each axis."""
    unit = array.shards or array.chunks
    return tuple(-(-n // step) for n, step in zip(array.shape, unit, strict=True))


def _stored_files(level: _VerifiedLevel) -> Iterator[tuple[tuple[slice, ...], str]]:
    """Yield each stored file of a level: its selection, and its path in the store."""
    array = level.array
    unit = array.shards or array.chunks
    for index in np.ndindex(*_unit_counts(array)):
        selection = tuple(
            slice(i * step, min((i + 1) * step, n))
            for i, step, n in zip(index, unit, array.shape, strict=True)
        )
        yield selection, f"{level.name}/{array.metadata.encode_chunk_key(tuple(int(i) for i in index))}"


def _agreement_faults(
    first: _VerifiedLevel, before: _VerifiedLevel, level: _VerifiedLevel, ours: bool
) -> Iterator[Fault]:
    """Yield the disagreements of a level with the finer levels."""
    if ours:
        yield from _exact_faults(before, level)
        return
    factor = level_factor(first.axes.zyx[2], level.axes.zyx[2])
    if factor != int(factor) or first.axes.zyx[0] != level.axes.zyx[0]:
        return
    z = first.axes.zyx[0] // 2
    side = max(1, max(level.axes.zyx[1:]) // 128)
    try:
        fine, coarse = _level_thumbnail(first, z, side * int(factor)), _level_thumbnail(level, z, side)
    except DECODE_ERRORS:  # already reported as undecodable
        return
    height, width = (min(a, b) for a, b in zip(fine.shape[:2], coarse.shape[:2], strict=True))
    span = 1.0 if level.array.dtype.kind == "f" else float(np.iinfo(level.array.dtype).max)
    off = np.abs(fine[:height, :width].astype(float) - coarse[:height, :width].astype(float)).mean() / span
    if off > FOREIGN_TOLERANCE:
        yield Fault(
            "level.disagrees",
            level.name,
            "the picture of level 0",
            f"a mean difference of {off:.1%} of the range at z={z}",
        )


def _level_thumbnail(level: _VerifiedLevel, z: int, step: int) -> NDArray[Any]:
    """Return a section of a level, reduced by a whole factor."""
    _, height, width = level.axes.zyx
    channels = 3 if level.axes.rgb else 1
    return area_thumbnail(level.read, z, height, width, channels, np.dtype(level.array.dtype), step)


def _exact_faults(before: _VerifiedLevel, level: _VerifiedLevel) -> Iterator[Fault]:
    """Yield windows of a level that differ from the mean of the level before."""
    depth, height, width = level.axes.zyx
    step_z = 2 if before.axes.zyx[0] > depth else 1
    for z in range(depth):
        for y0 in range(0, height, VERIFIED_WINDOW_PX // 8):
            for x0 in range(0, width, VERIFIED_WINDOW_PX):
                y1, x1 = min(y0 + VERIFIED_WINDOW_PX // 8, height), min(x0 + VERIFIED_WINDOW_PX, width)
                try:
                    wanted = reduced_window(before.read, before.axes.zyx, step_z, (z, y0, y1, x0, x1))
                    actual = level.read(z, y0, y1, x0, x1)
                except DECODE_ERRORS:  # already reported as undecodable
                    continue
                if wanted.shape != actual.shape:
                    continue  # already reported as a scale that disagrees with the shape
                yield from difference(f"{level.name} z={z}", (y0, x0), wanted, actual)
