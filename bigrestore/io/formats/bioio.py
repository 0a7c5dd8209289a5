"""Read what no reader here does through bioio, where it and one of its readers for the file are installed.

bioio presents any microscope's file as scenes with the axes T, C, Z, Y, X, and S for samples of colour, as a lazy
dask array; a scene is an image of several, a resolution level a level.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrestore.core.urls import error_line
from bigrestore.errors import InputError, UsageError
from bigrestore.io.levels import UNKNOWN, Level, OpenedImage, Triple, Wanted, accepted_dtype, require_pixels
from bigrestore.settings.values import is_number

log = logging.getLogger(__name__)

NO_READER = "UnsupportedFileFormatError"
"""What bioio raises where no installed reader takes a file."""


def open_by_bioio(path: Path, wanted: Wanted) -> OpenedImage | None:
    """Open a file by bioio; None where bioio, or a reader for the file, is not installed.

    Raises
    ------
    InputError
        If its reader fails, or its type or axes are not read.
    UsageError
        If the scene or channel asked for is not there.
    """
    if find_spec("bioio") is None:
        return None
    import bioio

    try:
        image = bioio.BioImage(path)
        scenes = list(image.scenes)
    except Exception as err:
        if type(err).__name__ == NO_READER:
            log.debug("No reader of bioio takes %s.", path, exc_info=True)
            return None
        raise InputError(f"{path} cannot be read by bioio ({error_line(err)}); check the file.") from err
    number = wanted.series or 0
    if number >= len(scenes):
        raise UsageError(
            f"--series is {number}, but {path} holds {len(scenes)} image(s), numbered from 0; choose one of them."
        )
    try:
        image.set_scene(scenes[number])
        return _describe(path, image, wanted, scenes)
    except (InputError, UsageError):
        raise
    except Exception as err:
        raise InputError(f"{path} cannot be read by bioio ({error_line(err)}); check the file.") from err


def _describe(path: Path, image: Any, wanted: Wanted, scenes: list[Any]) -> OpenedImage:
    """Describe the chosen scene of a file."""
    axes, source = str(image.dims.order).upper(), str(path)
    size = dict(zip(axes, image.dask_data.shape, strict=True))
    dtype = accepted_dtype(image.dask_data.dtype, source, labels=wanted.labels)
    if not {"Y", "X"} <= set(axes) <= set("TCZYXS"):
        raise InputError(
            f"{source} has the axes {axes}, which are not understood; store it as an OME-TIFF of z, y and x."
        )
    if size.get("T", 1) != 1:
        raise InputError(
            f"{source} has {size['T']} time points; store the one to restore as an image of its own."
        )
    names = [str(name) for name in (getattr(image, "channel_names", None) or ())]
    letter = "S" if size.get("S", 1) > 1 else "C"
    count = size.get(letter, 1)
    rgb = wanted.channel is None and letter == "S" and count in (3, 4) and dtype.kind == "u"
    channel = 0 if wanted.channel is None else wanted.require_channel(count, source, names)
    if wanted.channel is None and count != 1 and not rgb:
        named = f" ({', '.join(names[:8])})" if names else ""
        raise InputError(
            f"{source} has {count} channels{named}; one is restored: choose one by --channel, from 0 to {count - 1}."
        )
    levels = [
        _resolution_level(image, number, letter, slice(0, 3) if rgb else channel)
        for number in (getattr(image, "resolution_levels", None) or (0,))
    ]
    require_pixels(levels[0].shape, source)
    voxel = _physical_size(image)
    return OpenedImage(
        kind="bioio",
        levels=tuple(_with_voxel_size(level, levels[0], voxel) for level in levels),
        channels=3 if rgb else 1,
        dtype=dtype,
        axes=axes.lower().replace("s", "c") if "C" not in axes or letter == "C" else "tzyxc",
        is_volume=levels[0].shape[0] > 1,
        format_version=None,
        files=(path,),
        details={
            "reader": type(getattr(image, "reader", image)).__module__,
            "voxel_size_from": "physical pixel sizes of bioio" if any(voxel) else "not known",
        }
        | ({"scenes": [str(scene) for scene in scenes]} if len(scenes) > 1 else {})
        | ({"channel_names": names} if len(names) > 1 else {}),
    )


def _resolution_level(image: Any, number: int, letter: str, chosen: int | slice) -> Level:
    """Return a resolution level of the scene, without its place."""
    if len(getattr(image, "resolution_levels", None) or (0,)) > 1:
        image.set_resolution_level(number)
    data, axes = image.dask_data, str(image.dims.order).upper()
    size = dict(zip(axes, data.shape, strict=True))
    sides = dict(zip(axes, data.chunksize, strict=True))

    def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        window: dict[str, Any] = {"Z": z, "Y": slice(y0, y1), "X": slice(x0, x1), letter: chosen}
        pixels = np.asarray(
            data[tuple(window.get(axis, 0) for axis in axes)].compute(scheduler="synchronous")
        )
        kept = [axis for axis in axes if axis in "YX" or (axis == letter and isinstance(chosen, slice))]
        return pixels.transpose([kept.index(axis) for axis in ("Y", "X", letter)[: len(kept)]])

    shape = (size.get("Z", 1), size["Y"], size["X"])
    return Level(shape, (sides["Y"], sides["X"]), read)


def _with_voxel_size(level: Level, finest: Level, voxel: Triple) -> Level:
    """Return a level with its voxel size: that of the finest times the reduction."""
    sizes = [
        None if size is None else size * whole / reduced
        for size, whole, reduced in zip(voxel, finest.shape, level.shape, strict=True)
    ]
    return Level(level.shape, level.chunk, level.read, (sizes[0], sizes[1], sizes[2]), UNKNOWN)


def _physical_size(image: Any) -> Triple:
    """Return the voxel size in micrometres, as bioio states it; None where it does not."""
    stated = getattr(image, "physical_pixel_sizes", None)
    values = [getattr(stated, axis, None) for axis in "ZYX"]
    z, y, x = (
        float(value) if value is not None and is_number(value) and value > 0 else None for value in values
    )
    return z, y, x
