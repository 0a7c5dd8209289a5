"""Parse the multiscales metadata of OME-Zarr: axes, units, levels, scales and translations.

Versions 0.4 and 0.5 say the same in different places; 0.1 to 0.3 say less. The scale and translation of a
level and those of the whole image are composed in the order of the specification, first the level's. A
length without a unit stays unknown: an unmeasured scale of 1 is not a micrometre.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from bigrestore.errors import InputError, UsageError
from bigrestore.io.conventions.colour import Channel
from bigrestore.io.conventions.stated_range import StatedRange, bit_limits
from bigrestore.io.formats.resolution import micrometres_per
from bigrestore.io.levels import Triple
from bigrestore.settings.values import is_number

log = logging.getLogger(__name__)


@attrs.frozen
class Dataset:
    """One level as the metadata states it: its path and, per array axis, scale and translation.

    `scaled` tells whether a scale is stated at all; without one `scale` is 1 and no size.
    """

    path: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    scaled: bool = True


@attrs.frozen
class Multiscale:
    """One multiscale image: version, axis names, micrometres per axis unit (None: no unit), levels."""

    version: str
    axes: str
    units: tuple[float | None, ...]
    datasets: tuple[Dataset, ...]

    def place(self, dataset: Dataset) -> tuple[Triple, Triple]:
        """Return voxel size and translation of a level, (z, y, x) in micrometres, None if unknown.

        The size has no sign; the translation is that of the first stored voxel.
        """
        sizes: dict[str, float | None] = dict.fromkeys("zyx")
        starts: dict[str, float | None] = dict.fromkeys("zyx")
        for axis, unit, scale, shift in zip(
            self.axes, self.units, dataset.scale, dataset.translation, strict=True
        ):
            if axis in sizes and unit is not None and dataset.scaled:
                starts[axis] = shift * unit
                sizes[axis] = abs(scale) * unit if scale != 0 else None
                if scale == 0:
                    log.warning("axis %s has the scale 0; its voxel size is taken as unknown", axis)
        return (sizes["z"], sizes["y"], sizes["x"]), (starts["z"], starts["y"], starts["x"])

    def backwards(self, dataset: Dataset) -> str:
        """Return the axes along which positions fall in a level, of "zyx"."""
        negative = [axis for axis, scale in zip(self.axes, dataset.scale, strict=True) if scale < 0]
        return "".join(axis for axis in "zyx" if axis in negative)


def multiscales_body(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the attributes around `multiscales`: under `ome` since version 0.5."""
    ome = attributes.get("ome")
    return ome if isinstance(ome, Mapping) and "multiscales" in ome else attributes


def parse_multiscales(
    attributes: Mapping[str, Any], source: str, number: int | None = None
) -> Multiscale | None:
    """Read a multiscale image of a group's attributes: by its number, else the first.

    Returns
    -------
    Multiscale or None
        None if the group is no multiscale image.

    Raises
    ------
    InputError
        If there is one but it is damaged.
    UsageError
        If there is none of that number.
    """
    body = multiscales_body(attributes)
    images = body.get("multiscales")
    if not images:
        return None
    if isinstance(images, list) and (number or 0) >= len(images):
        raise UsageError(f"--series is {number}, but {source} holds {len(images)} image(s), numbered from 0.")
    if isinstance(images, list) and number is None and len(images) > 1:
        log.warning("%s holds %d images; the first is read. Choose another by --series.", source, len(images))
    try:
        image = images[number or 0]
        version = str(body.get("version") or image.get("version") or "0.4")
        _require_known_version(version, image, source)
        axes, units = _axes(image.get("axes"))
        common = image.get("coordinateTransformations") or []
        datasets = tuple(_dataset(entry, common, len(axes), source) for entry in image["datasets"])
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as err:
        raise InputError(
            f"the multiscales metadata of {source} are damaged ({err!r}); write the store again."
        ) from err
    if not datasets:
        raise InputError(f"the multiscales metadata of {source} name no level; write the store again.")
    return Multiscale(version, axes, units, datasets)


