"""Decide which of the images in a TIFF file is the section, and find the files of a set.

A file holds more than a section: a thumbnail, the label and a photograph of the slide, or several sections. The
largest image is the section; the reduced ones that belong to it are its pyramid. An OME-TIFF may be one file of a
set, which names the others in its OME-XML. They are read where they lie in the same folder, and nowhere else.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from bigrestore.errors import InputError, UsageError
from bigrestore.io.access.places import InputPath
from bigrestore.io.levels import level_factor

log = logging.getLogger(__name__)

RIVAL_PART = 0.5
"""Another image of this part of the section's pixels is worth a warning."""

Series = tifffile.TiffPageSeries


def require_whole_set(path: InputPath, file: tifffile.TiffFile) -> None:
    """Refuse an OME-TIFF whose set is not whole, before tifffile looks for the other files.

    Raises
    ------
    InputError
        Naming a file that is missing, or lies in another folder.
    """
    names = _other_files(path, file)
    if not names:
        return
    if not isinstance(path, Path):
        raise InputError(
            f"{path} is one of a set of OME-TIFF files ({names[0]}, ...), which are not read from a server; copy them "
            "to one folder on a disk."
        )
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise InputError(
                f"{path} names {name!r} as a file of its set, in another folder; put the files into one folder, and "
                "write their bare names into the OME-XML."
            )
        if not (path.parent / name).is_file():
            raise InputError(
                f"{path} is one of a set of OME-TIFF files, and {name} does not lie beside it; copy the whole set into "
                "one folder, under the names in its OME-XML."
            )


def _other_files(path: InputPath, file: tifffile.TiffFile) -> list[str]:
    """Return the names of the other files that the OME-XML of a file says its planes are in."""
    if not (file.is_ome and file.ome_metadata):
        return []
    try:
        root = ElementTree.fromstring(file.ome_metadata)
    except ElementTree.ParseError:
        return []  # tifffile reads the pages without it
    if root.find("{*}BinaryOnly") is not None:
        log.warning(
            "%s is one file of a set that another file describes (%s); its own pages are read, and no other.",
            *(path, root.find("{*}BinaryOnly").get("MetadataFile", "unnamed")),  # type: ignore[union-attr]
        )
    own = root.get("UUID")
    names: dict[str, None] = {}
    for entry in root.iterfind("{*}Image/{*}Pixels/{*}TiffData/{*}UUID"):
        name = entry.get("FileName")
        if name and (entry.text != own if own else name.lower() != path.name.lower()):
            names[name] = None
    return list(names)


def chosen_levels(
    path: InputPath, file: tifffile.TiffFile, wanted: int | None
) -> tuple[int, list[Series], list[dict[str, Any]]]:
    """Choose the section among the images of a file.

    Parameters
    ----------
    path : Path or RemoteFile
        The file, for messages.
    file : tifffile.TiffFile
        Its directory.
    wanted : int, optional
        Number of the image that the user asked for; None: the largest, and of equal ones the first.

    Returns
    -------
    number : int
        Of the section.
    levels : list of TiffPageSeries
        The section, and its reductions, finest first.
    images : list of dict
        Number, name, shape, type and role of each image, JSON-able; empty if there is only one.

    Raises
    ------
    InputError
        If there is no image.
    UsageError
        If there is no image of that number.
    """
    every = {
        number: item
        for number, item in enumerate(file.series)
        if item.keyframe is not None and min(item.shape) > 0
    }
    if not every:
        raise InputError(f"{path} is a TIFF file without an image; copy or write it again.")
    if wanted is not None and wanted not in every:
        raise UsageError(
            f"--series is {wanted}, but {path} holds the image(s) {', '.join(map(str, every))}; choose one, as "
            "bigrestore info lists them."
        )
    number = max(every, key=lambda one: _full_and_pixels(every[one])) if wanted is None else wanted
    levels = _levels(every[number], [item for item in every.values() if item is not every[number]])
    others = [item for item in every.values() if not any(item is level for level in levels)]
    if wanted is None and others:
        _say_choice(path, number, every[number], others)
    if len(every) == 1:
        return number, levels, []
    roles = {id(item): "level" for item in levels} | {id(every[number]): "section"}
    return number, levels, [_facts(one, item, roles.get(id(item))) for one, item in every.items()]


def _full_and_pixels(series: Series) -> tuple[bool, int]:
    """Return whether an image has full resolution, and its pixels."""
    return not series.keyframe.is_reduced, series.size // series.keyframe.samplesperpixel


def _levels(main: Series, others: list[Series]) -> list[Series]:
    """Return an image and its reductions: those known to tifffile, else plain pages of decreasing size.

    A page reduced by a whole factor belongs to it if the file says so, or if all other pages are such.
    """
    if len(main.levels) > 1:
        return list(main.levels)
    reductions = [item for item in others if _is_reduction(main, item)]
    if len(reductions) < len(others):
        reductions = [item for item in reductions if item.keyframe.is_reduced]
    return [main, *sorted(reductions, key=lambda item: -item.keyframe.imagewidth)]


def _is_reduction(fine: Series, coarse: Series) -> bool:
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


def _say_choice(path: InputPath, number: int, main: Series, others: list[Series]) -> None:
    """Say which image is the section, as a warning where another is nearly as large."""
    rivals = [
        item for item in others if _full_and_pixels(item) >= (True, RIVAL_PART * _full_and_pixels(main)[1])
    ]
    log.log(
        logging.WARNING if rivals else logging.INFO,
        "%s holds further images (%s); image %d, the largest (%s), is the section. Choose another by --series, as "
        "bigrestore info lists them.",
        *(path, ", ".join(map(_shape_text, others[:3])), number, _shape_text(main)),
    )


def _shape_text(series: Series) -> str:
    return " x ".join(map(str, series.shape))


def _facts(number: int, series: Series, role: str | None) -> dict[str, Any]:
    """Return the facts of an image for `info`."""
    return {
        "series": number,
        "name": series.name or "",
        "axes": series.axes.lower(),
        "shape": list(series.shape),
        "dtype": str(series.dtype),
        "role": role or ("reduced" if series.keyframe.is_reduced else "other"),
    }


def warn_of_other_set(path: InputPath, series: Series) -> None:
    """Warn if a file of a set is not the one that the OME-XML means, by its UUID."""
    members = {id(page.parent): page for page in series.pages if page is not None}
    for uuid, member in getattr(series.parent, "_files", {}).items():
        if uuid is None or id(member) not in members or member is series.parent:
            continue
        stated = re.search(r'<OME\b[^>]*\bUUID="([^"]+)"', member.pages.first.description[:4096])
        if stated is not None and stated[1] != uuid:
            log.warning(
                "%s is of another set than %s says: its UUID is %s and not %s.",
                *(member.filename, path, stated[1], uuid),
            )
