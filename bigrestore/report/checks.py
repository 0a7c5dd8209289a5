"""What may be compared: images of one field, one grid and one value range, and a reference that is one.

Scores of images that do not show the same pixels look like any other scores. So whatever the files say of
themselves (shape, voxel size, offset, type, where they came from) must fit, and what does not is named with the way
out.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.pixels import luma, to_unit
from bigrestore.errors import UsageError
from bigrestore.flags import SCALES
from bigrestore.io.range_check import check_range_used
from bigrestore.io.section import Section, open_section
from bigrestore.io.store.placement import scaled_placement
from bigrestore.settings import ScoreSettings

log = logging.getLogger(__name__)

VOXEL_TOLERANCE = 0.01
"""Relative difference of voxel sizes that is rounding."""

OFFSET_TOLERANCE_PX = 0.5
"""Offset, in pixels of the image, that is rounding."""

ROWS_AT_ONCE = 480

ROUNDING = 1e-6
"""Difference of grey values of 0..1 that comes of computing them in float32."""

Inputs = str | Path | list[str | Path]


def open_images(
    image: Inputs, before: Inputs | None, reference: Inputs | None, settings: ScoreSettings
) -> tuple[Section, Section | None, Section | None]:
    """Open what is to be scored, each with its value range.

    Raises
    ------
    InputMissingError, InputError, UsageError
        Where one cannot be opened, or value ranges differ and nobody said what they are.
    """
    main = open_section(
        image,
        level=settings.level,
        voxel_size_um=settings.voxel_size,
        input_range=settings.input_range,
        storage_options=settings.storage_options,
    )
    check_range_used(main, settings.input_range)
    others: list[Section | None] = []
    for path, asked, flag in (
        (before, settings.before_range, "--before-range"),
        (reference, settings.reference_range, "--reference-range"),
    ):
        if path is None:
            others.append(None)
            continue
        found = open_section(path, input_range=asked, storage_options=settings.storage_options)
        if asked is None and found.dtype == main.dtype:
            found = attrs.evolve(found, value_range=main.value_range)
            check_range_used(found, settings.input_range, flag)
        else:
            check_range_used(found, asked, flag)
        _check_range(main, found, stated=asked is not None, flag=flag)
        others.append(found)
    return main, others[0], others[1]


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
    """Refuse images whose voxel sizes or offsets say that they show different places.

    Raises
    ------
    UsageError
        Naming the axis and the two values.
    """
    sizes, starts = scaled_placement(other.voxel_size_um, other.translation_um, scale)
    way_out = "correct the metadata, or compare all the same by --any-placement"
    for index, axis in enumerate("zyx"):
        own, expected = image.voxel_size_um[index], sizes[index]
        if own is None or expected is None:
            continue
        if abs(own - expected) > VOXEL_TOLERANCE * expected:
            raise UsageError(
                f"{image.source} has a voxel size of {own:g} um along {axis}, but {other.source} means "
                f"{expected:g} um at x{scale}; {way_out}."
            )
        start, wanted = image.translation_um[index], starts[index]
        if start is None or wanted is None:
            continue
        if abs(start - wanted) > OFFSET_TOLERANCE_PX * own:
            raise UsageError(
                f"{image.source} begins at {start:g} um along {axis}, but {other.source} means {wanted:g} um; "
                f"{way_out}."
            )


def refuse_degraded_reference(image: Section, before: Section | None, reference: Section) -> None:
    """Refuse the degraded input, or the image itself, as a reference: to be like it is no quality.

    Raises
    ------
    UsageError
        Naming what the reference is.
    """
    seen = reference.fingerprint()["windows_blake2b"]
    for other, what in ((before, "the degraded input"), (image, "the image itself")):
        if other is not None and _same_pixels(other, reference, seen):
            raise UsageError(
                f"the reference {reference.source} is {what} {other.source}, pixel by pixel; PSNR and SSIM against it "
                "would reward doing nothing, so give a clean image or leave --reference out."
            )
    if made_of(image).get("windows_blake2b") == seen:
        raise UsageError(
            f"the reference {reference.source} is the degraded input that {image.source} says it was restored from; "
            "PSNR and SSIM against it would reward doing nothing, so give a clean image or leave --reference out."
        )


def provenance_of(section: Section) -> dict[str, Any]:
    """Return what bigrestore wrote about itself into a store of its own, empty where there is nothing."""
    found = section.details.get("bigrestore")
    return dict(found) if isinstance(found, dict) else {}


def made_of(section: Section) -> dict[str, Any]:
    """Return what a store of bigrestore says of the input that it was made of, empty where it says nothing."""
    found = provenance_of(section).get("input")
    return found if isinstance(found, dict) else {}


def check_tile(image: Section, settings: ScoreSettings) -> None:
    """Refuse a tile larger than the image, and warn where its size is not the usual one.

    Raises
    ------
    UsageError
        With the largest size that would do.
    """
    side, smallest = settings.tile_size, min(image.height, image.width)
    if side > smallest:
        largest = smallest // 96 * 96
        way_out = (
            f"give --tile-size {largest}"
            if largest
            else "even --tile-size 96, the smallest, does not fit, so give a larger image"
        )
        raise UsageError(
            f"a tile has {side} x {side} pixels and {image.source} only {image.height} x {image.width}, so there is "
            f"no whole tile; {way_out}."
        )
    if side != 480:
        log.warning(
            "Tiles of %d px: the size is part of a score (NIQE of one image reads 8.8 at 96, 4.2 at 288 and 3.3 at 512 px), "
            "so compare these scores with none of another size.",
            side,
        )


def _check_range(image: Section, other: Section, *, stated: bool, flag: str) -> None:
    """Refuse two value ranges that nobody stated."""
    if stated or (image.dtype == other.dtype and image.value_range == other.value_range):
        return
    low, high = other.value_range
    raise UsageError(
        f"{image.source} is {image.dtype} and {other.source} {other.dtype}, and nobody knows that their black "
        f"and white mean the same; say what they are by {flag} LO HI ({low:g} {high:g} is the range of {other.dtype})."
    )


def _same_pixels(one: Section, other: Section, seen: list[str]) -> bool:
    """Tell whether two images show the same, in whatever type and range each is stored.

    Of one type the stored values are compared, by samples first and by all of them only where those agree; of two
    types the grey values, which may differ by the rounding to the coarser type.
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
                same = bool(np.max(np.abs(_grey(one, window) - _grey(other, window))) <= tolerance)
            if not same:
                return False
    return True


def _half_step(section: Section) -> float:
    """Return half the distance of neighbouring grey values of an image, on 0..1; 0 of floats."""
    low, high = section.value_range
    return 0.0 if section.dtype.kind == "f" else 0.5 / (high - low)


def _grey(section: Section, window: tuple[int, int, int, int, int]) -> NDArray[np.float32]:
    """Return a window as grey values of 0..1, colour as its luma, as it is scored."""
    unit = to_unit(section.read(*window), section.value_range)
    return luma(unit) if unit.ndim == 3 else unit


def _size(section: Section) -> str:
    return " x ".join(map(str, section.shape))
