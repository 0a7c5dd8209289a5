"""Checks before a comparison: one field, one grid and one value range for all images, and a true reference.

Scores of different places look like any other scores. So all facts in the files (shape, voxel size, offset, type,
origin) must fit, and a misfit is named with its remedy.
"""

from __future__ import annotations

import contextlib
import logging
from functools import partial
from pathlib import Path

import attrs
import numpy as np

from bigrestore.core.pixels import to_grey
from bigrestore.core.sizes import SCORE_STEP_PX, SCORE_TILE_PX, fitting_score_tile
from bigrestore.errors import UsageError
from bigrestore.io.conventions.provenance import image_read, part_of, provenance_of
from bigrestore.io.conventions.range_check import check_range_used
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section
from bigrestore.io.store.placement import scaled_placement
from bigrestore.settings import ScoreSettings
from bigrestore.settings.values import SCALES

log = logging.getLogger(__name__)

VOXEL_TOLERANCE = 0.01
"""Relative difference of voxel sizes that is rounding."""

OFFSET_TOLERANCE_PX = 0.5
"""Offset, in pixels of the image, that is rounding."""

ROWS_AT_ONCE = 480

ROUNDING = 1e-6
"""Difference of grey values of 0..1 that comes of computing them in float32."""

ImagePaths = str | Path | list[str | Path]


def open_images(
    image: ImagePaths, before: ImagePaths | None, reference: ImagePaths | None, settings: ScoreSettings
) -> tuple[Section, Section | None, Section | None]:
    """Open the images to be scored, each with its value range.

    Raises
    ------
    InputMissingError, InputError, UsageError
        For an unreadable image, or different value ranges nobody stated.
    """
    main = open_section(
        image,
        level=settings.level,
        series=settings.series,
        voxel_size_um=settings.voxel_size,
        input_range=settings.input_range,
        storage_options=settings.storage_options,
    )
    check_range_used(main, settings.input_range)
    others: list[Section | None] = []
    for path, open_other, asked, flag in (
        (before, _open_before, settings.before_range, "--before-range"),
        (reference, _open_reference, settings.reference_range, "--reference-range"),
    ):
        if path is None:
            others.append(None)
            continue
        other = open_other(path, main, settings)
        if asked is None and other.dtype == main.dtype:
            other = attrs.evolve(other, value_range=main.value_range, range_place=None)
            check_range_used(other, settings.input_range, flag)
        else:
            check_range_used(other, asked, flag)
        _check_value_ranges(main, other, stated=asked is not None, flag=flag)
        others.append(other)
    return main, others[0], others[1]


def _open_reference(path: ImagePaths, _: Section, settings: ScoreSettings) -> Section:
    """Open the clean image."""
    return open_section(
        path,
        series=settings.reference_series,
        input_range=settings.reference_range,
        storage_options=settings.storage_options,
    )


def _open_before(path: ImagePaths, image: Section, settings: ScoreSettings) -> Section:
    """Open what an image was made of: the image of its file and the level that its run read, where they are there."""
    stated = provenance_of(image.details)
    series, channel, level = image_read(stated)
    asked = settings.before_series
    opened = partial(
        open_section, path, input_range=settings.before_range, storage_options=settings.storage_options
    )
    if (series, channel, level) != (None, None, 0):
        with contextlib.suppress(UsageError):  # of another file, which has no such image or level
            other = opened(series=series if asked is None else asked, channel=channel, level=level)
            if [*other.shape, other.channels] == part_of(stated, "input").get("shape"):
                return other
    return opened(series=asked)


def find_scale(image: Section, before: Section) -> int:
    """Return how many pixels of the image there are per pixel of its input, along y and x.

    Raises
    ------
    UsageError
        Where the shapes do not fit at 1, 2 or 4.
    """
    for scale in SCALES:
        if image.shape == (before.depth, before.height * scale, before.width * scale):
            return scale
    raise UsageError(
        f"{image.source} has {_size(image)} pixels (z, y, x) and {before.source} {_size(before)}, which is not the same "
        "field at 1, 2 or 4 pixels per pixel; give the input that the image was made of."
    )


def check_reference(image: Section, reference: Section) -> None:
    """Refuse a reference of another shape.

    Raises
    ------
    UsageError
        Naming both.
    """
    if image.shape != reference.shape:
        raise UsageError(
            f"the reference {reference.source} has {_size(reference)} pixels (z, y, x) and {image.source} "
            f"{_size(image)}; give a reference of the image's own scale and field."
        )


