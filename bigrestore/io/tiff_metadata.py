"""Find the voxel size in the many places where TIFF files keep it.

OME-XML says it with a unit, ImageJ says it in its own text and tags, slide scanners in a free description,
and everybody else in the resolution tags, where it is a default as often as a measurement.
"""

from __future__ import annotations

import logging
import re
from typing import Any
from xml.etree import ElementTree

import tifffile

from bigrestore.io.levels import Triple
from bigrestore.io.ome_metadata import MICROMETRES
from bigrestore.io.resolution import plausible_um

log = logging.getLogger(__name__)

_RESOLUTION_UNIT_UM = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}
"""Micrometres per ResolutionUnit: inch, centimetre, millimetre, micrometre (the last two of TIFF/EP readers)."""


def stated_voxel_size(file: tifffile.TiffFile, page: tifffile.TiffPage) -> Triple:
    """Return the voxel size (z, y, x) in micrometres that a file states, None per axis where it does not."""
    if file.is_ome and file.ome_metadata:
        return ome_voxel_size(file.ome_metadata)
    if file.is_imagej:
        return _imagej_voxel_size(file.imagej_metadata or {}, page)
    mpp = re.search(r"\bMPP\s*=\s*([\d.]+)", page.description or "")
    if mpp is not None and float(mpp.group(1)) > 0:
        return None, float(mpp.group(1)), float(mpp.group(1))
    unit = _RESOLUTION_UNIT_UM.get(_tag(page, "ResolutionUnit", 2))
    if unit is None:
        return None, None, None
    across, down = _ratio(page, "XResolution"), _ratio(page, "YResolution")
    return None, plausible_um(down, unit), plausible_um(across, unit)


def ome_voxel_size(xml: str) -> Triple:
    """Return PhysicalSizeZ, Y and X of the first image in OME-XML, in micrometres."""
    try:
        pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    except ElementTree.ParseError as err:
        log.warning("the OME-XML is damaged (%s); the voxel size is taken as unknown", err)
        return None, None, None
    if pixels is None:
        return None, None, None
    sizes: list[float | None] = []
    for axis in "ZYX":
        text = pixels.get(f"PhysicalSize{axis}")
        unit = pixels.get(f"PhysicalSize{axis}Unit", "\u00b5m")
        factor = MICROMETRES.get(unit if unit in MICROMETRES else unit.lower())
        if text is not None and factor is None:
            log.warning("the OME-XML has the unknown unit %r; that voxel size is taken as unknown", unit)
        value = float(text) * factor if text is not None and factor is not None else 0.0
        sizes.append(value if value > 0 else None)
    return sizes[0], sizes[1], sizes[2]


def _imagej_voxel_size(metadata: dict[str, Any], page: tifffile.TiffPage) -> Triple:
    """Return the voxel size of an ImageJ file: pixels per `unit` in the tags, `spacing` between sections."""
    unit = str(metadata.get("unit", "")).replace("\\u00B5", "\u00b5").lower()
    factor = MICROMETRES.get(unit)
    if factor is None:
        return None, None, None
    across, down = _ratio(page, "XResolution"), _ratio(page, "YResolution")
    spacing = float(metadata.get("spacing", 0.0))
    return (
        spacing * factor if spacing > 0 else None,
        factor / down if down > 0 else None,
        factor / across if across > 0 else None,
    )


def _ratio(page: tifffile.TiffPage, name: str) -> float:
    """Return a rational tag as a number, 0 where it is missing."""
    value = _tag(page, name, (0, 1))
    return value[0] / value[1] if value[1] else 0.0


def _tag(page: tifffile.TiffPage, name: str, default: Any) -> Any:
    """Return the value of a tag."""
    tag = page.tags.get(name)
    return default if tag is None else tag.value
