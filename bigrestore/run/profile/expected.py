"""What a section may expect of a shipped model: its gain on clean tissue under that blur and noise.

The tables beside the shipped models (`NAME-gain.json`) hold the median gain over images and its spread. What tissue it is
changes the gain as much as the blur does, so the spread is part of the answer.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any


@lru_cache(maxsize=4)
def read_gains(model: str) -> dict[str, Any] | None:
    """Return the table of a shipped model; None where there is none."""
    place = files("bigrestore") / "weights" / f"{model}-gain.json"
    if not place.is_file():
        return None
    table: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return table


def expected_gain(table: dict[str, Any], sigma_px: float, noise: float) -> tuple[float, float] | None:
    """Return gain and spread in dB, bilinear between the cells and held at the ends.

    Parameters
    ----------
    table : dict
        From `read_gains`.
    sigma_px : float
        Blur in input pixels, with the averaging of a pixel at x2.
    noise : float
        Standard deviation in tissue, of 255.

    Returns
    -------
    tuple of float, or None
        None for less blur and noise than the table begins with: a gain over an image without faults says nothing.
    """
    sigmas, noises, cells = table["sigma_input_px"], table["noise_levels"], table["gain_db"]
    if sigma_px < sigmas[0] and noise < noises[1]:
        return None
    (row, down), (column, right) = _interval(sigmas, sigma_px), _interval(noises, noise)
    gain, spread = (
        (1 - down) * ((1 - right) * cells[row][column][k] + right * cells[row][column + 1][k])
        + down * ((1 - right) * cells[row + 1][column][k] + right * cells[row + 1][column + 1][k])
        for k in (0, 1)
    )
    return gain, spread


def _interval(axis: Sequence[float], value: float) -> tuple[int, float]:
    """Return the interval of an axis that a value lies in, and where in it, 0..1."""
    index = min(max(bisect_right(axis, value) - 1, 0), len(axis) - 2)
    share = (value - axis[index]) / (axis[index + 1] - axis[index])
    return index, min(max(share, 0.0), 1.0)
