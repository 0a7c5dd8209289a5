"""A recipe about what was read: what a section went through once more, on targets that are sharp.

A reading is a width and an error, a noise, a JPEG quality. The recipe draws widths about it, by the ways that lead
there: optics alone, Gaussian, stretched or out of focus, or optics and one or two linear resamplings, which blur by
0.41 px each. A share of the recipe `default` keeps the model able of all the rest.
Lengths are those of the section's own grid, on which the adapted model will be used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bigrestore.core.kernels import equivalent_sigma
from bigrestore.degradation.interpolators import mean_kernel
from bigrestore.degradation.schema import Recipe
from bigrestore.training.adaptation.reading import Reading

NAME = "adapted"

DEFAULT_SHARE = 0.25
"""Share of the pairs that the recipe `default` makes."""

LEAST_SPREAD_PX, RELATIVE_SPREAD = 0.08, 0.1
"""Least standard error of a width that is reckoned with: input pixels, and relative."""

SPREADS = 2.0
"""Widths are drawn within so many standard errors of the reading."""

LEAST_SIGMA_PX, MOST_SIGMA_PX = 0.05, 4.4
"""Widths in input pixels that a recipe can say at every scale."""

LEAST_OPTICS_PX = 0.1
"""A resampling is only drawn where the reading leaves at least this sigma to the optics before it."""

PASSES = {1: 0.3, 2: 0.7}
"""How often a registration resamples once and twice."""

STAIN = {"probability": 0.5, "gain": [0.95, 1.02], "density": [0.75, 1.15]}
ILLUMINATION = {"probability": 0.3, "amplitude": [0.0, 0.05]}


def sigma_range(reading: Reading) -> tuple[float, float]:
    """Return the narrowest and the widest sigma that are drawn, input pixels."""
    spread = SPREADS * max(reading.error, LEAST_SPREAD_PX, RELATIVE_SPREAD * reading.along)
    low = min(max(reading.across - spread, LEAST_SIGMA_PX), MOST_SIGMA_PX)
    return low, max(low, min(reading.along + spread, MOST_SIGMA_PX))


def recipe_about(readings: Sequence[Reading], scale: int) -> Recipe:
    """Return the recipe about some readings for pairs of a scale.

    Parameters
    ----------
    readings : sequence of Reading
        At least one; each is drawn as often.
    scale : int
        Output pixels per input pixel.
    """
    share = (1 - DEFAULT_SHARE) / len(readings)
    mix: list[dict[str, Any]] = []
    for reading in readings:
        ways = {passes: _resampled(reading, passes, scale) for passes in PASSES}
        possible = {passes: way for passes, way in ways.items() if way is not None}
        half, total = 0.5 if possible else 1.0, sum(PASSES[passes] for passes in possible)
        mix.append({"weight": share * half, "recipe": _direct(reading, scale)})
        mix += [
            {"weight": share * (0.5 * PASSES[passes] / total), "recipe": way}
            for passes, way in possible.items()
        ]
    mix.append({"weight": DEFAULT_SHARE, "recipe": Recipe.load("default").to_dict()})
    return Recipe.from_dict({"name": NAME, "mix": mix}, NAME)


def _direct(reading: Reading, scale: int) -> dict[str, Any]:
    """Return the recipe of optics alone."""
    low, high = (scale * sigma for sigma in sigma_range(reading))
    # The disk of radius r has sigma r / 2 along each axis.
    radii = [min(2 * low, 9.0), min(2 * high, 9.0)]
    kinds = {"gaussian": 0.45, "anisotropic": 0.35, "defocus": 0.2}
    blur = {"kinds": kinds, "defocus_radius_px": radii}
    return _recipe("optics", reading, blur, (low, high), scale, 1.0)


def _resampled(reading: Reading, passes: int, scale: int) -> dict[str, Any] | None:
    """Return the recipe of optics, a scan on a finer grid, and resamplings; None where these blur by more than was read."""
    kernel = mean_kernel(("linear",) * passes)
    variance = equivalent_sigma(kernel) ** 2
    low, high = (scale * math.sqrt(max(sigma**2 - variance, 0.0)) for sigma in sigma_range(reading))
    if high < scale * LEAST_OPTICS_PX:
        return None
    kinds = {"gaussian": 0.6, "anisotropic": 0.4}
    # The mean of 2 x 2 pixels of the scan, and the resampling, take noise away.
    louder = 2 / math.sqrt(float((kernel.astype(np.float64) ** 2).sum()))
    sigmas = max(low, scale * LEAST_SIGMA_PX), high
    recipe = _recipe(f"registered {passes}", reading, {"kinds": kinds}, sigmas, scale, louder)
    recipe["scanning"] = {"factors": {"1": 0.1, "2": 0.7, "4": 0.2}}
    recipe["resampling"] = {"probability": 1.0, "passes": {str(passes): 1.0}}
    return recipe


def _recipe(
    name: str,
    reading: Reading,
    blur: dict[str, Any],
    sigmas: tuple[float, float],
    scale: int,
    louder: float,
) -> dict[str, Any]:
    """Return a recipe of a blur between two sigmas, output pixels, and the noise of a reading, made louder by a factor."""
    read, gain = 255 * reading.read_noise * louder, reading.noise_gain * louder**2
    noise = {
        "probability": 1.0,
        "gain": _about(gain, 3, 1e-6, 1e-5, 2.0),
        "read_255": _about(read, 2, 0.02, 0.5 * louder, 64.0),
        "correlated_share": [0.0, 0.5],
    }
    storage: dict[str, Any] = {
        "eight_bit_probability": 0.9,
        "jpeg_probability": 0.03,
        "jpeg_quality": [80, 97],
    }
    if reading.jpeg_quality:
        quality = [max(1.0, reading.jpeg_quality - 8), min(100.0, reading.jpeg_quality + 8)]
        storage |= {"jpeg_probability": 0.8, "jpeg_quality": quality}
    return {
        "name": name,
        "stain": STAIN,
        "illumination": ILLUMINATION,
        "blur": {"probability": 1.0, "sigma_px": {f"x{scale}": list(sigmas)}, **blur},
        "downsampling": {"kinds": {"area": 0.8, "bicubic": 0.2}},
        "noise": noise,
        "storage": storage,
    }


def _about(value: float, factor: float, low: float, high: float, most: float) -> dict[str, Any]:
    """Return the range from a value over a factor to it times the factor, from `low` to `high` at least, up to `most`."""
    upper = min(max(value * factor, high), most)
    return {"low": min(max(value / factor, low), upper), "high": upper, "law": "log"}
