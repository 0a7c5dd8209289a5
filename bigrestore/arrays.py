"""Restoring arrays: NumPy, dask and xarray in, the same kind out.

A run reads and writes files, and claims, retries and scores by them. So an array goes through a temporary store: it is
written block by block, restored as any file, and read back; the pixels are those of the same run on a file, and memory
is that of a run. A dask array is restored at once, too: its profile needs windows of the whole section. What comes back
reads from the store lazily, and the store is removed with the last array that reads from it.

dask and xarray are looked up among the imported modules: who has an array of theirs has imported them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import zarr
from numpy.typing import NDArray

from bigrestore.core.geometry import round_up
from bigrestore.core.host.signals import WARNINGS, handled
from bigrestore.errors import (
    BigrestoreError,
    BlocksFailedError,
    DiskFullError,
    InputError,
    OutputError,
    StoppedError,
    UsageError,
)
from bigrestore.io.lazy import ArrayView
from bigrestore.io.levels import accepted_dtype, require_pixels
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section
from bigrestore.io.store.store_spec import MAPS_GROUP
from bigrestore.model.method import Method
from bigrestore.results import AnyArray, Observer, Restored, RestoreSummary
from bigrestore.run.output.remote import execute_to
from bigrestore.run.sinks import Sink
from bigrestore.run.stop import listen
from bigrestore.settings import RunSettings

log = logging.getLogger(__name__)

BAND_BYTES = 64 << 20
"""Bytes of an array that are copied at once; of a dask array it is one of its blocks."""

COPIED_PX = 1024
"""Side of a chunk of the temporary store."""

MOST_CHANNELS = 4
"""A last axis this short, behind two longer ones, is taken for channels."""

CHANNEL_DIMS = ("c", "channel", "band", "rgb")
"""Names of xarray's dimensions for colour."""

SUBJECT = "The array"
NOTHING_RESTORED = "nothing of the array is restored"


