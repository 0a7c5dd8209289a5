"""Who does which blocks: parts of a job array, workers of this machine, workers of a cluster.

However the blocks are dealt out, each is carried out by the same code from the same stored plan, so that nothing
of it can be seen in the output.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from bigrestore.core.geometry import Grid
from bigrestore.run.pipeline import Done
from bigrestore.run.prepared import Prepared
from bigrestore.run.stop import StopFlag
from bigrestore.settings import RunSettings


class Workers(Protocol):
    """Carries out blocks elsewhere than in this process."""

    def run(self, blocks: Iterable[int], flag: StopFlag, done: Done) -> None:
        """Carry out blocks, given by their places in the order of `Grid.blocks`."""
        ...


def own_blocks(grid: Grid, shard: tuple[int, int] | None) -> Sequence[int]:
    """Return the blocks of one part of a run, as places in the order of `Grid.blocks`.

    A part of a volume is a run of neighbouring sections, each of which is then profiled and, where its format asks for
    it, decoded by one process alone. Where there are fewer sections than parts, blocks are dealt out in turn, because
    neighbours are alike: a part would be all tissue, and another one all glass.

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
    """Return whether blocks are carried out by other processes than the one that was started."""
    return (settings.workers or 1) > 1 or settings.scheduler is not None or settings.cluster is not None


def make_crew(ready: Prepared) -> Workers:
    """Return the workers that the settings of a run ask for."""
    if ready.settings.scheduler or ready.settings.cluster:
        from bigrestore.run.workers.cluster import ClusterCrew

        return ClusterCrew(ready)
    from bigrestore.run.workers.crew import Crew

    return Crew(ready)
