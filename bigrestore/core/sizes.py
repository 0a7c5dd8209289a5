"""Sizes of blocks, chunks and score tiles, apart from their geometry.

The settings need no more, and `--help` is not to wait.
"""

from __future__ import annotations

import math

BLOCK_PX = 3840
"""Default side of a block, and of an output shard, in output pixels."""

CHUNK_PX = 480
"""Side of a chunk of the output, in output pixels; blocks are multiples of it."""

SCORE_TILE_PX = 480
"""Largest side of a score tile where none is asked for."""

SCORE_STEP_PX = 96
"""Score tiles are multiples of NIQE's blocks."""

FEWEST_TILES = 6
"""Score tiles below which a change has no interval: the median of five is one of five numbers."""


def fitting_score_tile(height: int, width: int) -> int:
    """Return the side of the score tiles of a section, where none is asked for.

    480 px. Where fewer than six such tiles fill the section: the largest multiple of 96 px of which six do, and at
    least 192 px, because NIQE needs several blocks of 96 px. A section thinner than 192 px has tiles of 96 px.

    Parameters
    ----------
    height, width : int
        Pixels of what is scored, on the output grid.
    """
    six_fill = math.isqrt(height * width // FEWEST_TILES)
    side = min(SCORE_TILE_PX, max(2 * SCORE_STEP_PX, six_fill), height, width)
    return max(SCORE_STEP_PX, side // SCORE_STEP_PX * SCORE_STEP_PX)
