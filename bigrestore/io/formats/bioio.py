"""Read what no reader here does through bioio, where it and one of its readers for the file are installed.

bioio presents any microscope's file as scenes with the axes T, C, Z, Y, X, and S for samples of colour, as a lazy
dask array; a scene is an image of several, a resolution level a level. Many readers decode a whole plane for every
window, so the last chunks are kept.

Colour of a CZI is another matter. bioio-czi hands samples over as the file has them, blue first, and its lazy array (3.0.1)
repeats the first of them; so such planes are read at once, and turned round.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrestore.core.urls import error_line
from bigrestore.errors import InputError, UsageError
from bigrestore.io.access.limits import require_unpacked
from bigrestore.io.decoded import Decoded
from bigrestore.io.levels import UNKNOWN, Level, OpenedImage, Triple, Wanted, accepted_dtype, require_pixels
from bigrestore.settings.values import is_number

log = logging.getLogger(__name__)

NO_READER = "UnsupportedFileFormatError"
"""What bioio raises where no installed reader takes a file."""

CZI_READER = "bioio_czi"
"""Package of the reader whose colour is blue first."""

CACHE_BYTES = 128 * 2**20
"""Of decoded chunks; a chunk larger than that is kept alone."""


def open_by_bioio(path: Path, wanted: Wanted, reader: str = "") -> OpenedImage | None:
    """Open a file by bioio; None where bioio, or a reader for the file, is not installed.

    Parameters
    ----------
    path, wanted : Path, Wanted
        The file, and what is asked of it.
    reader : str
        The package that reads files that begin like this one; empty where none is known.

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

    logging.getLogger(bioio.__name__).setLevel(logging.CRITICAL)  # its errors are said here, in one sentence
    try:
        image = bioio.BioImage(path)
        scenes = list(image.scenes)
    except Exception as err:
        if type(err).__name__ == NO_READER:
            log.debug("No reader of bioio takes %s.", path, exc_info=True)
            if reader and find_spec(reader.replace("-", "_")) is not None:
                raise InputError(
                    f"{path} cannot be read by {reader}, which reads its kind; it is damaged, so copy it again."
                ) from err
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
    if size.get("S", 1) > 1 and size.get("C", 1) > 1:
        raise InputError(
            f"{source} has {size['C']} channels of {size['S']} colours each; store the one to restore as its own image."
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
    cache: Decoded[NDArray[Any]] = Decoded(CACHE_BYTES)
    levels = [
        _resolution_level(image, number, letter, slice(0, 3) if rgb else channel, cache)
        for number in (getattr(image, "resolution_levels", None) or (0,))
    ]
    piece = (
        max(int(np.prod(level.chunk)) for level in levels) * (count if letter == "S" else 1) * dtype.itemsize
    )
    require_unpacked(path.stat().st_size, piece, source, labels=wanted.labels)
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
        resident_bytes=max(CACHE_BYTES, piece),
        files=(path,),
        details={
            "reader": type(getattr(image, "reader", image)).__module__,
            "voxel_size_from": "physical pixel sizes of bioio" if any(voxel) else "not known",
        }
        | ({"scenes": [str(scene) for scene in scenes]} if len(scenes) > 1 else {})
        | ({"channel_names": names} if len(names) > 1 else {}),
    )


def _resolution_level(
    image: Any, number: int, letter: str, chosen: int | slice, cache: Decoded[NDArray[Any]]
) -> Level:
    """Return a resolution level of the scene, without its place."""
    if len(getattr(image, "resolution_levels", None) or (0,)) > 1:
        image.set_resolution_level(number)
    data, axes = image.dask_data, str(image.dims.order).upper()
    size = dict(zip(axes, data.shape, strict=True))
    rows, columns = (_spans(data.chunks[axes.index(axis)]) for axis in "YX")
    colour = isinstance(chosen, slice)
    blue_first = letter == "S" and type(getattr(image, "reader", None)).__module__.startswith(CZI_READER)

    def decoded(z: int, y: slice, x: slice) -> NDArray[Any]:
        """Return the chosen samples of a chunk, (h, w) or (h, w, 3)."""
        place: dict[str, Any] = {"Z": z, "Y": y, "X": x}
        if blue_first:
            other = {axis: place.get(axis, 0) for axis in axes if axis not in "YXS"}
            plane = np.asarray(image.get_image_data("YXS", **other))[y, x, ::-1]
            return plane[..., chosen]
        place[letter] = chosen
        pixels = np.asarray(data[tuple(place.get(axis, 0) for axis in axes)].compute(scheduler="synchronous"))
        kept = [axis for axis in axes if axis in "YX" or (axis == letter and colour)]
        return pixels.transpose([kept.index(axis) for axis in ("Y", "X", letter)[: len(kept)]])

    def read(z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        pixels = np.empty((y1 - y0, x1 - x0, *((3,) if colour else ())), data.dtype)
        for y, x in itertools.product(_under(rows, y0, y1), _under(columns, x0, x1)):
            nbytes = (y.stop - y.start) * (x.stop - x.start) * (3 if colour else 1) * data.dtype.itemsize
            chunk = cache.get((number, z, y.start, x.start), partial(decoded, z, y, x), nbytes)
            a, b, c, d = max(y0, y.start), min(y1, y.stop), max(x0, x.start), min(x1, x.stop)
            pixels[a - y0 : b - y0, c - x0 : d - x0] = chunk[
                a - y.start : b - y.start, c - x.start : d - x.start
            ]
        return pixels

    shape = (size.get("Z", 1), size["Y"], size["X"])
    return Level(shape, (rows[0].stop, columns[0].stop), read)


def _spans(sides: Sequence[int]) -> list[slice]:
    """Return the places of chunks along an axis, from their sides."""
    stops = list(itertools.accumulate(sides))
    return [slice(stop - side, stop) for stop, side in zip(stops, sides, strict=True)]


def _under(spans: Sequence[slice], start: int, stop: int) -> Iterator[slice]:
    """Yield the chunks that a range of pixels touches."""
    return (span for span in spans if span.start < stop and span.stop > start)


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
