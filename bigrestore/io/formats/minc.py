"""Read MINC2 (.mnc), the HDF5 format of BigBrain's sections and volumes (extra `formats`).

Windows are sliced straight from the HDF5 data set. Stored values are restored as they are, so all slices must share
one intensity scale; a file with a scale per slice is refused. The valid range gives black and white, and a
`vector_dimension` of 3 is colour.

BigBrain's coronal files have a known flaw: their y axis starts at 0, but section n (the number in `pm####o.mnc`)
really lies at -70.01 + (n - 1) * 0.02 mm. It is corrected, and logged.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from shlex import quote
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.errors import BigrestoreError, InputError
from bigrestore.io.conventions.direction import turned_round
from bigrestore.io.conventions.section_axis import section_axis
from bigrestore.io.conventions.stated_range import StatedRange, bit_limits, limits, range_of_type
from bigrestore.io.formats.resolution import micrometres_per
from bigrestore.io.levels import Level, OpenedImage, accepted_dtype, require_pixels

log = logging.getLogger(__name__)

_IMAGE = "minc-2.0/image/0/image"
_DIMENSIONS = "minc-2.0/dimensions"

BIGBRAIN_FIRST_MM, BIGBRAIN_STEP_MM = -70.01, 0.02
"""Where BigBrain's coronal section 1 lies along y, and how far it is to the next, in millimetres."""


def open_minc(path: Path, *, labels: bool = False) -> OpenedImage:
    """Open a MINC2 file: the axes as stored, an axis of length 1 counting as z.

    `labels` marks a mask, of possibly any integer type.

    Raises
    ------
    ImportError
        If h5py is missing.
    InputError
        If the file is no MINC2, is damaged, scales each slice differently, or turns dark to light.
    """
    import h5py

    try:
        file = h5py.File(path, "r")
    except PermissionError:
        raise
    except OSError as err:
        raise InputError(f"{path} is a damaged HDF5 file ({err}); copy or write it again.") from err
    try:
        return _open_minc_image(path, file, labels)
    except (BigrestoreError, PermissionError):
        file.close()
        raise
    except Exception as err:  # what HDF5 says of damage depends on where it lies
        file.close()
        raise InputError(f"{path} is a damaged MINC file ({err}); copy or write it again.") from err


def _open_minc_image(path: Path, file: Any, labels: bool) -> OpenedImage:
    """Open the image of a file."""
    if _IMAGE not in file:
        raise InputError(
            f"{path} is HDF5 but not MINC2 (it has no {_IMAGE}); convert it to MINC2, TIFF or OME-Zarr."
        )
    stored = file[_IMAGE]
    _require_filters(stored, path)
    command = f"mincreshape -float {quote(str(path))} converted.mnc"
    dtype = accepted_dtype(stored.dtype, str(path), labels=labels, command=command)
    require_pixels(stored.shape, str(path))
    _require_one_scale(file, path)
    names = _dimension_names(stored, path)
    vector = _colour_axis(names, stored.shape, dtype, path)
    order = _section_order(names, stored.shape, vector, path)
    stated = None if labels else _valid_limits(file, stored, dtype, path)
    return attrs.evolve(_describe_minc(path, file, stored, names, order, vector, dtype), stated_range=stated)


def _valid_limits(file: Any, stored: Any, dtype: np.dtype[Any], path: Path) -> StatedRange | None:
    """Return the valid range of the stored values; say what they mean, as the file scales them."""
    valid = np.ravel(stored.attrs.get("valid_range", range_of_type(dtype)))
    low, high = (float(valid.min()), float(valid.max())) if valid.size else range_of_type(dtype)
    means = [file.get(f"minc-2.0/image/0/{name}") for name in ("image-min", "image-max")]
    if all(value is not None and value.size for value in means):
        black, white = (float(np.ravel(np.asarray(value))[0]) for value in means)
        if white < black:
            raise InputError(
                f"{path} turns dark to light (image-min {black:g}, image-max {white:g}); write it again with image-min "
                "below image-max."
            )
        if (black, white) != (low, high) and dtype.kind == "u":
            log.info(
                "%s scales its values: %g to %g mean %g to %g. The stored values are restored, and the scale is not "
                "carried over.",
                *(path, low, high, black, white),
            )
    # Of floating-point values it is a statistic, or the limits of the type.
    return (limits if dtype.kind == "u" else bit_limits)(low, high, "valid_range", dtype, str(path))


def _colour_axis(names: list[str], shape: tuple[int, ...], dtype: np.dtype[Any], path: Path) -> int | None:
    """Return the stored axis of red, green and blue; refuse vectors of anything else."""
    if "vector_dimension" not in names:
        return None
    axis = names.index("vector_dimension")
    if shape[axis] == 3 and dtype.kind == "u":
        return axis
    raise InputError(
        f"{path} has a vector_dimension of {shape[axis]} values of {dtype.name}; only three of uint8 or uint16 are "
        "read, as red, green and blue: store the one to restore as a file of its own, for instance by mincreshape."
    )


def _require_filters(stored: Any, path: Path) -> None:
    """Refuse an image compressed by a filter that HDF5 lacks here."""
    import h5py

    plan = stored.id.get_create_plist()
    for index in range(plan.get_nfilters()):
        code, _, _, name = plan.get_filter(index)
        if not h5py.h5z.filter_avail(code):
            known = name.decode(errors="replace") or "without a name"
            raise InputError(
                f"{path} is compressed by the HDF5 filter {code} ({known}), which is not installed here; write it again: "
                f"h5repack -f GZIP=4 {quote(str(path))} converted.mnc."
            )


