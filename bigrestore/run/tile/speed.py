"""How fast a method is here: the time of a tile, before the first block.

The dry run times a tile of the run. A run times a small one, which costs it less than a second, and none where it is
over in seconds by the method's own statement.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

import attrs
import numpy as np

from bigrestore.core.geometry import round_up
from bigrestore.core.host.resources import give_threads_back, one_thread_per_tile
from bigrestore.errors import InputError
from bigrestore.model.method import StatesCost, TileBatch
from bigrestore.run.prepared import Prepared
from bigrestore.run.tile.block import BlockWork, Job
from bigrestore.run.tile.mask import NoMask

log = logging.getLogger(__name__)

TIMED_PX = 256
"""Side of the small tile, in input pixels."""

SLOW_TILE_SECONDS = 5.0
"""Of a tile that takes as long, what libraries set up once is a small part."""

QUICK_SECONDS = 0.4
"""Work that a method states to be done in this time is not worth a timed tile; slow machines take ten times as long."""

UNSTATED_PX_PER_SECOND = 1e6
"""Assumed of a method that does not state its speed, to tell whether its work is quick."""


def expected_seconds(ready: Prepared, job: Job, missing: int) -> float | None:
    """Estimate the duration of a run's `missing` tiles; None if it is not known.

    Workers of a cluster may compute on other hardware, so nothing is said of them.
    """
    plan, method, settings = ready.plan, ready.method, ready.settings
    if settings.scheduler or settings.cluster:
        return None
    work = plan.grid.work
    share = missing / (work.tiles * work.sections)
    if settings.mask == "auto":
        share *= job.profiles.first_readable(plan.grid.region.sections)[1].tissue_share
    pixels = share * work.makespan_px(plan.tiles_at_once)
    stated = method.px_per_second if isinstance(method, StatesCost) else UNSTATED_PX_PER_SECOND
    speed = stated if pixels < QUICK_SECONDS * stated else _probed_px_per_second(job)
    return None if speed is None else pixels / speed


def time_tile(ready: Prepared) -> float:
    """Restore the largest tile of the middle block as in a run, twice where it is quick; return its seconds.

    Where the middle block cannot be read, the first that can be takes its place.
    """
    grid = ready.plan.grid
    work = _readable_work(attrs.evolve(ready.job(None), masker=NoMask()))
    batch = max(work.batches, key=lambda tiles: tiles[0].padded_height * tiles[0].padded_width)
    before = one_thread_per_tile()
    try:
        seconds = _seconds_of(lambda: work.restore(batch[:1]))
        if seconds < SLOW_TILE_SECONDS:  # the first call also pays for what libraries set up once
            seconds = _seconds_of(lambda: work.restore(batch[:1]))
    finally:
        give_threads_back(before)
    part_of_largest = batch[0].padded_height * batch[0].padded_width / grid.work.largest_tile_px
    return max(1e-6, seconds / part_of_largest)


def _readable_work(job: Job) -> BlockWork:
    """Read the middle block, or else the first that can be read."""
    depth, rows, columns = job.grid.block_counts
    middle = job.grid.block(job.grid.region.z0 + depth // 2, rows // 2, columns // 2)
    try:
        return BlockWork(job, middle)
    except InputError as error:
        log.warning("Block %s cannot be read: %s", middle.name, error)
        z, _ = job.profiles.first_readable(job.grid.region.sections)
        for block in (block for block in job.grid.blocks() if block.z == z):
            with contextlib.suppress(InputError):
                return BlockWork(job, block)
        raise


def _seconds_of(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _probed_px_per_second(job: Job) -> float | None:
    """Restore a small tile of noise; return input pixels per second of one tile, None where it fails."""
    side = round_up(TIMED_PX, job.method.alignment_px)
    z, profile = job.profiles.first_readable(job.grid.region.sections)
    pixels = np.random.default_rng(0).random((1, side, side), np.float32)
    realness = None if job.realness is None else np.ones_like(pixels)
    batch = TileBatch(
        pixels,
        None,
        np.zeros((1, 2), np.int64),
        z,
        realness,
        job.method_maps,
    )
    statistics = profile.statistics
    before = one_thread_per_tile()
    try:
        job.method.restore(batch, statistics)  # the first call also pays for what libraries set up once
        started = time.perf_counter()
        job.method.restore(batch, statistics)
        return side * side / max(1e-6, time.perf_counter() - started)
    except Exception:  # of the method, which says so at the first block
        log.debug("The time of a tile is not known.", exc_info=True)
        return None
    finally:
        give_threads_back(before)
