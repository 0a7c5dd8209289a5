"""Open TIFF, BigTIFF and OME-TIFF by the file's directory, without decoding a page as a whole.

tifffile reads the directory. Its claims are checked against the file, then described as levels;
`bigrestore.io.formats.tiff_pixels` reads their windows.

Three things make a pyramid: SubIFDs, a format known to tifffile, and plain pages of decreasing size, as
in the 1-um scans of BigBrain (1, 4, 16 and 64 um in one file). Pages of one size are sections along z.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import attrs
import numpy as np
import tifffile
from numpy.typing import NDArray

from bigrestore.errors import BigrestoreError, InputError
from bigrestore.io.access.limits import require_chunk, require_claim, require_unpacked
from bigrestore.io.access.places import InputPath
from bigrestore.io.decoded import Decoded
from bigrestore.io.formats.tiff_metadata import stated_translation, stated_voxel_size
from bigrestore.io.formats.tiff_pixels import Page, Plane
from bigrestore.io.levels import Level, OpenedImage, Triple, accepted_dtype, level_factor, require_pixels

log = logging.getLogger(__name__)

TILE_BUDGET = 64 * 2**20
"""Bytes of cached tiles."""

STRIP_BUDGET = 512 * 2**20
"""Most bytes of cached strips; a strip is as wide as the section."""

CACHED_STRIP_ROWS = 4608
"""Rows of cached strips if the budget allows: one block with its halo."""

PALETTE = 3
"""PhotometricInterpretation of pixels that are numbers of colours."""

_UNREADABLE = {5: "CMYK colours", 8: "CIELAB colours"}


def _open_directory(path: InputPath) -> tifffile.TiffFile:
    """Open the directory of a file."""
    if isinstance(path, Path):
        return tifffile.TiffFile(path)
    return tifffile.TiffFile(path.open(), name=path.name)


def open_tiff(path: InputPath, *, labels: bool = False) -> OpenedImage:
    """Open a TIFF file by its directory of pages.

    `labels` marks a mask, of possibly one bit or any integer type.

    Raises
    ------
    InputError
        If it is damaged, cut off, or holds neither grey nor RGB values.
    """
    try:
        with _open_directory(path) as file:
            return _describe_tiff(path, file, labels)
    except (BigrestoreError, PermissionError):
        raise
    except Exception as err:
        raise InputError(f"{path} is a damaged TIFF file ({err}); copy or write it again.") from err


def _describe_tiff(path: InputPath, file: tifffile.TiffFile, labels: bool) -> OpenedImage:
    """Describe an open file: its main image, its levels, its voxel size."""
    series = _level_series(path, file)
    main = series[0]
    page = _first_page(path, main)
    if page.dtype is None:
        raise InputError(
            f"{path} has pixels of {page.bitspersample} bits, which are not read; convert it to 8 or 16 bits."
        )
    stored = np.dtype(bool) if page.bitspersample == 1 else np.dtype(page.dtype)
    program = f"tifffile.imwrite('converted.tif', tifffile.imread(r'{path}').astype('float32'))"
    command = f'python -c "import tifffile; {program}"'
    dtype = accepted_dtype(stored, str(path), labels=labels, command=command)
    sections, channels = _page_table(path, main, dtype)
    for item in series:
        _require_bounded_segments(path, item.keyframe, file, labels)
    (size, size_from), start = stated_voxel_size(file, page), stated_translation(file)
    palette = None if labels or page.photometric != PALETTE else _palette(path, page)
    if palette is not None:
        channels = palette.shape[-1]
    budget = _budget(page, len(sections), dtype)
    cache: Decoded[NDArray[Any]] = Decoded(budget)
    levels: list[Level] = []
    for item in series:
        plane = attrs.evolve(_plane(path, file, item, channels, dtype, cache), palette=palette)
        levels.append(_as_level(plane, levels[0].shape if levels else None, size, start))
    compression = tifffile.COMPRESSION(page.compression).name.lower()
    details: dict[str, Any] = {
        "compression": compression,
        "layout": "tiles" if page.is_tiled else "strips",
        "segment": list(_segment_shape(page)),
        "bigtiff": file.is_bigtiff,
        "byteorder": "big" if file.byteorder == ">" else "little",
        "pages": len(file.pages),
        "bits": page.bitspersample,
        "voxel_size_from": size_from,
    }
    if page.bitspersample not in (8, 16, 32) and not labels and palette is None:
        top = 2**page.bitspersample - 1
        log.warning(
            "%s holds %d-bit values; give --input-range 0 %d if they use all bits",
            path,
            page.bitspersample,
            top,
        )
    whole = int(np.prod(levels[0].shape)) * channels * dtype.itemsize
    return OpenedImage(
        kind="tiff",
        levels=tuple(levels),
        channels=channels,
        dtype=dtype if palette is None else palette.dtype,
        axes=main.axes.lower().replace("s", "c").replace("i", "z").replace("q", "z"),
        is_volume=len(sections) > 1,
        format_version="ome" if file.is_ome else "imagej" if file.is_imagej else None,
        resident_bytes=0 if _mapped_offset(page, file) is not None else min(budget, whole),
        files=(path,),
        details=details,
    )


def _require_bounded_segments(
    path: InputPath, page: tifffile.TiffPage, file: tifffile.TiffFile, labels: bool
) -> None:
    """Refuse a page with tiles or strips too large for the memory, before one is decoded."""
    require_claim((page.imagelength, page.imagewidth), str(path))
    if _mapped_offset(page, file) is not None:
        return  # read by windows, and checked against the length of the file
    rows, columns = _segment_shape(page)
    samples = 1 if page.planarconfig == 2 else page.samplesperpixel
    if min(rows, columns, samples) < 1:
        raise InputError(f"{path} has tiles or strips without pixels; it is damaged, so copy it again.")
    nbytes = rows * columns * samples * max(1, page.bitspersample // 8)
    if page.is_tiled:
        require_chunk(nbytes, str(path))
    require_unpacked(path.stat().st_size, nbytes, str(path), labels=labels)


def _level_series(path: InputPath, file: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """Return the level series of the main image, finest first."""
    series = [item for item in file.series if item.keyframe is not None and min(item.shape) > 0]
    if not series:
        raise InputError(f"{path} is a TIFF file without an image; copy or write it again.")
    main = series[0]
    if len(main.levels) > 1:
        return list(main.levels)
    ordered = sorted(series, key=lambda item: -item.keyframe.imagewidth)
    if len(ordered) > 1 and all(_is_reduction(ordered[0], item) for item in ordered[1:]):
        return ordered
    if len(series) > 1:
        others = ", ".join(" x ".join(map(str, item.shape)) for item in series[1:4])
        log.info("%s holds %d further images (%s), which are not read", path, len(series) - 1, others)
    return [main]


def _is_reduction(fine: tifffile.TiffPageSeries, coarse: tifffile.TiffPageSeries) -> bool:
    """Tell whether a page is the same picture as another, reduced by a whole factor of at least 2."""
    a, b = fine.keyframe, coarse.keyframe
    if (
        len(fine.pages) != 1
        or len(coarse.pages) != 1
        or a.dtype != b.dtype
        or a.samplesperpixel != b.samplesperpixel
    ):
        return False
    across, down = level_factor(a.imagewidth, b.imagewidth), level_factor(a.imagelength, b.imagelength)
    rounding = across * (
        1 / b.imagewidth + 1 / b.imagelength
    )  # a size is known to a pixel of the small level
    return min(across, down) >= 2 and abs(across - down) <= rounding


def _first_page(path: InputPath, series: tifffile.TiffPageSeries) -> tifffile.TiffPage:
    """Return the keyframe of a series, refusing unsupported colours."""
    page = series.keyframe
    colours = _UNREADABLE.get(page.photometric)
    if page.photometric == 6 and page.compression not in (6, 7, 33003, 33004, 33005, 34712):
        colours = "YCbCr colours without JPEG"
    if colours is not None:
        raise InputError(
            f"{path} holds {colours}, not grey or RGB values; convert it first: magick {quote(str(path))} -colorspace sRGB "
            "converted.tif."
        )
    if page.imagedepth != 1:
        raise InputError(
            f"{path} stores a volume in one page, which is not read; store one page per section."
        )
    return page


def _palette(path: InputPath, page: tifffile.TiffPage) -> NDArray[np.uint8]:
    """Return the 8-bit colours of a palette as (entries, 3), or as (entries, 1) where all of them are grey."""
    stored = page.colormap
    if stored is None or page.samplesperpixel != 1 or (stored == stored[:, :1]).all():
        raise InputError(f"{path} has a palette without two colours; it is damaged, so copy it again.")
    wide = int(stored.max()) > 255  # some programs write 8 bits where TIFF wants 16
    colours = (stored >> 8 if wide else stored).astype(np.uint8).T
    grey = bool((colours == colours[:, :1]).all())
    log.info(
        "%s has a palette of %d %s, which are read in place of its numbers",
        path,
        len(colours),
        "greys" if grey else "colours",
    )
    return np.ascontiguousarray(colours[:, :1] if grey else colours)


def _page_table(
    path: InputPath, series: tifffile.TiffPageSeries, dtype: np.dtype[Any]
) -> tuple[list[list[int]], int]:
    """Return the page indices by z and channel, and the number of channels presented."""
    page = series.keyframe
    lead = {axis: n for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YXS" and n > 1}
    if page.samplesperpixel > 1 and page.axes.startswith("S"):
        lead.pop("S", None)
    z_axes = [axis for axis in lead if axis in "ZIQR"]
    if len(z_axes) > 1 or set(lead) - set(z_axes) - {"C"}:
        raise InputError(
            f"{path} has the axes {series.axes} and the shape {series.shape}; only one stack of sections, without "
            "time points, is read: store the one to restore as a file of its own."
        )
    depth = lead[z_axes[0]] if z_axes else 1
    separate = lead.get("C", 1)
    if (
        page.samplesperpixel not in (1, 2, 3, 4)
        or separate not in (1, 3)
        or (separate == 3 and page.samplesperpixel > 1)
    ):
        raise InputError(
            f"{path} has {page.samplesperpixel * separate} channels; only grey and RGB are read: store the channel to "
            "restore as a file of its own."
        )
    if page.samplesperpixel in (2, 4):
        log.info("%s has an alpha channel, which is dropped", path)
    channels = 3 if separate == 3 or page.samplesperpixel >= 3 else 1
    if channels == 3 and dtype.kind == "f":
        raise InputError(
            f"{path} has three channels of float32; only RGB of uint8 or uint16 is read: convert it."
        )
    order = np.arange(depth * separate)
    channel_first = separate > 1 and depth > 1 and series.axes.index("C") < series.axes.index(z_axes[0])
    table = order.reshape(separate, depth).T if channel_first else order.reshape(depth, separate)
    return [[int(index) for index in row] for row in table], channels


def _plane(
    path: InputPath,
    file: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    channels: int,
    dtype: np.dtype[Any],
    cache: Decoded[NDArray[Any]],
) -> Plane:
    """Collect the facts needed to read one level after the file is closed."""
    page = series.keyframe
    table, _ = _page_table(path, series, dtype)
    pages = _pages_of(path, file, series, sum(map(len, table)))
    planar = page.samplesperpixel > 1 and page.planarconfig == 2
    # tifffile tags bools as white-is-zero but stores True as 1, and its own reader gives that back.
    own_bools = dtype.kind == "b" and str(page.software).startswith("tifffile")
    return Plane(
        path=path,
        pages=tuple(tuple(pages[index] for index in row) for row in table),
        shape=(page.imagelength, page.imagewidth),
        segment=_segment_shape(page),
        samples=page.samplesperpixel,
        planar=planar,
        channels=channels,
        dtype=dtype.newbyteorder(file.byteorder),
        inverted=page.photometric == 0 and dtype.kind in "bu" and not own_bools,
        cache=cache,
    )


def _pages_of(
    path: InputPath, file: tifffile.TiffFile, series: tifffile.TiffPageSeries, count: int
) -> list[Page]:
    """Return the pages of a series, checking that the file holds them all."""
    key = series.keyframe
    size = path.stat().st_size
    if len(series.pages) == 1 and count > 1:  # ImageJ: one directory entry, all sections after one another
        start = _mapped_offset(key, file)
        if start is None or start + count * key.nbytes > size:
            raise InputError(
                f"{path} names {count} sections but holds fewer; it was cut off, so copy it again."
            )
        return [Page(key, (), (), start + index * key.nbytes) for index in range(count)]
    pages = []
    for item in series.pages:
        if item is None or not item.dataoffsets:
            raise _missing_section(path, file, series)
        if (
            max(offset + length for offset, length in zip(item.dataoffsets, item.databytecounts, strict=True))
            > size
        ):
            raise InputError(
                f"{path} ends before its last pixels ({size} bytes); it was cut off, so copy it again."
            )
        pages.append(
            Page(key, tuple(item.dataoffsets), tuple(item.databytecounts), _mapped_offset(item, file))
        )
    _ = key.decode, key.jpegtables, key.nodata  # tifffile reads these late; the file is still open now
    return pages


def _missing_section(path: InputPath, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> InputError:
    """Return what is wrong where the metadata name more sections than the file holds."""
    others = sorted(set(re.findall(r'FileName="([^"]+)"', file.ome_metadata or "")) - {path.name})
    if others:
        return InputError(
            f"{path} lacks sections that lie in other files ({', '.join(others[:3])}); copy those beside it as well."
        )
    there = len(file.pages)
    program = f"tifffile.imwrite('whole.tif', tifffile.imread(r'{path}', key=range({there})))"
    return InputError(
        f"{path} holds {there} of the {len(series.pages)} sections that its metadata name, as of a stopped acquisition; "
        f'restore those from a file of their own: python -c "import tifffile; {program}".'
    )


def _mapped_offset(page: tifffile.TiffPage | tifffile.TiffFrame, file: tifffile.TiffFile) -> int | None:
    """Return the offset of a page's pixels if they are uncompressed and in one piece."""
    return page.dataoffsets[0] if page.is_memmappable and file.filehandle.is_file else None


