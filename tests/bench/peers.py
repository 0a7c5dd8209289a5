"""The same network on the same section through other people's tilers: monai, konfai, dask.

Each gets what bigrestore's own run has: the method object with the section's statistics known, the core of
a tile and its halo, the threads (as many tiles at work at once, one thread in each), the input store, and an output store
of the same chunks, shards and compression. Each is used the way its documentation shows, and helped where that costs
it nothing: results are turned into bytes early and written whole shards at a time. No peer builds a pyramid,
keeps a journal or looks for background, so they are compared with the blocks phase of a run alone.

konfai's and dask's results are the run's, to the rounding of float32. monai's are not: it cannot cut a halo
off and averages whatever overlaps, borders of tiles included.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import zarr
from numpy.typing import NDArray

from bigrestore.io.store.ome_zarr import create_store, open_level
from bigrestore.io.store.store_spec import StoreSpec
from bigrestore.model.method import Method, SectionStatistics, TileBatch


@attrs.frozen(eq=False)
class Work:
    """What a peer is handed.

    Attributes
    ----------
    source, target : zarr.Array
        Section of uint8, and the empty level 0 of the output.
    method, statistics
        The network, and what is known of the section.
    core_px, halo_px : int
        Side of a tile's core, and the context around it.
    threads : int
        Tiles at work at once.
    """

    source: zarr.Array[Any]
    target: zarr.Array[Any]
    method: Method
    statistics: SectionStatistics
    core_px: int
    halo_px: int
    threads: int

    @property
    def shard_px(self) -> int:
        """Rows and columns of an output shard."""
        return int((self.target.shards or self.target.chunks)[-1])

    def restore(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        """Restore one tile of 0..1, (h, w); sides that the alignment does not divide are replicated."""
        height, width = tile.shape
        step = self.method.alignment_px
        padded = np.pad(tile, ((0, -height % step), (0, -width % step)), mode="edge")
        batch = TileBatch(padded[None], None, np.zeros((1, 2), np.int64), 0)
        return self.method.restore(batch, self.statistics).pixels[0, :height, :width]


def open_work(
    source: Path, target: Path, method: Method, statistics: SectionStatistics, core_px: int, threads: int
) -> Work:
    """Open the input and make an output store like that of a run, at scale 1."""
    section = zarr.open_array(source / "0", mode="r")
    height, width = section.shape
    create_store(target, StoreSpec(shape=(1, height, width), dtype=np.dtype(np.uint8)))
    level = open_level(target, 0)
    return Work(section, level, method, statistics, core_px, method.halo_px, threads)


def through_monai(work: Work) -> None:
    """Restore by monai's SlidingWindowInferer: the image and its float result are held whole."""
    import torch
    from monai.inferers import SlidingWindowInferer

    side = work.core_px + 2 * work.halo_px
    pool = ThreadPoolExecutor(work.threads)

    def predictor(batch: torch.Tensor) -> torch.Tensor:
        tiles = pool.map(lambda tile: work.restore(tile[0].numpy()), batch)
        return torch.from_numpy(np.stack(list(tiles)))[:, None]

    inferer = SlidingWindowInferer(
        roi_size=(side, side),
        sw_batch_size=work.threads,
        overlap=2 * work.halo_px / side,
        mode="constant",
        progress=False,
    )
    image = torch.from_numpy(np.asarray(work.source[...])).float().div_(255)[None, None]
    with pool, torch.inference_mode():
        result = inferer(image, predictor)
    work.target[...] = _bytes(result[0, 0].numpy())


def through_konfai(work: Work) -> None:
    """Restore by konfai's StreamingAccumulator, which holds one row of patches and hands out finished rows."""
    import torch
    from konfai.data.patching import StreamingAccumulator, Trim
    from konfai.utils.utils import get_patch_slices_from_shape

    side, overlap = work.core_px + 2 * work.halo_px, 2 * work.halo_px
    shape = list(work.source.shape)
    patch = [min(side, n) for n in shape]
    combine = Trim()
    combine.set_patch_config(patch, overlap)
    slices = get_patch_slices_from_shape(patch, shape, overlap)
    accumulator = StreamingAccumulator(slices, patch, combine, batch=False)
    rows = _RowWriter(work)

    def read_and_restore(where: tuple[slice, ...]) -> torch.Tensor:
        return torch.from_numpy(work.restore(_unit(np.asarray(work.source[where]))))[None]

    with ThreadPoolExecutor(work.threads) as pool:
        ahead = [pool.submit(read_and_restore, where) for where in slices[: work.threads]]
        for index in range(len(slices)):
            layer = ahead.pop(0).result()
            if index + work.threads < len(slices):
                ahead.append(pool.submit(read_and_restore, slices[index + work.threads]))
            for _, slab in accumulator.add_layer(index, layer):
                rows.push(slab[0].numpy())
    for _, slab in accumulator.finalize():
        rows.push(slab[0].numpy())
    rows.flush()


def through_dask(work: Work) -> None:
    """Restore by dask's map_overlap, one chunk a tile, regrouped into shards before they are stored."""
    import dask
    import dask.array as da

    lazy = da.from_array(work.source, chunks=(work.core_px, work.core_px), lock=False)
    restored = da.map_overlap(
        lambda tile: _bytes(work.restore(_unit(tile))),
        lazy,
        depth=work.halo_px,
        boundary="none",
        dtype=np.uint8,
        meta=np.empty((0, 0), np.uint8),
    )
    whole_shards = restored.rechunk((work.shard_px, work.shard_px))
    with dask.config.set(scheduler="threads", num_workers=work.threads):
        da.store(whole_shards, work.target, lock=False)


PEERS: dict[str, Callable[[Work], None]] = {
    "monai SlidingWindowInferer": through_monai,
    "konfai StreamingAccumulator": through_konfai,
    "dask map_overlap": through_dask,
}


class _RowWriter:
    """Collects finished rows as bytes and writes them a row of shards at a time."""

    def __init__(self, work: Work) -> None:
        self._work, self._held, self._y = work, [], 0

    def push(self, rows: NDArray[np.float32]) -> None:
        """Take rows in order, of 0..1."""
        self._held.append(_bytes(rows))
        while sum(map(len, self._held)) >= self._work.shard_px:
            held = np.concatenate(self._held)
            self._write(held[: self._work.shard_px])
            self._held = [held[self._work.shard_px :].copy()]

    def flush(self) -> None:
        """Write what is left."""
        held = np.concatenate(self._held)
        if len(held):
            self._write(held)
        self._held = []

    def _write(self, rows: NDArray[np.uint8]) -> None:
        self._work.target[self._y : self._y + len(rows)] = rows
        self._y += len(rows)


def _unit(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    return tile.astype(np.float32) / np.float32(255)


def _bytes(tile: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(np.rint(tile * np.float32(255)), 0, 255).astype(np.uint8)
