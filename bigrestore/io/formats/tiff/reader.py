"""Open TIFF, BigTIFF and OME-TIFF by the file's directory, without decoding a page as a whole.

tifffile reads the directory. Its claims are checked against the file, then described as levels;
`bigrestore.io.formats.tiff.images` chooses the image, `bigrestore.io.formats.tiff.pixels` reads its windows.

Three things make a pyramid: SubIFDs, a format known to tifffile, and plain pages of decreasing size, as
in the 1-um scans of BigBrain (1, 4, 16 and 64 um in one file). Pages of one size are sections along z.
"""

from __future__ import annotations

import logging
import math
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
from bigrestore.io.conventions.colour import require_colour
from bigrestore.io.conventions.orientation import ORIENTATION_TAG, oriented
from bigrestore.io.conventions.provenance import PROVENANCE_KEY, annotated_provenance
from bigrestore.io.conventions.stated_range import StatedRange
from bigrestore.io.decoded import Decoded
from bigrestore.io.formats.tiff.images import chosen_levels, require_whole_set, warn_of_other_set
from bigrestore.io.formats.tiff.metadata import (
    require_plain_values,
    stated_channels,
    stated_limits,
    stated_translation,
    stated_voxel_size,
)
from bigrestore.io.formats.tiff.pages import mapped_offset, pages_of, segment_shape
from bigrestore.io.formats.tiff.pixels import Plane
from bigrestore.io.levels import (
    Level,
    OpenedImage,
    Triple,
    Wanted,
    accepted_dtype,
    level_factor,
    require_pixels,
)

log = logging.getLogger(__name__)

TILE_BUDGET = 64 * 2**20
"""Bytes of cached tiles."""

STRIP_BUDGET = 512 * 2**20
"""Most bytes of cached strips; a strip is as wide as the section."""

CACHED_STRIP_ROWS = 4608
"""Rows of cached strips if the budget allows: one block with its halo."""

PALETTE = 3
"""PhotometricInterpretation of pixels that are numbers of colours."""

_UNREADABLE = {
    5: "CMYK colours",
    8: "CIELAB colours",
    9: "ICC L*a*b* colours",
    10: "ITU L*a*b* colours",
    32803: "a colour filter array (raw camera values)",
    32844: "logarithms of luminance",
    32845: "logarithms of luminance and colour",
    34892: "raw values of a camera",
}

_PHOTOMETRIC = 262

_COLOURED, _GREY = (2, 6), (0, 1)
"""PhotometricInterpretation of red, green and blue (6: as YCbCr), and of white or black as 0."""

_ALPHA = (1, 2)
"""ExtraSamples that are alpha, multiplied in or not."""


def _open_directory(path: InputPath) -> tifffile.TiffFile:
    """Open the directory of a file."""
    if isinstance(path, Path):
        return tifffile.TiffFile(path)
    return tifffile.TiffFile(path.open(), name=path.name)


def open_tiff(path: InputPath, wanted: Wanted) -> OpenedImage:
    """Open a TIFF file by its directory of pages; a mask may have one bit or any integer type.

    Raises
    ------
    InputError
        If it is damaged, cut off, or holds neither grey nor RGB values.
    UsageError
        If it holds no image or channel of that number.
    """
    try:
        with _open_directory(path) as file:
            return _describe_tiff(path, file, wanted)
    except (BigrestoreError, PermissionError):
        raise
    except Exception as err:
        raise InputError(f"{path} is a damaged TIFF file ({err}); copy or write it again.") from err