def _segment_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return (y, x) of a tile or a strip."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _budget(page: tifffile.TiffPage, depth: int, dtype: np.dtype[Any]) -> int:
    """Return how many bytes of decoded segments are kept: some tiles, or the strips of one block."""
    rows, columns = _segment_shape(page)
    samples = 1 if page.planarconfig == 2 else page.samplesperpixel
    segment = rows * columns * samples * dtype.itemsize
    planes = page.samplesperpixel // samples
    if page.is_tiled:
        return max(TILE_BUDGET, segment * planes)
    strips = min(STRIP_BUDGET, -(-CACHED_STRIP_ROWS // rows) * segment * planes)
    return max(strips, segment * planes * min(2, depth))


def _as_level(plane: Plane, whole: Sequence[int] | None, size: Triple, start: Triple) -> Level:
    """Wrap a plane as a level, its voxels as much larger as it is reduced against the finest.

    `size` and `start` are those of the finest level; the first voxel of another lies (factor - 1) / 2 of the
    finest voxels further in.
    """
    shape = (len(plane.pages), *plane.shape)
    require_pixels(shape, str(plane.path))
    factors = [1.0] * 3 if whole is None else [level_factor(a, b) for a, b in zip(whole, shape, strict=True)]
    scaled = [None if value is None else value * factor for value, factor in zip(size, factors, strict=True)]
    shifts = [
        first if value is None or whole is None else (first or 0.0) + value * (factor - 1) / 2
        for value, factor, first in zip(size, factors, start, strict=True)
    ]
    return Level(
        shape, plane.segment, plane.read, (scaled[0], scaled[1], scaled[2]), (shifts[0], shifts[1], shifts[2])
    )
