"""Contact sheets of the twin: what a model made of the most structured place of every image.

A sheet shows, four times enlarged without smoothing: the input, at x2 the input by Catmull-Rom, the restored image and
the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter

from tests.bench.twin.gains import reference_of
from tests.bench.twin.pairs import TwinPair

Grey = NDArray[np.uint8]

CROP_PX = 96
ZOOM = 4
GAP_PX = 8
DETAIL_PX = 2.0
"""Sigma of the Gaussian whose difference from the image counts as structure."""


def write_sheets(folder: Path, prefix: str, pairs: Sequence[TwinPair], images: Sequence[Grey]) -> None:
    """Write one PNG a pair: FOLDER/PREFIX-NAME.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for pair, image in zip(pairs, images, strict=True):
        name = f"{prefix}-{pair.name.replace(' ', '-')}.png"
        Image.fromarray(sheet(pair, image)).save(folder / name)


def sheet(pair: TwinPair, image: Grey) -> Grey:
    """Return the panels of a pair side by side."""
    panels = [pair.low.repeat(pair.scale, 0).repeat(pair.scale, 1)]
    if pair.scale == 2:
        panels.append(reference_of(pair))
    y, x = structured_place(pair)
    cuts = [panel[y : y + CROP_PX, x : x + CROP_PX] for panel in (*panels, image, pair.target)]
    large = [cut.repeat(ZOOM, 0).repeat(ZOOM, 1) for cut in cuts]
    gap = np.full((large[0].shape[0], GAP_PX), 255, np.uint8)
    parts = [part for panel in large for part in (panel, gap)]
    return np.concatenate(parts[:-1], axis=1)


def structured_place(pair: TwinPair) -> tuple[int, int]:
    """Return row and column of the crop with most detail in the target, off the border and on whole input pixels.

    Detail is the mean absolute difference from a smoothed image, so that one strong edge does not win.
    """
    target = pair.inside(pair.target).astype(np.float64)
    detail = np.abs(target - gaussian_filter(target, DETAIL_PX))
    half = CROP_PX // 2
    means = uniform_filter(detail, CROP_PX)[
        half : target.shape[0] - half + 1, half : target.shape[1] - half + 1
    ]
    row, column = np.unravel_index(int(np.argmax(means)), means.shape)
    border = (pair.target.shape[0] - target.shape[0]) // 2
    y, x = int(row) + border, int(column) + border
    return y - y % pair.scale, x - x % pair.scale
