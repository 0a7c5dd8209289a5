"""Summary of a table of tiles: medians before and after, the change tile by tile, and its interval.

Changes are paired: a tile counts only if it is valid in both images and the figure exists in both, because tiles
differ far more from each other than from themselves restored. Medians, not means, because the scores have long
tails. Tiles that overlap at a border all count in them, but only their own area counts for an interval and a p. The
interval comes first (a block bootstrap, see `bootstrap`). The Wilcoxon signed-rank test, corrected by Holm
over all columns, gives a p for those who need one, and takes neighbouring tiles for independent.

Missing values are counted: invalid tiles by reason, and missing figures of valid tiles in their column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bigrestore.core.pixels import Doubles
from bigrestore.core.sizes import FEWEST_TILES
from bigrestore.report.metrics.columns import BEFORE, Column, find_columns
from bigrestore.report.table.bootstrap import (
    CONFIDENCE,
    RESAMPLES,
    lattices,
    median_intervals,
)
from bigrestore.report.table.grid import tile_worth
from bigrestore.report.table.sections import by_section, grey_jumps

LARGEST_EXACT = 50
"""Tiles up to which the signed-rank test counts every case; above, and with ties, it takes the normal distribution."""

QUANTILES = {"min": 0.0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1.0}

BLOCK_REASON = (
    "squares of neighbouring tiles are drawn as one, because neighbours are alike; their side is 1.5 times the "
    "fourth root of the number of tiles of a section, the rate at which the interval's error shrinks fastest in two "
    "dimensions; the interval is widened for the small number of squares as Student's t is"
)


def summarise(
    tiles: pa.Table | Mapping[str, Any],
    *,
    lower_better: Mapping[str, bool] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Summarise a table of tiles.

    Parameters
    ----------
    tiles : pyarrow.Table or mapping of columns
        One row per tile: `z`, `row`, `column`, `y`, `x`, `height`, `width`, `tissue`, `reason` (empty where
        valid), for pairs `reason_before`, and the figures, each with its twin `NAME_before` where there is one.
    lower_better : mapping, optional
        The direction of metrics that bigrestore does not make itself.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        JSON values alone, None for what cannot be said. `tiles`: counts and reasons. `pair`: whether there is a
        before. `metrics`: by name, with `image` and `before` (`count`, `missing`, quantiles) and, where there is a
        before, `change`: `count`, `median_before`, `median_after`, `median`, `low`, `high` (the interval of the median
        change), `verdict` (see `verdict_of`), `share_improved`, `share_worse`, `wilcoxon_p` and `wilcoxon_p_holm`. `blobs`:
        those of all tiles, those without support in the input, and the area in megapixels. `bootstrap`: how the interval was
        made, with `worth_tiles`: how many tiles the valid ones would be if they did not overlap. `sections`: for volumes
        the same figures by z. `grey_jumps`: for volumes, the jumps of the mean grey.
    """
    table = as_columns(tiles)
    columns = find_columns(table, lower_better)
    valid, paired = valid_tiles(table), paired_tiles(table)
    changes = {
        column.name: paired_change(table, column.name) for column in columns if column.name + BEFORE in table
    }
    sections = lattices(table["z"][paired], table["row"][paired], table["column"][paired])
    worth = float(worth_of(table)[paired].sum())
    distinct = worth / paired.sum() if paired.any() else 1.0
    intervals = median_intervals(
        {name: change[paired] for name, change in changes.items()},
        sections,
        resamples=resamples,
        seed=seed,
        distinct=distinct,
    )
    metrics = {column.name: _metric(table, column, valid, changes, intervals) for column in columns}
    _holm(metrics)
    sides = [max(section.square) for section in sections]
    summary: dict[str, Any] = {
        "tiles": _counts(table, valid, paired),
        "pair": "reason_before" in table,
        "metrics": metrics,
        "bootstrap": {
            "block_side_tiles": [min(sides), max(sides)] if sides else [],
            "why": BLOCK_REASON,
            "resamples": resamples,
            "seed": seed,
            "confidence": CONFIDENCE,
            "fewest_tiles": FEWEST_TILES,
            "worth_tiles": round(worth, 3),
        },
    }
    if "blobs_unsupported" in table:
        summary["blobs"] = blob_counts(table)
    if np.unique(table["z"]).size > 1:
        summary["sections"] = by_section(table, columns)
        summary["grey_jumps"] = grey_jumps(summary["sections"])
    return summary


def as_columns(tiles: pa.Table | Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the columns of a table as arrays; reasons are strings, figures float64, missing values NaN."""
    if isinstance(tiles, pa.Table):
        names = tiles.column_names
        arrays = {name: tiles.column(name).to_numpy(zero_copy_only=False) for name in names}
    else:
        arrays = {name: np.asarray(values) for name, values in tiles.items()}
    for name, values in arrays.items():
        if name.startswith("reason"):
            arrays[name] = np.array(["" if text is None else str(text) for text in values], dtype=object)
        elif name in ("z", "row", "column", "y", "x", "height", "width"):
            arrays[name] = values.astype(np.int64)
        else:
            arrays[name] = values.astype(np.float64)
    return arrays


def valid_tiles(table: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Mark the tiles valid in the image."""
    return np.asarray(table["reason"] == "", np.bool_)


def paired_tiles(table: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Mark the tiles valid in the image and, if there is one, in the image before."""
    valid = valid_tiles(table)
    return valid & (table["reason_before"] == "") if "reason_before" in table else valid


def worth_of(table: Mapping[str, NDArray[Any]]) -> Doubles:
    """Return how much of each tile is its own, 0..1; see `bigrestore.report.table.grid.tile_worth`."""
    return tile_worth(*(table[name] for name in ("z", "y", "x", "height", "width")))


def blob_counts(table: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Count the blobs of tiles valid in both images; what tiles share counts once."""
    worth = np.where(paired_tiles(table), worth_of(table), 0.0)
    found, unsupported = (
        round(float(np.nansum(table[name] * worth))) for name in ("blobs", "blobs_unsupported")
    )
    area = float(np.sum(table["height"] * table["width"] * worth)) / 1e6
    return {"found": found, "unsupported": unsupported, "megapixels": round(area, 6)}


def goodness(table: Mapping[str, NDArray[Any]], column: Column) -> Doubles:
    """Return how good each tile is: its gain, or its value turned to more is better; NaN if it does not count."""
    if column.name + BEFORE in table:
        return improvement(table, column)
    return np.where(paired_tiles(table), [-column.badness(value) for value in table[column.name]], np.nan)


def best_middle_worst(values: Doubles) -> list[int]:
    """Return the places of the highest, the middle and the lowest value; of fewer than three the highest alone."""
    there = np.flatnonzero(np.isfinite(values))
    order = there[np.argsort(-values[there], kind="stable")]
    picked = order[[0, order.size // 2, -1]] if order.size >= 3 else order[:1]
    return [int(place) for place in picked]


def verdict_of(change: Mapping[str, Any], column: Column) -> str:
    """Return `better` or `worse` where the interval of a change lies on one side of zero, else why there is no verdict.

    Returns
    -------
    str
        `unclear`: the interval holds zero. `few`: there is none. `none`: the figure has no better direction.
    """
    if column.direction == "none":
        return "none"
    low, high = change["low"], change["high"]
    if low is None or high is None:
        return "few"
    if low <= 0 <= high:
        return "unclear"
    return "better" if (low > 0) == (column.direction == "higher") else "worse"


def paired_change(table: Mapping[str, NDArray[Any]], name: str) -> Doubles:
    """Return after minus before of each tile, NaN if the tile or the figure is missing in one of them."""
    change = table[name] - table[name + BEFORE]
    return np.where(paired_tiles(table), change, np.nan)


def improvement(table: Mapping[str, NDArray[Any]], column: Column) -> Doubles:
    """Return the gain of each tile, in the column's units; negative if it became worse."""
    before, after = table[column.name + BEFORE], table[column.name]
    if column.direction == "higher":
        gain = after - before
    elif column.direction == "zero":
        gain = np.abs(before) - np.abs(after)
    else:
        gain = before - after
    return np.where(paired_tiles(table), gain, np.nan)


def _counts(
    table: Mapping[str, NDArray[Any]], valid: NDArray[np.bool_], paired: NDArray[np.bool_]
) -> dict[str, Any]:
    """Count the tiles, and the invalid ones by reason."""
    counts: dict[str, Any] = {
        "total": int(valid.size),
        "valid": int(valid.sum()),
        "invalid": _reasons(table["reason"]),
    }
    if "reason_before" in table:
        counts["valid_before"] = int((table["reason_before"] == "").sum())
        counts["invalid_before"] = _reasons(table["reason_before"])
        counts["valid_in_both"] = int(paired.sum())
    return counts


def _reasons(reasons: NDArray[Any]) -> dict[str, int]:
    """Count the reasons, the most frequent first."""
    names, counts = np.unique(reasons[reasons != ""].astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(names[index]): int(counts[index]) for index in order}


def _metric(
    table: Mapping[str, NDArray[Any]],
    column: Column,
    valid: NDArray[np.bool_],
    changes: Mapping[str, Doubles],
    intervals: Mapping[str, tuple[float, float] | None],
) -> dict[str, Any]:
    """Summarise one figure."""
    name = column.name
    counted = paired_tiles(table) if column.group == "restored" else valid
    entry: dict[str, Any] = {
        "label": column.label,
        "direction": column.direction,
        "image": describe_values(table[name][counted]),
    }
    if name not in changes:
        return entry
    valid_before = table["reason_before"] == "" if "reason_before" in table else valid
    entry["before"] = describe_values(table[name + BEFORE][valid_before])
    change = changes[name]
    there = np.isfinite(change)
    gain = improvement(table, column)[there]
    low, high = intervals[name] or (None, None)
    directed = column.direction != "none" and gain.size > 0
    entry["change"] = {
        "count": int(there.sum()),
        "missing": int(paired_tiles(table).sum() - there.sum()),
        "median_before": _median(table[name + BEFORE][there]),
        "median_after": _median(table[name][there]),
        "median": _median(change[there]),
        "low": low,
        "high": high,
        "verdict": verdict_of({"low": low, "high": high}, column),
        "share_improved": float((gain > 0).mean()) if directed else None,
        "share_worse": float((gain < 0).mean()) if directed else None,
        "wilcoxon_p": None if low is None else _wilcoxon(change[there]),
        "wilcoxon_p_holm": None,
    }
    return entry


def describe_values(values: Doubles) -> dict[str, Any]:
    """Return count, missing and quantiles; an infinite value (the PSNR of equal tiles) is a value."""
    there = values[~np.isnan(values)]
    quantiles: dict[str, Any] = {"count": int(there.size), "missing": int(values.size - there.size)}
    for name, share in QUANTILES.items():
        value = float(np.quantile(there, share, method="inverted_cdf")) if there.size else None
        quantiles[name] = value if value is None or np.isfinite(value) else None
    if there.size:
        quantiles["median"] = _median(there)
    return quantiles


def _median(values: Doubles) -> float | None:
    """Return the median, None if empty."""
    if not values.size:
        return None
    middle = float(np.median(values))
    return middle if np.isfinite(middle) else None


def _wilcoxon(change: Doubles) -> float:
    """Return the two-sided p of the signed-rank test; 1 if nothing changed."""
    if not change.any():
        return 1.0
    from scipy.stats import wilcoxon

    sizes = np.abs(change)
    exact = change.size <= LARGEST_EXACT and np.unique(sizes).size == change.size and bool(sizes.all())
    return float(wilcoxon(change, zero_method="pratt", method="exact" if exact else "approx").pvalue)


def _holm(metrics: dict[str, dict[str, Any]]) -> None:
    """Correct the p of every column for their number, after Holm (1979): step down, never decreasing."""
    tested = [
        entry["change"]
        for entry in metrics.values()
        if "change" in entry and entry["change"]["wilcoxon_p"] is not None
    ]
    largest = 0.0
    for place, change in enumerate(sorted(tested, key=lambda entry: float(entry["wilcoxon_p"]))):
        largest = max(largest, min(1.0, change["wilcoxon_p"] * (len(tested) - place)))
        change["wilcoxon_p_holm"] = largest
