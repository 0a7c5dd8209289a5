"""Large sections to time and weigh: a real tissue image, laid out in cells that all differ.

The tissue is scikit-image's immunohistochemistry, 512 px, turned, mirrored, shifted in grey and with noise of its own
in every cell, so that neither a cache nor a compressor finds the same cell twice. The store is written a row of
shards at a time: the bench must not need the memory that it measures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from PIL import Image
from skimage.data import immunohistochemistry

CELL_PX = 512
CHUNK_PX, SHARD_PX = 480, 3840


def tissue_rows(y0: int, y1: int, width: int) -> NDArray[np.uint8]:
    """Return rows y0 to y1 of the endless section, the same whatever rows are asked for."""
    luma = np.asarray(Image.fromarray(immunohistochemistry()).convert("L"), np.float32)
    result = np.empty((y1 - y0, width), np.uint8)
    for row in range(y0 // CELL_PX, -(-y1 // CELL_PX)):
        for column in range(-(-width // CELL_PX)):
            cell = _cell(luma, row, column)
            top, left = row * CELL_PX, column * CELL_PX
            first, last = max(y0, top), min(y1, top + CELL_PX)
            goal = result[first - y0 : last - y0, left : left + CELL_PX]
            goal[...] = cell[first - top : last - top, : goal.shape[1]]
    return result


def tissue(height: int, width: int) -> NDArray[np.uint8]:
    """Return the upper left corner of the endless section."""
    return tissue_rows(0, height, width)


def write_section(path: Path, side_px: int) -> Path:
    """Write a square section of uint8 as OME-Zarr 0.5, sharded as bigrestore's own output, unless it is there."""
    if (path / "complete").is_file():
        return path
    group = zarr.create_group(path, zarr_format=3, overwrite=True)
    shard = min(SHARD_PX, -(-side_px // CHUNK_PX) * CHUNK_PX)
    array = group.create_array(
        "0",
        shape=(side_px, side_px),
        dtype=np.uint8,
        chunks=(CHUNK_PX, CHUNK_PX),
        shards=(shard, shard),
        dimension_names=["y", "x"],
    )
    for y in range(0, side_px, shard):
        array[y : y + shard] = tissue_rows(y, min(y + shard, side_px), side_px)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [10.0, 10.0]}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [dataset]}]}
    (path / "complete").touch()
    return path


def _cell(luma: NDArray[np.float32], row: int, column: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng([row, column])
    turned = np.rot90(luma, int(rng.integers(4)))
    if rng.integers(2):
        turned = turned[:, ::-1]
    shifted = turned * rng.uniform(0.85, 1.0) + rng.normal(0.0, 2.0, turned.shape)
    return np.clip(np.rint(shifted), 0, 255).astype(np.uint8)
