"""Read NIfTI volumes and slices through nibabel (extra `formats`).

An uncompressed file is read window by window. A gzipped one cannot be entered in the middle, so it is decoded once
and held. Stored values are restored as they are: a file with rescaled values has no grey values of the dtype's
range, and is refused. Sections lie along the axis of length 1, or that which the header calls the slices.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.errors import InputError
from bigrestore.io.access.limits import require_unpacked
from bigrestore.io.decoded import Decoded
from bigrestore.io.formats.ome_metadata import MICROMETRES
from bigrestore.io.levels import UNKNOWN, Level, OpenedImage, Triple, accepted_dtype, require_pixels
from bigrestore.io.section_axis import section_axis
from bigrestore.io.stated_range import StatedRange, bit_limits

log = logging.getLogger(__name__)


def open_nifti(path: Path, *, labels: bool = False) -> OpenedImage:
    """Open a NIfTI-1 or NIfTI-2 file; where sections lie along its third axis, x, y, z in the file are those here.

    `labels` marks a mask, of possibly any integer type.

    Raises
    ------
    ImportError
        If nibabel is missing.
    InputError
        If the file is damaged, rescales its values or has a time axis.
    """
    import nibabel

    try:
        image: Any = nibabel.load(
            path, mmap=False
        )  # a map of a file that is cut off meanwhile kills the process
        header = image.header
        slope, offset = float(image.dataobj.slope), float(image.dataobj.inter)  # the header forgets them
    except PermissionError:
        raise
    except Exception as err:
        raise InputError(f"{path} is a damaged NIfTI file ({err}); copy or write it again.") from err
    shape = tuple(int(n) for n in image.shape)
    if (slope, offset) != (1.0, 0.0):
        raise InputError(
            f"{path} rescales its values (scl_slope {slope:g}, scl_inter {offset:g}); write it without scaling, "
            "as uint8, uint16 or float32."
        )
    dtype = accepted_dtype(header.get_data_dtype(), str(path), labels=labels)
    require_pixels(shape, str(path))
    if len(shape) < 2 or any(n != 1 for n in shape[3:]):
        raise InputError(
            f"{path} has the shape {shape}; a section or volume has two or three axes longer than 1."
        )
    if path.name.lower().endswith(".gz"):
        unpacked = int(np.prod(shape, dtype=object)) * dtype.itemsize
        require_unpacked(path.stat().st_size, unpacked, str(path), labels=labels)
    stated = None if labels else _display_limits(header, dtype, path)
    return attrs.evolve(_describe_nifti(path, image, shape, dtype), stated_range=stated)


def _display_limits(header: Any, dtype: np.dtype[Any], path: Path) -> StatedRange | None:
    """Return the values of black and white that the header states for display, if they name a number of bits."""
    low, high = float(header["cal_min"]), float(header["cal_max"])
    return bit_limits(low, high, "cal_min and cal_max", dtype, str(path)) if high > low else None


def _section_axis(header: Any, shape: tuple[int, ...], path: Path) -> int:
    """Return the axis of the sections: the slices of the header, else by the lengths."""
    if 1 not in shape:
        stated = header.get_dim_info()[2]
        if stated is not None:
            if stated != 2:
                log.info(
                    "%s states that its slices lie along axis %d; they are the sections.", path, stated + 1
                )
            return int(stated)
    return section_axis(shape, 2, str(path))


def _describe_nifti(path: Path, image: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> OpenedImage:
    """Describe an open file as one level."""
    lengths = (*shape[:3], 1)[:3]
    z_axis = _section_axis(image.header, lengths, path) if len(shape) > 2 else 2
    x_axis, y_axis = (axis for axis in range(3) if axis != z_axis)
    depth, height, width = lengths[z_axis], lengths[y_axis], lengths[x_axis]
    packed = path.name.lower().endswith(".gz")
    nbytes = int(np.prod(shape)) * dtype.itemsize if packed else 0
    held: Decoded[NDArray[Any]] = Decoded(nbytes)
    rest = (0,) * (len(shape) - 3)

    def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        source = held.get(0, lambda: np.asarray(image.dataobj), nbytes) if packed else image.dataobj
        window = {x_axis: slice(x0, x1), y_axis: slice(y0, y1), z_axis: z}
        key: Any = (*(window[axis] for axis in range(min(3, len(shape)))), *rest)
        return np.asarray(source[key]).T

    size, start = _placement(image.header, image.affine, len(shape))
    size, start = (_in_order(triple, (z_axis, y_axis, x_axis)) for triple in (size, start))
    return OpenedImage(
        kind="nifti",
        levels=(Level((depth, height, width), (height, width), read, size, start),),
        channels=1,
        dtype=dtype,
        axes="zyx" if len(shape) > 2 else "yx",
        is_volume=depth > 1,
        format_version=str(image.header["magic"].item().rstrip(b"\0").decode("ascii", "replace")),
        resident_bytes=nbytes,
        files=(path,),
        details={"shape_xyz": list(shape), "gzipped": packed},
    )


def _in_order(zyx: Triple, axes: tuple[int, int, int]) -> Triple:
    """Return values of the file's third, second and first axis as those of the axes of z, y and x."""
    z, y, x = (zyx[2 - axis] for axis in axes)
    return z, y, x


def _placement(header: Any, affine: Any, ndim: int) -> tuple[Triple, Triple]:
    """Return voxel size and translation, (z, y, x) in micrometres; unknown without a unit of length."""
    factor = {"meter": 1e6, "mm": 1e3, "micron": MICROMETRES["micron"]}.get(header.get_xyzt_units()[0])
    if factor is None:
        return UNKNOWN, UNKNOWN
    sizes = [float(value) * factor for value in header.get_zooms()[:3]]
    sizes += [0.0] * (3 - len(sizes))
    x, y, z = (size if size > 0 else None for size in sizes)
    if ndim < 3:
        z = None
    matrix = np.asarray(affine)
    if np.count_nonzero(np.abs(matrix[:3, :3]) > 1e-6) != 3 or np.any(np.diag(matrix[:3, :3]) == 0):
        log.info("the NIfTI volume is rotated against its axes; its position in space is not carried over")
        return (z, y, x), UNKNOWN
    tx, ty, tz = (float(value) * factor for value in matrix[:3, 3])
    return (z, y, x), (tz, ty, tx)
