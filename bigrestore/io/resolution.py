"""Tell a measured resolution from the default of a program.

Image files carry dots per inch whether anybody measured them or not: 72, 96 and 300 are what cameras,
screens and printers write. A pixel of 85 um that nobody measured is worse than an unknown one, so the
defaults count as unknown, and so does what no microscope or scanner of sections delivers.
"""

from __future__ import annotations

DEFAULT_DPI = (1, 72, 75, 96, 100, 120, 144, 150, 180, 200, 240, 300, 350, 400, 600, 1200)
"""Dots per inch that programs write when they know nothing."""

SMALLEST_UM, LARGEST_UM = 0.001, 1000.0
"""Pixels from an electron microscope to a whole-brain photograph."""


def plausible_um(per_unit: float, unit_um: float) -> float | None:
    """Return the pixel size that `per_unit` pixels in a length of `unit_um` micrometres mean.

    Returns
    -------
    float or None
        Micrometres per pixel; None where the resolution is a default or not a plausible pixel size.
    """
    if not per_unit > 0:
        return None
    size = unit_um / per_unit
    dpi = 25400.0 / size
    if not SMALLEST_UM <= size <= LARGEST_UM or any(abs(dpi - default) < 0.02 for default in DEFAULT_DPI):
        return None
    return size
