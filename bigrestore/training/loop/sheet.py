"""The validation sheet: one PNG for judging a training by eye.

Rows are examples, columns are images for comparison (degraded, restored, clean, ...), at one grey scale for all: a
brightness shift shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bigrestore.core.files import whole_file
from bigrestore.errors import UsageError

GUTTER_PX = 4
_GUTTER_GREY = 128


def compose_sheet(
    rows: Sequence[Sequence[NDArray[Any]]], *, height_px: int | None = None
) -> NDArray[np.uint8]:
    """Lay grey images out in rows and columns.

    Parameters
    ----------
    rows : sequence of sequences of ndarray, (h, w), float
        Grey values 0..1, clipped. Images of a row may differ in size: each is enlarged by repeating pixels, or
        reduced, to the height of the row.
    height_px : int, optional
        Height of every row; by default the height of its tallest image.

    Returns
    -------
    ndarray, (H, W), uint8
    """
    if not rows or not all(rows):
        raise UsageError("A validation sheet has no images; give at least one row with one image.")
    strips = [_strip(row, height_px or max(image.shape[0] for image in row)) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    parts: list[NDArray[np.uint8]] = []
    for strip in strips:
        padded = np.full((strip.shape[0] + GUTTER_PX, width), _GUTTER_GREY, np.uint8)
        padded[: strip.shape[0], : strip.shape[1]] = strip
        parts.append(padded)
    return np.concatenate(parts)[:-GUTTER_PX]


def _strip(row: Sequence[NDArray[Any]], height: int) -> NDArray[np.uint8]:
    """Return one row of images, of one height, with gutters between them."""
    gutter = np.full((height, GUTTER_PX), _GUTTER_GREY, np.uint8)
    parts: list[NDArray[np.uint8]] = []
    for image in row:
        grey = np.rint(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
        if grey.shape[0] != height:
            width = max(1, round(grey.shape[1] * height / grey.shape[0]))
            enlarged = height > grey.shape[0]
            resampling = Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX
            grey = np.asarray(Image.fromarray(grey).resize((width, height), resampling))
        parts.extend([grey, gutter])
    return np.concatenate(parts[:-1], axis=1)


def write_sheet(path: Path, sheet: NDArray[Any]) -> None:
    """Write a sheet, (H, W) or (H, W, 3), uint8, as a PNG, whole or not at all.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with whole_file(path) as partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(sheet, dtype=np.uint8)).save(partial, format="PNG")


def sheet_of(rows: Sequence[Tensor], shown: int | None = None) -> NDArray[np.uint8]:
    """Return a picture of images, (N, 1, H, W) each of one size: a row for each, a column for each of the first `shown`."""
    picture = torch.cat([torch.cat([*row[:shown, 0]], dim=1) for row in rows]).clamp(0, 1)
    return np.asarray((picture.cpu().numpy() * 255).round(), np.uint8)