def _require_known_version(version: str, image: Mapping[str, Any], source: str) -> None:
    """Refuse a version with coordinate systems in place of axes, by its number or its metadata."""
    number = re.match(r"(\d+)\.(\d+)", version)
    newer = number is not None and (int(number[1]), int(number[2])) > (0, 5)
    if newer or "coordinateSystems" in image:
        level = str(image["datasets"][0]["path"])
        raise InputError(
            f"{source} is OME-Zarr {version if newer else '0.6'}, of which no metadata are read; give one of its arrays, "
            f"such as {source}/{level}, with --voxel-size, or write it again as 0.5."
        )


def _axes(entries: list[Any] | None) -> tuple[str, tuple[float | None, ...]]:
    """Return axis names and micrometres per unit; without any, the fixed five axes of versions 0.1 and 0.2."""
    if entries is None:
        return "tczyx", (None,) * 5
    names = [entry if isinstance(entry, str) else str(entry["name"]) for entry in entries]
    units = [None if isinstance(entry, str) else entry.get("unit") for entry in entries]
    if any(len(name) != 1 for name in names):
        raise InputError(f"the axes {names} are not understood; name them by t, c, z, y and x.")
    axes = "".join(names).lower()
    return axes, tuple(
        micrometres_per(unit, f"axis {axis}") if axis in "zyx" else None
        for unit, axis in zip(units, axes, strict=True)
    )


def _dataset(entry: Mapping[str, Any], common: list[Any], ndim: int, source: str) -> Dataset:
    """Compose the transformations of a level with those of the image: level first, image second."""
    scale, shift, scaled = [1.0] * ndim, [0.0] * ndim, False
    for step in [*(entry.get("coordinateTransformations") or []), *common]:
        kind = step.get("type")
        if kind == "identity":
            continue
        values = step.get(kind) if kind in ("scale", "translation") else None
        if not isinstance(values, list) or len(values) != ndim:
            raise InputError(
                f"{source} has a coordinate transformation that is not read ({dict(step)}); "
                "only scale and translation with one number per axis are."
            )
        if kind == "scale":
            scaled = True
            scale = [a * float(b) for a, b in zip(scale, values, strict=True)]
            shift = [a * float(b) for a, b in zip(shift, values, strict=True)]
        else:
            shift = [a + float(b) for a, b in zip(shift, values, strict=True)]
    if not all(map(math.isfinite, (*scale, *shift))):
        raise InputError(
            f"{source} has the scale {scale} and the translation {shift}; only finite numbers are read."
        )
    return Dataset(str(entry["path"]), tuple(scale), tuple(shift), scaled)


def omero_channels(attributes: Mapping[str, Any]) -> list[Channel]:
    """Return what the display settings of OME-Zarr say of the channels; none if they are missing or damaged."""
    return [
        Channel(name=str(entry.get("label") or ""), colour=_hex_colour(entry.get("color")))
        for entry in _omero_entries(attributes)
    ]


def omero_limits(attributes: Mapping[str, Any], dtype: np.dtype[Any], source: str) -> StatedRange | None:
    """Return black and white of the channels' windows, if `min` and `max` name a number of bits.

    `start` and `end` are what a viewer shows as black and white, and no limits.
    """
    windows = [entry.get("window") for entry in _omero_entries(attributes)]
    ends = [(one.get("min"), one.get("max")) if isinstance(one, Mapping) else (None, None) for one in windows]
    if not ends or any(pair != ends[0] for pair in ends):
        return None
    low, high = ends[0]
    if low is None or high is None or not (is_number(low) and is_number(high)):
        return None
    return bit_limits(low, high, "min and max of its omero window", dtype, source)


def display_window(attributes: Mapping[str, Any], channel: int = 0) -> list[float] | None:
    """Return what a viewer shows as black and white of a channel; None if that is not stated."""
    window = next((entry.get("window") for entry in _omero_entries(attributes)[channel:]), None)
    ends: list[Any] = [window.get("start"), window.get("end")] if isinstance(window, Mapping) else []
    values = [float(end) for end in ends if is_number(end)]
    return values if len(values) == 2 and values[0] < values[1] else None


def _omero_entries(attributes: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of omero's channels."""
    omero = multiscales_body(attributes).get("omero")
    entries = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        return []
    return entries


def _hex_colour(text: Any) -> tuple[int, int, int] | None:
    """Return a colour of six hexadecimal digits, None for white and anything else."""
    digits = text.removeprefix("#")[:6] if isinstance(text, str) else ""
    if not re.fullmatch("[0-9a-fA-F]{6}", digits) or digits.upper() == "FFFFFF":
        return None
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)
