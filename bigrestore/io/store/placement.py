"""Factors, shapes, scales and translations of the pyramid levels.

Pure arithmetic on a `StoreSpec`. A level is a mean over whole blocks, so its first voxel's centre moves by half a
block less half a voxel: (f - 1) / 2 voxels of level 0. Without that shift every coarse level would be displaced
against the fine one, and a viewer would jump on zooming.
"""

from __future__ import annotations

import math
from typing import Any

from bigrestore.io.levels import Triple
from bigrestore.io.store.store_spec import StoreSpec

SMALLEST_LEVEL_PX = 480
"""Levels are added until the longer side of a section is at most this many pixels."""


def pyramid_factors(spec: StoreSpec) -> list[tuple[int, int, int]]:
    """Return how much each level is reduced against level 0, along (z, y, x).

    y and x are halved from level to level until the longer side is at most 480 pixels, once at least wherever there
    is more than one pixel. z is halved with them if that makes a known voxel more like a cube: |log(2 vz / 2 vx)|
    against |log(vz / 2 vx)|.
    """
    factors = [(1, 1, 1)]
    depth, *sides = spec.shape
    size_z, size_y, size_x = spec.voxel_size_um
    while max(sides) > SMALLEST_LEVEL_PX or (len(factors) == 1 and max(sides) > 1):
        f_z, f_y, f_x = factors[-1]
        sides = [-(-n // 2) for n in sides]
        if depth > 1 and size_z is not None and size_y is not None and size_x is not None:
            plane = math.sqrt(size_y * f_y * 2 * size_x * f_x * 2)
            if abs(math.log(size_z * f_z * 2 / plane)) < abs(math.log(size_z * f_z / plane)):
                f_z, depth = f_z * 2, -(-depth // 2)
        factors.append((f_z, f_y * 2, f_x * 2))
    return factors


def pyramid_shapes(spec: StoreSpec) -> list[tuple[int, int, int]]:
    """Return the (z, y, x) shape of each level: level 0 divided by the factor, rounded up."""
    depth, height, width = spec.shape
    return [
        (-(-depth // f_z), -(-height // f_y), -(-width // f_x)) for f_z, f_y, f_x in pyramid_factors(spec)
    ]


def dataset_transforms(spec: StoreSpec, level: int) -> list[dict[str, Any]]:
    """Return the OME-Zarr coordinate transformations of one level: scale, then translation.

    If the voxel size is unknown the unit is the pixel of level 0.
    """
    factors = dict(zip("zyx", pyramid_factors(spec)[level], strict=True))
    sizes = {axis: size or 1.0 for axis, size in zip("zyx", spec.voxel_size_um, strict=True)}
    starts = {axis: start or 0.0 for axis, start in zip("zyx", spec.translation_um, strict=True)}
    scale = [1.0 if axis == "c" else sizes[axis] * factors[axis] for axis in spec.axes]
    shift = [
        0.0 if axis == "c" else starts[axis] + sizes[axis] * (factors[axis] - 1) / 2 for axis in spec.axes
    ]
    return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]


def scaled_placement(
    voxel_size_um: Triple, translation_um: Triple, scale: float, first_px: tuple[int, int, int] = (0, 0, 0)
) -> tuple[Triple, Triple]:
    """Return voxel size and translation of an output with `scale` pixels per input pixel in y and x.

    Parameters
    ----------
    voxel_size_um, translation_um : tuple of float or None
        Of the input, (z, y, x).
    scale : float
        Output pixels per input pixel; 0.25 for an image reduced by 4.
    first_px : tuple of int
        The (z, y, x) position of the output's first voxel in the scaled section (z unscaled), 0 unless a
        region of interest is cut out.

    Returns
    -------
    voxel_size_um, translation_um : tuple
        Of the output. Output pixel u lies at input pixel (u + 0.5) / scale - 0.5. Where the voxel size is
        unknown the translation is in output pixels, and None if zero.
    """
    sizes: list[float | None] = []
    shifts: list[float | None] = []
    for axis, (size, start, first) in enumerate(zip(voxel_size_um, translation_um, first_px, strict=True)):
        factor = 1.0 if axis == 0 else scale
        if size is None:
            sizes.append(None)
            shifts.append(float(first) or None)
            continue
        sizes.append(size / factor)
        moved = (start or 0.0) + size * ((first + 0.5) / factor - 0.5)
        shifts.append(None if start is None and moved == 0.0 else moved)
    return (sizes[0], sizes[1], sizes[2]), (shifts[0], shifts[1], shifts[2])
