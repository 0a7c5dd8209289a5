"""The contents of an output store, shared by all its writers, planners and readers."""

from __future__ import annotations

from typing import Any, Literal

import attrs
import numpy as np

from bigrestore.core.geometry import BLOCK_PX, CHUNK_PX
from bigrestore.errors import UsageError
from bigrestore.io.levels import UNKNOWN, Triple, accepted_dtype

MAPS_GROUP = "maps"
"""Group of a store in which the maps of a run lie, each an image of its own."""

OME_GROUP = "OME"
"""Group among the images of a collection, in which they are listed."""

COLLECTION_XML = "METADATA.ome.xml"
"""File in that group with the list as OME-XML."""

GROUP_FILES = {"0.5": ("zarr.json",), "0.4": (".zgroup", ".zattrs")}
ARRAY_FILES = {"0.5": ("zarr.json",), "0.4": (".zarray", ".zattrs")}
"""Metadata files of a group and of an array that are written, by the version of OME-Zarr."""


def _output_dtype(value: Any) -> np.dtype[Any]:
    """Return the native dtype of an output, refusing unsupported ones."""
    return accepted_dtype(value, "the output")


@attrs.frozen
class StoreSpec:
    """What an output store holds.

    Attributes
    ----------
    shape : tuple of int
        (z, y, x) of level 0 in pixels.
    dtype : numpy.dtype
        uint8, uint16 or float32.
    channels : int
        1 or 3.
    voxel_size_um : tuple of float or None
        (z, y, x) of level 0 in micrometres; None if unknown.
    translation_um : tuple of float or None
        (z, y, x) of the first voxel's centre, in micrometres, or in pixels if the voxel size is unknown; None means
        0.
    is_volume : bool
        Whether the store has a z axis; without it the depth must be 1.
    fmt : str
        OME-Zarr version: "0.5" (Zarr v3, sharded) or "0.4" (Zarr v2, chunk files).
    chunk_px, shard_px : int
        Sides of chunks and shards along y and x; both are one section deep and hold all channels, as viewers show
        colour only of whole chunks. 0.4 has no shards, but a block still owns whole multiples of `shard_px`.
    fill_value : float
        Value of unwritten pixels.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any] = attrs.field(converter=_output_dtype)
    channels: int = 1
    voxel_size_um: Triple = UNKNOWN
    translation_um: Triple = UNKNOWN
    is_volume: bool = False
    fmt: Literal["0.5", "0.4"] = "0.5"
    chunk_px: int = CHUNK_PX
    shard_px: int = BLOCK_PX
    fill_value: float = 0.0

    def __attrs_post_init__(self) -> None:
        """Refuse an impossible store."""
        if min(self.shape) < 1 or (self.shape[0] > 1 and not self.is_volume):
            raise UsageError(
                f"an output of shape {self.shape} (z, y, x, is_volume={self.is_volume}) cannot be stored."
            )
        if self.channels not in (1, 3):
            raise UsageError(f"an output has 1 or 3 channels, not {self.channels}.")
        if self.fmt not in ("0.4", "0.5"):
            raise UsageError(f"OME-Zarr {self.fmt} cannot be written; choose --format 0.5 or 0.4.")
        if self.chunk_px < 1 or self.shard_px % self.chunk_px:
            raise UsageError(
                f"a shard of {self.shard_px} px is not a multiple of the chunk, {self.chunk_px} px."
            )

    @property
    def axes(self) -> str:
        """The axes of the arrays: yx, zyx, cyx or czyx."""
        return ("c" if self.channels == 3 else "") + ("z" if self.is_volume else "") + "yx"

    def array_shape(self, shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Return the array shape for a level of `shape` (z, y, x)."""
        return tuple({"c": 3, "z": shape[0], "y": shape[1], "x": shape[2]}[axis] for axis in self.axes)

    def array_shards(self, shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Return the shard (0.5) for level arrays of `shape` (z, y, x), never wider than needed."""
        size = {
            axis: min(self.shard_px, -(-n // self.chunk_px) * self.chunk_px)
            for axis, n in zip("yx", shape[1:], strict=True)
        }
        return tuple({"c": 3, "z": 1, **size}[axis] for axis in self.axes)

    def array_chunks(self) -> tuple[int, ...]:
        """Return the chunk of all level arrays."""
        return tuple({"c": 3, "z": 1, "y": self.chunk_px, "x": self.chunk_px}[axis] for axis in self.axes)
