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

import numpy as np
import tifffile

from bigrestore.io.conventions.colour import Channel
from bigrestore.io.conventions.stated_range import StatedRange, bit_limits, limits
from bigrestore.io.formats.resolution import micrometres_per, resolution_size
from bigrestore.io.levels import UNKNOWN, Triple, accepted_dtype

log = logging.getLogger(__name__)

_RESOLUTION_UNIT_UM = {2: 25400.0, 3: 10000.0, 4: 1000.0, 5: 1.0}
"""Micrometres per ResolutionUnit: inch, centimetre, millimetre, micrometre (the last two of TIFF/EP readers)."""


def stated_voxel_size(
    file: tifffile.TiffFile, page: tifffile.TiffPage, number: int = 0
) -> tuple[Triple, str]:
    """Return the voxel size (z, y, x) in micrometres stated by a file, and where it came from.

    An axis is None if nothing is stated for it. `page` is the first one of the image `number`.
    """
    if file.is_ome and file.ome_metadata:
        size = ome_voxel_size(file.ome_metadata, number)
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


def stated_translation(file: tifffile.TiffFile, number: int = 0) -> Triple:
    """Return the first voxel's centre (z, y, x) in micrometres stated by a file, None per axis if missing."""
    return ome_translation(file.ome_metadata, number) if file.is_ome and file.ome_metadata else UNKNOWN


def ome_voxel_size(xml: str, number: int = 0) -> Triple:
    """Return PhysicalSizeZ, Y and X of an image in OME-XML, in micrometres."""
    pixels = _ome_pixels(xml, number)
    if pixels is None:
        return UNKNOWN
    z, y, x = (_ome_length(pixels, f"PhysicalSize{axis}", "um") for axis in "ZYX")
    return _positive_length(z), _positive_length(y), _positive_length(x)


def ome_translation(xml: str, number: int = 0) -> Triple:
    """Return PositionZ, Y and X of the first plane of an image in OME-XML, in micrometres.

    By the schema a position without a unit lies in the frame of reference of some microscope, and is unknown.
    """
    pixels = _ome_pixels(xml, number)
    for plane in [] if pixels is None else pixels.findall("{*}Plane"):
        if all(plane.get(f"The{axis}", "0") == "0" for axis in "ZCT"):
            z, y, x = (_ome_length(plane, f"Position{axis}", "reference frame") for axis in "ZYX")
            return z, y, x
    return UNKNOWN


def _ome_pixels(xml: str, number: int) -> ElementTree.Element | None:
    """Return the element Pixels of an image, None if there is no such."""
    try:
        elements = ElementTree.fromstring(xml).findall(".//{*}Pixels")
        return elements[number] if number < len(elements) else None
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


def stated_limits(
    file: tifffile.TiffFile, page: tifffile.TiffPage, dtype: np.dtype[Any], number: int = 0
) -> StatedRange | None:
    """Return black and white of an image as its tags or its OME-XML state them, None if they do not.

    Bits of a sample and OME's SignificantBits are limits. MaxSampleValue is a statistic by the standard, and
    counts where it names a number of bits.
    """
    name = str(file.filename)
    if dtype.kind == "u" and page.bitspersample < 8 * dtype.itemsize:
        return limits(0, 2**page.bitspersample - 1, "BitsPerSample", dtype, name)
    pixels = _ome_pixels(file.ome_metadata, number) if file.is_ome and file.ome_metadata else None
    bits = "" if pixels is None else pixels.get("SignificantBits", "")
    if dtype.kind == "u" and bits.isdecimal() and 0 < int(bits) < 8 * dtype.itemsize:
        return limits(0, 2 ** int(bits) - 1, "SignificantBits", dtype, name)
    for least, most in (("SMinSampleValue", "SMaxSampleValue"), ("MinSampleValue", "MaxSampleValue")):
        high = np.ravel(_tag_value(page, most, ()))
        low = np.ravel(_tag_value(page, least, 0))
        if high.size and high.max() > 0:
            return bit_limits(float(low.min()), float(high.max()), most, dtype, name)
    return None


def require_plain_values(file: tifffile.TiffFile, dtype: np.dtype[Any], source: str) -> None:
    """Refuse signed values that ImageJ stores as unsigned ones; say it if it calibrates others.

    ImageJ keeps value = c0 + c1 * stored where `cf` is 0, and has no other way to save signed 16 bits.

    Raises
    ------
    InputError
        With the conversion.
    """
    stated = (file.imagej_metadata or {}) if file.is_imagej else {}
    offset, slope = stated.get("c0"), stated.get("c1")
    if dtype.kind != "u" or stated.get("cf") != 0 or not isinstance(offset, float | int) or slope is None:
        return
    if (offset, slope) == (-(2**15), 1):
        accepted_dtype(np.int16, source)
    log.info(
        "%s is calibrated by ImageJ (value = %s + %s * stored); the stored values are restored, and the calibration is not "
        "carried over.",
        *(source, offset, slope),
    )


def stated_channels(file: tifffile.TiffFile, number: int = 0) -> list[Channel]:
    """Return what a file says of its channels, in OME-XML or in the lookup tables of ImageJ."""
    if file.is_imagej:
        tables = [np.asarray(table) for table in (file.imagej_metadata or {}).get("LUTs", [])]
        return [Channel(colour=(int(t[0, -1]), int(t[1, -1]), int(t[2, -1]))) for t in tables if t.ndim == 2]
    pixels = _ome_pixels(file.ome_metadata, number) if file.is_ome and file.ome_metadata else None
    return [] if pixels is None else [_ome_channel(element) for element in pixels.iterfind("{*}Channel")]


def _ome_channel(element: ElementTree.Element) -> Channel:
    """Return what OME-XML says of a channel; its colour is a signed number of RGBA, -1 by default."""
    text = element.get("Color", "-1")
    number = int(text) & 0xFFFFFFFF if text.lstrip("-").isdecimal() else 0xFFFFFFFF
    colour = (number >> 24, number >> 16 & 255, number >> 8 & 255)
    stains = ("Fluor", "EmissionWavelength", "ExcitationWavelength")
    return Channel(
        name=element.get("Name", ""),
        colour=None if number == 0xFFFFFFFF else colour,
        fluorescent=any(element.get(name) for name in stains)
        or "fluorescence" in element.get("ContrastMethod", "").lower(),
    )
