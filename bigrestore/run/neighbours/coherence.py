"""How much two sections have in common: their shift, window by window, and the coherence of what is left.

Sections are some 20 um thick, about the size of a cell: the next one holds other cells, but the same layers and the
same course of vessels. The coherence of two registered sections, frequency by frequency, says down to which length they
show the same.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, minimum_filter, shift
from scipy.signal import correlate

from bigrestore.core.pixels import Doubles, Floats, to_grey
from bigrestore.core.registration import between_samples
from bigrestore.errors import InputError
from bigrestore.io.section import Section
from bigrestore.run.profile.section_profile import thumbnail_of, tissue_windows

log = logging.getLogger(__name__)

COHERENCE_PX = 256
"""Side of the windows whose coherence is measured, input pixels."""

MOST_SHIFT_PX = 16
"""Largest shift between neighbouring sections that is looked for, input pixels."""

AROUND_PX = 20
"""Pixels on each side of a window that are read of a neighbour: a little more, so that the best shift has both its sides."""

SMOOTH_PX = 4.0
"""Standard deviation of the Gaussian under which sections are registered, input pixels."""

TREND_PX = 32.0
"""Standard deviation of the Gaussian whose result is left out of it: grey trends resemble each other everywhere."""

BORDER_PX = 8
"""Pixels along damage and the window's border that are not registered: their smoothing lacks what lies beyond."""

RINGS = 48
"""Rings of frequency up to 0.5 cycles/px."""

LEAST_SIGMA_PX, MOST_SIGMA_PX = 4.0, 32.0
"""Standard deviation of the Gaussian that takes a neighbour's detail out: least, and where nothing is in common."""

HALF_AMPLITUDE = math.sqrt(math.log(2) / 2) / math.pi
"""Standard deviation of a Gaussian that halves a wave, in periods of it: exp(-2 (pi s / p)^2) = 1/2."""

LEAST_COHERENCE = 0.2
"""Coherence below which two sections count as different."""

COHERENCE_WINDOWS = 16
"""Windows of a pair of sections that are looked at."""


@attrs.frozen
class Displacement:
    """Where a window lies in the neighbouring section.

    Attributes
    ----------
    y, x : float
        What is seen at (r, c) is at (r + y, c + x) there, input pixels.
    correlation : float
        Normalised correlation of the structures of both after the shift, -1..1, over valid pixels.
    """

    y: float
    x: float
    correlation: float


@attrs.frozen(eq=False)
class Coherence:
    """The coherence of two sections.

    Attributes
    ----------
    values : ndarray, (48,)
        Of each ring of frequency, 0..1, from 0 to 0.5 cycles/px.
    length_px : float
        Length below which they differ: the period at which the coherence falls below 0.2, input pixels; infinite where
        it is low throughout.
    windows : int
        Windows looked at.
    shift_px : float
        Median length of their shifts.
    correlation : float
        Median of their correlations.
    """

    values: Doubles
    length_px: float
    windows: int
    shift_px: float
    correlation: float

    def to_json(self) -> dict[str, Any]:
        """Return the coherence as a JSON document."""
        length = self.length_px if math.isfinite(self.length_px) else None
        return attrs.asdict(self) | {"values": [round(float(v), 4) for v in self.values], "length_px": length}

    def rows(self, voxel_size_um: Sequence[float | None]) -> list[tuple[str, str]]:
        """Return the coherence as names and values for people."""
        size = voxel_size_um[2]
        reach = "nothing: they differ at all lengths"
        if math.isfinite(self.length_px):
            unit = f" ({self.length_px * size:.0f} um)" if size else ""
            reach = f"what is longer than {self.length_px:.0f} px{unit}"
        periods = [2, 4, 8, 16, 32, 64]
        marks = [f"{period} px {self.values[min(2 * RINGS // period, RINGS - 1)]:.2f}" for period in periods]
        return [
            ("in common", reach),
            ("coherence", ", ".join(marks)),
            ("shift", f"{self.shift_px:.1f} px in the median of {self.windows} windows"),
            ("correlation", f"{self.correlation:.2f} of structures of {SMOOTH_PX:.0f} to {TREND_PX:.0f} px"),
        ]


