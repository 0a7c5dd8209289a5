"""The tiles of a run that are done, counted while their block is still at work."""

from __future__ import annotations

from bigrestore.core.geometry import Block, Grid
from bigrestore.run.view.progress import Progress


class TileCount:
    """Counts tiles and moves the progress of a run.

    A block of a dead worker is done again: its tiles count once.

    Parameters
    ----------
    grid : Grid
        Of the run.
    progress : Progress
        Shows the count.
    total : int
        Tiles of all blocks of the run, or of its part of them.
    """

    def __init__(self, grid: Grid, progress: Progress, total: int) -> None:
        self._grid, self._progress, self._total, self._done = grid, progress, total, 0
        self._counted: dict[str, int] = {}

    def start(self, missing: int, seconds: float | None) -> None:
        """Begin with `missing` tiles left, expected to take so many seconds."""
        self._done = self._total - missing
        self._progress.start("run", self._total, self._done, seconds)

    def add(self, block: Block, tiles: int) -> None:
        """Count tiles of a block at work."""
        whole, counted = self._grid.tile_count(block.box), self._counted.get(block.name, 0)
        self._counted[block.name] = min(whole, counted + tiles)
        self._advance(block, self._counted[block.name] - counted, whole)

    def end_block(self, block: Block) -> None:
        """Count the rest of a finished or failed block; a tile told of after its block is not counted again."""
        self.add(block, self._grid.tile_count(block.box))

    def _advance(self, block: Block, tiles: int, whole: int) -> None:
        if tiles:
            self._done += tiles
            self._progress.advance(self._done, block.box.pixels * tiles // whole)
