"""Whether two images show the same tissue at the same place: their correlation in a band of middle frequencies.

Scores of two sections of equal shape look like any other scores, and nothing in the files tells the sections apart. What
both images show, whatever blur and noise one of them has, is structure of some pixels of the coarser one: finer structure
is lost in the degraded image, and coarser structure, the outline of a brain, is that of the neighbouring section, too.

Measured on real tissue: the same place blurred by up to 5 px, or with noise of up to 50 of 255, has 0.95 or more; the next
section of a series has 0.27 at most, a mirrored one 0.54 (a mouse brain is symmetric), one moved by 8 px 0.58.

Moved by 6 px it still has 0.44 to 0.74, and by 2 px 0.92, while scores of a tile compare pixel with pixel. So the shift
is found, too: the peak of the cross-correlation of the same windows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from bigrestore.core.pixels import luma, to_unit
from bigrestore.core.registration import between_samples
from bigrestore.errors import InputError, UsageError
from bigrestore.io.section import Section

LEAST_CORRELATION = 0.6
"""Correlation below which two images show different tissue."""

LARGEST_OFFSET_PX = 1.5
"""Shift along an axis from which on two images are not compared, in pixels of the coarser one."""

SEARCHED_PX = 32
"""Shift along an axis that is looked for at most, in pixels of the coarser image."""

SEARCH_STEP_PX = 2
"""Step of the cross-correlation, in pixels of the coarser image: the band holds nothing finer than four of them."""

BAND_SIGMAS_PX = (4.0, 16.0)
"""Sigmas of the two Gaussians between which the band lies, in pixels of the coarser image."""

COMPARED_PX = 128
"""Side of a compared window, in pixels of the coarser image."""

CLOSEST_PX = COMPARED_PX // 2
"""Least distance of windows."""

LATTICES = (8, 16, 32)
"""Windows along each axis at most: more where fewer have met no structure."""

MIRRORED_PX = 16
"""Border of a window that is left out of the search: the band there is made of mirrored pixels, which do not shift."""

SHIFTS = np.arange(-SEARCHED_PX, SEARCHED_PX + 1, SEARCH_STEP_PX) // SEARCH_STEP_PX
"""The shifts that are tried, in steps."""

IN_BAND = (
    1 / BAND_SIGMAS_PX[0] ** 2
    + 1 / BAND_SIGMAS_PX[1] ** 2
    - 4 / (BAND_SIGMAS_PX[0] ** 2 + BAND_SIGMAS_PX[1] ** 2)
) / (4 * np.pi)
"""Part of the variance of white noise in the band: the sum of the squared taps of a difference of Gaussians."""

LEAST_SIGNAL = 0.3
"""Part of an image's variance in the band that is taken for structure at least, however much noise there seems to be."""

FLATTEST = 0.5 / 255
"""Standard deviation in the band below which an image has no structure to compare."""


@attrs.frozen
class Comparison:
    """How two images of one field agree.

    Attributes
    ----------
    correlation : float
        In the band, as they lie, -1..1.
    best : float
        After the best shift, -1..1.
    shift_px : (float, float)
        By which the content of the coarser image lies below and right of that of the other, in its pixels.
    """

    correlation: float
    best: float
    shift_px: tuple[float, float]

    @property
    def shifted(self) -> bool:
        """Whether both show the same tissue at places too far apart."""
        return self.best >= LEAST_CORRELATION and max(map(abs, self.shift_px)) >= LARGEST_OFFSET_PX


def require_same_tissue(image: Section, other: Section, scale: int, what: str) -> None:
    """Refuse an image that shows other tissue than another, or the same at another place.

    Parameters
    ----------
    image, other : Section
        Two images of one field.
    scale : int
        Pixels of `image` per pixel of `other`.
    what : str
        The flag of `other`, for the message.

    Raises
    ------
    UsageError
        Naming both, and their shift or their correlation.
    """
    compared = compare_structure(image, other, scale)
    if compared is None:
        return
    if compared.shifted:
        raise UsageError(
            f"{what} {other.source} is shifted by {_shift_words(compared.shift_px)} against {image.source}, and tiles are "
            "compared pixel by pixel; register the two images first, or compare all the same by --force."
        )
    correlation = compared.correlation
    if correlation >= LEAST_CORRELATION:
        return
    how = (
        "shows it with black and white exchanged, so that it has to be inverted"
        if correlation <= -LEAST_CORRELATION
        else "shows another place, or a flipped one"
    )
    raise UsageError(
        f"{what} {other.source} does not show what {image.source} shows: the correlation of their structure is "
        f"{correlation:.2f}, and of one place it is {LEAST_CORRELATION} or more; it {how}, so give the right one, or "
        "compare all the same by --force."
    )