def check_placement(image: Section, other: Section, scale: int) -> None:
    """Refuse images of different places, by their voxel sizes and offsets.

    Raises
    ------
    UsageError
        Naming the axis and the two values.
    """
    sizes, starts = scaled_placement(other.voxel_size_um, other.translation_um, scale)
    remedy = "correct the metadata, or compare all the same by --any-placement"
    for index, axis in enumerate("zyx"):
        own, expected = image.voxel_size_um[index], sizes[index]
        if own is None or expected is None:
            continue
        if abs(own - expected) > VOXEL_TOLERANCE * expected:
            raise UsageError(
                f"{image.source} has a voxel size of {own:g} um along {axis}, but {other.source} means "
                f"{expected:g} um at x{scale}; {remedy}."
            )
        start, wanted = image.translation_um[index], starts[index]
        if start is None or wanted is None:
            continue
        if abs(start - wanted) > OFFSET_TOLERANCE_PX * own:
            raise UsageError(
                f"{image.source} begins at {start:g} um along {axis}, but {other.source} means {wanted:g} um; "
                f"{remedy}."
            )


def refuse_degraded_reference(image: Section, before: Section | None, reference: Section) -> None:
    """Refuse the degraded input, or the image itself, as a reference: to be like it is no quality.

    Raises
    ------
    UsageError
        Naming the reference's origin.
    """
    seen = reference.fingerprint()["windows_blake2b"]
    for other, what in ((before, "the degraded input"), (image, "the image itself")):
        if other is not None and _same_pixels(other, reference, seen):
            raise UsageError(
                f"the reference {reference.source} is {what} {other.source}, pixel by pixel; PSNR and SSIM against it "
                "would reward doing nothing, so give a clean image or leave --reference out."
            )
    if part_of(provenance_of(image.details), "input").get("windows_blake2b") == seen:
        raise UsageError(
            f"the reference {reference.source} is the degraded input that {image.source} says it was restored from; "
            "PSNR and SSIM against it would reward doing nothing, so give a clean image or leave --reference out."
        )


def tile_side(image: Section, settings: ScoreSettings) -> int:
    """Return the side of the score tiles, as asked for or fitting; refuse one that does not fit, and warn of the unusual.

    Raises
    ------
    UsageError
        With the largest possible size.
    """
    side = settings.tile_size or fitting_score_tile(image.height, image.width)
    smallest = min(image.height, image.width)
    if side > smallest:
        largest = smallest // SCORE_STEP_PX * SCORE_STEP_PX
        remedy = (
            f"give --tile-size {largest}, or leave it out"
            if largest
            else f"even --tile-size {SCORE_STEP_PX}, the smallest, does not fit, so give a larger image"
        )
        raise UsageError(
            f"a tile has {side} x {side} pixels and {image.source} only {image.height} x {image.width}, so there is "
            f"no whole tile; {remedy}."
        )
    if side != SCORE_TILE_PX:
        log.warning(
            "Tiles of %d px: the size is part of a score (NIQE of one image reads 8.8 at 96, 4.2 at 288 and 3.3 at 512 px), "
            "so compare these scores with none of another size.",
            side,
        )
    return side


def _check_value_ranges(image: Section, other: Section, *, stated: bool, flag: str) -> None:
    """Refuse two value ranges nobody stated."""
    if stated or (image.dtype == other.dtype and image.value_range == other.value_range):
        return
    low, high = other.value_range
    raise UsageError(
        f"{image.source} is {image.dtype} and {other.source} {other.dtype}, and nobody knows that their black "
        f"and white mean the same; say what they are by {flag} LO HI ({low:g} {high:g} is the range of {other.dtype})."
    )


def _same_pixels(one: Section, other: Section, seen: list[str]) -> bool:
    """Tell whether two images show the same, in whatever type and range each is stored.

    For one type the stored values are compared, by samples first and then all of them; for two types the grey values,
    up to the rounding of the coarser type.
    """
    if one.shape != other.shape:
        return False
    alike = one.dtype == other.dtype and one.channels == other.channels
    if alike and one.fingerprint()["windows_blake2b"] != seen:
        return False
    tolerance = max(_half_step(one), _half_step(other)) + ROUNDING
    for z in range(one.depth):
        for y in range(0, one.height, ROWS_AT_ONCE):
            window = z, y, min(y + ROWS_AT_ONCE, one.height), 0, one.width
            if alike:
                same = one.read(*window).tobytes() == other.read(*window).tobytes()
            else:
                greys = [to_grey(image.read(*window), image.value_range) for image in (one, other)]
                same = bool(np.max(np.abs(greys[0] - greys[1])) <= tolerance)
            if not same:
                return False
    return True


def _half_step(section: Section) -> float:
    """Return half the distance of neighbouring grey values of an image, on 0..1; 0 of floats."""
    low, high = section.value_range
    return 0.0 if section.dtype.kind == "f" else 0.5 / (high - low)


def _size(section: Section) -> str:
    return " x ".join(map(str, section.shape))
