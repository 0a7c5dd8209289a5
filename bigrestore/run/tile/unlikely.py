"""What the map `unlikely` says of a block and of a run: the share of the tissue above a limit, and the worst places.

A place is the largest value of a cell of 32 pixels; neighbours of a larger one are left out, so that one cell that was
invented is one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrestore.core.geometry import Box
from bigrestore.core.pixels import Floats

UNLIKELY_LIMIT = 5.0
"""Standard deviations above which the input contradicts the image: one of three million by chance."""

WORST_PLACES = 10
PLACE_PX = 32
"""Side of the cells, and least distance of two places, in output pixels."""


def block_unlikely(values: Floats, restored: NDArray[np.bool_] | None, box: Box, z: int) -> dict[str, Any]:
    """Return what a block's map says, for its record.

    Parameters
    ----------
    values : ndarray, (h, w)
        The map.
    restored : ndarray, (h, w), bool, optional
        Restored pixels; None: all.
    box : Box
        Their place in the section.
    z : int
        The section.

    Returns
    -------
    dict
        `pixels` restored, those `above` the limit, and the `places` above it, the worst first: each [value, z, y, x].
    """
    height, width = (-(-size // PLACE_PX) * PLACE_PX for size in values.shape)
    padded = np.pad(values, ((0, height - values.shape[0]), (0, width - values.shape[1])))
    cells = padded.reshape(height // PLACE_PX, PLACE_PX, width // PLACE_PX, PLACE_PX).swapaxes(1, 2)
    flat = cells.reshape(-1, PLACE_PX**2)
    largest = flat.max(axis=1)
    places = []
    for cell in np.flatnonzero(largest > UNLIKELY_LIMIT):
        row, column = divmod(int(cell), width // PLACE_PX)
        y, x = divmod(int(flat[cell].argmax()), PLACE_PX)
        at = (box.y0 + row * PLACE_PX + y, box.x0 + column * PLACE_PX + x)
        places.append([round(float(largest[cell]), 3), z, *at])
    return {
        "pixels": int(values.size if restored is None else np.count_nonzero(restored)),
        "above": int(np.count_nonzero(values > UNLIKELY_LIMIT)),
        "places": _most_unlikely(places),
    }


def total_unlikely(blocks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the maps of all blocks say: `pixels`, `above`, `limit`, `places` by name, the worst first."""
    blocks = list(blocks)
    worst = _most_unlikely([place for block in blocks for place in block["places"]])
    return {
        "pixels": sum(block["pixels"] for block in blocks),
        "above": sum(block["above"] for block in blocks),
        "limit": UNLIKELY_LIMIT,
        "places": [dict(zip(("unlikely", "z", "y", "x"), place, strict=True)) for place in worst],
    }


def _most_unlikely(places: list[list[Any]]) -> list[list[Any]]:
    """Return the places with the largest values, none near a larger one."""
    kept: list[list[Any]] = []
    for place in sorted(places, key=lambda each: (-each[0], *each[1:])):
        near = any(
            each[1] == place[1] and max(abs(each[2] - place[2]), abs(each[3] - place[3])) < PLACE_PX
            for each in kept
        )
        if not near:
            kept.append(place)
        if len(kept) == WORST_PLACES:
            break
    return kept
