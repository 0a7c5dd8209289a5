"""At which downscaling a section is sharp: its own sharp targets, chosen by spectrum.

Every section is sharp when it is small enough: averaging shrinks its blur with it. Each factor is tried, from the
section's own grid down to a fifth of it. One is taken where the blur that was read took no more than 9 dB of what is
left there, so that it can be taken out and leave the truth, and where most windows of tissue then meet the standard of
`bigrestore.training.data.windows`: power falls by at most 21 dB from 0.141 to 0.484 cycles/px, noise not counted. A few
windows that meet it among many that do not are dust and scratches.
"""

from __future__ import annotations

import math

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.training.adaptation.reduction import noise_factor, reduced
from bigrestore.training.adaptation.sections import Tissue
from bigrestore.training.data.windows import (
    TISSUE_CELL_PX,
    CellMaps,
    WindowRule,
    cell_maps,
    falls_at,
    window_origins,
)

FACTORS = (1.0, 0.75, 0.6, 0.5, 0.35, 0.25, 0.2)
"""Downscalings that are tried: target pixels per section pixel."""

SHARP_SHARE = 2 / 3
"""Share of the windows of tissue that meet the standard where a factor is taken."""

MOST_LOST_DB = 9.0
"""What the blur may take of the power at the highest frequency of a factor: more cannot be given back faithfully."""

LEAST_WINDOWS = 2
"""Windows that a factor must give."""

EXAMPLES = 2
"""Windows of each kind, sharp and soft, that are kept for the sheet."""


@attrs.frozen(eq=False)
class Example:
    """A window to be shown: its pixels (h, w) 16 bits, and its fall in dB."""

    pixels: NDArray[np.uint16]
    fall_db: float


@attrs.frozen(eq=False)
class Judged:
    """The windows of one section at one factor.

    Attributes
    ----------
    factor : float
        Target pixels per section pixel.
    tissue, sharp : int
        Windows of tissue, and those that meet the standard, at steps of 7 px.
    fall_db : float
        Median fall of the windows of tissue; NaN without any.
    lost_db : float
        What the blur took of the power at the highest frequency.
    sharp_examples, soft_examples : tuple of Example
        Some of those that meet the standard, and of those that do not.
    """

    factor: float
    tissue: int
    sharp: int
    fall_db: float
    lost_db: float
    sharp_examples: tuple[Example, ...]
    soft_examples: tuple[Example, ...]

    @property
    def accepted(self) -> bool:
        """Whether the section is sharp at this factor."""
        enough = self.sharp >= max(LEAST_WINDOWS, SHARP_SHARE * self.tissue)
        return enough and self.lost_db <= MOST_LOST_DB


def judge_section(tissue: Tissue, window_px: int) -> list[Judged]:
    """Judge a section at every factor at which it holds a window.

    Parameters
    ----------
    tissue : Tissue
        The section.
    window_px : int
        Side of a training window, pixels of the target.
    """
    judged = (judge_factor(tissue, factor, window_px) for factor in FACTORS)
    return [one for one in judged if one.tissue]


def judge_factor(tissue: Tissue, factor: float, window_px: int) -> Judged:
    """Judge a section at one factor; the arguments are those of `judge_section`."""
    falls: list[NDArray[np.float64]] = []
    sharp_examples: list[Example] = []
    soft_examples: list[Example] = []
    for block in tissue.blocks:
        if min(block.shape) * factor < max(window_px, TISSUE_CELL_PX):
            continue
        pixels = reduced(block, factor)
        maps = cell_maps(pixels, tissue.noise_variance * noise_factor(factor))
        origins, fall = _windows(maps, pixels, window_px)
        meets = _meets(fall)
        falls.append(fall)
        sharp_examples += _examples(pixels, origins[meets], fall[meets], window_px)
        soft_examples += _examples(pixels, origins[~meets], fall[~meets], window_px)
    every = np.concatenate(falls) if falls else np.zeros(0)
    return Judged(
        factor,
        len(every),
        int(_meets(every).sum()),
        float(np.median(every)) if len(every) else math.nan,
        tissue.reading.lost_db(factor) if tissue.reading is not None else 0.0,
        tuple(sharp_examples[:EXAMPLES]),
        tuple(soft_examples[:EXAMPLES]),
    )


def _meets(fall: NDArray[np.float64]) -> NDArray[np.bool_]:
    rule = WindowRule()
    return np.asarray((fall <= rule.fall_db) & (fall >= rule.flat_db))


def _windows(
    maps: CellMaps, pixels: NDArray[np.uint16], window_px: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return origins and falls of the windows of tissue, whatever their fall."""
    every = WindowRule(fall_db=math.inf, flat_db=-math.inf)
    height, width = pixels.shape
    origins = window_origins(maps, (height, width), window_px, every)
    return origins, falls_at(maps, origins, window_px)


def _examples(
    pixels: NDArray[np.uint16], origins: NDArray[np.int32], fall: NDArray[np.float64], window_px: int
) -> list[Example]:
    """Cut out the windows at a third and two thirds of a list."""
    chosen = sorted(
        {len(origins) * i // (EXAMPLES + 1) for i in range(1, EXAMPLES + 1)} if len(origins) else ()
    )
    windows = [pixels[y : y + window_px, x : x + window_px].copy() for y, x in origins[chosen]]
    return [Example(window, float(fall[i])) for window, i in zip(windows, chosen, strict=True)]
