"""Read NIfTI volumes and slices through nibabel (extra `formats`).

An uncompressed file is read window by window. A gzipped one cannot be entered in the middle, so it is decoded once
and held. Stored values are restored as they are: a file with rescaled values has no grey values of the dtype's
range, and is refused. Sections lie along the axis of length 1, or that which the header calls the slices.
"""

from __future__ import annotations

import logging
from pathlib import Path
from shlex import quote
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.errors import InputError
from bigrestore.io.access.limits import require_unpacked
from bigrestore.io.conventions.direction import turned_round
from bigrestore.io.conventions.section_axis import section_axis
from bigrestore.io.conventions.stated_range import StatedRange, bit_limits
from bigrestore.io.decoded import Decoded
from bigrestore.io.formats.resolution import micrometres_per
from bigrestore.io.levels import UNKNOWN, Level, OpenedImage, Triple, accepted_dtype, require_pixels

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
    if header.get_data_dtype().names is not None:
        raise InputError(_colour_sentence(path, header.get_data_dtype().itemsize))
    command = f"nib-convert --out-dtype float32 {quote(str(path))} converted.nii"
    dtype = accepted_dtype(header.get_data_dtype(), str(path), labels=labels, command=command)
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


def _colour_sentence(path: Path, channels: int) -> str:
    """Return why NIfTI's RGB24 and RGBA32 are not read, with the command that converts them."""
    program = (
        "import nibabel, numpy, tifffile; a = numpy.asarray(nibabel.load(r'IN').dataobj).T; "
        f"tifffile.imwrite('colour.tif', a.copy().view('u1').reshape(*a.shape, {channels})[..., :3], photometric='rgb')"
    ).replace("IN", str(path))
    return (
        f"{path} holds colour (NIfTI's {'RGBA32' if channels == 4 else 'RGB24'}), which is read from TIFF, PNG and OME-Zarr "
        f'only; convert it: python -c "{program}".'
    )


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

    size, start, backwards = _placement(image.header, image.affine, len(shape), path)
    order = (z_axis, y_axis, x_axis)
    size, start = (_in_order(triple, order) for triple in (size, start))
    unit = image.header.get_xyzt_units()[0]
    opened = OpenedImage(
        kind="nifti",
        levels=(Level((depth, height, width), (height, width), read, size, start),),
        channels=1,
        dtype=dtype,
        axes="zyx" if len(shape) > 2 else "yx",
        is_volume=depth > 1,
        format_version=str(image.header["magic"].item().rstrip(b"\0").decode("ascii", "replace")),
        resident_bytes=nbytes,
        files=(path,),
        details={
            "shape_xyz": list(shape),
            "gzipped": packed,
            "voxel_size_from": f"not known: the unit is {unit}" if size[2] is None else f"pixdim in {unit}",
        },
    )
    falling = "".join(letter for letter, axis in zip("zyx", order, strict=True) if axis in backwards)
    return turned_round(opened, [falling], str(path))


def _in_order(zyx: Triple, axes: tuple[int, int, int]) -> Triple:
    """Return values of the file's third, second and first axis as those of the axes of z, y and x."""
    z, y, x = (zyx[2 - axis] for axis in axes)
    return z, y, x


def _placement(header: Any, affine: Any, ndim: int, path: Path) -> tuple[Triple, Triple, tuple[int, ...]]:
    """Return voxel size, translation of the first stored voxel, and the file's axes along which positions fall.

    Sizes and translations are those of the file's third, second and first axis in micrometres, unknown without a unit
    of length. A header without a transformation (sform and qform code 0) states no position: nibabel invents one,
    mirrored along x.
    """
    factor = micrometres_per(header.get_xyzt_units()[0], str(path))
    matrix = np.asarray(affine)
    placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    zooms = np.linalg.norm(matrix[:3, :3], axis=0) if placed else (*header.get_zooms()[:3], 0.0)
    x, y, z = (None if factor is None or not zoom > 0 else float(zoom) * factor for zoom in zooms[:3])
    size: Triple = (z if ndim > 2 else None, y, x)
    if not placed:
        return size, UNKNOWN, ()
    steps = np.diag(matrix[:3, :3])
    if np.count_nonzero(np.abs(matrix[:3, :3]) > 1e-6) != 3 or np.any(steps == 0):
        log.warning("%s is rotated against its axes; its position in space is not carried over", path)
        return size, UNKNOWN, ()
    backwards = tuple(axis for axis, step in enumerate(steps) if step < 0)
    if factor is None:
        return size, UNKNOWN, backwards
    tx, ty, tz = (float(value) * factor for value in matrix[:3, 3])
    return size, (tz, ty, tx), backwards
