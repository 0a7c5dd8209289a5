"""Tell a measured resolution from a program's default, and merge it with the user's voxel size.

Image files carry dots per inch even if nobody measured them: cameras, screens and printers write 72, 96 and 300.
A false pixel size of 85 um is worse than an unknown one. So the defaults count as unknown, and so do sizes beyond
those of microscopes and scanners.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bigrestore.errors import UsageError
from bigrestore.io.levels import Triple

DEFAULT_DPI = (1, 72, 75, 96, 100, 120, 144, 150, 180, 200, 240, 300, 350, 400, 600, 1200)
"""Dots per inch that programs write when they know nothing."""

SMALLEST_UM, LARGEST_UM = 0.001, 1000.0
"""Pixels from an electron microscope to a whole-brain photograph."""


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
    dpi = 25400.0 / size
    if not SMALLEST_UM <= size <= LARGEST_UM or any(abs(dpi - default) < 0.02 for default in DEFAULT_DPI):
        return None
    return size


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
