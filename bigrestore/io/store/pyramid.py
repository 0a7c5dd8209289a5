"""Build the levels of a finished level 0 from disk, shard by shard.

Level n is the 2 x 2 (x 2) mean of level n-1 and nothing else, so each level can be checked exactly against the one
before. One shard of output is one unit of work. It reads the up to eight shards under it in rows of chunks: memory
depends on the shard size and the workers, never on the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrestore.io.levels import WindowReader
from bigrestore.io.store.ome_zarr import (
    ZarrArray,
    create_level,
    open_level,
    read_block,
    shard_paths,
    write_block,
)
from bigrestore.io.store.placement import pyramid_factors, pyramid_shapes
from bigrestore.io.store.reduce import halve
from bigrestore.io.store.store_spec import StoreSpec

Unit = tuple[int, int, int, int, int]
"""One shard of a level: z, y0, y1, x0, x1."""


def build_pyramid(
    path: str | Path, spec: StoreSpec, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write levels 1, 2, ... of a store with a finished level 0.

    Doing it again gives the same bytes.

    Parameters
    ----------
    path : str or Path
        The store.
    spec : StoreSpec
        As given to `create_store`.
    workers : int
        Threads; one shard each at a time.
    progress : callable, optional
        Called from the calling thread as `progress(done, total)` after each shard, over all levels.

    Raises
    ------
    OutputError
        If a level cannot be written; `DiskFullError` if there is no space left.
    """
    shapes = pyramid_shapes(spec)
    factors = pyramid_factors(spec)
    plans = [list(_shards_of(spec, shape)) for shape in shapes[1:]]
    total, done = sum(map(len, plans)), 0
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="pyramid") as pool:
        for level, units in enumerate(plans, start=1):
            source = open_level(path, level - 1, mode="r")
            target = create_level(path, spec, level, again=True)
            step_z = factors[level][0] // factors[level - 1][0]

            read = partial(read_block, source, spec.axes)
            files = partial(shard_paths, path, spec, level)
            build = partial(_build_shard, read, target, files, shapes[level - 1], step_z, spec.chunk_px)
            for _ in pool.map(build, units):
                done += 1
                if progress is not None:
                    progress(done, total)


def _shards_of(spec: StoreSpec, shape: tuple[int, int, int]) -> Iterator[Unit]:
    """Yield the shards of a level of `shape`; a level of format 0.4 is cut along the same lattice."""
    depth, height, width = shape
    for z in range(depth):
        for y0 in range(0, height, spec.shard_px):
            for x0 in range(0, width, spec.shard_px):
                yield z, y0, min(y0 + spec.shard_px, height), x0, min(x0 + spec.shard_px, width)


def _build_shard(
    read: WindowReader,
    target: ZarrArray,
    files: Callable[..., list[Path]],
    shape: tuple[int, int, int],
    step_z: int,
    rows_px: int,
    unit: Unit,
) -> None:
    """Reduce one shard from the level before, in rows of chunks, and write it whole in the place of a former one."""
    z, y0, y1, x0, x1 = unit
    rows = [
        reduced_window(read, shape, step_z, (z, y, min(y + rows_px, y1), x0, x1))
        for y in range(y0, y1, rows_px)
    ]
    for file in files(
        z, y0, x0, y1 - y0, x1 - x0
    ):  # at the far edge zarr would read it, which may be damaged
        file.unlink(missing_ok=True)
    write_block(target, z, y0, x0, np.concatenate(rows))


def reduced_window(read: WindowReader, shape: tuple[int, int, int], step_z: int, unit: Unit) -> NDArray[Any]:
    """Return a window of the next level, computed from the level before.

    Parameters
    ----------
    read : callable
        `read(z, y0, y1, x0, x1)` of the level before.
    shape : tuple of int
        The (z, y, x) shape of the level before.
    step_z : int
        1, or 2 if z is halved as well.
    unit : tuple of int
        The window (z, y0, y1, x0, x1) in pixels of the next level.

    Returns
    -------
    ndarray, (h, w) or (h, w, 3)
    """
    z, y0, y1, x0, x1 = unit
    depths = range(z * step_z, min((z + 1) * step_z, shape[0]))
    y_stop, x_stop = min(2 * y1, shape[1]), min(2 * x1, shape[2])
    planes = np.stack([read(d, 2 * y0, y_stop, 2 * x0, x_stop) for d in depths])
    if planes.ndim == 3:
        return halve(planes)
    return np.stack([halve(planes[..., channel]) for channel in range(3)], axis=-1)
