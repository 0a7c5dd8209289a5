"""PIQE: the share of damage in the active blocks.

The normalised image is cut into blocks of 16 pixels. A block counts if its variance exceeds a threshold; it
is damaged if a border holds a stretch without variation (blocking, smearing), or if its middle differs
from its surround as it does under noise. The score is the damage per lively block, so it needs no training.
Lower is better. It takes smoothness for quality: a median filter improves it, an image without any lively block
scores 100.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bigrestore.report.metrics.nss.fields import TileFields
from bigrestore.report.metrics.nss.mscn import Field

PIQE_BLOCK_PX = 16
_SEGMENT_PX = 6
_LIVELY_VARIANCE = 0.1
_STILL_DEVIATION = 0.1


def piqe(fields: TileFields) -> float:
    """Score a tile with PIQE.

    Venkatanath, Praneeth, Bh, Channappayya and Medasani, "Blind image quality evaluation using perception based
    features", National Conference on Communications (2015), with the constants of MATLAB's `piqe`.

    Parameters
    ----------
    fields : TileFields
        The tile; mirrored at the right and lower border up to whole blocks.

    Returns
    -------
    float
        0..100 and a little above, lower is better; 100 where no block is lively; NaN for a tile smaller
        than a block, of one value, or without a positive one.
    """
    if min(fields.shape) < PIQE_BLOCK_PX or fields.darkest == fields.brightest or not fields.brightest > 0.0:
        return float("nan")
    image = fields.stretched()
    missing = [-side % PIQE_BLOCK_PX for side in fields.shape]
    if any(missing):
        image = np.pad(image, ((0, missing[0]), (0, missing[1])), mode="symmetric")
    field = fields.field(image)
    variance, noisy = _variance_and_noise(field)
    lively = variance > _LIVELY_VARIANCE
    still = _has_still_segment(field)
    damage = np.where(still, 1.0 - variance, 0.0) + np.where(noisy, variance, 0.0)
    # The paper's constant of 1 in both terms: 100 without an active block, no division by zero.
    return float(100.0 * (damage[lively].sum() + 1.0) / (np.count_nonzero(lively) + 1.0))


def _variance_and_noise(field: Field) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Variance of every block, and whether its middle differs from its surround as under noise."""
    height, width = field.shape
    rows = height // PIQE_BLOCK_PX
    columns = np.empty((2, rows, width))
    for row in range(rows):
        band = field[row * PIQE_BLOCK_PX : (row + 1) * PIQE_BLOCK_PX]
        np.add.reduce(band, axis=0, out=columns[0, row])
        np.add.reduce(band * band, axis=0, out=columns[1, row])
    sums = columns.reshape(2, rows, width // PIQE_BLOCK_PX, PIQE_BLOCK_PX)
    total = sums.sum(axis=-1)
    variance = _variance(total, PIQE_BLOCK_PX * PIQE_BLOCK_PX)
    middle = _variance(sums[..., 7] + sums[..., 8], 2 * PIQE_BLOCK_PX)
    # Columns 7 and 9, not 7 and 8: in the original, the second is deleted after the first has moved the rest.
    surround = _variance(total - sums[..., 7] - sums[..., 9], (PIQE_BLOCK_PX - 2) * PIQE_BLOCK_PX)
    deviation = np.sqrt(variance)
    with np.errstate(invalid="ignore", divide="ignore"):
        relation = np.nan_to_num(np.sqrt(middle / surround))
        contrast = np.abs(deviation - relation) / np.maximum(deviation, relation)
    return variance, deviation > 2.0 * contrast


def _variance(sums: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Unbiased variance from the sums of values and of squares."""
    return np.asarray(np.maximum(sums[1] - sums[0] ** 2 / count, 0.0) / (count - 1))


def _has_still_segment(field: Field) -> NDArray[np.bool_]:
    """Whether any six neighbours on a border of the block hardly vary."""
    last = PIQE_BLOCK_PX - 1
    still = _still(field[::PIQE_BLOCK_PX]) | _still(field[last::PIQE_BLOCK_PX])
    upright = (
        np.ascontiguousarray(field[:, ::PIQE_BLOCK_PX].T),
        np.ascontiguousarray(field[:, last::PIQE_BLOCK_PX].T),
    )
    return still | (_still(upright[0]) | _still(upright[1])).T


def _still(lines: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark each 16 pixels of some lines with six nearly equal neighbours: (lines, length / 16)."""
    line = lines.reshape(-1)
    # All lines are one; the segments that cross from one block to the next are cut away.
    sums = np.zeros((2, line.size))
    for power, target in zip((line, line * line), sums, strict=True):
        target[: 1 - _SEGMENT_PX] = np.correlate(power, np.ones(_SEGMENT_PX))
    still = _variance(sums, _SEGMENT_PX) < _STILL_DEVIATION**2
    inside = still.reshape(lines.shape[0], -1, PIQE_BLOCK_PX)[..., : PIQE_BLOCK_PX - _SEGMENT_PX + 1]
    return np.asarray(inside.any(axis=-1))