@attrs.frozen(eq=False)
class ImageArray:
    """An array taken for an image.

    Attributes
    ----------
    pixels : numpy.ndarray or dask.array.Array
        (y, x), (z, y, x) or (y, x, 3).
    axes : str
        "yx", "zyx" or "yxc".
    stored : numpy.dtype
        In which it is restored: uint8, uint16 or float32.
    labelled : xarray.DataArray or None
        Where it came from.
    """

    pixels: Any
    axes: str
    stored: np.dtype[Any]
    labelled: Any = None

    @classmethod
    def of(cls, array: Any) -> ImageArray:
        """Take an array for an image.

        Raises
        ------
        UsageError
            Where its type, shape, dtype or dims are none of an image.
        """
        labelled = array if _is_of(array, "xarray", "DataArray") else None
        pixels = array if labelled is None else labelled.data
        if not isinstance(pixels, np.ndarray) and not _is_dask(pixels):
            raise UsageError(
                f"{SUBJECT} holds its pixels in a {type(pixels).__name__}; give a NumPy, dask or xarray array."
            )
        kind = getattr(pixels, "_meta", pixels)
        if isinstance(kind, np.ma.MaskedArray) or not isinstance(kind, np.ndarray):
            raise UsageError(
                f"{SUBJECT} is made of {type(kind).__name__}, which is more than pixels; give a plain array, as by filled()."
            )
        axes = _axes_of(tuple(pixels.shape), pixels.dtype, None if labelled is None else tuple(labelled.dims))
        return cls(pixels, axes, _stored_dtype(pixels.dtype), labelled)

    @property
    def lazy(self) -> bool:
        """Whether a dask array holds the pixels."""
        return not isinstance(self.pixels, np.ndarray)

    def blocks(self) -> Iterator[tuple[tuple[slice, ...], NDArray[Any]]]:
        """Yield places and pixels, one block of dask or some rows at a time."""
        if self.lazy:
            from dask.array.core import slices_from_chunks

            places = slices_from_chunks(self.pixels.chunks)  # type: ignore[no-untyped-call]
            for place, index in zip(places, np.ndindex(self.pixels.numblocks), strict=True):
                yield place, np.asarray(self.pixels.blocks[index].compute())
            return
        rows = BAND_BYTES // self.pixels[:1].nbytes
        rows = max(1, rows) if self.axes[0] == "z" else round_up(max(1, rows), COPIED_PX)
        for first in range(0, len(self.pixels), rows):
            yield (slice(first, first + rows),), self.pixels[first : first + rows]

    def write(self, path: Path) -> None:
        """Write the pixels as a bare Zarr array.

        Raises
        ------
        InputError
            Where a pixel is not finite.
        OSError
            Where the disk is full.
        StoppedError, KeyboardInterrupt
            After a signal.
        """
        sides = {"z": 1, "y": COPIED_PX, "x": COPIED_PX, "c": 3}
        chunks = [min(sides[axis], n) for axis, n in zip(self.axes, self.pixels.shape, strict=True)]
        with listen() as flag:  # an interrupted write would go on in threads of zarr
            store = zarr.create_array(
                path,
                shape=self.pixels.shape,
                dtype=self.stored,
                chunks=tuple(chunks),
                compressors=None,
                dimension_names=list(self.axes),
                config={"write_empty_chunks": True},  # a reader warns of a store without any chunk
            )
        flag.raise_if_set(NOTHING_RESTORED)
        for place, pixels in self.blocks():
            with np.errstate(over="ignore"):  # it is infinite then, and refused
                converted = np.asarray(pixels, self.stored)
            self._require_finite(converted, place)
            with listen() as flag:
                store[place] = converted
            flag.raise_if_set(NOTHING_RESTORED)

    def give_back(self, path: Path, settings: RunSettings, folder: TemporaryFolder, name: str = "") -> Any:
        """Return a restored image, or a map by its name, as an array of the input's kind."""
        section = open_section(path)
        kept = () if "z" in self.axes else (0,)
        dtype = np.dtype(np.float32) if name else self.pixels.dtype
        pixels: Any
        if self.lazy:
            pixels = _lazy_array(path, section, folder)[kept].astype(dtype)
        else:
            pixels = _read_whole(section, dtype)[kept]
        if self.labelled is None:
            return pixels
        dims = [
            dim for dim, axis in zip(self.labelled.dims, self.axes, strict=True) if not name or axis != "c"
        ]
        return type(self.labelled)(
            pixels,
            dims=dims,
            coords=self._coordinates(dims, settings, section),
            name=name or self.labelled.name,
            attrs={} if name else dict(self.labelled.attrs),
        )

    def _require_finite(self, pixels: NDArray[Any], place: tuple[slice, ...]) -> None:
        """Refuse NaN and infinity, naming the first."""
        if pixels.dtype.kind != "f" or np.isfinite(pixels).all():
            return
        bad = np.argwhere(~np.isfinite(pixels))[0]
        starts = [part.start for part in place] + [0] * (pixels.ndim - len(place))
        index = ", ".join(str(int(at) + start) for at, start in zip(bad, starts, strict=True))
        raise InputError(
            f"{SUBJECT} holds {pixels[tuple(bad)]} at [{index}] ({', '.join(self.axes)}); replace it, such as by "
            "numpy.nan_to_num, and start again."
        )

    def _coordinates(self, dims: Sequence[str], settings: RunSettings, section: Section) -> dict[Any, Any]:
        """Return the coordinates of the output: those of its pixels' centres, between the input's where enlarged."""
        region = settings.roi or (None, None, None)
        spans = {"z": region[0] or (0, section.depth), "c": (0, 3)}
        spans |= {"y": region[1] or (0, section.height), "x": region[2] or (0, section.width)}
        axis_of = dict(zip(self.labelled.dims, self.axes, strict=True))
        coordinates: dict[Any, Any] = {}
        for name, coordinate in self.labelled.coords.items():
            values = np.asarray(coordinate.values)
            enlarged = [dim for dim in coordinate.dims if axis_of[dim] in "yx" and settings.scale > 1]
            if not set(coordinate.dims) <= set(dims):
                continue
            if enlarged and not (values.ndim == 1 and values.size > 1 and values.dtype.kind in "iuf"):
                log.info("The coordinate %s cannot be enlarged and is left out.", name)
                continue
            if enlarged:
                first, stop = spans[axis_of[enlarged[0]]]
                values = _between(values, (np.arange(first, stop) + 0.5) / settings.scale - 0.5)
            else:
                values = values[tuple(slice(*spans[axis_of[dim]]) for dim in coordinate.dims)]
            coordinates[name] = (coordinate.dims, values, dict(coordinate.attrs))
        return coordinates


class TemporaryFolder:
    """A folder that is removed when asked, when nothing refers to this object any more, or when Python ends."""

    def __init__(self) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix="bigrestore-"))
        except OSError as error:
            raise OutputError(
                f"An array is restored in a temporary folder, and none can be made ({error.strerror}); name another place "
                "by the environment variable TMPDIR."
            ) from error
        self.remove = weakref.finalize(self, _remove, self.path, os.getpid())


