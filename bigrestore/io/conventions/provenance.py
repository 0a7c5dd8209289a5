"""What an output says of the run that made it, in the attribute `bigrestore` of a store or the annotation of a TIFF."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from bigrestore.settings.values import is_whole

PROVENANCE_KEY = "bigrestore"
"""Name of the attribute, of the annotation, and in the details of an image."""


def provenance_of(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance in the details of an image; empty for an image of another program."""
    stated = details.get(PROVENANCE_KEY)
    return dict(stated) if isinstance(stated, Mapping) else {}


def part_of(provenance: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a part of the provenance, such as `settings`; empty if it is missing."""
    part = provenance.get(name)
    return dict(part) if isinstance(part, Mapping) else {}


def restored_by(provenance: Mapping[str, Any]) -> str | None:
    """Return the method that restored an image, in words; None of an image that none has, or that was degraded."""
    method = part_of(provenance, "method")
    if not isinstance(method.get("name"), str) or "degradation" in method:
        return None
    model = method.get("model")
    return f"{method['name']} {model}" if isinstance(model, str) else str(method["name"])


def image_read(provenance: Mapping[str, Any]) -> tuple[int | None, int | None, int]:
    """Return which image of its file a run read, None for the largest, which channel, and from which level on."""
    settings = part_of(provenance, "settings")
    stated = [settings.get(name) for name in ("series", "channel", "level")]
    numbers = [
        value if isinstance(value, int) and is_whole(value) and value >= 0 else None for value in stated
    ]
    return numbers[0], numbers[1], numbers[2] or 0


def annotated_provenance(ome_xml: str) -> dict[str, Any] | None:
    """Return the provenance in the OME-XML of a TIFF; None where there is none."""
    try:
        root = ElementTree.fromstring(ome_xml)
        text = root.findtext(f".//{{*}}M[@K='{PROVENANCE_KEY}']")
        stated = json.loads(text) if text else None
    except (ElementTree.ParseError, ValueError):
        return None
    return stated if isinstance(stated, dict) else None