def _describe_tiff(path: InputPath, file: tifffile.TiffFile, wanted: Wanted) -> OpenedImage:
    """Describe an open file: its main image, its levels, its voxel size."""
    labels = wanted.labels
    require_whole_set(path, file)
    number, series, images = chosen_levels(path, file, wanted.series)
    main = series[0]
    warn_of_other_set(path, main)
    page = _first_page(path, main)
    if page.dtype is None:
        raise InputError(
            f"{path} has pixels of {page.bitspersample} bits, which are not read; convert it to 8 or 16 bits."
        )
    stored = np.dtype(bool) if page.bitspersample == 1 else np.dtype(page.dtype)
    program = f"tifffile.imwrite('converted.tif', tifffile.imread(r'{path}').astype('float32'))"
    command = f'python -c "import tifffile; {program}"'
    dtype = accepted_dtype(stored, str(path), labels=labels, command=command)
    if not labels:
        require_plain_values(file, dtype, str(path))
    named = stated_channels(file, number)
    names = [channel.name for channel in named]
    palette = None if labels or page.photometric != PALETTE else _palette(path, page)
    entries = 1 if palette is None else palette.shape[-1]
    sections, channels, sample = _page_table(path, main, dtype, wanted, names, entries)
    if len(sections[0]) == 3:
        require_colour(named, str(path))
    if sample is None:
        _say_dropped(path, page, channels)
    for item in series:
        _require_bounded_segments(path, item.keyframe, file, labels)
    (size, size_from), start = stated_voxel_size(file, page, number), stated_translation(file, number)
    if palette is not None and sample is None:
        channels = palette.shape[-1]
    budget = _budget(page, len(sections), dtype)
    cache: Decoded[NDArray[Any]] = Decoded(budget)
    planes = [
        attrs.evolve(_plane(path, file, item, channels, dtype, cache, wanted), palette=palette, sample=sample)
        for item in series
    ]
    levels: list[Level] = []
    for plane in planes:
        levels.append(_as_level(plane, levels[0].shape if levels else None, size, start))
    stated = None if labels or palette is not None else stated_limits(file, page, dtype, number)
    inverted = planes[0].inverted
    if inverted is not None:
        log.info("0 means white in %s (MinIsWhite); its values are inverted, so that 0 is black.", path)
        if stated is not None:
            stated = StatedRange(inverted - stated.high, inverted - stated.low, stated.place)
    whole = int(np.prod(levels[0].shape)) * channels * dtype.itemsize
    image = OpenedImage(
        kind="tiff",
        levels=tuple(levels),
        channels=channels,
        dtype=dtype if palette is None else palette.dtype,
        axes=main.axes.lower().replace("s", "c").replace("i", "z").replace("q", "z"),
        is_volume=len(sections) > 1,
        format_version="ome" if file.is_ome else "imagej" if file.is_imagej else None,
        resident_bytes=0 if mapped_offset(page, file) is not None else min(budget, whole),
        files=planes[0].files,
        details=_storage_facts(file, page)
        | {"voxel_size_from": size_from}
        | ({"images": images} if images else {})
        | ({"channel_names": names} if any(names) else {})
        | _own_statement(file),
        stated_range=stated,
    )
    return oriented(image, _page_orientation(path, series), str(path))


def _own_statement(file: tifffile.TiffFile) -> dict[str, Any]:
    """Return what a file says of the run that made it, under its key in the details; empty for a file of others."""
    stated = annotated_provenance(file.ome_metadata) if file.is_ome and file.ome_metadata else None
    return {} if stated is None else {PROVENANCE_KEY: stated}


def _storage_facts(file: tifffile.TiffFile, page: tifffile.TiffPage) -> dict[str, Any]:
    """Return how the pages are stored, for `info`."""
    return {
        "compression": tifffile.COMPRESSION(page.compression).name.lower(),
        "layout": "tiles" if page.is_tiled else "strips",
        "segment": list(segment_shape(page)),
        "bigtiff": file.is_bigtiff,
        "byteorder": "big" if file.byteorder == ">" else "little",
        "pages": len(file.pages),
        "bits": page.bitspersample,
    }