def is_array(value: object) -> bool:
    """Tell an array of NumPy, dask or xarray."""
    return isinstance(value, np.ndarray) or _is_dask(value) or _is_of(value, "xarray", "DataArray")


def restore_array(
    array: AnyArray, settings: RunSettings, *, method: Method | None, sinks: Sequence[Sink]
) -> Restored[AnyArray]:
    """Restore an array through a temporary store.

    Parameters
    ----------
    array : numpy.ndarray, dask.array.Array or xarray.DataArray
        (y, x), (z, y, x) or (y, x, 3).
    settings : RunSettings
        As for a file.
    method : Method, optional
        Used instead of the settings' own.
    sinks : sequence of Sink
        Followers of the run.

    Raises
    ------
    BigrestoreError
        Of the kind of what is wrong, about the array.
    """
    image, seen = ImageArray.of(array), Observer()
    folder = TemporaryFolder()
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(folder.remove)
        source, output = folder.path / "array.zarr", folder.path / "restored.ome.zarr"
        with handled(WARNINGS, _stop), _about_the_array(source, folder.path):
            image.write(source)
            summary = execute_to(source, output, settings, method=method, sinks=[*sinks, seen])
            if summary.failed:
                raise _blocks_failed(summary.failed)
            shutil.rmtree(source)
            places = {"": output} | {name: output / MAPS_GROUP / name for name in summary.maps}
            arrays = {name: image.give_back(path, settings, folder, name) for name, path in places.items()}
            shown = RestoreSummary.of(summary, seen)
        if image.lazy:
            cleanup.pop_all()  # the arrays hold the folder
    shown = attrs.evolve(shown, output=Path("array"), report=attrs.evolve(shown.report, folder=""))
    return Restored(arrays.pop(""), arrays, shown)


@contextlib.contextmanager
def _about_the_array(source: Path, folder: Path) -> Iterator[None]:
    """Let errors speak of the array, and not of its temporary files."""
    try:
        yield
    except StoppedError as error:
        error.args = (f"{str(error).split(';')[0].rstrip('.')}; {NOTHING_RESTORED}.",)
        raise
    except KeyboardInterrupt:
        raise KeyboardInterrupt(NOTHING_RESTORED) from None
    except (BigrestoreError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"An array is restored in a temporary folder, and the disk of {folder} has no space left; name a folder "
                "on a larger one by the environment variable TMPDIR, or restore from file to file."
            ) from error
        if isinstance(error, BigrestoreError):
            error.args = (_in_python(str(error).replace(str(source), SUBJECT)),)
        raise


def _in_python(sentence: str) -> str:
    """Return a sentence with flags as keywords of Python."""
    sentence = re.sub(r"--(input-range) (LO|[-\d.e+]*\d) (HI|[-\d.e+]*\d)", r"--\1=(\2, \3)", sentence)
    sentence = re.sub(r"--(input-range) full", r'--\1="full"', sentence)
    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", lambda match: match[1].replace("-", "_"), sentence)


def _blocks_failed(failed: Mapping[str, str]) -> BlocksFailedError:
    name, reason = next(iter(failed.items()))
    return BlocksFailedError(
        f"{len(failed)} block(s) of the array failed, first {name} ({reason}); correct the cause and start again."
    )


def _stop(number: int, _: object) -> None:
    raise StoppedError(f"The run was stopped by {signal.Signals(number).name}.")


def _is_of(value: object, module: str, name: str) -> bool:
    """Tell an object of a class of a module that may not be installed."""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _is_dask(value: object) -> bool:
    return _is_of(value, "dask.array", "Array")


