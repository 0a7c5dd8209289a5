"""Write a finished store as one pyramidal OME-TIFF, tile by tile.

BigTIFF with the levels as SubIFDs and deflate-compressed tiles of 512 px, decodable by everything since 1992. Tiles
flow from the store through the encoder to the file: memory depends on the width of a level and not on its height.
The file is written under a temporary name and renamed at the end.

OME-TIFF keeps levels in SubIFDs; OpenSlide looks for them among the pages of the file. So the levels of a single
section are linked as pages as well. OME-XML names the page of every plane, and its readers leave those levels out.

A SubIFD belongs to one section, so in a TIFF the pyramid halves y and x only. If the store halves z as well, the
level is reduced anew from the last level with all sections.
"""

from __future__ import annotations

import itertools
import json
import struct
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from bigrestore.core.files import whole_file
from bigrestore.io.store.ome_zarr import ZarrArray, open_level, read_block
from bigrestore.io.store.placement import pyramid_factors, pyramid_shapes
from bigrestore.io.store.reduce import halve
from bigrestore.io.store.store_spec import StoreSpec

TIFF_TILE_PX = 512
"""Side of a tile, in pixels; TIFF wants multiples of 16."""

_NAMESPACE = uuid.UUID("5b0f2a52-1a6c-5d0e-9d5e-0d7f4a3f6c11")


def write_pyramidal_tiff(
    store_path: str | Path,
    out_path: str | Path,
    spec: StoreSpec,
    provenance: Mapping[str, Any],
    workers: int = 1,
    check: Callable[[], None] | None = None,
    *,
    name: str = "image",
    channel: str = "grey",
) -> None:
    """Stream a finished store into a pyramidal OME-TIFF.

    Identical stores and arguments give identical bytes.

    Parameters
    ----------
    store_path : str or Path
        A store on which `build_pyramid` has ended.
    out_path : str or Path
        The TIFF file; an existing one is replaced when the new one is whole.
    spec : StoreSpec
        As given to `create_store`.
    provenance : mapping
        JSON-able; kept as the annotation `bigrestore` of the OME-XML.
    workers : int
        Threads that compress tiles.
    check : callable, optional
        Called before each tile; an error of it ends the writing and leaves no partial file.
    name, channel : str
        Names of the image and of its only channel for viewers; that of colour is RGB.

    Raises
    ------
    OutputError
        If the file cannot be written; `DiskFullError` if there is no space left.
    """
    levels = len(pyramid_shapes(spec))
    options: dict[str, Any] = {
        "tile": (TIFF_TILE_PX, TIFF_TILE_PX),
        "compression": "adobe_deflate",
        "predictor": spec.dtype.kind == "u",
        "photometric": "rgb" if spec.channels == 3 else "minisblack",
        "dtype": spec.dtype,
        "maxworkers": workers,
    }
    with whole_file(Path(out_path)) as partial:
        with tifffile.TiffWriter(partial, bigtiff=True, byteorder="<", ome=True) as writer:
            for level in range(levels):
                depth = (spec.shape[0],) if spec.is_volume else ()
                shape = (*depth, *_plane_shape(spec, level), *((3,) if spec.channels == 3 else ()))
                extra: dict[str, Any] = {"subfiletype": 1, "metadata": None}
                if level == 0:
                    metadata = _metadata(spec, provenance)
                    metadata |= {"Name": name, "Channel": {"Name": "RGB" if spec.channels == 3 else channel}}
                    extra = {"subifds": levels - 1, "metadata": metadata}
                writer.write(
                    _level_tiles(Path(store_path), spec, level, check),
                    shape=shape,
                    **options,
                    **extra,
                    **_resolution(spec, level),
                )
        if spec.shape[0] == 1:
            _link_levels(partial)


