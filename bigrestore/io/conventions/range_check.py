"""Check that an image uses its stated range of values.

Cameras store 10, 12 or 14 bits in 16. Taken for values up to 65535 such a section is nearly black: blur and noise are
estimated wrong, and the output is spoilt. The range is never guessed from the pixels, since a dark section is dark.
But if even the brightest sampled pixel lies far below white, the user has to state the range. A stated range cuts off what
lies beyond it: much of that is worth a warning, and where nothing would be left the range is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.errors import InputError
from bigrestore.io.section import SAMPLED_PX, SAMPLED_WINDOWS, Section
from bigrestore.settings.values import FULL, ValueRange

log = logging.getLogger(__name__)

CAMERA_BITS = (8, 10, 12, 14)
"""Bit depths of cameras and scanners."""

FAR_BELOW = 4
"""Values below white divided by this use at most 14 of 16 bits."""

CHECKED_THUMBNAIL_PX = 1024

FEW_VALUES = 16
"""Images with fewer grey values may have empty low bits by chance."""

MOST_CLIPPED = 0.001
"""Part of the sampled pixels beyond the stated range that causes a warning."""

NOTHING_LEFT = 0.001
"""Part of the pixels within the stated range, below which nothing of the image is left."""


@attrs.define
class _Seen:
    """The sampled windows: the largest value, the bits set in any value, and some of the values."""

    largest: float = -np.inf
    bits: int = 0
    values: set[int] = attrs.field(factory=set)

    def add(self, window: NDArray[Any]) -> None:
        """Look at one window."""
        self.largest = max(self.largest, float(window.max()))
        if window.dtype.kind == "u":
            self.bits |= int(np.bitwise_or.reduce(window, axis=None))
            if len(self.values) < FEW_VALUES:
                self.values.update(np.unique(window)[:FEW_VALUES].tolist())

    @property
    def empty_bits(self) -> int:
        """Number of low bits that are 0 in all values."""
        return max(0, (self.bits & -self.bits).bit_length() - 1)


def check_range_used(
    section: Section, asked: ValueRange | None, flag: str = "--input-range", *, profiled: bool = False
) -> None:
    """Refuse an image that does not use its type's range if no other was stated, or that lies beyond the stated one.

    Parameters
    ----------
    section : Section
        The image.
    asked : (lo, hi) or "full", optional
        The stated range; None: the range of the type is used.
    flag : str
        The flag that states it, for the message.
    profiled : bool
        Whether the image gets a profile, which warns of clipping by its windows of tissue.

    Raises
    ------
    InputError
        Naming the largest value that was seen, and the likely range; or the values beyond the stated one.
    """
    if asked is None and section.range_place is not None:
        _require_within(section, flag)
        return
    if asked == FULL or (asked is None and section.dtype == np.uint8):
        return
    if asked is not None:
        _check_clipping(section, flag, warn=not profiled)
        return
    seen, white = _Seen(), section.value_range[1]
    for window in _sampled_windows(section, _depths(section)):
        seen.add(window)
        if seen.largest * 2 > white and seen.empty_bits < 2:
            return
    if 0 < seen.largest * FAR_BELOW <= white:
        brightest = max(seen.largest, _brightest_mean(section, white / FAR_BELOW))
        if brightest * FAR_BELOW <= white:
            raise _refusal(section, brightest, flag)
    elif 0 < seen.largest * 2 <= white:
        log.warning(
            "%s: the largest sampled value is %g, and %g is taken for white; if white is less, give it by %s.",
            *(section.source, seen.largest, white, flag),
        )
    if section.dtype == np.uint16 and seen.empty_bits > 1 and len(seen.values) >= FEW_VALUES:
        log.warning(
            "%s uses %d of 16 bits: the low %d are 0 in all samples, as from a camera that aligns its values to the left; "
            "they are right as they are.",
            *(section.source, 16 - seen.empty_bits, seen.empty_bits),
        )


def _require_within(section: Section, flag: str) -> None:
    """Refuse an image with pixels beyond the range that its own file states."""
    low, high = section.value_range
    pixels, within = _pixels_within(section, low, high)
    if within < pixels:
        raise InputError(
            f"{section.source} states values from {low:g} to {high:g} by {section.range_place}, but "
            f"{100 * (1 - within / pixels):.2g} % of its sampled pixels lie beyond; say what black and white are by "
            f"{flag} LO HI, or {flag} full."
        )


def _check_clipping(section: Section, flag: str, *, warn: bool) -> None:
    """Warn if many sampled pixels lie beyond the stated range; refuse it if nothing of the image is left within."""
    low, high = section.value_range
    pixels, within = _pixels_within(section, low, high)
    if within < NOTHING_LEFT * pixels:
        thumbnails = list(_thumbnails(section))
        left = sum(_count_within(thumbnail, low, high) for thumbnail in thumbnails)
        if thumbnails and left < NOTHING_LEFT * sum(thumbnail.size for thumbnail in thumbnails):
            darkest, brightest = (
                float(pick([pick(thumbnail) for thumbnail in thumbnails])) for pick in (np.min, np.max)
            )
            raise InputError(
                f"{section.source} has values from {darkest:g} to {brightest:g}, and not one in a thousand lies within "
                f"{flag} {low:g} {high:g}, so that nothing of it would be left; state its black and white."
            )
    if warn and pixels - within > MOST_CLIPPED * pixels:
        log.warning(
            "%s: %.1f %% of the sampled pixels lie beyond %s %g %g, and are cut off at its ends.",
            *(section.source, 100 * (1 - within / pixels), flag, low, high),
        )


def _pixels_within(section: Section, low: float, high: float) -> tuple[int, int]:
    """Return the number of sampled pixels, and of those within a range."""
    pixels, within = 0, 0
    for window in _sampled_windows(section, _depths(section)):
        pixels += window.size
        within += _count_within(window, low, high)
    return pixels, within


def _count_within(values: NDArray[Any], low: float, high: float) -> int:
    return int(((values >= low) & (values <= high)).sum())


def _refusal(section: Section, largest: float, flag: str) -> InputError:
    """Return the sentence with the likely range."""
    white = section.value_range[1]
    seen = f"{section.source} is {section.dtype.name}, but the largest sampled value is {largest:g} and {white:g} is white"
    if section.dtype.kind == "f":
        return InputError(
            f"{seen}; say what black and white are by {flag} LO HI, or that it is really that dark by {flag} full."
        )
    bits = next(n for n in CAMERA_BITS if largest < 2**n)
    return InputError(
        f"{seen}, so it likely holds the {bits} bits of a camera: give {flag} 0 {2**bits - 1}, or {flag} full where it is "
        "really that dark."
    )


def _sampled_windows(section: Section, depths: list[int]) -> Iterator[NDArray[Any]]:
    """Yield windows on a lattice over some sections, skipping unreadable ones."""
    for z in depths:
        for at in range(SAMPLED_WINDOWS):
            y = max(0, section.height - SAMPLED_PX) * (at // 3) // 2
            x = max(0, section.width - SAMPLED_PX) * (at % 3) // 2
            try:
                yield section.read(
                    z, y, min(y + SAMPLED_PX, section.height), x, min(x + SAMPLED_PX, section.width)
                )
            except InputError:
                log.debug("%s cannot be read at z %d, y %d, x %d.", section.source, z, y, x)


def _brightest_mean(section: Section, enough: float) -> float:
    """Return the largest mean in thumbnails of some sections, stopping above `enough`."""
    brightest = -np.inf
    for thumbnail in _thumbnails(section):
        brightest = max(brightest, float(thumbnail.max()))
        if brightest > enough:
            break
    return brightest


def _thumbnails(section: Section) -> Iterator[NDArray[Any]]:
    """Yield small pictures of some sections, skipping unreadable ones."""
    for z in _depths(section):
        try:
            yield section.lowres(z, CHECKED_THUMBNAIL_PX)[0]
        except InputError:
            log.debug("%s cannot be read everywhere in section %d.", section.source, z)


def _depths(section: Section) -> list[int]:
    """Return the sections to look at: the middle one, and some evenly spread."""
    last = section.depth - 1
    return list(dict.fromkeys([last // 2, 0, last // 4, 3 * last // 4, last]))
