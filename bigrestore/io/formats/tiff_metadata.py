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

from bigrestore.io.formats.resolution import micrometres_per, resolution_size
from bigrestore.io.levels import UNKNOWN, Triple

log = logging.getLogger(__name__)

_RESOLUTION_UNIT_UM = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}
"""Micrometres per ResolutionUnit: inch, centimetre, millimetre, micrometre (the last two of TIFF/EP readers)."""


def stated_voxel_size(file: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[Triple, str]:
    """Return the voxel size (z, y, x) in micrometres stated by a file, and where it came from.

    An axis is None if nothing is stated for it.
    """
    if file.is_ome and file.ome_metadata:
        size = ome_voxel_size(file.ome_metadata)
        return size, "OME-XML" if size != UNKNOWN else "not known: the OME-XML states none"
    if file.is_imagej and "unit" in (file.imagej_metadata or {}):
        return _imagej_voxel_size(file.imagej_metadata or {}, page)
    if page.is_philips:
        size = _philips_voxel_size(page.description)
        if size != UNKNOWN:
            return size, "DICOM_PIXEL_SPACING in the Philips description"
    mpp = re.search(r"\bMPP\s*=\s*(\d+(?:\.\d*)?|\.\d+)(?![\w.])", page.description or "")
    if mpp is not None and float(mpp.group(1)) > 0:
        return (None, float(mpp.group(1)), float(mpp.group(1))), "MPP in the description"
    unit = _RESOLUTION_UNIT_UM.get(_tag_value(page, "ResolutionUnit", 2))
    across, down = _ratio(page, "XResolution"), _ratio(page, "YResolution")
    if unit is None:
        return UNKNOWN, "not known: the resolution tags have no unit"
    return resolution_size(down, across, unit, "the resolution tags")


def stated_translation(file: tifffile.TiffFile) -> Triple:
    """Return the first voxel's centre (z, y, x) in micrometres stated by a file, None per axis if missing."""
    return ome_translation(file.ome_metadata) if file.is_ome and file.ome_metadata else UNKNOWN


def ome_voxel_size(xml: str) -> Triple:
    """Return PhysicalSizeZ, Y and X of the first image in OME-XML, in micrometres."""
    pixels = _ome_pixels(xml)
    if pixels is None:
        return UNKNOWN
    z, y, x = (_ome_length(pixels, f"PhysicalSize{axis}", "um") for axis in "ZYX")
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
    text = element.get(name)
    if text is None:
        return None
    factor = micrometres_per(element.get(f"{name}Unit", default_unit), f"the OME-XML's {name}")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        log.warning("the OME-XML states %s as %r, which is taken as unknown", name, text)
        return None
    return None if factor is None else value * factor


def _positive_length(size: float | None) -> float | None:
    """Return a positive size, else None."""
    return size if size is not None and size > 0 else None


def _imagej_voxel_size(metadata: dict[str, Any], page: tifffile.TiffPage) -> tuple[Triple, str]:
    """Return the voxel size of an ImageJ file: pixels per unit in the tags, `spacing` between sections.

    `unit` holds for all axes but those with a unit of their own, `yunit` and `zunit`.
    """
    x_unit = metadata["unit"]
    z, y, x = (
        micrometres_per(metadata.get(name, x_unit), f"ImageJ's {name}") for name in ("zunit", "yunit", "unit")
    )
    across, down = _ratio(page, "XResolution"), _ratio(page, "YResolution")
    spacing = metadata.get("spacing", 0.0)
    depth = abs(spacing) if isinstance(spacing, int | float) and math.isfinite(spacing) else 0.0
    size = (
        depth * z if z is not None and depth > 0 else None,
        y / down if y is not None and down > 0 else None,
        x / across if x is not None and across > 0 else None,
    )
    return size, "not known: ImageJ's unit is no length" if size == UNKNOWN else "ImageJ's units"


def _philips_voxel_size(description: str) -> Triple:
    """Return the smallest DICOM_PIXEL_SPACING, rows before columns in millimetres: that of the finest level."""
    try:
        stated = [
            item.text or ""
            for item in ElementTree.fromstring(description).iter("Attribute")
            if item.get("Name") == "DICOM_PIXEL_SPACING"
        ]
    except ElementTree.ParseError as err:
        log.warning("the Philips description is damaged (%s); the voxel size is taken as unknown", err)
        return UNKNOWN
    pairs = [re.findall(r"\d*\.?\d+(?:[eE][-+]?\d+)?", text) for text in stated]
    sizes = [(float(pair[0]) * 1e3, float(pair[1]) * 1e3) for pair in pairs if len(pair) == 2]
    down, across = min((size for size in sizes if min(size) > 0), default=(None, None))
    return None, down, across


def _ratio(page: tifffile.TiffPage, name: str) -> float:
    """Return a rational tag as a number, 0 if it is missing."""
    value = _tag_value(page, name, (0, 1))
    return value[0] / value[1] if value[1] else 0.0


def _tag_value(page: tifffile.TiffPage, name: str, default: Any) -> Any:
    """Return the value of a tag."""
    tag = page.tags.get(name)
    return default if tag is None else tag.value