def compare_structure(image: Section, other: Section, scale: int) -> Comparison | None:
    """Compare two images in the band; None where one has no structure.

    Parameters
    ----------
    image, other : Section
        Two images of one field.
    scale : int
        Pixels of `image` per pixel of `other`.
    """
    for count in LATTICES:
        surface, weighted, weights = np.zeros((len(SHIFTS),) * 2), 0.0, 0.0
        energy, pixels = np.zeros(2), 0
        for z, y, x in _sampled_places(other, count):
            pair = _sampled_window(image, other, scale, z, y, x)
            if pair is not None:
                one, two = (_band_passed(part) for part in pair)
                squares = np.array([np.sum(one * one), np.sum(two * two)])
                noise = np.array([_noise(part) ** 2 * one.size * IN_BAND for part in pair])
                signal = np.maximum(squares - noise, LEAST_SIGNAL * squares)
                energy, pixels = energy + squares, pixels + one.size
                if signal.min() > 0:
                    # a fold or a bubble of one image counts as the tissue it hides
                    weight, size = signal.min() ** 0.5, np.sqrt(signal.prod())
                    weighted += weight * float(np.clip(np.sum(one * two) / size, -1, 1))
                    surface += weight * np.sqrt(squares.prod()) / size * _cross_correlation(one, two)
                    weights += weight
        if pixels and energy.min() > FLATTEST**2 * pixels:
            return Comparison(float(weighted / weights), *_peak(surface / weights)) if weights else None
        if count * CLOSEST_PX >= max(other.height, other.width):
            break  # every pixel was met
    return None


def _cross_correlation(one: NDArray[np.float64], two: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlation of one[i] and two[i + d] over the pixels that both have, for all shifts d.

    It is 0 for shifts that leave less than half of a narrow window.
    """
    rows, columns = (
        slice(MIRRORED_PX, -MIRRORED_PX) if side >= COMPARED_PX else slice(None) for side in one.shape
    )
    one, two = (part[rows, columns][::SEARCH_STEP_PX, ::SEARCH_STEP_PX] for part in (one, two))
    ones = np.ones_like(one)
    surfaces = (two, one), (two * two, ones), (ones, one * one)
    sums, *energies = (fftconvolve(later, earlier[::-1, ::-1]) for later, earlier in surfaces)
    least = np.finfo(float).tiny + 1e-6 * float(np.sum(one * one) * np.sum(two * two))
    correlation = sums / np.sqrt(np.maximum(energies[0] * energies[1], least))
    for axis, length in enumerate(one.shape):
        correlation = np.take(correlation, np.clip(SHIFTS + length - 1, 0, 2 * length - 2), axis)
        correlation = correlation * np.expand_dims(np.abs(SHIFTS) <= length // 2, 1 - axis)
    return np.asarray(correlation)


def _peak(surface: NDArray[np.float64]) -> tuple[float, tuple[float, float]]:
    """Return the height of the highest correlation and its (y, x) in pixels, by a parabola through its neighbours."""
    y, x = (int(at) for at in np.unravel_index(int(np.argmax(surface)), surface.shape))

    def place(values: NDArray[np.float64], at: int) -> float:
        return SEARCH_STEP_PX * (float(SHIFTS[at]) + between_samples(values, at))

    return float(min(1.0, surface[y, x])), (place(surface[:, x], y), place(surface[y], x))


def _shift_words(shift_px: tuple[float, float]) -> str:
    """Return a shift in words, such as "6 px down and 2 px left"."""
    names = (("down", "up"), ("right", "left"))
    parts = [
        f"{abs(shift):.0f} px {name[shift < 0]}"
        for shift, name in zip(shift_px, names, strict=True)
        if abs(shift) >= 0.5
    ]
    return " and ".join(parts)


def _sampled_places(section: Section, count: int) -> Iterator[tuple[int, int, int]]:
    """Yield the corners of windows, spread evenly over some sections."""
    depths = dict.fromkeys(section.depth * part // 4 for part in (2, 1, 3))
    rows, columns = (
        dict.fromkeys(
            np.linspace(0, max(0, side - COMPARED_PX), min(count, -(-side // CLOSEST_PX)))
            .astype(int)
            .tolist()
        )
        for side in (section.height, section.width)
    )
    yield from itertools.product(depths, rows, columns)


def _sampled_window(
    image: Section, other: Section, scale: int, z: int, y: int, x: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Return a window of both images on the grid of the coarser one; None for an unreadable one."""
    y1, x1 = min(y + COMPARED_PX, other.height), min(x + COMPARED_PX, other.width)
    try:
        coarse = _grey(other, z, y, y1, x, x1)
        fine = _grey(image, z, y * scale, y1 * scale, x * scale, x1 * scale)
    except InputError:
        return None
    means = fine.reshape(y1 - y, scale, x1 - x, scale).mean(axis=(1, 3))
    return np.asarray(means, np.float32), coarse


def _grey(section: Section, *window: int) -> NDArray[np.float32]:
    z, y0, y1, x0, x1 = window
    unit = to_unit(section.read(z, y0, y1, x0, x1), section.value_range)
    return luma(unit) if unit.ndim == 3 else unit


def _band_passed(window: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what of a window lies in the band."""
    values = window.astype(np.float64)
    return np.asarray(gaussian_filter(values, BAND_SIGMAS_PX[0]) - gaussian_filter(values, BAND_SIGMAS_PX[1]))


def _noise(window: NDArray[np.float32]) -> float:
    """Return the standard deviation of white noise, by a mask that sees neither slopes nor curves (Immerkaer 1996)."""
    rows = np.diff(window.astype(np.float64), 2, axis=0)
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(np.diff(rows, 2, axis=1)).mean())
