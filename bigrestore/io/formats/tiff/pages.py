"""The pages of a TIFF series: that the files hold them all, and where their pixels lie."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tifffile

from bigrestore.errors import InputError
from bigrestore.io.access.places import InputPath
from bigrestore.io.access.versions import file_version
from bigrestore.io.formats.tiff.pixels import Page


def pages_of(
    path: InputPath, file: tifffile.TiffFile, series: tifffile.TiffPageSeries, count: int
) -> list[Page]:
    """Return the pages of a series, checking that the files hold them all."""
    key = series.keyframe
    if len(series.pages) == 1 and count > 1:  # ImageJ: one directory entry, all sections after one another
        start = mapped_offset(key, file)
        if start is None or start + count * key.nbytes > path.stat().st_size:
            raise InputError(
                f"{path} names {count} sections but holds fewer; it was cut off, so copy it again."
            )
        return [Page(key, (), (), start + index * key.nbytes, path) for index in range(count)]
    pages: list[Page] = []
    for item in series.pages:
        if item is None or not item.dataoffsets:
            raise _missing_section(path, file, series)
        pages.append(_page_of(path, file, item, key))
    return pages


def _missing_section(path: InputPath, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> InputError:
    """Return the error of a file with fewer sections than its metadata name."""
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


def _page_of(
    path: InputPath,
    file: tifffile.TiffFile,
    item: tifffile.TiffPage | tifffile.TiffFrame,
    key: tifffile.TiffPage,
) -> Page:
    """Return a page of a file, or of another file of its set, checking that it holds the page."""
    own = item.keyframe
    assert own is not None
    member = item.parent is not file
    place = Path(item.parent.filehandle.path) if member else path
    if member and _layout(own) != _layout(key):
        raise InputError(
            f"{place} has pages of another size, type or storage than {path}, which is of the same set; copy or write "
            "the set again."
        )
    size = place.stat().st_size
    ends = [offset + count for offset, count in zip(item.dataoffsets, item.databytecounts, strict=True)]
    if max(ends) > size:
        raise InputError(
            f"{place} ends before its last pixels ({size} bytes); it was cut off, so copy it again."
        )
    handle = item.parent.filehandle
    closed = handle.closed
    if closed:
        handle.open()
    try:
        mapped = mapped_offset(item, item.parent)
        _ = own.decode, own.jpegtables, own.nodata  # tifffile reads these late; the file is open now
    finally:
        if closed:
            handle.close()
    version = file_version(place) if member else None
    return Page(own, tuple(item.dataoffsets), tuple(item.databytecounts), mapped, place, version)


def _layout(page: tifffile.TiffPage) -> tuple[Any, ...]:
    """Return what pages of one series have in common."""
    colour = page.samplesperpixel, page.planarconfig, page.photometric
    return page.imagelength, page.imagewidth, page.dtype, page.bitspersample, *colour, *segment_shape(page)


def mapped_offset(page: tifffile.TiffPage | tifffile.TiffFrame, file: tifffile.TiffFile) -> int | None:
    """Return the offset of a page's pixels if they are uncompressed and in one piece."""
    return page.dataoffsets[0] if page.is_memmappable and file.filehandle.is_file else None


def segment_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    """Return (y, x) of a tile or a strip."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth
