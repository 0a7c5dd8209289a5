"""Write OME-Zarr: a store looks finished only once it is finished.

The order guarantees it. `create_store` makes the group and the empty level 0 without `multiscales`: no viewer takes
a half-written store for a result. It also marks the group as unfinished: no reader takes its fill values for pixels.
Blocks are written whole shard by whole shard, because writing one shard in pieces is ten times slower and two
writers of one shard silently lose data. `finish_store` replaces the mark by the metadata, last. Every block leaves
its files, even if it is all background: a missing shard always means a missing block.

A store holds nothing but pixels, geometry and the given provenance: the same arguments give the same bytes.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import MemoryStore

from bigrestore.core.regular import is_regular
from bigrestore.core.urls import error_line
from bigrestore.errors import InputError, OutputError, first_of_group, output_error
from bigrestore.io.store.placement import dataset_transforms, pyramid_factors, pyramid_shapes
from bigrestore.io.store.store_spec import ARRAY_FILES, StoreSpec
from bigrestore.io.verify.faults import DECODE_ERRORS

ZarrArray = zarr.Array[Any]

COMPRESSION_LEVEL = 3
"""Of zstd: on histology three times the speed of 5 (73 against 25 MB/s on one core) for 4 % more bytes."""

CONFIG: Any = {"write_empty_chunks": True}
"""How arrays are opened for writing: a chunk of fill values is written like any other."""


UNFINISHED: dict[str, Any] = {"bigrestore": {"unfinished": True}}
"""The root attributes of a store with an unfinished level 0 or pyramid."""

ATTRIBUTES = ("ome", "multiscales", "omero", "bigrestore")
"""The root attributes that a run writes."""

_OPENING = threading.Lock()
"""zarr takes an opened array's configuration from the process, so one opens at a time."""


def create_store(path: str | Path, spec: StoreSpec) -> None:
    """Make the root group, marked as unfinished, and the empty level 0.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    create_group(path, spec, UNFINISHED)
    create_level(path, spec, 0)


def create_group(path: str | Path, spec: StoreSpec, attributes: dict[str, Any] | None = None) -> None:
    """Make an empty group of the Zarr version of a spec.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    try:
        zarr.create_group(
            store=Path(path), zarr_format=_zarr_format(spec), overwrite=False, attributes=attributes or {}
        )
    except (zarr.errors.ContainsGroupError, zarr.errors.ContainsArrayError) as err:
        raise OutputError(
            f"the store {path} cannot be created ({err}); choose another place for the output."
        ) from err
    except OSError as err:
        raise output_error(path, err) from err


def mark_unfinished(path: str | Path) -> None:
    """Replace a run's metadata of a resumed store by the mark of `create_store`; attributes of others stay.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    put_attributes(path, UNFINISHED)


def is_unfinished(attributes: Mapping[str, Any]) -> bool:
    """Tell by a group's attributes whether its store is unfinished."""
    ours = attributes.get("bigrestore")
    return isinstance(ours, Mapping) and ours.get("unfinished") is True


def put_attributes(path: str | Path, attributes: dict[str, Any]) -> None:
    """Replace a run's attributes of a group, and keep those of others.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    try:
        group = zarr.open_group(store=Path(path), mode="r+")
        others = {name: value for name, value in group.attrs.items() if name not in ATTRIBUTES}
        group.attrs.put(others | attributes)
    except OSError as err:
        raise output_error(path, err) from err
    except DECODE_ERRORS as err:
        raise OutputError(
            f"The metadata of {path} are damaged ({error_line(err)}); write them again by --resume."
        ) from err


def create_level(path: str | Path, spec: StoreSpec, level: int, *, again: bool = False) -> ZarrArray:
    """Make the empty array of one level.

    `again` allows a former level: its metadata are rewritten, and its chunks stay until they are. Foreign files
    beside them stay as well.

    Raises
    ------
    OutputError
        If the place cannot be written, or a folder of a former level is a link.
    """
    try:
        if again:
            _clear_metadata(Path(path) / str(level), spec)
        return create_level_in(Path(path), spec, level)
    except OSError as err:
        raise output_error(path, err) from err


def create_level_in(store: Path | MemoryStore, spec: StoreSpec, level: int) -> ZarrArray:
    """Make the empty array of one level in any kind of store; raises zarr's own errors."""
    shape = pyramid_shapes(spec)[level]
    sharded = spec.fmt == "0.5"
    return zarr.create_array(
        store=store,
        name=str(level),
        shape=spec.array_shape(shape),
        chunks=spec.array_chunks(),
        shards=spec.array_shards(shape) if sharded else None,
        dtype=spec.dtype,
        compressors=_compressor(spec),
        fill_value=spec.dtype.type(spec.fill_value).item(),
        zarr_format=_zarr_format(spec),
        dimension_names=list(spec.axes) if sharded else None,
        chunk_key_encoding=None if sharded else {"name": "v2", "separator": "/"},
        overwrite=False,
        config=CONFIG,
    )


def _clear_metadata(level: Path, spec: StoreSpec) -> None:
    """Remove the metadata of a level to be rewritten, refusing links in it."""
    folders = [level, *(Path(folder) / name for folder, names, _ in os.walk(level) for name in names)]
    for folder in folders:
        if folder.is_symlink():
            raise OutputError(
                f"{folder} is a link, behind which nothing is written; move it away and start again."
            )
    for name in ARRAY_FILES[spec.fmt]:
        (level / name).unlink(missing_ok=True)


def _zarr_format(spec: StoreSpec) -> Literal[2, 3]:
    """Return the Zarr version of an OME-Zarr version."""
    return 3 if spec.fmt == "0.5" else 2


def _compressor(spec: StoreSpec) -> Any:
    """Return blosc/zstd, with bytes shuffled for wider values, and in 0.5 a checksum of each chunk.

    Without the checksum a flipped bit among zstd's literals silently decodes into wrong pixels.
    """
    if spec.fmt == "0.5":
        shuffle: Literal["shuffle", "noshuffle"] = "shuffle" if spec.dtype.itemsize > 1 else "noshuffle"
        blosc = BloscCodec(
            cname="zstd", clevel=COMPRESSION_LEVEL, shuffle=shuffle, typesize=spec.dtype.itemsize
        )
        return [blosc, Crc32cCodec()]
    from numcodecs import Blosc

    return Blosc(
        cname="zstd",
        clevel=COMPRESSION_LEVEL,
        shuffle=Blosc.SHUFFLE if spec.dtype.itemsize > 1 else Blosc.NOSHUFFLE,
    )


def open_level(path: str | Path, level: int, *, mode: Literal["r", "r+"] = "r+") -> ZarrArray:
    """Open the array of one level of a store made by `create_store`.

    Raises
    ------
    InputError
        If there is no such level.
    """
    try:
        for name in ("zarr.json", ".zarray"):
            is_regular(Path(path) / str(level) / name)  # zarr would wait for a pipe
        with _OPENING, zarr.config.set({f"array.{name}": value for name, value in CONFIG.items()}):
            array = zarr.open_array(store=Path(path), path=str(level), mode=mode)
    except DECODE_ERRORS as err:
        raise InputError(
            f"{path} has no readable level {level} ({error_line(err)}); write the store again."
        ) from err
    return array


def write_block(array: ZarrArray, z: int, y0: int, x0: int, pixels: NDArray[Any]) -> None:
    """Write one block of one section: whole shards, or up to the array's far edge.

    Parameters
    ----------
    array : zarr.Array
        From `open_level`.
    z, y0, x0 : int
        Start of the block in pixels of that level; y0 and x0 on the shard lattice.
    pixels : ndarray, (h, w) or (h, w, 3)
        Values in the array's dtype.

    Raises
    ------
    OutputError
        If it cannot be written; `DiskFullError` if there is no space left.
    """
    height, width = pixels.shape[:2]
    key: list[Any] = [slice(y0, y0 + height), slice(x0, x0 + width)]
    rgb = pixels.ndim == 3
    if array.ndim == 3 + rgb:
        key.insert(0, slice(z, z + 1))
        pixels = pixels[np.newaxis]
    if rgb:
        key.insert(0, slice(None))
        pixels = np.moveaxis(pixels, -1, 0)
    try:
        with first_of_group():
            array[tuple(key)] = np.ascontiguousarray(pixels)
    except OSError as err:
        raise output_error(_place(array), err) from err


def _place(array: ZarrArray) -> Path:
    """Return the path of an array in a local store."""
    return Path(getattr(array.store, "root", "")) / array.path


def read_block(array: ZarrArray, axes: str, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
    """Read a window of one section back as (h, w) or (h, w, 3); the inverse of `write_block`.

    Parameters
    ----------
    array : zarr.Array
        From `open_level`.
    axes : str
        `StoreSpec.axes` of the store; the shape alone cannot tell three sections from three colours.
    z, y0, y1, x0, x1 : int
        The section and the half-open window, in pixels of that level.

    Raises
    ------
    OutputError
        If it cannot be read back.
    """
    key: dict[str, Any] = {"c": slice(None), "z": z, "y": slice(y0, y1), "x": slice(x0, x1)}
    try:
        with first_of_group():
            pixels = np.asarray(array[tuple(key[axis] for axis in axes)])
    except Exception as err:
        raise OutputError(
            f"{_place(array)} cannot be read back at z={z}, y={y0}:{y1}, x={x0}:{x1} ({error_line(err)}); write it "
            "again with --resume."
        ) from err
    return np.moveaxis(pixels, 0, -1) if "c" in axes else pixels


def shard_paths(
    path: str | Path, spec: StoreSpec, level: int, z: int, y0: int, x0: int, height: int, width: int
) -> list[Path]:
    """Return the files of a block: its shards (0.5) or its chunk files (0.4).

    Parameters
    ----------
    z, y0, x0, height, width : int
        The block in pixels of that level; y0 and x0 on the shard lattice.
    """
    shape = pyramid_shapes(spec)[level]
    unit = spec.array_shards(shape) if spec.fmt == "0.5" else spec.array_chunks()
    step_y, step_x = unit[-2:]
    root = Path(path) / str(level)
    if spec.fmt == "0.5":
        root = root / "c"
    root = root / ("0" if spec.channels == 3 else "") / (str(z) if spec.is_volume else "")
    rows = range(y0 // step_y, -(-(y0 + height) // step_y))
    columns = range(x0 // step_x, -(-(x0 + width) // step_x))
    return [root / str(row) / str(column) for row in rows for column in columns]


def finish_store(
    path: str | Path,
    spec: StoreSpec,
    window: tuple[float, float],
    provenance: Mapping[str, Any],
    *,
    name: str = "image",
    channel: str = "grey",
) -> None:
    """Write the metadata of the finished image: multiscales, omero window, provenance.

    Call it last, when every level of `pyramid_shapes(spec)` is written. Identical arguments give identical bytes;
    time, host and duration do not belong in `provenance`.

    Parameters
    ----------
    window : (start, end)
        Storage values that a viewer shows as black and white.
    provenance : mapping
        JSON-able; goes under the root attribute `bigrestore`.
    name : str
        Name of the image for viewers.
    channel : str
        Name of its only channel; those of colour are red, green and blue.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    multiscale: dict[str, Any] = {
        "name": name,
        "axes": [_axis_metadata(spec, axis) for axis in spec.axes],
        "datasets": [
            {"path": str(level), "coordinateTransformations": dataset_transforms(spec, level)}
            for level in range(len(pyramid_factors(spec)))
        ],
        "type": "mean",
        "metadata": {"description": "Each level is the mean over 2 x 2 (x 2) voxels of the level before."},
    }
    omero: dict[str, Any] = {
        "channels": _omero_channels(spec, window, channel),
        "rdefs": {"model": "color" if spec.channels == 3 else "greyscale"},
    }
    ours = json.loads(json.dumps(dict(provenance), sort_keys=True))
    if spec.fmt == "0.5":
        ome: dict[str, Any] = {"ome": {"version": "0.5", "multiscales": [multiscale], "omero": omero}}
    else:
        multiscale["version"] = "0.4"
        ome = {"multiscales": [multiscale], "omero": {**omero, "version": "0.4"}}
    put_attributes(path, {**ome, "bigrestore": ours})


def _axis_metadata(spec: StoreSpec, axis: str) -> dict[str, str]:
    """Return the metadata of one axis, without a unit if the voxel size is unknown."""
    if axis == "c":
        return {"name": "c", "type": "channel"}
    entry = {"name": axis, "type": "space"}
    if spec.voxel_size_um["zyx".index(axis)] is not None:
        entry["unit"] = "micrometer"
    return entry


def _omero_channels(spec: StoreSpec, window: tuple[float, float], channel: str) -> list[dict[str, Any]]:
    """Return the display settings of each channel."""
    low, high = (0.0, 1.0) if spec.dtype.kind == "f" else (0.0, float(np.iinfo(spec.dtype).max))
    start, end = (float(value) for value in window)
    names = (
        [("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF")]
        if spec.channels == 3
        else [(channel, "FFFFFF")]
    )
    return [
        {
            "label": label,
            "color": color,
            "active": True,
            "window": {"min": min(low, start), "max": max(high, end), "start": start, "end": end},
        }
        for label, color in names
    ]
