"""Windows of the pages of a TIFF file, assembled from the tiles or strips under them.

tifffile decodes single segments; this module selects and caches them. The file is opened for each segment and no
handle is kept: thousands of sections can be described at once, and any number of threads read without a lock. Of
uncompressed pages in one piece only the rows are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import tifffile
from numpy.typing import NDArray

from bigrestore.core.regular import open_regular
from bigrestore.errors import InputError
from bigrestore.io.access.places import InputPath, open_bytes
from bigrestore.io.access.versions import file_version
from bigrestore.io.decoded import Decoded


@attrs.frozen(eq=False)
class Page:
    """One page: the positions of its segments in the file, and their decoder.

    Attributes
    ----------
    keyframe : tifffile.TiffPage
        Decodes segments; pages of one series share it.
    offsets, counts : tuple of int
        Position and length of each segment in the file, in bytes; length 0 is an omitted segment.
    mapped : int or None
        Offset of the pixels of an uncompressed page in one piece.
    path : Path or RemoteFile
        The file it lies in.
    version : str, optional
        Version of that file when the page was found, if it is another file of a set.
    """

    keyframe: tifffile.TiffPage
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    mapped: int | None
    path: InputPath
    version: str | None = None


@attrs.frozen(eq=False)
class Plane:
    """How to read pages of one size, in one file or a set: segments, photometric sense, channels.

    Attributes
    ----------
    path : Path or RemoteFile
        The file that was named.
    pages : tuple of tuple of Page
        Pages by z and, if colours are pages of their own, by channel.
    shape : tuple of int
        (y, x) of a page.
    segment : tuple of int
        (y, x) of a tile or strip.
    samples : int
        Values per pixel in a page.
    planar : bool
        Whether the samples of a page are stored in planes one after another.
    channels : int
        1 or 3, as presented.
    dtype : numpy.dtype
        As stored, byte order included.
    inverted : int or None
        If 0 means white, the value that means black: 2^n - 1 of n bits.
    cache : Decoded
        Segments decoded last.
    palette : ndarray, (entries, channels), optional
        Colours, where pixels are their numbers.
    sample : int, optional
        The sample of a pixel, or colour of the palette, that is read alone.
    """

    path: InputPath
    pages: tuple[tuple[Page, ...], ...]
    shape: tuple[int, int]
    segment: tuple[int, int]
    samples: int
    planar: bool
    channels: int
    dtype: np.dtype[Any]
    inverted: int | None
    cache: Decoded[NDArray[Any]]
    palette: NDArray[np.uint8] | None = None
    sample: int | None = None

    def read(self, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Read a window of one section as (h, w) or (h, w, 3)."""
        window = (y0, y1, x0, x1)
        for page in self.pages[z]:
            if page.version is not None and file_version(page.path) != page.version:
                raise InputError(
                    f"{page.path} was written to since {self.path}, of the same set, was opened; start again when it is "
                    "whole."
                )
        parts = [self._read_page(page, window) for page in self.pages[z]]
        pixels = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        if self.palette is not None:
            pixels = self.palette[pixels[..., 0]]
        if self.sample is not None and not (self.planar and self.palette is None and pixels.shape[-1] == 1):
            pixels = pixels[..., self.sample : self.sample + 1]
        pixels = pixels[..., : self.channels]
        if self.inverted is not None:
            pixels = pixels ^ pixels.dtype.type(self.inverted)  # the same as inverted - pixels
        return pixels[..., 0] if self.channels == 1 else pixels

    @property
    def files(self) -> tuple[InputPath, ...]:
        """The files of the pages, the one that was named first."""
        return tuple(dict.fromkeys([self.path, *(page.path for pages in self.pages for page in pages)]))

    def version(self, z: int, *_: int, fresh: bool = False) -> list[str]:
        """Return the versions of the files under a window: of the named one, and of those of the section."""
        places = dict.fromkeys([self.path, *(page.path for page in self.pages[z])])
        return [file_version(place, fresh=fresh) for place in places]

    def _read_page(self, page: Page, window: tuple[int, int, int, int]) -> NDArray[Any]:
        """Read a window of a page as (h, w, samples)."""
        if page.mapped is not None and isinstance(page.path, Path):
            return self._read_rows(page.path, page.mapped, window)
        if not self.planar:
            return self._read_segments(page, window, 0)
        wanted = range(min(self.samples, self.channels)) if self.sample is None else [self.sample]
        planes = [self._read_segments(page, window, plane) for plane in wanted]
        return np.concatenate(planes, axis=-1)

    def _read_rows(self, path: Path, start: int, window: tuple[int, int, int, int]) -> NDArray[Any]:
        """Read a window of a page in one piece, as (h, w, samples), row by row.

        A memory map is avoided: it kills the process if the file is shortened.
        """
        y0, y1, x0, x1 = window
        planes, depth = (self.samples, 1) if self.planar else (1, self.samples)
        pixels = np.empty((planes, y1 - y0, x1 - x0, depth), self.dtype)
        width = depth * self.dtype.itemsize
        with open_regular(path) as buffered:
            file: Any = buffered.raw  # a row is read as it is, with nothing beside it
            for plane in range(planes):
                for row in range(y0, y1):
                    file.seek(start + ((plane * self.shape[0] + row) * self.shape[1] + x0) * width)
                    if file.readinto(pixels[plane, row - y0].view(np.uint8).data) != (x1 - x0) * width:
                        raise InputError(f"{path} ends inside row {row}; it was cut off, so copy it again.")
        native = pixels.astype(self.dtype.newbyteorder("="), copy=False)
        return np.moveaxis(native[..., 0], 0, -1) if self.planar else native[0]

    def _read_segments(self, page: Page, window: tuple[int, int, int, int], plane: int) -> NDArray[Any]:
        """Put a window together from the tiles or strips under it."""
        y0, y1, x0, x1 = window
        step_y, step_x = self.segment
        across, down = -(-self.shape[1] // step_x), -(-self.shape[0] // step_y)
        depth = 1 if self.planar else self.samples
        pixels = np.empty((y1 - y0, x1 - x0, depth), self.dtype.newbyteorder("="))
        for row in range(y0 // step_y, -(-y1 // step_y)):
            for column in range(x0 // step_x, -(-x1 // step_x)):
                segment = self._segment(page, (plane * down + row) * across + column)
                top, left = row * step_y, column * step_x
                a, b, c, d = max(y0, top), min(y1, top + step_y), max(x0, left), min(x1, left + step_x)
                pixels[a - y0 : b - y0, c - x0 : d - x0] = segment[a - top : b - top, c - left : d - left]
        return pixels

    def _segment(self, page: Page, index: int) -> NDArray[Any]:
        """Return a decoded tile or strip as (h, w, samples), cached if possible."""
        depth = 1 if self.planar else self.samples
        cost = self.segment[0] * self.segment[1] * depth * self.dtype.itemsize
        key = (page.path, page.offsets[index]) if page.offsets[index] else (id(page), index)
        return self.cache.get(key, lambda: self._decode(page, index), cost)

    def _decode(self, page: Page, index: int) -> NDArray[Any]:
        """Read and decode one segment."""
        depth = 1 if self.planar else self.samples
        count = page.counts[index]
        if count == 0:
            fill = page.keyframe.nodata
            return np.full((*self.segment, depth), fill, self.dtype.newbyteorder("="))
        with open_bytes(page.path) as file:
            file.seek(page.offsets[index])
            encoded = file.read(count)
        if len(encoded) < count:
            raise InputError(f"{page.path} ends inside segment {index}; it was cut off, so copy it again.")
        keyframe = page.keyframe
        options: dict[str, Any] = {"_fullsize": keyframe.is_tiled}
        if keyframe.jpegtables is not None or keyframe.compression == 7:
            options["jpegtables"] = keyframe.jpegtables
        if keyframe.jpegheader is not None:  # of NDPI, whose tiles lie in one large JPEG stream
            options["jpegheader"] = keyframe.jpegheader
        decoded: NDArray[Any] | None
        decoded, _, _ = keyframe.decode(encoded, index, **options)
        if decoded is None:
            raise InputError(f"segment {index} of {page.path} decodes to nothing; copy the file again.")
        segment: NDArray[Any] = decoded[0]
        return segment
