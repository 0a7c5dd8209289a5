"""A volume section by section: every figure over z, and the jumps of brightness between neighbours.

The sections of a stack were stained, photographed and normalised one by one, so brightness jumps from one to the
next; it is the known flaw of BigBrain, and it runs as streaks through every reslice. The scores do not see it at all:
each looks at one tile of one section. So the mean grey of each section is compared with the section before it, and
large jumps are marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrestore.report.metrics.columns import BEFORE, Column
from bigrestore.report.table.grid import tile_worth

VISIBLE_JUMP = 0.04
"""A jump of ten grey levels in 256 is seen by anybody: it is marked however many there are."""

SMALLEST_JUMP = 0.01
"""A jump of less than this share of the range is never marked."""

STANDING_OUT = 3.0
"""Robust standard deviations of all jumps above which one is marked."""


def by_section(table: Mapping[str, NDArray[Any]], columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return counts, mean grey and the quartiles of every figure for each section, by ascending z."""
    order = np.argsort(table["z"], kind="stable")
    numbers, starts = np.unique(table["z"][order], return_index=True)
    areas = table["tissue"] * tile_worth(*(table[name] for name in ("z", "y", "x", "height", "width")))
    entries = []
    for z, tiles in zip(numbers, np.split(order, starts[1:]), strict=True):
        part = {name: values[tiles] for name, values in table.items()}
        entries.append(_section(int(z), part, columns, areas[tiles]))
    return entries


def _section(
    z: int, part: Mapping[str, NDArray[Any]], columns: Sequence[Column], areas: NDArray[np.float64]
) -> dict[str, Any]:
    """Summarise the tiles of one section; `areas` are their shares of tissue, shared pixels counted once."""
    valid = part["reason"] == ""
    both = valid & (part["reason_before"] == "") if "reason_before" in part else valid
    entry: dict[str, Any] = {"z": z, "tiles": int(valid.size), "valid": int(valid.sum()), "metrics": {}}
    if "reason_before" in part:
        entry["valid_in_both"] = int(both.sum())
    for name, twin in (("mean", "grey"), ("mean" + BEFORE, "grey_before")):
        if name in part:
            there = np.isfinite(part[name]) & np.isfinite(areas) & (areas > 0) & both
            entry[twin] = float(np.average(part[name][there], weights=areas[there])) if there.any() else None
    for column in columns:
        values = part[column.name]
        figures = {"image": _quartiles(values[both])}
        if column.name + BEFORE in part:
            before = part[column.name + BEFORE]
            figures["before"] = _quartiles(before[both])
            figures["change"] = _quartiles((values - before)[both])
        entry["metrics"][column.name] = figures
    return entry


def _quartiles(values: NDArray[np.float64]) -> list[float] | None:
    """Return the lower quartile, median and upper quartile of the finite values."""
    there = values[np.isfinite(values)]
    if not there.size:
        return None
    return [float(value) for value in np.quantile(there, (0.25, 0.5, 0.75))]


def grey_jumps(sections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the jumps of the mean grey from section to section, in the image and before.

    Returns
    -------
    dict
        By `image` and, for pairs, `before`: `typical` (the median size of a jump), `largest`, `threshold`, and
        `marked`: the jumps above it, each with `z`, `from_z` and `jump` (signed, of a range of 0 to 1). A jump is
        marked above three robust standard deviations of all jumps, at least 0.01 and at most 0.04.
    """
    jumps = {}
    for name, key in (("image", "grey"), ("before", "grey_before")):
        known = [(int(entry["z"]), entry[key]) for entry in sections if entry.get(key) is not None]
        if len(known) > 1:
            jumps[name] = _jumps(known)
    return jumps


def _jumps(known: list[tuple[int, float]]) -> dict[str, Any]:
    """Mark the jumps between consecutive (z, mean grey)."""
    z = [number for number, _ in known]
    steps = np.diff([grey for _, grey in known])
    spread = 1.4826 * float(np.median(np.abs(steps - np.median(steps))))
    threshold = min(VISIBLE_JUMP, max(SMALLEST_JUMP, STANDING_OUT * spread))
    marked = [
        {"z": z[place + 1], "from_z": z[place], "jump": float(steps[place])}
        for place in np.flatnonzero(np.abs(steps) > threshold)
    ]
    return {
        "typical": float(np.median(np.abs(steps))),
        "largest": float(np.abs(steps).max()),
        "threshold": threshold,
        "marked": marked,
    }