def _dimension_names(stored: Any, path: Path) -> list[str]:
    """Return the names of the stored axes, slowest first, from the attribute `dimorder`."""
    text = stored.attrs.get("dimorder", b"")
    text = text.decode() if isinstance(text, bytes) else str(text)
    names = [name.strip() for name in text.rstrip("\0").split(",") if name.strip()]
    if len(names) != stored.ndim:
        raise InputError(
            f"{path} names the axes {names} but its image has {stored.ndim}; write it again with its axes."
        )
    return names


def _section_order(
    names: list[str], shape: tuple[int, ...], vector: int | None, path: Path
) -> tuple[int | None, int, int]:
    """Return the stored axes of z, y and x; z may be missing."""
    spatial = [axis for axis in range(len(shape)) if axis != vector]
    if len(spatial) == 2:
        return None, spatial[0], spatial[1]
    if len(spatial) != 3:
        raise InputError(f"{path} has the axes {names}; only two or three spatial ones are read.")
    z = spatial.pop(section_axis([shape[axis] for axis in spatial], 0, str(path)))
    return z, spatial[0], spatial[1]


def _require_one_scale(file: Any, path: Path) -> None:
    """Refuse a file with different intensity scales for its slices."""
    for name in ("image-min", "image-max"):
        values = file.get(f"minc-2.0/image/0/{name}")
        if values is not None and values.size > 1 and np.ptp(np.asarray(values)) > 0:
            raise InputError(
                f"{path} scales each slice differently ({name} varies), so its stored values are not comparable; "
                "rewrite it with one range, for instance by mincreshape -image_range."
            )


def _describe_minc(
    path: Path,
    file: Any,
    stored: Any,
    names: list[str],
    order: tuple[int | None, int, int],
    vector: int | None,
    dtype: np.dtype[Any],
) -> OpenedImage:
    """Describe an open file as one level."""
    z_axis, y_axis, x_axis = order
    details: dict[str, Any] = {"dimorder": ",".join(names), "compression": stored.compression or "none"}
    sizes, starts, backwards = list[float | None](), list[float | None](), ""
    for letter, axis in zip("zyx", order, strict=True):
        place = (None, None, False) if axis is None else _dimension_um(file, names[axis], path)
        sizes.append(place[0])
        starts.append(place[1])
        backwards += letter if place[2] else ""
    details["voxel_size_from"] = (
        "not known: no step with a unit of length" if sizes[2] is None else "step and units"
    )
    if z_axis is not None and names[z_axis] == "yspace":
        starts[0] = _corrected_start(path, starts[0], details)

    held = (file, stored)  # a data set is only good while its file is open

    def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        key: list[Any] = [z] * stored.ndim
        key[y_axis], key[x_axis] = slice(y0, y1), slice(x0, x1)
        if vector is None:
            return np.asarray(held[1][tuple(key)])
        key[vector] = slice(None)
        kept = [axis for axis in range(stored.ndim) if axis != z_axis]
        return np.asarray(held[1][tuple(key)]).transpose(
            [kept.index(axis) for axis in (y_axis, x_axis, vector)]
        )

    depth = 1 if z_axis is None else stored.shape[z_axis]
    chunk = stored.chunks or stored.shape
    opened = OpenedImage(
        kind="minc",
        levels=(
            Level(
                (depth, stored.shape[y_axis], stored.shape[x_axis]),
                (chunk[y_axis], chunk[x_axis]),
                read,
                (sizes[0], sizes[1], sizes[2]),
                (starts[0], starts[1], starts[2]),
            ),
        ),
        channels=1 if vector is None else 3,
        dtype=dtype,
        axes=("zyx" if z_axis is not None else "yx") + ("" if vector is None else "c"),
        is_volume=depth > 1,
        format_version="2",
        files=(path,),
        details=details,
    )
    return turned_round(opened, [backwards], str(path))


def _dimension_um(file: Any, name: str, path: Path) -> tuple[float | None, float | None, bool]:
    """Return size and start of a dimension in micrometres, and whether positions fall along it.

    MINC's unit is the millimetre unless stated. Step and start count along the direction cosines, which may point
    backwards; where they point elsewhere, the position is unknown.
    """
    dimension = file.get(f"{_DIMENSIONS}/{name}")
    if dimension is None or "step" not in dimension.attrs:
        return None, None, False
    stated = dimension.attrs
    factor = micrometres_per(stated.get("units", b"mm"), f"{name} of {path}")
    step, start = float(np.ravel(stated["step"])[0]), stated.get("start")
    along = np.eye(3)["xyz".index(name[0])] if name[0] in "xyz" else np.zeros(3)
    facing = float(np.ravel(stated.get("direction_cosines", along)) @ along)
    if abs(abs(facing) - 1) > 1e-6:
        log.warning("%s of %s is rotated; its position in space is not carried over", name, path)
        facing, start = 1.0, None
    falling = step * facing < 0
    if factor is None or step == 0 or str(stated.get("spacing", "")).strip("b'").startswith("irreg"):
        return None, None, falling
    return abs(step) * factor, None if start is None else float(np.ravel(start)[0]) * facing * factor, falling


def _corrected_start(path: Path, start_um: float | None, details: dict[str, Any]) -> float | None:
    """Return the position of a coronal section, correcting the start of 0 in BigBrain's files."""
    number = re.search(r"pm(\d{4})o\.mnc$", path.name)
    if number is None or start_um not in (None, 0.0):
        return start_um
    true_mm = BIGBRAIN_FIRST_MM + (int(number.group(1)) - 1) * BIGBRAIN_STEP_MM
    details["y_start_corrected_mm"] = round(true_mm, 6)
    log.info("%s states y start 0, a known flaw of these files; it lies at %.2f mm", path.name, true_mm)
    return true_mm * 1e3
