"""Which tiles can be scored, and why the others cannot.

A score of background looks like any other number and spoils every mean: half a tile of saturated white moves NIQE
from 3 to 14 while BRISQUE improves. Flat and blank tiles are not bad, they only hold nothing to measure. So every
invalid tile has a reason, is counted and shown, and gets no score.

Everything here looks at cells of 8 x 8 pixels, the smallest to tell tissue from noise by its mean.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from bigrestore.core.pixels import Floats
from bigrestore.core.sizes import SCORE_TILE_PX

SCORE_CELL_PX = 8

SMALLEST_TISSUE = 0.75
"""Share of tissue below which a tile is background."""

MOST_FLAT = 0.25
"""Share of cells without any contrast in 8 bits from which on the scores are round-off."""

MOST_BLANK = 0.99
"""Share of pixels at one end of the value range from which on a tile is blank."""

Reason = Literal["", "blank", "small", "flat", "background"]


def why_invalid(tile: Floats, tissue: float, tile_px: int = SCORE_TILE_PX) -> Reason:
    """Return why a tile cannot be scored.

    Parameters
    ----------
    tile : ndarray, (h, w), float32
        Grey values, 0..1 of the value range.
    tissue : float
        Share of tissue in the tile, 0..1, by `tissue_share`.
    tile_px : int
        Side of a whole tile.

    Returns
    -------
    str
        "" where the tile can be scored. "small": the image or the region is smaller than a tile.
        "blank": it is constant, or 99 % of it lies at one end of the value range. "background": less than three
        quarters of it is tissue. "flat": a quarter of its 8 x 8 cells has no contrast in 8 bits, so that
        the local contrasts that the scores are made of are round-off there.
    """
    if tile.shape != (tile_px, tile_px):
        return "small"
    low, high = float(tile.min()), float(tile.max())
    black = float(np.mean(tile <= 0.0)) if low <= 0.0 else 0.0
    white = float(np.mean(tile >= 1.0)) if high >= 1.0 else 0.0
    if low == high or max(black, white) >= MOST_BLANK:
        return "blank"
    if tissue < SMALLEST_TISSUE:
        return "background"
    return "flat" if flat_share(tile) >= MOST_FLAT else ""


def flat_share(tile: Floats) -> float:
    """Return the share of whole 8 x 8 cells of a single value after rounding to 8 bits."""
    levels = tile * np.float32(255)
    cells = _cells(np.rint(levels, out=levels))
    if not cells.size:
        return 0.0
    highest = cells.max(axis=1).max(axis=2)
    lowest = cells.min(axis=1).min(axis=2)
    return float(np.mean(highest == lowest))


def tissue_share(tile: Floats, background: float | None, sigma: float) -> float:
    """Return the share of tissue in a tile.

    A cell of 8 x 8 pixels is tissue if its mean leaves the background level by more than four grey levels of 8 bits
    and by more than two standard deviations of the background's noise. A wholly black or white cell is none: scanners
    fill empty areas so.

    Parameters
    ----------
    tile : ndarray, (h, w), float32, 0..1
        Of the image that the background was found in.
    background : float or None
        Level of the background, 0..1; None where the section has none.
    sigma : float
        Standard deviation of the background's noise, 0..1.
    """
    cells = _cells(tile)
    if not cells.size:
        return 1.0
    means = cells.mean(axis=1, dtype=np.float32).mean(axis=2)
    tissue = (means > 0.0) & (means < 1.0)
    if background is not None:
        tissue &= np.abs(means - np.float32(background)) > max(4 / 255, 2 * sigma)
    return float(np.mean(tissue))


def _cells(tile: Floats) -> Floats:
    """Return the whole cells of a tile as (rows, 8, columns, 8), without the remainder at the far edges."""
    rows, columns = tile.shape[0] // SCORE_CELL_PX, tile.shape[1] // SCORE_CELL_PX
    return tile[: rows * SCORE_CELL_PX, : columns * SCORE_CELL_PX].reshape(
        rows, SCORE_CELL_PX, columns, SCORE_CELL_PX
    )
