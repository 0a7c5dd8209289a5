"""What the verdict says: which scores became better or worse, and what the figures beside them mean for that.

What the scores cannot see is said in the same breath, because a smoothed, drifted or invented image can have the best
scores of all. The sentences stand in `templates/verdict.html`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bigrestore.report.metrics.columns import COLUMNS
from bigrestore.report.page.data import ReportData
from bigrestore.report.shown import listed, short_name
from bigrestore.run.profile.words import of_sections

MATTERS = {"noise": 1e-3, "stripes_rows": 1e-3, "stripes_columns": 1e-3, "shading": 1e-2, "clipped": 1e-3}
"""Changes of the plain columns that are worth a sentence, as shares of the range: a quarter of a grey level of 256, that of
a slow shade, one pixel in a thousand. With many tiles a far smaller one is certain, and does not matter."""

MATTERS_SHARE = 0.1


def headline(data: ReportData) -> str:
    """Return the shortest true sentence."""
    if not data.summary["tiles"]["valid"]:
        return "No tile could be scored"
    if not data.pair:
        return "One image, scored"
    labels: dict[str, list[str]] = {}
    for column in (each for each in data.group("reference") + data.group("score") if each in data.twins):
        change = data.entry(column)["change"]
        if change["count"]:
            labels.setdefault(change["verdict"], []).append(column.label)
    if not labels or "few" in labels:
        return "Too few tiles for a verdict" if labels else "No tile is valid in both images"
    parts = [f"{name} by {listed(labels[name])}" for name in ("better", "worse") if name in labels]
    if "unclear" in labels:
        parts.append(f"{'unclear' if parts else 'no clear change'} by {listed(labels['unclear'])}")
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]


def verdict(data: ReportData) -> dict[str, Any]:
    """Return what `verdict.html` puts into sentences."""
    changes = {column.name: data.entry(column)["change"] for column in data.twins}
    kinds = {name: change["verdict"] for name, change in changes.items()}
    method, model = data.facts.get("method"), data.facts.get("model")
    method = method.get("name") if isinstance(method, Mapping) else method
    scored = set(data.table["z"][data.paired].tolist())
    read = data.facts.get("read", ())
    return {
        "headline": headline(data),
        "unscored": [z for z in data.sections if z not in scored],
        "read": of_sections(read),
        "said_of": {each["z"]: each["says"] for each in read},
        "done_by": f"the model {short_name(model)}" if model else f"the method {method}" if method else "",
        "beside": [COLUMNS[name] for name in ("noise", "sharpness") if changes.get(name, {}).get("count")],
        "smoothed": kinds.get("noise") == "better" and kinds.get("sharpness") == "worse",
        "worse": [
            COLUMNS[name] for name in MATTERS if kinds.get(name) == "worse" and _matters(name, changes[name])
        ],
        "changes": {name: change["median"] or 0.0 for name, change in changes.items()},
    }


def _matters(name: str, change: Mapping[str, Any]) -> bool:
    """Tell whether a change is large enough to be spoken of."""
    size, before = abs(float(change["median"] or 0)), abs(float(change["median_before"] or 0))
    return size >= max(MATTERS[name], MATTERS_SHARE * before)