def _link_levels(path: Path) -> None:
    """Link the SubIFDs of the only page of a little-endian BigTIFF as its next pages."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        offsets = [page.offset, *(page.subifds or ())]
    with path.open("r+b") as file:
        for offset, following in itertools.pairwise(offsets):
            file.seek(offset)
            (tags,) = struct.unpack("<Q", file.read(8))
            file.seek(offset + 8 + 20 * tags)  # a tag has 20 bytes, and the offset of the next page follows
            file.write(struct.pack("<Q", following))


def _plane_shape(spec: StoreSpec, level: int) -> tuple[int, int]:
    """Return (y, x) of a level."""
    shape = pyramid_shapes(spec)[level]
    return shape[1], shape[2]


def _level_tiles(
    store: Path, spec: StoreSpec, level: int, check: Callable[[], None] | None
) -> Iterator[NDArray[Any]]:
    """Yield the tiles of a level, section by section, row by row, each filled up to the full size."""
    height, width = _plane_shape(spec, level)
    whole = [index for index, factors in enumerate(pyramid_factors(spec)) if factors[0] == 1]
    base = min(level, whole[-1])
    source = open_level(store, base, mode="r")
    for z in range(spec.shape[0]):
        for y0 in range(0, height, TIFF_TILE_PX):
            rows = _rows(source, spec, (base, level), z, y0, min(y0 + TIFF_TILE_PX, height))
            for x0 in range(0, width, TIFF_TILE_PX):
                tile = rows[:, x0 : x0 + TIFF_TILE_PX]
                missing = [(0, TIFF_TILE_PX - tile.shape[0]), (0, TIFF_TILE_PX - tile.shape[1]), (0, 0)][
                    : tile.ndim
                ]
                if check is not None:
                    check()
                yield np.ascontiguousarray(np.pad(tile, missing, mode="edge"))


def _rows(
    source: ZarrArray, spec: StoreSpec, levels: tuple[int, int], z: int, y0: int, y1: int
) -> NDArray[Any]:
    """Return full rows of a section at one level, from the store or halved from the level before.

    Two halves of at most 512 rows each are joined at every step: the memory is a few rows of tiles for any number of
    levels.
    """
    base, level = levels
    if level == base:
        return read_block(source, spec.axes, z, y0, y1, 0, _plane_shape(spec, level)[1])
    height = _plane_shape(spec, level - 1)[0]
    middle, stop = min(2 * y0 + TIFF_TILE_PX, height), min(2 * y1, height)
    cuts = [(2 * y0, min(middle, stop)), (middle, stop)]
    fine = np.concatenate([_rows(source, spec, (base, level - 1), z, a, b) for a, b in cuts if a < b])
    if fine.ndim == 2:
        return halve(fine[np.newaxis])
    return np.stack([halve(fine[np.newaxis, ..., channel]) for channel in range(3)], axis=-1)


def _metadata(spec: StoreSpec, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the OME-XML facts for tifffile: axes, voxel size, position, provenance, a reproducible UUID."""
    text = json.dumps(dict(provenance), sort_keys=True)
    metadata: dict[str, Any] = {
        "axes": ("Z" if spec.is_volume else "") + "YX" + ("S" if spec.channels == 3 else ""),
        "UUID": str(uuid.uuid5(_NAMESPACE, f"{spec!r} {text}")),
        "Creator": "bigrestore",
        "MapAnnotation": {"Namespace": "bigrestore", "bigrestore": text},
    }
    plane: dict[str, Any] = {}
    for axis, size, start in zip("ZYX", spec.voxel_size_um, spec.translation_um, strict=True):
        if size is None:
            continue
        metadata[f"PhysicalSize{axis}"] = size
        metadata[f"PhysicalSize{axis}Unit"] = "\u00b5m"
        if start is not None:
            step = size if axis == "Z" else 0.0
            plane[f"Position{axis}"] = [start + step * z for z in range(spec.shape[0])]
            plane[f"Position{axis}Unit"] = ["\u00b5m"] * spec.shape[0]
    if plane:
        metadata["Plane"] = plane
    return metadata


def _resolution(spec: StoreSpec, level: int) -> dict[str, Any]:
    """Return the resolution tags of a level, in pixels per centimetre, if both sizes are known."""
    size_y, size_x = spec.voxel_size_um[1:]
    if size_y is None or size_x is None:
        return {}
    _, factor_y, factor_x = pyramid_factors(spec)[level]
    return {
        "resolution": (1e4 / (size_x * factor_x), 1e4 / (size_y * factor_y)),
        "resolutionunit": "CENTIMETER",
    }