def find_shift(own: Floats, other: Floats, valid: NDArray[np.bool_] | None = None) -> Displacement:
    """Register a window in the neighbouring section.

    Parameters
    ----------
    own : ndarray, (h, w)
        Grey values.
    other : ndarray, (h + 40, w + 40)
        Those of the neighbour: 20 px more on each side.
    valid : ndarray, (h, w), bool, optional
        False for pixels of `own` that are damaged.
    """
    sound = np.ones(own.shape, bool) if valid is None else valid
    weight = minimum_filter(halved(sound.astype(np.float64)) == 1, BORDER_PX + 1, mode="constant").astype(
        np.float64
    )
    smooth = structure(own, sound) * weight
    there = structure(other)
    pixels = weight.sum()
    if pixels < 1:
        return Displacement(0.0, 0.0, 0.0)
    first = smooth.sum()
    second, squares, product = (
        correlate(a, b, mode="valid") for a, b in ((there, weight), (there**2, weight), (there, smooth))
    )
    deviations = np.maximum(squares - second**2 / pixels, 1e-12) * max(
        (smooth**2).sum() - first**2 / pixels, 1e-12
    )
    correlation = (product - first * second / pixels) / np.sqrt(deviations)
    row, column = np.unravel_index(int(correlation.argmax()), correlation.shape)
    y, x = (
        at + between_samples(line, at)
        for line, at in ((correlation[:, column], int(row)), (correlation[row], int(column)))
    )
    return Displacement(2 * y - AROUND_PX, 2 * x - AROUND_PX, float(correlation[row, column]))


def structure(image: Floats, valid: NDArray[np.bool_] | None = None) -> Doubles:
    """Return the structures of an image between 4 and 32 px, by which sections are registered, on every second pixel.

    Parameters
    ----------
    image : ndarray, (h, w)
        Grey values.
    valid : ndarray, (h, w), bool, optional
        False where they are damaged.

    Returns
    -------
    ndarray, (h // 2, w // 2)
    """
    sound = np.ones(image.shape) if valid is None else valid.astype(np.float64)
    share, grey = halved(sound), halved(image * sound)

    def smoothed(sigma_px: float) -> Doubles:
        return np.asarray(
            gaussian_filter(grey, sigma_px / 2) / np.maximum(gaussian_filter(share, sigma_px / 2), 1e-6)
        )

    return smoothed(SMOOTH_PX) - smoothed(TREND_PX)


