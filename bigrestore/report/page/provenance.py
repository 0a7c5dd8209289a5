"""Where the numbers come from: files, engine, parameters, tile size, value range, and how tiles were sampled.

A score means nothing without its engine, parameters and tile size. Known facts come first under plain names;
everything else recorded follows as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bigrestore.report.page.data import ReportData
from bigrestore.report.page.markup import count, escape

NAMES = {
    "image": "Image",
    "before": "Before",
    "reference": "Reference",
    "method": "Method",
    "model": "Model",
    "scale": "Scale",
    "tile_px": "Tile size",
    "dtype": "Data type",
    "value_range": "Value range",
    "value_range_before": "Value range before",
    "value_range_reference": "Value range of the reference",
    "voxel_size_um": "Voxel size (z, y, x)",
    "sampling": "Sampling",
    "engine": "Engine",
    "versions": "Versions",
    "failures": "What failed",
}
HIDDEN = {"lower_better", "thumbnail_z", "origin_px", "before_native", "blobs", "read"}
EVERY_TILE = "Every tile of the grid was looked at; none was left out by sampling."


def provenance_list(data: ReportData) -> str:
    """Return the list of facts."""
    facts = dict(data.facts)
    facts["sampling"] = sampling_sentence(facts.get("sampling"))
    order = [name for name in NAMES if name in facts]
    order += [name for name in facts if name not in NAMES and name not in HIDDEN]
    rows = "".join(
        f"<dt>{escape(NAMES.get(name, name.replace('_', ' ').capitalize()))}</dt>"
        f"<dd>{_fact_html(name, facts[name])}{_whose(name, facts)}</dd>"
        for name in order
        if facts[name] not in (None, "", {}, [])
    )
    return f'<dl class="facts">{rows}</dl>'


def sampling_sentence(sampling: Any) -> str:
    """Say plainly whether every tile was looked at."""
    if not sampling:
        return EVERY_TILE
    if isinstance(sampling, Mapping):
        if isinstance(sampling.get("says"), str):
            return str(sampling["says"])
        known = "; ".join(f"{_words(str(name))}: {value}" for name, value in sampling.items())
        return f"Not every tile was looked at: {known}."
    text = str(sampling)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _fact_html(name: str, value: Any) -> str:
    """Return a fact as HTML."""
    if name == "tile_px":
        return f"{count(int(value))} × {count(int(value))} px of the output grid; it is part of the scores"
    if name.startswith("value_range") and isinstance(value, list):
        low, high = (f"{each:.15g}" if isinstance(each, float) else str(each) for each in value)
        return f"{escape(low)} to {escape(high)}"
    if name == "voxel_size_um" and isinstance(value, list):
        if all(size is None for size in value):
            return "unknown"
        return " × ".join("unknown" if size is None else f"{size:g}" for size in value) + " µm"
    if isinstance(value, Mapping):
        rows = "".join(f"<dt>{escape(_words(key))}</dt><dd>{escape(text)}</dd>" for key, text in _flat(value))
        return f"<dl>{rows}</dl>"
    if name == "failures":
        return f'<ul class="plainlist">{"".join(f"<li>{escape(item)}</li>" for item in value)}</ul>'
    if isinstance(value, list):
        return escape(", ".join("unknown" if item is None else str(item) for item in value))
    return escape(value)


def _whose(name: str, facts: Mapping[str, Any]) -> str:
    """Name the images of a value range: the image, and others without a range of their own."""
    if name != "value_range":
        return ""
    own = {"value_range_before", "value_range_reference"} & facts.keys()
    return ", the same for every tile" + ("" if own else " and image")


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested facts as names and texts."""
    for key, item in value.items():
        name = f"{before}{key}"
        if isinstance(item, Mapping):
            yield from _flat(item, name + ", ")
        elif isinstance(item, list):
            yield name, ", ".join(str(part) for part in item)
        elif item is not None:
            yield name, str(item)


def _words(name: str) -> str:
    """Return a key as words."""
    return name.replace("_", " ")
