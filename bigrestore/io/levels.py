"""The levels of an opened image, read window by window, and its facts.

A format is a function that returns an `OpenedImage`. All formats present their pixels in the same way, one section
`z` at a time as (y, x) or (y, x, 3): the rest of the program does not know the kind of file. A `Level` reads no
more than the window needs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.errors import InputError, UsageError
from bigrestore.io.access.limits import require_claim
from bigrestore.io.access.places import InputPath
from bigrestore.io.conventions.stated_range import StatedRange

log = logging.getLogger(__name__)

ImageKind = Literal["ome-zarr", "zarr", "tiff", "image", "minc", "nifti", "precomputed", "bioio", "stack"]
"""The kinds of input, as `info` prints them."""

WindowReader = Callable[[int, int, int, int, int], NDArray[Any]]
"""`read(z, y0, y1, x0, x1)` gives (h, w) or (h, w, 3) in the storage dtype, thread-safe."""

Versions = Callable[..., list[str]]
"""`version(z, y0, y1, x0, x1, fresh=...)` gives the versions of the files under a window (`io.versions`)."""

Triple = tuple[float | None, float | None, float | None]
"""One number per axis (z, y, x); None if unknown."""

UNKNOWN: Triple = (None, None, None)

_FLOAT = "convert it to float32"
_FLOAT_AND_RANGE = "convert it to float32, and give black and white by --input-range LO HI"
_REMEDIES = {
    "float64": _FLOAT,
    "float16": _FLOAT,
    "complex64": "take its magnitude as float32",
    "complex128": "take its magnitude as float32",
    "bool": "a mask cannot be restored; convert it to uint8 if it is an image",
    **dict.fromkeys(("int8", "int16", "int32", "int64", "uint32", "uint64"), _FLOAT_AND_RANGE),
}


@attrs.frozen
class Wanted:
    """What is read of a file.

    Attributes
    ----------
    labels : bool
        Whether it is a mask, which may be of bool or any integer type.
    series : int, optional
        The image of several, by its number; None: the largest.
    channel : int, optional
        The channel of several, from 0; None: the only one, or red, green and blue.
    """

    labels: bool = False
    series: int | None = None
    channel: int | None = None

    def require_channel(self, count: int, source: str, names: Sequence[str] = ()) -> int:
        """Return the channel asked for, of `count`.

        Raises
        ------
        UsageError
            If there is no such channel.
        """
        assert self.channel is not None
        if self.channel >= count:
            channels = "a single channel" if count == 1 else f"{count} channels"
            known = [name for name in names if name]
            named = f" ({', '.join(known[:8])})" if known else ""
            numbers = "leave it out" if count == 1 else f"choose one from 0 to {count - 1}"
            raise UsageError(f"--channel is {self.channel}, but {source} has {channels}{named}; {numbers}.")
        return self.channel


@attrs.frozen(eq=False)
class Level:
    """One level of a pyramid, or the only one.

    Attributes
    ----------
    shape : tuple of int
        (z, y, x) in pixels.
    chunk : tuple of int
        (y, x) of the unit of decoding; reading windows on this lattice is cheapest.
    read : callable
        `read(z, y0, y1, x0, x1)`; the caller has checked that the window lies inside `shape`.
    voxel_size_um, translation_um : tuple of float or None
        Per axis (z, y, x) in micrometres; the translation is the first voxel's centre.
    version : callable, optional
        Gives the versions of the files under a window; None: the versions of all files of the image are used.
    file_name : callable, optional
        Names the file of section z for messages; None: the image is one file or store.
    """

    shape: tuple[int, int, int]
    chunk: tuple[int, int]
    read: WindowReader
    voxel_size_um: Triple = UNKNOWN
    translation_um: Triple = UNKNOWN
    version: Versions | None = None
    file_name: Callable[[int], str] | None = None


@attrs.frozen(eq=False)
class OpenedImage:
    """All facts of an opened input.

    Attributes
    ----------
    kind : str
        Its reader.
    levels : tuple of Level
        Finest first; at least one.
    channels : int
        1, or 3 for RGB.
    dtype : numpy.dtype
        uint8, uint16 or float32, native byte order.
    axes : str
        The axes as the file states them, slowest first, such as "tczyx".
    is_volume : bool
        Whether the input has a z axis, to be kept in the output.
    format_version : str or None
        Version of the format, such as "0.4", if it has one.
    resident_bytes : int
        Memory held by the reader of a format decoded whole or in large strips.
    files : tuple of Path or RemoteFile
        The files that identify the input by size and time (metadata files only, for chunked stores).
    details : dict
        JSON-able facts for `info` and the log.
    stated_range : StatedRange, optional
        Black and white as the file states them; None: those of the dtype.
    """

    kind: ImageKind
    levels: tuple[Level, ...]
    channels: int
    dtype: np.dtype[Any]
    axes: str
    is_volume: bool
    format_version: str | None = None
    resident_bytes: int = 0
    files: tuple[InputPath, ...] = ()
    details: dict[str, Any] = attrs.field(factory=dict)
    stated_range: StatedRange | None = None


def one_channel(image: OpenedImage, wanted: Wanted, source: str) -> OpenedImage:
    """Return an image with the channel asked for alone; unchanged where none is.

    Raises
    ------
    UsageError
        If there is no such channel.
    """
    if wanted.channel is None:
        return image
    channel = wanted.require_channel(image.channels, source)
    if image.channels == 1:
        return image

    def only(read: WindowReader) -> WindowReader:
        return lambda *window: read(*window)[..., channel]

    levels = tuple(attrs.evolve(level, read=only(level.read)) for level in image.levels)
    return attrs.evolve(image, levels=levels, channels=1)


def accepted_dtype(dtype: Any, source: str, *, labels: bool = False, command: str = "") -> np.dtype[Any]:
    """Return the native form of uint8, uint16 or float32, and refuse everything else.

    Parameters
    ----------
    dtype : dtype-like
        As stored.
    source : str
        Its source, for the message.
    labels : bool
        Whether it is a mask: only bool and integers of any size are accepted then.
    command : str
        What converts the file to float32, for the message.

    Raises
    ------
    InputError
        For any other dtype, naming the helpful conversion.
    """
    native: np.dtype[Any] = np.dtype(dtype)
    if native.kind in "biufc":  # other kinds have no byte order of their own
        native = native.newbyteorder("=")
    if labels:
        if native.kind in "biu":
            return native
        raise InputError(
            f"the mask {source} holds {native.name} values, but a mask is read as bool or integers: convert it "
            "to uint8."
        )
    if native in (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32)):
        return native
    remedy = _REMEDIES.get(native.name, "convert it to uint8, uint16 or float32")
    by = f" ({command})" if command and remedy.startswith(_FLOAT) else ""
    name = native.name if native.names is None else f"structured ({', '.join(native.names)})"
    raise InputError(
        f"{source} holds {name} pixels, but only uint8, uint16 and float32 are read: {remedy}{by}."
    )


def require_pixels(shape: tuple[int, ...], source: str) -> None:
    """Refuse an array without pixels, or with more than any image has."""
    if any(n < 1 for n in shape):
        raise InputError(f"{source} has no pixels (shape {tuple(shape)}); give an image that has some.")
    require_claim(shape, source)


def level_factor(whole: int, reduced: int) -> float:
    """Return by how much a level is reduced, whole wherever a whole factor explains both sizes.

    Parameters
    ----------
    whole, reduced : int
        Pixels along one axis at level 0 and at the level.

    Notes
    -----
    A small level leaves room for several factors (18 px of 1203 may be 64, 65, 66 or 67); the power of two
    among them is meant, as pyramids go, else the one nearest to the ratio of the sizes.
    """
    ratio = whole / reduced
    fitting = [
        factor
        for factor in range(max(1, int(whole / (reduced + 1))), int(whole / max(1, reduced - 1)) + 2)
        if reduced in (whole // factor, -(-whole // factor))
    ]
    if not fitting:
        return ratio
    return float(min(fitting, key=lambda factor: (factor & (factor - 1) != 0, abs(factor - ratio))))