def halved(image: NDArray[Any]) -> Doubles:
    """Return the means over 2 x 2 pixels; an odd last row or column is left out."""
    height, width = (size // 2 for size in image.shape)
    cells = image[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    return np.asarray(cells.mean(axis=(1, 3)), np.float64)


def seen_from(other: Floats, by: Displacement) -> Floats:
    """Return the neighbour as seen from the window, (h, w) of (h + 40, w + 40): linear between pixels."""
    there = shift(other.astype(np.float32), (-by.y, -by.x), order=1, mode="nearest")
    return np.asarray(there[AROUND_PX:-AROUND_PX, AROUND_PX:-AROUND_PX], np.float32)


def read_around(section: Section, z: int, box: Sequence[int]) -> NDArray[Any]:
    """Read a window (y0, y1, x0, x1) with 20 px on each side, the section's border replicated."""
    y0, y1, x0, x1 = box
    top, bottom = max(0, y0 - AROUND_PX), min(section.height, y1 + AROUND_PX)
    left, right = max(0, x0 - AROUND_PX), min(section.width, x1 + AROUND_PX)
    pixels = section.read(z, top, bottom, left, right)
    sides = [
        (AROUND_PX - (y0 - top), AROUND_PX - (bottom - y1)),
        (AROUND_PX - (x0 - left), AROUND_PX - (right - x1)),
        (0, 0),
    ]
    return np.pad(pixels, sides[: pixels.ndim], mode="edge")


def coherence(section: Section, z: int, other: int) -> Coherence:
    """Measure the coherence of two sections of a volume, over windows of tissue.

    Raises
    ------
    InputError
        One of them cannot be read, or has no window of tissue.
    """
    taper = np.outer(*(np.hanning(COHERENCE_PX),) * 2)
    ring = _rings()
    both, one, two = (np.zeros(RINGS, complex) for _ in range(3))
    shifts = []
    for y, x in _coherence_windows(section, z):
        box = (y, y + COHERENCE_PX, x, x + COHERENCE_PX)
        own = to_grey(section.read(z, *box), section.value_range)
        around = to_grey(read_around(section, other, box), section.value_range)
        shifts.append(find_shift(own, around))
        spectra = [
            np.fft.fft2((image - image.mean()) * taper) for image in (own, seen_from(around, shifts[-1]))
        ]
        for total, product in (
            (both, spectra[0] * spectra[1].conj()),
            (one, np.abs(spectra[0]) ** 2),
            (two, np.abs(spectra[1]) ** 2),
        ):
            total += _per_ring(product, ring)
    if not shifts:
        raise InputError(
            f"Section {z} of {section.source} has no window of {COHERENCE_PX} px with tissue, so nothing is known of its "
            "neighbours; choose another one."
        )
    values = np.abs(both) ** 2 / np.maximum((one * two).real, 1e-30)
    lengths = [float(np.hypot(each.y, each.x)) for each in shifts]
    return Coherence(
        values,
        _length(values),
        len(shifts),
        float(np.median(lengths)),
        float(np.median([each.correlation for each in shifts])),
    )


def _coherence_windows(section: Section, z: int) -> list[tuple[int, int]]:
    """Return the places of at most 16 windows with at least half tissue, evenly spread."""
    if min(section.height, section.width) < COHERENCE_PX:
        return []
    return tissue_windows(section, thumbnail_of(section, z), COHERENCE_PX, COHERENCE_WINDOWS, (0.5,))


def _rings() -> NDArray[np.int64]:
    """Return the ring of each frequency of a window."""
    frequency = np.fft.fftfreq(COHERENCE_PX)
    return np.asarray(np.hypot(frequency[:, None], frequency) * 2 * RINGS).astype(np.int64).ravel()


def _per_ring(values: NDArray[Any], ring: NDArray[np.int64]) -> NDArray[np.complex128]:
    """Return the sums over the rings."""
    flat = values.ravel()
    real = np.bincount(ring, flat.real, RINGS)[:RINGS]
    imaginary = np.bincount(ring, flat.imag, RINGS)[:RINGS] if np.iscomplexobj(flat) else 0.0
    return np.asarray(real + 1j * imaginary)


def _length(values: Doubles) -> float:
    """Return the period, in pixels, from which on the coherence is low."""
    low = np.flatnonzero(values[1:] < LEAST_COHERENCE)
    if not len(low):
        return 2.0
    first = int(low[0]) + 1
    return float("inf") if first == 1 else 2 * RINGS / first


def detail_sigma(section: Section, z: int) -> float:
    """Return what a neighbour is smoothed by, input pixels: half of a wave of the coherence length passes.

    Parameters
    ----------
    section : Section
        The volume.
    z : int
        A section; its coherence with the one before or after it stands for all of them.
    """
    other = z - 1 if z else z + 1
    z = min(z, section.depth - 1)
    try:
        seen = coherence(section, z, other)
    except InputError as error:
        log.warning("The coherence of neighbouring sections is not known (%s)", error)
        return MOST_SIGMA_PX
    log.info(
        "Sections %d and %d show the same down to %.0f px; neighbours fill damage without anything smaller.",
        *(z, other, seen.length_px),
    )
    return round(min(max(HALF_AMPLITUDE * seen.length_px, LEAST_SIGMA_PX), MOST_SIGMA_PX), 2)
