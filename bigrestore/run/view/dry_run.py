"""A dry run: every fact known before a run, and a time estimate from one restored tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from bigrestore.io.conventions.range_check import check_range_used
from bigrestore.io.store.placement import pyramid_shapes
from bigrestore.io.store.store_spec import StoreSpec
from bigrestore.run.prepared import Destination, Inputs, prepare
from bigrestore.run.sinks import Sink
from bigrestore.run.state.input_check import require_input_of
from bigrestore.run.tile.maps import images
from bigrestore.run.tile.speed import time_tile
from bigrestore.run.view.progress import about_text, spent_text
from bigrestore.settings import RunSettings


@attrs.frozen
class RunEstimate:
    """What a run would do.

    Attributes
    ----------
    source, output : str
        Paths.
    shape_in, shape_out : tuple of int
        (z, y, x) in pixels.
    channels : int
        1 or 3.
    dtype : str
        Of input and output.
    scale : str
        Output pixels per input pixel.
    method : dict
        What the method says of itself.
    blocks, tiles : int
        Of the whole run.
    tile_px, halo_px, overlap_px : int
        Largest core and overlap in output pixels, halo in input pixels.
    redundancy : float
        Pixels computed for each pixel kept.
    bytes_in, bytes_out : int
        Before compression; the output with its pyramid.
    files : int
        Shard or chunk files of the output, or 1.
    memory_bytes : int
        Estimated peak.
    threads, workers : int
        Tiles in flight of each worker, and workers.
    choice : str
        Why so many threads.
    tile_seconds, seconds : float
        Of the timed tile, and of the blocks phase.
    maps : tuple of str
        Maps beside the image; counted in `bytes_out` and `files`.
    score_tiles : int
        Tiles of the report, before and after; 0 without one.
    """

    source: str
    output: str
    shape_in: tuple[int, int, int]
    shape_out: tuple[int, int, int]
    channels: int
    dtype: str
    scale: str
    method: dict[str, Any]
    blocks: int
    tiles: int
    tile_px: int
    halo_px: int
    overlap_px: int
    redundancy: float
    bytes_in: int
    bytes_out: int
    files: int
    memory_bytes: int
    threads: int
    workers: int
    choice: str
    tile_seconds: float
    seconds: float
    score_tiles: int
    maps: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as a JSON document."""
        return attrs.asdict(self)

    def rows(self) -> list[tuple[str, str]]:
        """Return the estimate as names and values for people."""
        model = self.method.get("model")
        at_work = f"{self.threads} tiles in flight"
        if self.workers > 1:
            at_work = f"{self.workers} workers of {self.threads} tile(s) in flight"
        return [
            ("input", f"{self.source}  {_shape(self.shape_in)} {self.dtype}, {self.channels} channel(s)"),
            ("output", f"{self.output}  {_shape(self.shape_out)} at x{self.scale}"),
            ("method", f"{self.method['name']}{f' {model}' if model else ''}"),
            ("blocks", f"{self.blocks}"),
            ("tiles", f"{self.tiles} of {self.tile_px} px, halo {self.halo_px}, overlap {self.overlap_px}"),
            ("redundancy", f"{self.redundancy:.2f}"),
            ("read", f"{self.bytes_in / 1e6:.1f} MB"),
            ("written", f"{self.bytes_out / 1e6:.1f} MB before compression, in {self.files} files"),
            *([("maps", ", ".join(self.maps))] if self.maps else []),
            ("peak memory", f"{self.memory_bytes / 2**30:.2f} GiB"),
            ("threads", f"{at_work}: {self.choice}"),
            ("report", f"{self.score_tiles} tiles scored before and after" if self.score_tiles else "none"),
            (
                "wall time",
                f"about {about_text(self.seconds)} at most; one tile took {spent_text(self.tile_seconds)}",
            ),
        ]


def estimate(
    inputs: Inputs,
    output: str | Path,
    settings: RunSettings,
    *,
    guarded: Mapping[str, Path] | None = None,
    destination: Destination | None = None,
    sinks: Sequence[Sink] = (),
) -> RunEstimate:
    """Resolve a run, restore one tile of it, and write nothing; all refusals of the run apply.

    Raises
    ------
    BigrestoreError
        By its kind, for input, model, settings or output.
    """
    ready = prepare(inputs, output, settings, guarded=guarded, destination=destination, sinks=sinks)
    check_range_used(ready.section, settings.input_range, profiled=True)
    if ready.resuming:
        require_input_of(ready, (block.name for block in ready.plan.grid.blocks()), lambda: None)
    plan, section, work = ready.plan, ready.section, ready.plan.grid.work
    seconds = time_tile(ready)
    total_tiles = work.tiles * work.sections
    levels = pyramid_shapes(plan.spec)
    item = section.dtype.itemsize * section.channels
    rate = work.largest_tile_px / seconds
    added = [sink.estimate(ready) for sink in sinks]
    return RunEstimate(
        source=section.source,
        output=str(output),
        shape_in=section.shape,
        shape_out=plan.grid.shape,
        channels=section.channels,
        dtype=section.dtype.name,
        scale=str(plan.grid.scale),
        method=ready.method.describe(),
        blocks=plan.grid.block_total,
        tiles=total_tiles,
        tile_px=plan.grid.y.tile_px,
        halo_px=ready.method.halo_px,
        overlap_px=plan.grid.y.overlap_px,
        redundancy=round(work.redundancy, 4),
        bytes_in=int(work.output_px * work.sections / plan.grid.scale**2) * item,
        bytes_out=sum(int(np.prod(shape)) for shape in levels) * (item + 4 * len(plan.maps)),
        files=1
        if plan.temporary_store
        else sum(_files(image.spec, shape) for image in images(ready.store, plan) for shape in levels),
        memory_bytes=plan.memory_bytes,
        threads=plan.threads,
        workers=plan.workers,
        choice=plan.choice,
        tile_seconds=round(seconds, 4),
        seconds=round(work.makespan_px(plan.tiles_at_once) / rate + sum(each.seconds for each in added), 2),
        score_tiles=sum(each.tiles for each in added),
        maps=plan.maps,
    )


def _files(spec: StoreSpec, shape: tuple[int, int, int]) -> int:
    """Return the files of one level: shards, or chunk files of a store without shards."""
    unit = spec.array_shards(shape) if spec.fmt == "0.5" else spec.array_chunks()
    count = 1
    for extent, side in zip(spec.array_shape(shape), unit, strict=True):
        count *= -(-extent // side)
    return count


def _shape(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
