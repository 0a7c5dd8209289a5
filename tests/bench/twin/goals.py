"""What the figures of the twin should be, and how they were before: bench lines, and the history of shipped models.

Every figure is said once, as a `Goal`. `summary` reduces the results of a model to one value a goal, which is what
history.json keeps of the models that were shipped; `markdown` prints that history as a table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from tests.bench.metrics import Figure, markdown_row
from tests.bench.naturalness import SCORES

Value = float | list[float] | None

HISTORY = Path(__file__).with_name("history.json")
IMAGE_KEYS = ("psnr_input", "gain_blind", "gain_told", "gain_best", "sigma_best", "sigma_read")
TOLD_BEFORE_X2 = 1.6
"""Mean gain of the model that 0.1.0 ships when it is told sigma 0.6: 1.61 by the bare network, 1.50 by whole runs."""

NO_TILE = "no tile of tissue to score"
NEVER = "no image gains 1 dB"
UNSTATED = "no error is stated"


@attrs.frozen
class Goal:
    """One figure: what the table calls it, what it should be, and how a value of it is written.

    Attributes
    ----------
    name, target : str
        For people; no target: nothing to meet.
    text : str
        Format of a number.
    met : callable, optional
        Whether a number meets the target.
    missing : str
        What is said where there is no value.
    missing_met : bool or None
        Whether a missing value meets the target; None: it cannot be told.
    """

    name: str
    target: str = ""
    text: str = "{:.2f}"
    met: Callable[[float], bool] | None = None
    missing: str = "-"
    missing_met: bool | None = None

    def written(self, value: Value) -> str:
        """Return a value for people; a list is a median and the ends of its interval."""
        if value is None:
            return self.missing
        if isinstance(value, list):
            middle, *ends = (self.text.format(one) for one in value)
            return f"{middle} ({' to '.join(ends)})" if ends else f"{middle} (too few tiles)"
        return self.text.format(value)

    def figure(self, value: Value) -> Figure:
        """Return the line of the bench; of an interval its upper end must meet the target."""
        met: bool | None
        if self.met is None:
            met = None
        elif value is None:
            met = self.missing_met
        elif isinstance(value, list):
            met = self.met(value[-1]) if len(value) > 1 else None
        else:
            met = self.met(value)
        return Figure(self.name, self.target, self.written(value), met)


def _gains(scale: int, least: float, from_told: float) -> dict[str, Goal]:
    over = "Catmull-Rom" if scale == 2 else "input"
    key = f"x{scale}"
    return {
        f"{key} blind": Goal(
            f"twin x{scale}, PSNR over {over}, blind, mean",
            f">= +{least:g} dB",
            "{:+.2f} dB",
            lambda v: v >= least,
        ),
        f"{key} blind worst": Goal(
            f"  x{scale}: worst image at the standard", ">= 0 dB", "{:+.2f} dB", lambda v: round(v, 2) >= 0
        ),
        f"{key} told": Goal(f"  x{scale}: told sigma 0.6 px", "", "{:+.2f} dB"),
        f"{key} told less blind": Goal(
            f"  x{scale}: told less blind", f"<= {from_told} dB", "{:+.2f} dB", lambda v: v <= from_told
        ),
        f"{key} best": Goal(f"  x{scale}: told the best Gaussian of each image", "", "{:+.2f} dB"),
        f"{key} blind default": Goal(f"  x{scale}: blind at the default realness", "", "{:+.2f} dB"),
        f"{key} sigma read": Goal(f"  x{scale}: sigma read, median", "", "{:.2f} px"),
        f"{key} sigma best": Goal(f"  x{scale}: sigma of the best Gaussian, median", "", "{:.2f} px"),
    }


def _looks(scale: int) -> dict[str, Goal]:
    over = "Catmull-Rom" if scale == 2 else "the input"
    key = f"x{scale}"
    goals = {
        f"{key} {name}": Goal(
            f"twin x{scale}, {name.upper()} against {over}, default realness",
            "< 0, interval too",
            "{:+.2f}",
            lambda v: v < 0,
            NO_TILE,
        )
        for name in SCORES
    }
    return goals | {
        f"{key} residual": Goal(
            f"twin x{scale}, RMS of D(y) - x over the target's, worst",
            "<= 1.2",
            "{:.2f}",
            lambda v: v <= 1.2,
            NEVER,
        ),
        f"{key} lines": Goal(
            f"twin x{scale}, lines at Nyquist above the target's, realness 1",
            "<= 1 dB",
            "{:+.1f} dB",
            lambda v: v <= 1,
        ),
        f"{key} lines, realness 0": Goal(f"  x{scale}: lines at realness 0", "", "{:+.1f} dB"),
    }


GOALS: dict[str, Goal] = {
    **_gains(1, 2.1, 0.4),
    **_looks(1),
    **_gains(2, TOLD_BEFORE_X2 + 0.2, 0.3),
    **_looks(2),
    "sigma error": Goal("sigma read, noise <= 1, median error", "", "{:.2f} px"),
    "sigma within": Goal(
        "  sigma read within 0.1 px or 12 %, noise <= 1", ">= half of the cells", "{:.0%}", lambda v: v >= 0.5
    ),
    "sigma worst": Goal(
        "  sigma read, noise <= 1, worst error", "<= 0.3 px", "{:.2f} px", lambda v: v <= 0.3
    ),
    "sigma too wide": Goal(
        "sigma read, noise 3 and 8, most too wide", "<= 0.3 px", "{:+.2f} px", lambda v: v <= 0.3
    ),
    "sigma covered": Goal(
        "stated error covers the true sigma in",
        "60 to 76 %",
        "{:.0%}",
        lambda v: 0.6 <= v <= 0.76,
        UNSTATED,
        False,
    ),
    "undegraded mean": Goal(
        "undegraded image at the standard changed by, mean", "<= 0.4 of 255", "{:.2f}", lambda v: v <= 0.4
    ),
    "undegraded worst": Goal("  the same, worst image", "<= 0.7 of 255", "{:.2f}", lambda v: v <= 0.7),
}


def summary(results: Mapping[str, Any]) -> dict[str, Value]:
    """Return a value for every goal that the results of one model (of `judge`, with `grid`) speak of."""
    key = f"x{results['scale']}"
    values: dict[str, Value] = {}
    if "gains" in results:
        values |= _gain_values(results, key)
    if "scores" in results:
        for name, (middle, interval) in results["scores"]["changes"].items():
            values[f"{key} {name}"] = [middle, *(interval or ())] if math.isfinite(middle) else None
    if "residuals" in results:
        ratios = [row["ratio"] for row in results["residuals"] if row["ratio"] is not None]
        values[f"{key} residual"] = max(ratios) if ratios else None
    if "lines" in results:
        own = results["lines"]["target"]
        for realness, name in (("realness 1", f"{key} lines"), ("realness 0", f"{key} lines, realness 0")):
            lines = results["lines"].get(realness)
            values[name] = max(lines[kind] - own[kind] for kind in own) if lines else None
    if "grid" in results:
        values |= _grid_values(results["grid"])
    return {name: _rounded(value) for name, value in values.items()}


def _gain_values(results: Mapping[str, Any], key: str) -> dict[str, Value]:
    rows = results["gains"]
    means = {
        name: float(np.mean([row[name] for row in rows])) for name in ("gain_blind", "gain_told", "gain_best")
    }
    standard = [row["gain_blind"] for row in rows if row["at_standard"]]
    read = [row["sigma_read"] for row in rows if "sigma_read" in row]
    return {
        f"{key} blind": means["gain_blind"],
        f"{key} blind worst": min(standard) if standard else None,
        f"{key} told": means["gain_told"],
        f"{key} told less blind": means["gain_told"] - means["gain_blind"],
        f"{key} best": means["gain_best"],
        f"{key} blind default": float(np.mean(results["gains_default"])),
        f"{key} sigma read": float(np.median(read)) if read else None,
        f"{key} sigma best": float(np.median([row["sigma_best"] for row in rows])),
    }


def _grid_values(grid: Mapping[str, Any]) -> dict[str, Value]:
    changed = [row["rms"] for row in grid["undegraded"] if row["at_standard"]]
    return {
        "sigma error": grid["error_median"],
        "sigma within": grid["within"],
        "sigma worst": grid["error_worst"],
        "sigma too wide": grid["too_wide"],
        "sigma covered": grid["covered"],
        "undegraded mean": float(np.mean(changed)) if changed else None,
        "undegraded worst": max(changed) if changed else None,
    }


def _rounded(value: Value) -> Value:
    if isinstance(value, list):
        return [round(one, 4) for one in value]
    return None if value is None else round(value, 4)


def figures(values: Mapping[str, Value]) -> list[Figure]:
    """Return the lines of the bench, in the order of the goals."""
    return [goal.figure(values[key]) for key, goal in GOALS.items() if key in values]


def read_history(path: Path = HISTORY) -> list[dict[str, Any]]:
    """Return the columns of the history, oldest first: `label` and `figures` each."""
    columns: list[dict[str, Any]] = json.loads(path.read_text())["columns"] if path.is_file() else []
    return columns


def details(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the history keeps beside the figures: the model, gains by image, and the median sigma read by cell."""
    key = f"x{results['scale']}"
    kept: dict[str, Any] = {f"model {key}": f"{results['model']}, sha256 {results['sha256'][:12]}"}
    if "gains" in results:
        kept[f"gains {key}"] = {
            row["image"]: {key: round(row[key], 2) for key in IMAGE_KEYS if key in row}
            for row in results["gains"]
        }
    if "grid" in results:
        cells = [cell for cell in results["grid"]["cells"] if cell["at_standard"]]
        read: dict[str, dict[str, list[float]]] = {}
        for cell in cells:
            column = read.setdefault(f"sigma {cell['sigma']:g}", {})
            column.setdefault(f"noise {cell['noise']:g}", []).append(cell["read"])
        kept["sigma read"] = {
            sigma: {noise: round(float(np.median(values)), 2) for noise, values in row.items()}
            for sigma, row in read.items()
        }
    return kept


def add_history(
    label: str, values: Mapping[str, Value], more: Mapping[str, Any] | None = None, path: Path = HISTORY
) -> None:
    """Put figures, and details beside them, into the column of a label, which is added where there is none."""
    columns = read_history(path)
    column = next((column for column in columns if column["label"] == label), None)
    if column is None:
        column = {"label": label, "figures": {}}
        columns.append(column)
    figures_of_it = column["figures"] | dict(values)
    column["figures"] = {key: figures_of_it[key] for key in GOALS if key in figures_of_it}
    column |= more or {}
    path.write_text(json.dumps({"columns": columns}, indent=1) + "\n")


def markdown(columns: list[dict[str, Any]]) -> str:
    """Return the history as a Markdown table: figure, target, and a column for every entry."""
    head = ["figure", "target", *(column["label"] for column in columns)]
    rows = [markdown_row(head), markdown_row(["---"] * len(head))]
    for key, goal in GOALS.items():
        values = [
            goal.written(column["figures"][key]) if key in column["figures"] else "" for column in columns
        ]
        if any(values):
            rows.append(markdown_row([goal.name.strip(), goal.target, *values]))
    return "\n".join(rows)
