"""What a section may expect of a shipped model at realness 0: its gain in PSNR, from a few restored crops.

The network states the size of its error at each pixel. An estimate that is right in the mean is nearer to the truth than
its input by what it changed, so change and stated error foretell the gain: 10 log10(1 + change / error). How much of the
fine structure is noise the network cannot know; the fall of the input's own spectrum tells some of it. The numbers beside
the shipped models (`NAME-gain.json`) join both; `python -m tests.bench.expected` fits them on clean tissue.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any

import attrs
import numpy as np

from bigrestore.core.host.arithmetic import exact_arithmetic
from bigrestore.core.pixels import Floats, to_grey
from bigrestore.errors import InputError, gpu_failures
from bigrestore.io.section import Section
from bigrestore.model.method import Method, SectionStatistics, TileBatch
from bigrestore.run.profile.section_profile import Sample, tissue_windows

CROP_PX, CROPS = 256, 6
"""Side of a crop, input pixels, and how many a section gives: half a second on one core."""

EDGE_PX = 16
"""Output pixels at the sides of a crop that are not looked at: beyond them its neighbours are missing."""

LEAST_CROP_PX = 64
"""Side of the smallest crop that says something."""

COARSE, FINE = (0.0625, 0.1875), (0.25, 0.375)
"""Bands of the spectrum, cycles per input pixel: from the one to the other it falls."""

LEAST_POWER = 0.01
"""Added to the power in both bands, of 255^2: a blank crop falls by nothing."""

ERROR = "uncertainty"
"""The map of the error that a network states: the scale of a Laplace distribution."""


@attrs.frozen
class Signs:
    """What crops of a section show of the gain.

    Attributes
    ----------
    foretold_db : float
        The gain that the change and the stated error come to.
    fall_db : float
        Power of the input in `FINE` against that in `COARSE`; negative.
    """

    foretold_db: float
    fall_db: float


@lru_cache(maxsize=4)
def read_gains(model: str) -> dict[str, Any] | None:
    """Return the fitted numbers of a shipped model; None where there are none."""
    place = files("bigrestore") / "weights" / f"{model}-gain.json"
    if not place.is_file():
        return None
    table: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return table


def expected_gain(fitted: dict[str, Any], signs: Signs) -> tuple[float, float]:
    """Return gain and spread in dB of a section that shows these signs.

    Parameters
    ----------
    fitted : dict
        From `read_gains`.
    signs : Signs
        From `signs_of`.

    Returns
    -------
    tuple of float
        The spread is 1.48 times the median distance of images left out of the fit: a standard deviation, were it normal.
    """
    low, high = fitted["foretold_db"]
    foretold = min(max(signs.foretold_db, low), high)
    offset, slope, by_fall = fitted["weights"]
    return offset + slope * foretold + by_fall * signs.fall_db, fitted["spread_db"]


def section_gain(
    section: Section, z: int, sample: Sample, method: Method, statistics: SectionStatistics
) -> tuple[float, float] | None:
    """Return gain and spread in dB of a section, at realness 0; None where nothing is known of it.

    A method may have no fitted numbers, and a section no crop that can be read.
    """
    fitted = read_gains(str(method.describe().get("model", "")))
    if fitted is None or ERROR not in getattr(method, "map_names", ()):
        return None
    places, side = tissue_windows(section, sample, CROP_PX, CROPS), CROP_PX
    if section.height * section.width <= CROPS * CROP_PX**2:
        places, side = [(0, 0)], max(section.height, section.width)  # a small section whole
    crops = []
    for y, x in places:
        y1, x1 = min(y + side, section.height), min(x + side, section.width)
        try:
            crops.append(np.clip(to_grey(section.read(z, y, y1, x, x1), section.value_range), 0, 1))
        except InputError:  # its blocks report that
            continue
    signs = signs_of(method, crops, statistics)
    return None if signs is None else expected_gain(fitted, signs)


def signs_of(method: Method, crops: Sequence[Floats], statistics: SectionStatistics) -> Signs | None:
    """Restore crops at realness 0 and return what they show; None without one of at least 64 x 64 px.

    Parameters
    ----------
    method : Method
        One that gives the map `uncertainty`.
    crops : sequence of ndarray, (h, w), float32
        Of the input, 0..1.
    statistics : SectionStatistics
        Of their section.
    """
    seen = [_of_crop(method, crop, statistics) for crop in crops if min(crop.shape) >= LEAST_CROP_PX]
    if not seen:
        return None
    change, error, coarse, fine = np.mean(seen, axis=0)
    return Signs(
        10 * math.log10(1 + change / error), 10 * math.log10((fine + LEAST_POWER) / (coarse + LEAST_POWER))
    )


def _of_crop(
    method: Method, crop: Floats, statistics: SectionStatistics
) -> tuple[float, float, float, float]:
    """Return of a crop mean squares of change and stated error, 0..1, and the power of both bands, of 255^2."""
    from torch import from_numpy

    from bigrestore.core.interpolation import catmull_rom

    scale, step = int(method.scale), method.alignment_px
    padded = np.pad(crop, [(0, -side % step) for side in crop.shape], mode="edge")
    batch = TileBatch(
        padded[None], None, np.zeros((1, 2), np.int64), 0, realness=np.zeros_like(padded)[None], maps=(ERROR,)
    )
    with gpu_failures(), exact_arithmetic():
        made = method.restore(batch, statistics)
    before = catmull_rom(from_numpy(np.ascontiguousarray(crop))[None, None], scale)[0, 0].numpy().clip(0, 1)
    inside = tuple(slice(EDGE_PX, scale * side - EDGE_PX) for side in crop.shape)
    change = made.pixels[0][inside] - before[inside]
    error = made.maps[ERROR][0][inside].astype(np.float64)
    edge = EDGE_PX // scale
    coarse, fine = band_powers(crop[edge:-edge, edge:-edge])
    # A Laplace distribution of the scale b has the variance 2 b^2.
    return float(np.mean(change**2.0)), float(2 * np.mean(error**2)), coarse, fine


def band_powers(image: Floats) -> tuple[float, float]:
    """Return the mean power of an image in `COARSE` and `FINE`, of 255^2: white noise has that of its variance."""
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    spectrum = np.abs(np.fft.rfft2(255 * (image - image.mean(dtype=np.float64)) * window)) ** 2 / np.sum(
        window**2
    )
    frequency = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1]))
    coarse, fine = (
        float(spectrum[(frequency >= low) & (frequency < high)].mean()) for low, high in (COARSE, FINE)
    )
    return coarse, fine
