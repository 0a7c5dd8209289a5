"""How the blocks of a run are shared: parts of a job array, workers of this machine, workers of a cluster.

All of them run the same loop and claim blocks in the journal. Processes with the same part share its blocks: any number
of processes with `--shard 1/1` share the whole run.
"""

from __future__ import annotations

from collections.abc import Sequence

from bigrestore.core.geometry import Grid
from bigrestore.run.pipeline import Done, TilesDone
from bigrestore.run.prepared import Prepared
from bigrestore.run.state.claims import Claims
from bigrestore.run.stop import StopFlag
from bigrestore.settings import RunSettings


def own_blocks(grid: Grid, shard: tuple[int, int] | None) -> Sequence[int]:
    """Return the blocks of one part of a run, as places in the order of `Grid.blocks`.

    A part of a volume is a run of neighbouring sections: one process alone profiles and decodes each. Where sections
    are fewer than parts, blocks are dealt out in turn. Neighbours are alike: one part would be all tissue, another
    all glass.

    Parameters
    ----------
    grid : Grid
        Of the run.
    shard : tuple of int, optional
        (I, N), I from 1 to N; None: all blocks.
    """
    total = grid.block_total
    if shard is None:
        return range(total)
    index, count = shard
    sections = grid.block_counts[0]
    if sections < count:
        return range(index - 1, total, count)
    each = total // sections
    return range(sections * (index - 1) // count * each, sections * index // count * each)


def has_workers(settings: RunSettings) -> bool:
    """Return whether other processes than this one do the blocks."""
    return (settings.workers or 1) > 1 or settings.scheduler is not None or settings.cluster is not None


def start_workers(ready: Prepared, claims: Claims, flag: StopFlag, done: Done, tiles_done: TilesDone) -> None:
    """Have the workers of a run do blocks; returns when all have a record, or when the flag was set.

    Parameters
    ----------
    ready : Prepared
        The run; its settings say which workers.
    claims : Claims
        The blocks.
    flag : StopFlag
        Looked at all the time; once set, workers abandon the blocks in progress.
    done : callable
        Called in this thread with the record of each block.
    tiles_done : callable
        Called in this thread with a block at work and how many more of its tiles are restored; not by a cluster.

    Raises
    ------
    UsageError
        Where there is no such cluster, or its libraries are not installed.
    WorkersLostError
        Where the scheduler is gone, or workers die before they are ready.
    BigrestoreError
        What ended a worker, such as a full disk.
    """
    if ready.settings.scheduler or ready.settings.cluster:
        from bigrestore.run.workers.cluster import ClusterWorkers

        ClusterWorkers(ready, claims).run(flag, done)
    else:
        from bigrestore.run.workers.local import LocalWorkers

        with flag.polled():
            LocalWorkers(ready, claims).run(flag, done, tiles_done)
