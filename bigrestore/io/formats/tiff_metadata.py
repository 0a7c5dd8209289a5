"""Read voxel size and position from the many places of TIFF metadata.

OME-XML states both with a unit, ImageJ the size in its own text and tags, slide scanners in a free description.
All others use the resolution tags, as often with a default as with a measurement.
"""

from __future__ import annotations

import logging
import math
import re
from typing import Any
from xml.etree import ElementTree

import tifffile

from bigrestore.io.formats.ome_metadata import MICROMETRES
from bigrestore.io.formats.resolution import plausible_um
from bigrestore.io.levels import UNKNOWN, Triple

log = logging.getLogger(__name__)

_RESOLUTION_UNIT_UM = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}
"""Micrometres per ResolutionUnit: inch, centimetre, millimetre, micrometre (the last two of TIFF/EP readers)."""


def stated_voxel_size(file: tifffile.TiffFile, page: tifffile.TiffPage) -> Triple:
    """Return the voxel size (z, y, x) in micrometres stated by a file, None per axis if missing."""
    if file.is_ome and file.ome_metadata:
        return ome_voxel_size(file.ome_metadata)
    if file.is_imagej:
        return _imagej_voxel_size(file.imagej_metadata or {}, page)
    mpp = re.search(r"\bMPP\s*=\s*(\d+(?:\.\d*)?|\.\d+)(?![\w.])", page.description or "")
    if mpp is not None and float(mpp.group(1)) > 0:
        return None, float(mpp.group(1)), float(mpp.group(1))
    unit = _RESOLUTION_UNIT_UM.get(_tag_value(page, "ResolutionUnit", 2))
    if unit is None:
        return None, None, None
    across, down = _ratio(page, "XResolution"), _ratio(page, "YResolution")
    return None, plausible_um(down, unit), plausible_um(across, unit)


def stated_translation(file: tifffile.TiffFile) -> Triple:
    """Return the first voxel's centre (z, y, x) in micrometres stated by a file, None per axis if missing."""
    return ome_translation(file.ome_metadata) if file.is_ome and file.ome_metadata else UNKNOWN


def ome_voxel_size(xml: str) -> Triple:
    """Return PhysicalSizeZ, Y and X of the first image in OME-XML, in micrometres."""
    pixels = _ome_pixels(xml)
    if pixels is None:
        return UNKNOWN
    z, y, x = (_ome_length(pixels, f"PhysicalSize{axis}", "\u00b5m") for axis in "ZYX")
    return _positive_length(z), _positive_length(y), _positive_length(x)


def ome_translation(xml: str) -> Triple:
    """Return PositionZ, Y and X of the first plane of the first image in OME-XML, in micrometres.

    By the schema a position without a unit lies in the frame of reference of some microscope, and is unknown.
    """
    pixels = _ome_pixels(xml)
    for plane in [] if pixels is None else pixels.findall("{*}Plane"):
        if all(plane.get(f"The{axis}", "0") == "0" for axis in "ZCT"):
            z, y, x = (_ome_length(plane, f"Position{axis}", "reference frame") for axis in "ZYX")
            return z, y, x
    return UNKNOWN


def _ome_pixels(xml: str) -> ElementTree.Element | None:
    """Return the first image's element Pixels."""
    try:
        return ElementTree.fromstring(xml).find(".//{*}Pixels")
    except ElementTree.ParseError as err:
        log.warning("the OME-XML is damaged (%s); voxel size and position are taken as unknown", err)
        return None


def _ome_length(element: ElementTree.Element, name: str, default_unit: str) -> float | None:
    """Return a length of OME-XML in micrometres; None if it or its unit is not understood."""
    text, unit = element.get(name), element.get(f"{name}Unit", default_unit)
    if text is None:
        return None
    factor = MICROMETRES.get(unit if unit in MICROMETRES else unit.lower())
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if factor is None or not math.isfinite(value):
        log.warning("the OME-XML states %s as %r in %r, which is taken as unknown", name, text, unit)
        return None
    return value * factor


def _positive_length(size: float | None) -> float | None:
    """Return a positive size, else None."""
    return size if size is not None and size > 0 else None


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
    """Return a rational tag as a number, 0 if it is missing."""
    value = _tag_value(page, name, (0, 1))
    return value[0] / value[1] if value[1] else 0.0


def _tag_value(page: tifffile.TiffPage, name: str, default: Any) -> Any:
    """Return the value of a tag."""
    tag = page.tags.get(name)
    return default if tag is None else tag.value
