"""Units of length by all their names, and resolutions that somebody measured.

Image files carry dots per inch even if nobody measured them: cameras, screens and printers write 72, 96 and 300.
A false pixel size of 85 um is worse than an unknown one. So the defaults count as unknown, and so do sizes beyond
those of microscopes and scanners. From 400 dpi on a resolution is that of a flatbed or film scanner, and counts.
"""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections.abc import Sequence

from bigrestore.errors import UsageError
from bigrestore.io.levels import Triple

log = logging.getLogger(__name__)

DEFAULT_DPI = (1, 72, 75, 96, 100, 120, 144, 150, 180, 200, 240, 300, 350)
"""Dots per inch that programs write when they know nothing."""

SMALLEST_UM, LARGEST_UM = 0.001, 1000.0
"""Pixels from an electron microscope to a whole-brain photograph."""

_PREFIXES = {
    "pico": 1e-6,
    "nano": 1e-3,
    "micro": 1.0,
    "milli": 1e3,
    "centi": 1e4,
    "deci": 1e5,
    "": 1e6,
    "kilo": 1e9,
}
_TAG_NAMES = {
    f"{prefix}{metre}": factor
    for prefix, factor in _PREFIXES.items()
    for metre in ("meter", "metre", "meters", "metres")
} | {"micron": 1.0, "microns": 1.0, "angstrom": 1e-4, "angstroms": 1e-4, "inch": 25400.0, "inches": 25400.0}
_SYMBOLS = {
    "\u00e5": 1e-4,
    "pm": 1e-6,
    "nm": 1e-3,
    "um": 1.0,
    "\u03bcm": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "km": 1e9,
    "in": 25400.0,
    '"': 25400.0,
}
"""Micrometres per unit, by its symbol; Mm is a megametre and none of them."""

_NO_LENGTHS = ("", "pixel", "pixels", "px", "voxel", "voxels", "unknown", "none", "null", "reference frame")


def micrometres_per(unit: object, what: str) -> float | None:
    """Return micrometres per unit of length, whatever the file calls it.

    Parameters
    ----------
    unit : str, bytes or None
        Such as `um`, `microns`, `MICROMETER`, `mm` or `inch`.
    what : str
        What has the unit, for the warning.

    Returns
    -------
    float or None
        None for pixels, and, with a warning, for a unit that is not known.
    """
    if unit is None:
        return None
    text = unit.decode("utf-8", "replace") if isinstance(unit, bytes) else str(unit)
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)  # as ImageJ writes it
    text = unicodedata.normalize("NFKC", text.replace("\u00c2\u00b5", "\u00b5")).strip("\0 \t\r\n")
    factor = _TAG_NAMES.get(text.lower()) or _SYMBOLS.get(text)
    if factor is None and text == text.upper():
        factor = _SYMBOLS.get(text.lower())
    if factor is None and text.lower() not in _NO_LENGTHS:
        log.warning("%s has the unit %r, which is not known; its size is taken as unknown", what, text)
    return factor


def plausible_um(per_unit: float, unit_um: float) -> float | None:
    """Return the pixel size for `per_unit` pixels in a length of `unit_um` micrometres.

    Returns
    -------
    float or None
        Micrometres per pixel; None if the resolution is a default or implausible.
    """
    if not per_unit > 0:
        return None
    size = unit_um / per_unit
    return size if SMALLEST_UM <= size <= LARGEST_UM and not _is_default(size) else None


def _is_default(size_um: float) -> bool:
    """Tell a default resolution, also rounded to whole pixels per centimetre."""
    dpi, per_cm = 25400.0 / size_um, 10000.0 / size_um
    return any(
        abs(dpi - default) < 0.02 or abs(per_cm - round(default / 2.54)) < 1e-6 for default in DEFAULT_DPI
    )


def resolution_size(down: float, across: float, unit_um: float, where: str) -> tuple[Triple, str]:
    """Return the voxel size of pixels per unit along y and x, and where it came from.

    Parameters
    ----------
    down, across : float
        Pixels in a length of `unit_um` micrometres; 0 if not stated.
    where : str
        The part of the file that states them.
    """
    size: Triple = (None, plausible_um(down, unit_um), plausible_um(across, unit_um))
    if not across > 0:
        return size, "not stated"
    dpi = f"{round(across * 25400.0 / unit_um, 1):.10g} dpi"
    if size[2] is not None:
        return size, f"{where}, {dpi}"
    default = _is_default(unit_um / across)
    reason = "what programs write without a measurement" if default else "the resolution of no section"
    return size, f"not known: {dpi} in {where} is {reason}"


def merged_voxel_size(stated: Triple, asked: float | Sequence[float | None] | None) -> Triple:
    """Merge the voxel size of the file with the user's."""
    if asked is None:
        return stated
    values = list(asked) if isinstance(asked, Sequence) else [float(asked), float(asked)]
    if len(values) not in (1, 2, 3):
        raise UsageError(
            f"the voxel size has {len(values)} numbers; give one, (y, x) or (z, y, x) in micrometres."
        )
    if len(values) == 1:
        values = values * 2
    values = [None] * (3 - len(values)) + values
    for value in values:
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(
                f"the voxel size {value:g} um is not positive; give --voxel-size in micrometres."
            )
    z, y, x = (old if new is None else float(new) for old, new in zip(stated, values, strict=True))
    return z, y, x
