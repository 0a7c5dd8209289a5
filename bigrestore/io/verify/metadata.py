"""What the metadata files of an output say, compared with what the run wrote.

People may name an image, change its display settings and add attributes of their own. What says where the pixels lie,
how large they are and how they were made is the run's: the arrays, the axes and levels of the image, and the attribute
`bigrestore`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zarr.storage import MemoryStore

from bigrestore.io.formats.ome_metadata import multiscales_body
from bigrestore.io.store.ome_zarr import create_level_in
from bigrestore.io.store.store_spec import ARRAY_FILES, StoreSpec
from bigrestore.io.verify.faults import Fault

STORE_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
"""The metadata files of a Zarr store."""

IMAGE_KEYS = ("version", "axes", "datasets", "coordinateTransformations")
"""What of the first image of `multiscales` is the run's."""

SHOWN = 60
"""Most characters of a value in a fault."""


def read_metadata(path: Path) -> dict[str, Any] | None:
    """Return the document of a metadata file; None for any other file, and where it cannot be read."""
    if path.name not in STORE_FILES:
        return None
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def metadata_faults(name: str, written: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield the changes of a metadata file, one for each of its parts.

    Parameters
    ----------
    name : str
        Its path in the store.
    written, now : mapping
        The document as the run wrote it, and as it is.
    """
    parts, changed = _parts_of_run(name, written), _parts_of_run(name, now)
    for kind, part in parts.items():
        difference = _first_difference(part, changed.get(kind), "")
        if difference is not None:
            place, expected, actual = difference
            yield Fault(f"{kind}.altered", f"{name} {place}".rstrip(), expected, actual)


def level_as_planned(path: Path, spec: StoreSpec, level: int) -> bool:
    """Tell whether the array of a level has the metadata that a run writes."""
    documents: dict[str, Any] = {}
    create_level_in(MemoryStore(store_dict=documents), spec, level)
    for name in ARRAY_FILES[spec.fmt]:
        planned, now = documents[f"{level}/{name}"].to_bytes(), read_metadata(path / str(level) / name)
        if now is None or any(metadata_faults(name, json.loads(planned), now)):
            return False
    return True


def _parts_of_run(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a document is the run's, by the kind of its faults."""
    last = name.rpartition("/")[2]
    if last in (".zgroup", ".zarray") or document.get("node_type") == "array":
        return {"metadata": {key: value for key, value in document.items() if key != "attributes"}}
    parts: dict[str, Any] = {}
    attributes: Any = document
    if last == "zarr.json":
        parts["metadata"] = {key: document.get(key) for key in ("zarr_format", "node_type")}
        attributes = document.get("attributes")
    attributes = attributes if isinstance(attributes, Mapping) else {}
    return parts | {
        "multiscales": _image_stated(attributes),
        "provenance": attributes.get("bigrestore"),
    }


def _image_stated(attributes: Mapping[str, Any]) -> Any:
    """Return axes and levels of the first image of a group's attributes; None without one."""
    body = multiscales_body(attributes)
    images = body.get("multiscales")
    first = images[0] if isinstance(images, list) and images else None
    if not isinstance(first, Mapping):
        return first
    return {"version": body.get("version")} | {key: first[key] for key in IMAGE_KEYS if key in first}


def _first_difference(expected: Any, actual: Any, place: str) -> tuple[str, str, str] | None:
    """Return the first place where two documents differ, with the two values; None where none does."""
    if expected == actual:
        return None
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        for key in sorted(expected.keys() | actual.keys(), key=str):
            inner = _first_difference(expected.get(key), actual.get(key), f"{place}.{key}".lstrip("."))
            if inner is not None:
                return inner
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        for index, pair in enumerate(zip(expected, actual, strict=True)):
            inner = _first_difference(*pair, f"{place}[{index}]")
            if inner is not None:
                return inner
    return place, _shortened(expected), _shortened(actual)


def _shortened(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, dict) and "path" in item for item in value):
        return f"levels {', '.join(str(item['path']) for item in value) or 'none'}"
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
