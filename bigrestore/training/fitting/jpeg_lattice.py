"""Tell a window that went through a JPEG from one that did not, and read the quality.

A JPEG leaves the cosine coefficients of each 8 x 8 block at multiples of its table. Of an image without one they lie
anywhere. The lattice is where grey steps across its lines are largest; the quality is the one whose table explains the
coefficients best, if it explains them at all.

Fan and de Queiroz, "Identification of bitmap compression history", IEEE TIP 12 (2003).
"""

from __future__ import annotations

import functools
import math

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn

from bigrestore.core.pixels import Doubles, Floats
from bigrestore.degradation.jpeg import JPEG_BLOCK_PX, jpeg_round_trip, quantisation_table

QUALITIES = range(20, 97)
"""Above, steps are as small as the rounding of the pixels."""

LATTICE_ROUNDING = 0.45
"""Standard deviation of a coefficient about its multiple, grey levels: pixels were rounded once more."""

LEAST_LEVELS = 1.5
"""Smaller coefficients are zeros with rounding."""

LEAST_COEFFICIENTS = 60
"""Fewer say nothing."""

FIRST_COEFFICIENTS, MOST_COEFFICIENTS = 800, 5000
"""Of the search for the lattice, and of the quality: more say no more."""

LEAST_GAIN = 0.35
"""Mean gain in log-likelihood of a coefficient from which on a window counts as compressed."""

ANYWHERE = 0.1
"""Share of coefficients that may lie anywhere: clipped blocks, dust."""

CANDIDATES = 4
"""Positions of the lattice along an axis that are tried."""


@attrs.frozen
class JpegFinding:
    """A JPEG that a window went through.

    Attributes
    ----------
    quality : int
        Of the Independent JPEG Group's tables.
    phase : (int, int)
        Position (y, x), 0..7, of the window's first pixel in its block.
    gain : float
        Mean gain in log-likelihood of a coefficient.
    """

    quality: int
    phase: tuple[int, int]
    gain: float


def find_jpeg(window: Floats) -> JpegFinding | None:
    """Return the JPEG of a window of grey values 0..1, (h, w), or None."""
    levels = np.asarray(window, np.float64) * 255 - 128
    starts = [_likely_starts(levels, axis) for axis in (0, 1)]
    tried = [
        (_best_quality(_coefficients(levels[top:, left:]), FIRST_COEFFICIENTS)[1], top, left)
        for top in starts[0]
        for left in starts[1]
    ]
    _, top, left = max(tried)
    quality, gain = _best_quality(_coefficients(levels[top:, left:]), MOST_COEFFICIENTS)
    if gain < LEAST_GAIN:
        return None
    return JpegFinding(quality, (-top % JPEG_BLOCK_PX, -left % JPEG_BLOCK_PX), gain)


def through_jpeg(image: Doubles, jpeg: JpegFinding) -> Floats:
    """Return an image, (h, w), through a JPEG on the lattice of a finding."""
    pads = [
        (start, -(start + side) % JPEG_BLOCK_PX) for start, side in zip(jpeg.phase, image.shape, strict=True)
    ]
    padded = torch.from_numpy(np.pad(image, pads, mode="edge"))[None]
    stored = jpeg_round_trip(padded, [jpeg.quality])[0].numpy()
    height, width = image.shape
    top, left = jpeg.phase
    return np.asarray(stored[top : top + height, left : left + width], np.float32)


def _likely_starts(levels: Doubles, axis: int) -> list[int]:
    """Return the first rows (axis 0) or columns of a block by which steps across lines of blocks are largest."""
    along = levels if axis == 0 else levels.T
    step = along[2:-1] - along[1:-2]
    beside = 0.5 * (along[1:-2] - along[:-3] + along[3:] - along[2:-1])
    excess = np.abs(step - beside).mean(axis=1)  # before row k + 2
    rows = (np.arange(len(excess)) + 2) % JPEG_BLOCK_PX
    means = np.bincount(rows, excess, JPEG_BLOCK_PX) / np.maximum(
        np.bincount(rows, minlength=JPEG_BLOCK_PX), 1
    )
    return [int(start) for start in np.argsort(-means, kind="stable")[:CANDIDATES]]


def _coefficients(levels: Doubles) -> Doubles:
    """Return the cosine coefficients of whole blocks, (n, 64)."""
    height, width = (side // JPEG_BLOCK_PX * JPEG_BLOCK_PX for side in levels.shape)
    blocks = levels[:height, :width].reshape(
        height // JPEG_BLOCK_PX, JPEG_BLOCK_PX, width // JPEG_BLOCK_PX, JPEG_BLOCK_PX
    )
    made = dctn(blocks.transpose(0, 2, 1, 3), axes=(2, 3), norm="ortho")
    return np.asarray(made.reshape(-1, JPEG_BLOCK_PX**2))


def _best_quality(coefficients: Doubles, most: int) -> tuple[int, float]:
    """Return the quality whose table explains coefficients best, and the mean gain over coefficients anywhere."""
    counted = np.abs(coefficients) > LEAST_LEVELS
    counted[:, 0] = False
    columns = np.nonzero(counted)[1]
    values = coefficients[counted]
    best, largest = 0, -math.inf
    if len(values) < LEAST_COEFFICIENTS:
        return best, largest
    stride = -(-len(values) // most)
    values, columns = values[::stride], columns[::stride]
    for quality, table in _tables().items():
        step = table[columns]
        multiple = np.maximum(np.rint(np.abs(values) / step), 1)
        away = np.abs(values) - multiple * step
        density = (
            np.exp(-0.5 * (away / LATTICE_ROUNDING) ** 2) * step / (LATTICE_ROUNDING * math.sqrt(2 * math.pi))
        )
        gain = float(np.log(ANYWHERE + (1 - ANYWHERE) * density).mean())
        if gain > largest:
            best, largest = quality, gain
    return best, largest


@functools.cache
def _tables() -> dict[int, NDArray[np.float64]]:
    return {quality: quantisation_table(quality).numpy().astype(np.float64).ravel() for quality in QUALITIES}