def _axes_of(shape: tuple[int, ...], dtype: np.dtype[Any], dims: tuple[Any, ...] | None) -> str:
    """Return the axes of an array by its dims, else by its shape.

    Raises
    ------
    UsageError
        Where they are none of an image.
    """
    if any(math.isnan(n) for n in shape):
        raise UsageError(
            f"{SUBJECT} has a shape that dask does not know; call its compute_chunk_sizes() first."
        )
    if len(shape) not in (2, 3):
        remedy = (
            "give one section at a time, such as array[0]" if len(shape) > 3 else "give two axes at least"
        )
        raise UsageError(
            f"{SUBJECT} has the shape {shape}, and (y, x), (z, y, x) or (y, x, 3) of colour is restored; {remedy}."
        )
    try:
        require_pixels(shape, SUBJECT)
    except InputError as error:
        raise UsageError(str(error)) from error
    named = "" if dims is None else _named_axes(dims)
    axes = named or ("yx" if len(shape) == 2 else "zyx")
    channels = shape[-1]
    if named in ("yx", "zyx") or len(shape) == 2:
        return axes
    if axes == "zyx" and (channels > MOST_CHANNELS or min(shape[:2]) <= MOST_CHANNELS):
        return axes
    if channels == 3 and dtype.kind == "u":
        return "yxc"
    remedy = (
        "colour is restored in uint8 or uint16, so convert it, such as by skimage.util.img_as_ubyte"
        if channels == 3
        else "give colour without its alpha, array[..., :3]"
        if channels == 4
        else "give one of its channels, such as array[..., 0]"
    )
    raise UsageError(
        f"{SUBJECT} has the shape {shape} in {dtype.name}, which is {channels} channel(s); {remedy}."
    )


def _named_axes(dims: tuple[Any, ...]) -> str:
    """Return the axes that dims name; "" where any is unknown."""
    known = {"z": "z", "y": "y", "x": "x"} | dict.fromkeys(CHANNEL_DIMS, "c")
    axes = "".join(known.get(str(dim).lower(), "?") for dim in dims)
    if "?" in axes or axes in ("yx", "zyx", "yxc"):
        return "" if "?" in axes else axes
    order = [dim for axis in "zyxc" for dim, of in zip(dims, axes, strict=True) if of == axis]
    if sorted(axes) not in (sorted("yx"), sorted("zyx"), sorted("yxc")):
        raise UsageError(
            f"{SUBJECT} has the dims {dims}, and (y, x), (z, y, x) or (y, x, c) is restored; give it one section or channel "
            "at a time, such as by isel."
        )
    raise UsageError(
        f"{SUBJECT} has the dims {dims}; bring them into order by array.transpose({', '.join(map(repr, order))})."
    )


def _stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which pixels are restored: float32 for every float, as the network computes.

    Raises
    ------
    UsageError
        For any type but uint8, uint16 and floats.
    """
    if dtype.kind == "f":
        if dtype.itemsize > 4:
            log.info("%s is %s, and restored in float32.", SUBJECT, dtype.name)
        return np.dtype(np.float32)
    try:
        return accepted_dtype(dtype, SUBJECT)
    except InputError as error:
        raise UsageError(_in_python(str(error))) from error


def _read_whole(section: Section, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read a section or volume as (z, y, x) or (z, y, x, 3)."""
    shape = section.shape if section.channels == 1 else (*section.shape, section.channels)
    pixels = np.empty(shape, dtype)
    for z in range(section.depth):
        for y0 in range(0, section.height, COPIED_PX):
            y1 = min(y0 + COPIED_PX, section.height)
            pixels[z, y0:y1] = section.read(z, y0, y1, 0, section.width)
    return pixels


class _KeptImage:
    """An image in a temporary folder, which lies there as long as this object does; a copy in a worker does not hold it."""

    def __init__(self, path: Path, folder: TemporaryFolder | None) -> None:
        self._path, self._folder = path, folder
        self._section: Section | None = None

    def read(self, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Read a window, as `Section.read`."""
        if self._section is None:
            self._section = open_section(self._path)
        return self._section.read(z, y0, y1, x0, x1)

    def __reduce__(self) -> tuple[type[_KeptImage], tuple[Path, None]]:
        return _KeptImage, (self._path, None)


def _lazy_array(path: Path, section: Section, folder: TemporaryFolder) -> Any:
    """Return an image as a dask array that holds its temporary folder."""
    import dask.array as da

    view = ArrayView(_KeptImage(path, folder).read, section.shape, section.channels, section.dtype)
    return da.from_array(  # type: ignore[no-untyped-call]
        view,
        chunks=section.data.chunks,
        name=False,
        asarray=False,
        meta=np.empty((0,) * view.ndim, section.dtype),
    )


def _between(values: NDArray[Any], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate values linearly at fractional indices, and go on straight beyond the ends."""
    low = np.clip(np.floor(at).astype(int), 0, len(values) - 2)
    first, second = (values[index].astype(np.float64) for index in (low, low + 1))
    return np.asarray(first + (at - low) * (second - first))


def _remove(folder: Path, process: int) -> None:
    """Remove a temporary folder; a forked process leaves it to its maker."""
    if os.getpid() != process:
        return
    for _ in range(5):  # a thread of a stopped run may still write into it
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