def _page_orientation(path: InputPath, levels: Sequence[tifffile.TiffPageSeries]) -> int:
    """Return the orientation of the pages; a level that states none has that of the finest."""
    main = levels[0]
    pages = [page for page in main.pages if isinstance(page, tifffile.TiffPage)]
    if main.kind in ("uniform", "generic"):  # others are written by one program in one go
        pages += [page.aspage() for page in main.pages if isinstance(page, tifffile.TiffFrame)]
    values = {int(page.tags.valueof(ORIENTATION_TAG, default=1)) for page in pages}
    reduced = [level.keyframe.tags.get(ORIENTATION_TAG) for level in levels[1:]]
    values |= {int(tag.value) for tag in reduced if tag is not None}
    if len(values) > 1:
        raise InputError(
            f"{path} has pages of the orientations {', '.join(map(str, sorted(values)))}, and one image has one; turn "
            "them alike, and write the tag Orientation as 1."
        )
    return values.pop()


def _require_bounded_segments(
    path: InputPath, page: tifffile.TiffPage, file: tifffile.TiffFile, labels: bool
) -> None:
    """Refuse a page with tiles or strips too large for the memory, before one is decoded."""
    require_claim((page.imagelength, page.imagewidth), str(path))
    if mapped_offset(page, file) is not None:
        return  # read by windows, and checked against the length of the file
    rows, columns = segment_shape(page)
    samples = 1 if page.planarconfig == 2 else page.samplesperpixel
    if min(rows, columns, samples) < 1:
        raise InputError(f"{path} has tiles or strips without pixels; it is damaged, so copy it again.")
    nbytes = rows * columns * samples * max(1, page.bitspersample // 8)
    if page.is_tiled:
        require_chunk(nbytes, str(path))
    require_unpacked(path.stat().st_size, nbytes, str(path), labels=labels)


def _first_page(path: InputPath, series: tifffile.TiffPageSeries) -> tifffile.TiffPage:
    """Return the keyframe of a series, refusing unsupported colours."""
    page = series.keyframe
    if _PHOTOMETRIC not in page.tags:
        raise InputError(
            f"{path} does not say whether 0 is black (it has no PhotometricInterpretation); say it by tiffset -s 262 1 "
            "FILE, of red, green and blue by tiffset -s 262 2 FILE."
        )
    colours = _UNREADABLE.get(page.photometric)
    if page.photometric == 6 and page.compression not in (6, 7, 33003, 33004, 33005, 34712):
        colours = "YCbCr colours without JPEG"
    if colours is not None:
        raise InputError(
            f"{path} holds {colours}, not grey or RGB values; convert it first: magick {quote(str(path))} -colorspace sRGB "
            "converted.tif."
        )
    if page.photometric == 0 and page.dtype is not None and page.dtype.kind == "f":
        raise InputError(
            f"{path} holds floating-point values of which the smallest is white (MinIsWhite); write it with black as "
            "the smallest, for instance as 1 minus its values."
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
    path: InputPath,
    series: tifffile.TiffPageSeries,
    dtype: np.dtype[Any],
    wanted: Wanted,
    names: Sequence[str] = (),
    entries: int = 1,
) -> tuple[list[list[int]], int, int | None]:
    """Return the page indices by z and channel, the number of channels presented, and the sample that is read alone.

    `names` are those of the channels, and `entries` the channels of a palette.
    """
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
    order = np.arange(depth * separate)
    channel_first = separate > 1 and depth > 1 and series.axes.index("C") < series.axes.index(z_axes[0])
    table = order.reshape(separate, depth).T if channel_first else order.reshape(depth, separate)
    if wanted.channel is not None and min(separate, page.samplesperpixel) == 1:
        samples = page.samplesperpixel * entries
        channel = wanted.require_channel(max(separate, samples), str(path), names)
        table = table[:, [channel]] if separate > 1 else table
        return [[int(index) for index in row] for row in table], 1, channel if samples > 1 else None
    samples = _colour_samples(path, page)
    if separate not in (1, 3) or (separate == 3 and page.samplesperpixel > 1):
        known = f" ({', '.join(names[:8])})" if any(names) else ""
        remedy = (
            f"choose one by --channel, from 0 to {separate - 1}"
            if page.samplesperpixel == 1
            else "store the channel to restore as a file of its own"
        )
        raise InputError(
            f"{path} has {page.samplesperpixel * separate} channels{known}; only grey and RGB are read: {remedy}."
        )
    channels = max(separate, samples)
    if channels == 3 and dtype.kind == "f":
        raise InputError(
            f"{path} has three channels of float32; only RGB of uint8 or uint16 is read: convert it, or choose one by "
            "--channel, from 0 to 2."
        )
    return [[int(index) for index in row] for row in table], channels, None


def _colour_samples(path: InputPath, page: tifffile.TiffPage) -> int:
    """Return how many samples of a pixel are its colour, 1 or 3; refuse samples that are other channels."""
    samples, extra = page.samplesperpixel, page.extrasamples
    colours = 3 if page.photometric in _COLOURED else 1
    if samples == colours or (samples == colours + 1 and extra and extra[0] in _ALPHA):
        return colours
    if samples == colours + 1 == 4:  # red, green and blue are what they are, whatever the fourth is
        return colours
    if colours == 3 or page.photometric not in _GREY:
        raise InputError(
            f"{path} has {samples} samples per pixel; only grey and RGB are read: choose one by --channel, from 0 to "
            f"{samples - 1}."
        )
    remedy = f"choose one by --channel, from 0 to {samples - 1}"
    if samples == 3:
        remedy += ", or, if they are red, green and blue, say so by tiffset -s 262 2 FILE"
    raise InputError(
        f"{path} has {samples} samples per pixel that it calls grey (PhotometricInterpretation {int(page.photometric)}) "
        f"and neither colour nor alpha, so they are channels such as stains; {remedy}."
    )


def _say_dropped(path: InputPath, page: tifffile.TiffPage, channels: int) -> None:
    """Say that a sample beside the colour is dropped."""
    if page.samplesperpixel <= channels:
        return
    if page.extrasamples and page.extrasamples[0] in _ALPHA:
        log.info("%s has an alpha channel, which is dropped", path)
    else:
        log.warning("%s has a sample beside red, green and blue that it does not name; it is dropped.", path)


def _plane(
    path: InputPath,
    file: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    channels: int,
    dtype: np.dtype[Any],
    cache: Decoded[NDArray[Any]],
    wanted: Wanted,
) -> Plane:
    """Collect the facts needed to read one level after the file is closed."""
    page = series.keyframe
    table, _, _ = _page_table(path, series, dtype, wanted, entries=3)
    count = math.prod(n for axis, n in zip(series.axes, series.shape, strict=True) if axis in "ZIQRC")
    pages = pages_of(path, file, series, count)
    planar = page.samplesperpixel > 1 and page.planarconfig == 2
    # tifffile tags bools as white-is-zero but stores True as 1, and its own reader gives that back.
    own_bools = dtype.kind == "b" and str(page.software).startswith("tifffile")
    top = 1 if dtype.kind == "b" else 2 ** min(page.bitspersample, 8 * dtype.itemsize) - 1
    return Plane(
        path=path,
        pages=tuple(tuple(pages[index] for index in row) for row in table),
        shape=(page.imagelength, page.imagewidth),
        segment=segment_shape(page),
        samples=page.samplesperpixel,
        planar=planar,
        channels=channels,
        dtype=dtype.newbyteorder(file.byteorder),
        inverted=top if page.photometric == 0 and dtype.kind in "bu" and not own_bools else None,
        cache=cache,
    )


def _budget(page: tifffile.TiffPage, depth: int, dtype: np.dtype[Any]) -> int:
    """Return how many bytes of decoded segments are kept: some tiles, or the strips of one block."""
    rows, columns = segment_shape(page)
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
        shape,
        plane.segment,
        plane.read,
        (scaled[0], scaled[1], scaled[2]),
        (shifts[0], shifts[1], shifts[2]),
        plane.version if len(plane.files) > 1 else None,
    )
