"""The plan of a run: settings, method, input and machine, resolved once.

It is stored beside the output before the first block, and a resumed run obeys it: a tile size chosen for one machine's
memory holds on the next. Its facts, with hashes of model and input, are the run's fingerprint; a run resumes only under
the same one, and differences are named.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Protocol

import attrs

from bigrestore.core.geometry import Box, Grid, Region, choose_tile_px
from bigrestore.core.host.resources import available_cpus, memory_limit_bytes, processors
from bigrestore.core.sizes import SCORE_TILE_PX, fitting_score_tile
from bigrestore.errors import OutputExistsError, UsageError
from bigrestore.io.section import Section
from bigrestore.io.store.pack import ZIP_NAMES
from bigrestore.io.store.placement import scaled_placement
from bigrestore.io.store.store_spec import StoreSpec
from bigrestore.model.method import Method, StatesCost
from bigrestore.settings import RunSettings
from bigrestore.settings.values import AUTO_MAP

SECONDS_PER_TILE = 5.0
"""A tile may take this long at most, where the method states its speed."""

REDUNDANCY_LIMIT = 1.3
"""Pixels computed for each pixel kept, at most, at scale 1."""

LARGEST_TILE_PX = 1 << 24
"""Input pixels of a tile, halo included, that are never exceeded."""

BYTES_PER_PX = 1200
"""Peak memory per input pixel of a tile at work that is assumed of a method that does not state it."""

WRITER_CPUS = 4
"""Processors beside a GPU from which a second thread writes."""

MOST_FINISHERS = 8
"""Threads beside a GPU that build a pyramid, at most: each holds a block."""

FADE_PX = 64
"""Overlap, in output pixels, of a method that is not exact."""

BASE_BYTES = 400 << 20
"""What the interpreter and the libraries take: 340 MiB were measured."""

CUDA_BUILD_BYTES = 300 << 20
"""What the build of torch with CUDA takes more than that for processors alone, also where there is no GPU: 270 MiB."""


class SinkNeeds(Protocol):
    """What the plan of a run asks of those who follow it; see `bigrestore.run.sinks.Sink`."""

    factory: str
    bytes_per_tile: int

    def tally_side(self, score_tile_px: int) -> int:
        """Return the side of the tiles for sums."""
        ...

    def blocks_held(self, *, gpu: bool) -> int:
        """Return the blocks kept in memory after they are written, at most."""
        ...


@attrs.frozen
class Plan:
    """How a run is carried out.

    Attributes
    ----------
    grid : Grid
        Blocks and tiles.
    spec : StoreSpec
        The output store.
    threads : int
        Tiles in flight, of each worker.
    workers : int
        Processes of this machine for the blocks.
    choice : str
        Why so many threads, in words.
    batch_size : int
        Tiles handed to the method at once.
    writers : int
        Threads of each worker that write blocks.
    finishers : int
        Threads that build the pyramid, once all blocks are written.
    blocks_in_flight : int
        Blocks in memory at once: read ahead, restored and written behind.
    zipped : bool
        Whether the output is a zip file of a store.
    tiff : bool
        Whether the output is an OME-TIFF, made of a temporary store beside it.
    memory_bytes : int
        Estimated peak memory, of all workers together.
    maps : tuple of str
        Maps written beside the image.
    score_tile_px : int
        Side of a score tile, whether a report is asked for or not: of a run begun without one, too.
    """

    grid: Grid
    spec: StoreSpec
    threads: int
    workers: int
    choice: str
    batch_size: int
    writers: int
    finishers: int
    blocks_in_flight: int
    tiff: bool
    zipped: bool
    memory_bytes: int
    maps: tuple[str, ...] = ()
    score_tile_px: int = SCORE_TILE_PX

    @property
    def tiles_at_once(self) -> int:
        """Threads of all workers of this machine."""
        return self.threads * self.workers

    @property
    def temporary_store(self) -> bool:
        """Whether the output is one file, made of a temporary store beside it."""
        return self.tiff or self.zipped

    @property
    def facts(self) -> dict[str, Any]:
        """The part of the plan with an effect on bytes, JSON-able."""
        return {
            "tile_px": self.grid.y.tile_px,
            "overlap_px": self.grid.y.overlap_px,
            "block_px": self.grid.y.block_px,
            "batch_size": self.batch_size,
            "format": self.spec.fmt,
            "tiff": self.tiff,
            "zip": self.zipped,
            **(
                {"channels_per_chunk": 3} if self.spec.channels == 3 else {}
            ),  # one in outputs of version 0.1.0
        }


def make_plan(
    section: Section,
    method: Method,
    settings: RunSettings,
    output: Path,
    stored: dict[str, Any] | None,
    sinks: Sequence[SinkNeeds] = (),
) -> Plan:
    """Resolve a run.

    Parameters
    ----------
    section, method, settings
        Input, method and what was asked for.
    output : Path
        Its name decides between store and TIFF.
    stored : dict, optional
        `Plan.facts` of the run to resume; stands in for settings left open.
    sinks : sequence of SinkNeeds
        Followers of the run, for their memory.

    Raises
    ------
    UsageError
        Where block, tile, overlap or region do not go together.
    """
    old = stored or {}
    workers = 1 if settings.cluster else settings.workers or 1
    threads, choice = choose_threads(settings.threads, workers, gpu=on_gpu(method))
    batch = settings.batch_size or old.get("batch_size", 1)
    grid = _lay_grid(section, method, settings, old, (workers, threads, batch))
    tiles_per_block = max(1, grid.work.tiles // (grid.block_counts[1] * grid.block_counts[2]))
    writers, finishers = choose_writers(settings.threads, workers * threads, gpu=on_gpu(method))
    in_flight = 1 + writers + -(-threads * batch // tiles_per_block)
    fmt, tiff = _format(settings, section, output)
    return Plan(
        grid=grid,
        spec=_store_spec(section, grid, fmt),
        threads=threads,
        workers=workers,
        choice=choice,
        batch_size=batch,
        writers=writers,
        finishers=finishers,
        blocks_in_flight=in_flight,
        tiff=tiff,
        zipped=output.name.lower().endswith(ZIP_NAMES),
        memory_bytes=workers
        * _peak_bytes(section, method, grid, threads * batch, in_flight, settings, sinks),
        maps=settings.maps,
        score_tile_px=_score_tile(settings, grid, output, stored),
    )


def choose_threads(asked: int | None, workers: int, *, gpu: bool) -> tuple[int, str]:
    """Return the tiles in flight of each worker, and why so many.

    One thread per tile and several tiles in flight beat several threads on one tile. Workers share the processors, one
    thread for each; on a GPU two tiles overlap copying and computing.
    """
    if asked:
        return asked, "as --threads asks for"
    if gpu:
        return 2, "on a GPU the copies of one tile overlap the computation of another"
    cpus = processors()
    if workers == 1:
        return cpus.count, f"one for each of {cpus.reason}"
    threads = max(1, cpus.count // workers)
    few = "; there are fewer processors than workers" if workers > cpus.count else ""
    return threads, f"{workers} workers share {cpus.reason}{few}"


def choose_writers(asked: int | None, tiles_at_once: int, *, gpu: bool) -> tuple[int, int]:
    """Return the writers of blocks of each worker, and the builders of the pyramid at the end, in threads.

    A CPU is busy with tiles while one block is compressed, and its pyramid has the threads of its tiles. A GPU may finish
    blocks faster than that, where the serial parts of writing one, its file and checksum, can go on beside the compression
    of the next; and its few threads leave the other processors to the pyramid, unless --threads says otherwise.
    """
    if not gpu:
        return 1, tiles_at_once
    cpus = available_cpus()
    finishers = tiles_at_once if asked else max(tiles_at_once, min(cpus, MOST_FINISHERS))
    return (2 if cpus >= WRITER_CPUS else 1), finishers


def on_gpu(method: Method) -> bool:
    """Return whether a method computes on another device than the CPU."""
    return _kind_of_device(method) != "cpu"


def on_cuda(method: Method) -> bool:
    """Return whether a method computes on a GPU with CUDA."""
    return _kind_of_device(method) == "cuda"


def _kind_of_device(method: Method) -> str:
    return str(method.describe().get("device", "cpu")).split(":")[0]


def _lay_grid(
    section: Section,
    method: Method,
    settings: RunSettings,
    old: dict[str, Any],
    at_once: tuple[int, int, int],
) -> Grid:
    """Return the grid of blocks and tiles in the region asked for.

    `old` are the facts of a stored plan; `at_once` are workers, threads of each, and tiles of a batch.
    """
    scale, (workers, threads, batch) = Fraction(method.scale), at_once
    _check_block(settings.block_size, method.alignment_px * scale)
    overlap = settings.overlap
    if overlap is None:
        overlap = old.get("overlap_px", 0 if method.exact else FADE_PX)
    whole = Grid.build(
        section.shape,
        scale=scale,
        alignment_px=method.alignment_px,
        halo_px=method.halo_px,
        block_px=settings.block_size,
        tile_px=settings.block_size,
        overlap_px=overlap,
        exact=method.exact,
    )
    grid = attrs.evolve(whole, region=_region(settings, section, whole))
    tile = settings.tile_size or old.get("tile_px")
    if not tile:
        # Chosen for the processors of the machine, however many workers share them: the bytes are the same.
        planned = settings.threads or (threads if on_gpu(method) else available_cpus())
        # Where tiles are cross-faded their size shows in the pixels, which a region must not change.
        seen = grid if method.exact else whole
        memory = _tile_memory(method, settings.device, workers, threads * batch)
        tile = _auto_tile(seen, method, planned * batch, memory)
    if overlap * 2 > tile:
        raise UsageError(
            f"--overlap is {overlap} output pixels and the tile {tile}; an overlap is half a tile at "
            "most, so enlarge --tile-size or reduce --overlap."
        )
    return attrs.evolve(grid, y=attrs.evolve(grid.y, tile_px=tile), x=attrs.evolve(grid.x, tile_px=tile))


def _score_tile(settings: RunSettings, grid: Grid, output: Path, stored: dict[str, Any] | None) -> int:
    """Return the side of the score tiles: of the run to resume, as asked for, or one that fits."""
    asked, scored = settings.score_tile_size, grid.region.box
    if stored is not None:
        held: int = stored.get("score_tile_px", SCORE_TILE_PX)
        if asked not in (None, held):
            raise OutputExistsError(
                f"The output {output} was begun with score tiles of {held} px, and its blocks hold sums over them, but "
                f"--score-tile-size is {asked}; leave it out, or score the finished output by `bigrestore score --tile-size "
                f"{asked}`."
            )
        return held
    if asked is not None and settings.report and asked > min(scored.height, scored.width) and grid.scale >= 1:
        raise UsageError(
            f"--score-tile-size is {asked}, but what is scored has only {scored.height} x {scored.width} output pixels; "
            "give less, or leave it out."
        )
    return asked or fitting_score_tile(scored.height, scored.width)


def _check_block(block_px: int, unit: Fraction) -> None:
    """Refuse a block size other than a multiple of the method's alignment."""
    if unit.denominator != 1 or block_px % unit:
        raise UsageError(
            f"--block-size is {block_px} output pixels, but the method works in steps of {unit}; give a multiple "
            "of both 480 and that."
        )


