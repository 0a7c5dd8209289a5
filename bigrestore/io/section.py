"""Open any supported image as a `Section`: lazy pixels, axes, voxel size, value range and origin.

The rest of the program asks a section for windows and never for files. A window comes straight from the backing
array, without a task graph, in the storage dtype; only the touched chunks are decoded. Two promises hold for all
formats: a pixel that is not a number is refused and never replaced, and the value range comes from the dtype, from a
statement of the file or from the user, never from the data.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.geometry import round_up
from bigrestore.core.host.names import name_bytes
from bigrestore.core.urls import error_line
from bigrestore.errors import BigrestoreError, InputError, UsageError
from bigrestore.io.access.places import InputPath
from bigrestore.io.access.versions import (
    STEADY_WAITS_SECONDS,
    UNREADABLE,
    Read,
    Window,
    checksum_of,
    file_version,
    joined,
    recorded_reads,
)
from bigrestore.io.conventions.stated_range import range_of_type
from bigrestore.io.formats.resolution import merged_voxel_size
from bigrestore.io.lazy import ArrayView
from bigrestore.io.levels import ImageKind, Level, OpenedImage, Triple, level_factor
from bigrestore.io.store.reduce import area_thumbnail
from bigrestore.settings.values import FULL, ValueRange

if TYPE_CHECKING:
    import dask.array

log = logging.getLogger(__name__)

SAMPLED_WINDOWS = 9
"""Windows in a fingerprint."""

SAMPLED_PX = 256
"""Their side, in pixels."""


@attrs.frozen(eq=False)
class Section:
    """One image or one stack of sections, readable window by window from several threads at once.

    Attributes
    ----------
    source : str
        The path or pattern it was opened from.
    kind : str
        "ome-zarr", "zarr", "tiff", "image", "minc", "nifti", "precomputed", "bioio" or "stack".
    depth, height, width : int
        Pixels along z, y and x of the chosen level.
    channels : int
        1 (grey) or 3 (RGB).
    dtype : numpy.dtype
        uint8, uint16 or float32, native byte order.
    value_range : tuple of float
        (lo, hi) for 0 and 1: the user's range, else the file's, else the dtype's, 0..1 for float32.
    voxel_size_um : tuple of float or None
        (z, y, x) of the chosen level, in micrometres; None if unknown.
    translation_um : tuple of float or None
        (z, y, x) of the first voxel's centre in micrometres; None if unknown.
    axes : str
        The axes as the file states them.
    is_volume : bool
        Whether the input has a z axis, kept in the output.
    format_version : str or None
        Version of the format ("0.4", "0.5"), if it has one.
    level : int
        The chosen pyramid level.
    levels : tuple of tuple of int
        The (z, y, x) shapes of all levels of the input.
    resident_bytes : int
        Memory held by the reader of a format decoded whole or in wide strips.
    files : tuple of Path or RemoteFile
        Files that identify the input by size and modification time.
    details : dict
        Further JSON-able facts, for `bigrestore info`.
    range_place : str or None
        Where in the file `value_range` is stated; None if it is not the file's.
    """

    source: str
    kind: ImageKind
    depth: int
    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    value_range: tuple[float, float]
    voxel_size_um: Triple
    translation_um: Triple
    axes: str
    is_volume: bool
    format_version: str | None
    level: int
    levels: tuple[tuple[int, int, int], ...]
    resident_bytes: int
    files: tuple[InputPath, ...] = attrs.field(repr=False)
    details: dict[str, Any] = attrs.field(repr=False)
    _pyramid: tuple[Level, ...] = attrs.field(repr=False)
    range_place: str | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(depth, height, width) in pixels."""
        return self.depth, self.height, self.width

    def read(self, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Read one window of one section.

        Parameters
        ----------
        z : int
            Index of the section, 0 <= z < depth.
        y0, y1, x0, x1 : int
            Half-open window in pixels, inside the section and not empty.

        Returns
        -------
        ndarray, (y1 - y0, x1 - x0) or (y1 - y0, x1 - x0, 3)
            Grey or RGB values in the storage dtype, C-contiguous, native byte order.

        Raises
        ------
        UsageError
            If the window does not lie inside the section.
        InputError
            If the file is damaged there, or a float32 pixel is not finite.
        """
        if not (0 <= z < self.depth and 0 <= y0 < y1 <= self.height and 0 <= x0 < x1 <= self.width):
            raise UsageError(
                f"the window z={z}, y={y0}:{y1}, x={x0}:{x1} does not lie inside {self.source}, "
                f"which is {self.depth} x {self.height} x {self.width} (z, y, x)."
            )
        reads = recorded_reads()
        if reads is None:
            return self._pixels(z, y0, y1, x0, x1)
        return self._steady_pixels((z, y0, y1, x0, x1), reads)

    def _steady_pixels(self, window: Window, reads: list[Read]) -> NDArray[Any]:
        """Read and record a window of unchanging files; wait for a file in the middle of a write."""
        # Behind a URL each answer is checked against the first, so no version is asked for beforehand.
        local = all(isinstance(file, Path) for file in self.files)
        for wait in (*STEADY_WAITS_SECONDS, None):
            before = self.version(*window) if local else ""
            pixels, error = None, None
            try:
                pixels = self._pixels(*window)
            except InputError as raised:
                error = raised
            version = before if error is not None and not before else self.version(*window)
            if before in ("", version):
                reads.append(Read(window, version, UNREADABLE if pixels is None else checksum_of(pixels)))
                if pixels is None:
                    assert error is not None
                    raise error
                return pixels
            if wait is not None:
                time.sleep(wait)
        z, y0, y1, x0, x1 = window
        raise InputError(
            f"{self._named(z)} was written to while it was read at z={z}, y={y0}:{y1}, x={x0}:{x1}; start again when it "
            "is whole."
        )

    def version(self, z: int, y0: int, y1: int, x0: int, x1: int, *, fresh: bool = False) -> str:
        """Return the version of the files under a window.

        Parameters
        ----------
        z, y0, y1, x0, x1 : int
            As of `read`.
        fresh : bool
            The version now; else, behind a URL, the version that was read.

        Raises
        ------
        InputError
            If a server cannot be asked.
        """
        level = self._pyramid[self.level]
        if level.version is not None:
            return joined(level.version(z, y0, y1, x0, x1, fresh=fresh))
        return joined(file_version(file, fresh=fresh) for file in self.files)

    def _pixels(self, z: int, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Read a checked window."""
        place = f"{self._named(z)} at z={z}, y={y0}:{y1}, x={x0}:{x1}"
        try:
            raw = self._pyramid[self.level].read(z, y0, y1, x0, x1)
        except BigrestoreError:
            raise
        except Exception as err:
            raise InputError(
                f"{place} cannot be decoded ({error_line(err)}); restore the file from its source."
            ) from err
        pixels = np.ascontiguousarray(raw, dtype=self.dtype)
        if self.dtype.kind == "f":
            _require_finite(pixels, self._named(z), z, y0, x0)
        return pixels

    def _named(self, z: int) -> str:
        """Return the source, and of a volume of files the one that section z lies in."""
        file_name = self._pyramid[self.level].file_name
        return self.source if file_name is None else f"{self.source} ({file_name(z)})"

    @property
    def data(self) -> dask.array.Array:
        """The pixels as a lazy dask array, (z, y, x) or (z, y, x, 3), in the storage dtype."""
        import dask.array as da

        chunk_y, chunk_x = (round_up(1024, n) for n in self._pyramid[self.level].chunk)
        chunks: tuple[int, ...] = (1, min(chunk_y, self.height), min(chunk_x, self.width))
        view = ArrayView(self.read, self.shape, self.channels, self.dtype)
        if self.channels == 3:
            chunks = (*chunks, 3)
        array: dask.array.Array = da.from_array(  # type: ignore[no-untyped-call]
            view, chunks=chunks, name=False, asarray=False, meta=np.empty((0,) * view.ndim, self.dtype)
        )
        return array

    def lowres(self, z: int, max_px: int) -> tuple[NDArray[Any], float]:
        """Return a small picture of one section, in bounded memory.

        The smallest sufficient level of the pyramid is read, and reduced further by an area mean over whole blocks.

        Parameters
        ----------
        z : int
            Index of the section at the level that is read.
        max_px : int
            The longer side is at most this many pixels.

        Returns
        -------
        thumbnail : ndarray, (h, w) or (h, w, 3)
            In the storage dtype, rounded half to even.
        factor : float
            Section pixels per thumbnail pixel; thumbnail pixel u covers factor*u .. factor*(u+1).
        """
        if max_px < 1:
            raise UsageError(f"max_px is {max_px}, but a thumbnail needs at least one pixel.")
        base = self._pyramid[self.level]
        chosen = base
        for level in self._pyramid[self.level + 1 :]:
            if max(level.shape[1:]) >= max_px:
                chosen = level
        if chosen is not base:
            z = min(chosen.shape[0] - 1, int(z / level_factor(base.shape[0], chosen.shape[0])))
        between = level_factor(base.shape[2], chosen.shape[2])
        step = math.ceil(max(chosen.shape[1:]) / max_px)
        window = (
            self
            if chosen is base
            else attrs.evolve(
                self,
                level=self._pyramid.index(chosen),
                depth=chosen.shape[0],
                height=chosen.shape[1],
                width=chosen.shape[2],
            )
        )
        return area_thumbnail(
            window.read, z, window.height, window.width, window.channels, self.dtype, step
        ), between * step

    def fingerprint(self) -> dict[str, Any]:
        """Return JSON-able facts that change with the input.

        Geometry and dtype, size and modification time of the files (of the metadata files for a chunked
        store), and BLAKE2b checksums of windows sampled on a fixed lattice.
        """
        stat = hashlib.blake2b(digest_size=16)
        size = 0
        for file in self.files:
            info = file.stat()
            size += info.st_size
            stat.update(name_bytes(f"{file.name}:{info.st_size}:{info.st_mtime_ns};"))
        return {
            "kind": self.kind,
            "shape": [*self.shape, self.channels],
            "dtype": self.dtype.name,
            "level": self.level,
            "value_range": list(self.value_range),
            "voxel_size_um": list(self.voxel_size_um),
            "translation_um": list(self.translation_um),
            "files": len(self.files),
            "bytes": size,
            "files_blake2b": stat.hexdigest(),
            "windows_blake2b": self._sample_digests(),
        }

    def _sample_digests(self) -> list[str]:
        """Return checksums of windows along a fixed diagonal lattice through the section or volume.

        An unreadable window is listed as such; an error is raised only if none is readable.
        """
        lattice = [self._sampled_window(i) for i in range(SAMPLED_WINDOWS)]
        digests: dict[Window, str] = {}
        for window in dict.fromkeys(lattice):  # of a small section all are one
            try:
                digests[window] = hashlib.blake2b(self.read(*window).tobytes(), digest_size=16).hexdigest()
            except InputError:
                digests[window] = UNREADABLE
                if window == lattice[-1] and set(digests.values()) == {UNREADABLE}:
                    raise
        return [digests[window] for window in lattice]

    def _sampled_window(self, i: int) -> Window:
        """Return a window of the lattice."""
        z = (self.depth - 1) * i // (SAMPLED_WINDOWS - 1)
        y = max(0, self.height - SAMPLED_PX) * (i % 3) // 2
        x = max(0, self.width - SAMPLED_PX) * (i // 3) // 2
        return z, y, min(y + SAMPLED_PX, self.height), x, min(x + SAMPLED_PX, self.width)


def section_of(
    image: OpenedImage,
    source: str,
    level: int = 0,
    voxel_size_um: float | Sequence[float | None] | None = None,
    input_range: ValueRange | None = None,
) -> Section:
    """Present an opened image as a section; the arguments are those of `open_section`."""
    chosen, stated = image.levels[level], image.stated_range
    if input_range is None and stated is not None:
        log.info(
            "%s states %g to %g by %s; they are taken for black and white (--input-range full: those of %s).",
            *(source, stated.low, stated.high, stated.place, image.dtype.name),
        )
    else:
        stated = None
    return Section(
        source=source,
        kind=image.kind,
        depth=chosen.shape[0],
        height=chosen.shape[1],
        width=chosen.shape[2],
        channels=image.channels,
        dtype=image.dtype,
        value_range=(stated.low, stated.high) if stated else _value_range(image.dtype, input_range),
        voxel_size_um=merged_voxel_size(chosen.voxel_size_um, voxel_size_um),
        translation_um=chosen.translation_um,
        axes=image.axes,
        is_volume=image.is_volume,
        format_version=image.format_version,
        level=level,
        levels=tuple(item.shape for item in image.levels),
        resident_bytes=image.resident_bytes,
        files=image.files,
        details=image.details,
        pyramid=image.levels,
        range_place=None if stated is None else stated.place,
    )


def _value_range(dtype: np.dtype[Any], asked: ValueRange | None) -> tuple[float, float]:
    """Return the storage values of black and white, from the user or from the dtype."""
    if asked is None or asked == FULL:
        return range_of_type(dtype)
    low, high = (float(value) for value in asked)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(
            f"the input range {low:g} to {high:g} is empty; give --input-range LO HI with LO below HI."
        )
    return low, high


def _require_finite(pixels: NDArray[Any], source: str, z: int, y0: int, x0: int) -> None:
    """Refuse a window with NaN or infinity, naming the first such pixel."""
    finite = np.isfinite(pixels)
    if finite.all():
        return
    bad = np.argwhere(~finite)[0]
    value = pixels[tuple(bad)]
    raise InputError(
        f"{source} holds {value} at z={z}, y={y0 + int(bad[0])}, x={x0 + int(bad[1])}; nothing is replaced "
        "silently: clean the input, for instance with numpy.nan_to_num, and start again."
    )