def _region(settings: RunSettings, section: Section, grid: Grid) -> Region:
    """Return the region asked for, inside the output."""
    whole = grid.region
    if settings.roi is None:
        return whole
    z, y, x = settings.roi
    z = z or (whole.z0, whole.z1)
    if z[1] > section.depth or y[1] > grid.y.out_px or x[1] > grid.x.out_px:
        raise UsageError(
            f"--roi ends at z {z[1]}, y {y[1]}, x {x[1]}, but the output has {section.depth} section(s) of "
            f"{grid.y.out_px} x {grid.x.out_px} pixels; choose a region inside."
        )
    return Region(z[0], z[1], Box(y[0], y[1], x[0], x[1]))


def _auto_tile(grid: Grid, method: Method, planned: int, memory: int) -> int:
    """Choose the tile size from the method's stated costs and the memory of a tile; `planned` tiles share the time."""
    states = method if isinstance(method, StatesCost) else None
    per_px = states.bytes_per_px if states else BYTES_PER_PX
    speed = states.px_per_second if states else LARGEST_TILE_PX
    return choose_tile_px(
        grid,
        threads=planned,
        memory_px=min(LARGEST_TILE_PX, memory // per_px),
        time_px=int(SECONDS_PER_TILE * speed),
        redundancy_limit=REDUNDANCY_LIMIT if grid.scale <= 1 else float("inf"),
    )


def _tile_memory(method: Method, device: str, workers: int, in_flight: int) -> int:
    """Return the bytes for a tile: half of the memory, shared by the tiles in flight of all processes on it.

    A GPU counts what is free, and the processes that share it; the host counts its limit, and all workers.
    """
    if on_cuda(method):
        from bigrestore.model.device import free_gpu_bytes, processes_per_gpu

        return free_gpu_bytes(device) // 2 // (processes_per_gpu(workers, device) * in_flight)
    return memory_limit_bytes() // 2 // (workers * in_flight)


def is_tiff_name(output: Path) -> bool:
    """Return whether an output is a TIFF by its name."""
    return output.suffix.lower() in (".tif", ".tiff")


def _format(settings: RunSettings, section: Section, output: Path) -> tuple[Literal["0.4", "0.5"], bool]:
    """Return the version of the store and whether it becomes a TIFF, by flag and by the output's name."""
    named_tiff = is_tiff_name(output)
    if settings.format != "auto" and named_tiff != (settings.format == "ome-tiff"):
        raise UsageError(
            f"--format is {settings.format} but the output is named {output.name}; name a TIFF .ome.tif and a "
            "store .ome.zarr."
        )
    named_store = output.suffix.lower() in ("", ".zarr") or output.name.lower().endswith(ZIP_NAMES)
    if not named_tiff and not named_store:
        raise UsageError(
            f"the output {output.name} is neither a store nor a TIFF by its name; name it .ome.zarr, .ozx, .ome.zarr.zip or "
            ".ome.tif."
        )
    if named_tiff and settings.maps:
        raise UsageError(
            f"--maps are images of their own beside the restored one, which the TIFF {output.name} has no place for; name "
            "the output .ome.zarr, or leave --maps out."
        )
    is_ozx = output.suffix.lower() == ".ozx"
    if is_ozx and settings.format == "0.4":
        raise UsageError(
            f"--format is 0.4, and {output.name} is OME-Zarr 0.5, as .ozx files are; name it .ome.zarr.zip, or leave "
            "--format out."
        )
    is_04 = not is_ozx and section.kind == "ome-zarr" and section.format_version == "0.4"
    wanted = (
        settings.format if settings.format in ("0.4", "0.5") else "0.4" if is_04 and not named_tiff else "0.5"
    )
    return ("0.4" if wanted == "0.4" else "0.5"), named_tiff


def _store_spec(section: Section, grid: Grid, fmt: Literal["0.4", "0.5"]) -> StoreSpec:
    """Return the store's contents and its place in the world."""
    box, first_z = grid.region.box, grid.region.z0
    size, start = scaled_placement(
        section.voxel_size_um, section.translation_um, float(grid.scale), (first_z, box.y0, box.x0)
    )
    return StoreSpec(
        shape=grid.shape,
        dtype=section.dtype,
        channels=section.channels,
        voxel_size_um=size,
        translation_um=start,
        is_volume=section.is_volume,
        fmt=fmt,
        shard_px=grid.y.block_px,
    )


def _peak_bytes(
    section: Section,
    method: Method,
    grid: Grid,
    tiles: int,
    blocks: int,
    settings: RunSettings,
    sinks: Sequence[SinkNeeds],
) -> int:
    """Estimate the peak: tiles at work, blocks in flight with their input, the sinks, and the reader's own memory."""
    per_px = method.bytes_per_px if isinstance(method, StatesCost) else BYTES_PER_PX
    side_y, side_x = (min(grid.y.block_px, extent) for extent in grid.shape[1:])
    read = (side_y / grid.scale + 2 * grid.y.halo_px) * (side_x / grid.scale + 2 * grid.x.halo_px)
    item = section.dtype.itemsize * section.channels
    maps = len(settings.maps)
    out = side_y * side_x * (item + (0 if method.exact else 4) + 4 * maps)
    shares = 0 if settings.realness_map in (None, AUTO_MAP) else 4 * read
    gpu = on_gpu(method)
    blocks = min(blocks + sum(sink.blocks_held(gpu=gpu) for sink in sinks), grid.block_total)
    per_px += int(4 * maps * grid.scale**2)
    at_work = tiles * grid.work.largest_tile_px * per_px if not gpu else 0
    at_work += tiles * sum(sink.bytes_per_tile for sink in sinks)
    return int(_base_bytes() + at_work + blocks * (read * item + shares + out) + section.resident_bytes)


def _base_bytes() -> int:
    """Return what the interpreter and the libraries take, by the build of torch if a method has imported it."""
    torch = sys.modules.get("torch")
    return BASE_BYTES + (CUDA_BUILD_BYTES if torch is not None and torch.version.cuda else 0)
