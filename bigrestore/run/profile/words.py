"""The estimated blur, noise and JPEG quality of a section in words, and what a run does about them.

The log of a run, its report and `bigrestore profile` print the same sentence. Widths are sigmas in input pixels of the
whole blur; at x2 and x4 it includes the averaging over an input pixel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bigrestore.core.kernels import equivalent_sigma
from bigrestore.core.stated_blur import averaging_sigma_px
from bigrestore.model.method import SectionStatistics

DETECTABLE_PX = 0.3
"""Sigma in input pixels below which blurred tissue cannot be distinguished from sharp tissue."""

NOTICEABLE_NOISE = 1.0
"""Standard deviation, of 255, from which on the sentence about a sharp section mentions noise."""

NARROWED = 0.85
"""A kernel below this share of the estimated width was narrowed to those of the training set; caution alone leaves more."""


def sentence(statistics: SectionStatistics, scale: int) -> str:
    """Return the sentence about a section, without a full stop.

    Parameters
    ----------
    statistics : SectionStatistics
        Estimates of a method, with details as `bigrestore.model.network.NetworkMethod` gives them.
    scale : int
        Output pixels per input pixel.

    Returns
    -------
    str
        Empty for a method without estimates.
    """
    details = statistics.details
    if "windows" not in details:
        return ""
    if not details["windows"]:
        return "no tissue, so that nothing was read: a run takes blur and noise for unknown"
    noise = _noise_words(statistics)
    if "sharpened" in details:
        amount, radius = details["sharpened"]
        noise = f"{noise}, sharpened by {amount:g} of {radius:g} px as told"
    if "sigma_px" not in details:
        return f"{noise}: the method reads no blur and takes none out"
    parts = [_blur_words(details, scale), noise]
    if "jpeg_quality" in details:
        quality = details["jpeg_quality"]
        parts.append(f"JPEG of quality {quality:.0f}" if quality else "no JPEG")
    return f"{', '.join(parts)}: {_outcome(statistics, scale)}"


def reading(statistics: SectionStatistics, z: int, scale: int) -> dict[str, Any]:
    """Return the facts about section z, JSON-able.

    Returns
    -------
    dict
        `z`, `says` (the sentence), and with an estimate of blur `sigma_input_px` and `sharp`.
    """
    facts: dict[str, Any] = {"z": z, "says": sentence(statistics, scale)}
    details = statistics.details
    if "sigma_px" in details:
        sigma = round(details["sigma_px"] / scale, 4)
        facts |= {"sigma_input_px": sigma, "sharp": _is_sharp(details, scale)}
    return facts


def of_sections(readings: Sequence[Mapping[str, Any]]) -> str:
    """Return one sentence about all sections of a run, without a full stop; empty without estimates."""
    said = [each for each in readings if each["says"]]
    if len(said) <= 1:
        return said[0]["says"] if said else ""
    blurred = sorted(each["sigma_input_px"] for each in said if each.get("sharp") is False)
    sharp = sum(each.get("sharp") is True for each in said)
    unread = len(said) - len(blurred) - sharp
    parts = []
    if blurred:
        low, high = f"{blurred[0]:.2f}", f"{blurred[-1]:.2f}"
        size = low if low == high else f"{low} to {high}"
        parts.append(f"{len(blurred)} blurred by {size} px (input pixels)")
    parts += [f"{sharp} sharp for the pixel grid"] if sharp else []
    parts += [f"{unread} without a reading of blur"] if unread else []
    return f"of {len(said)} sections {', '.join(parts)}"


def _given(details: Mapping[str, Any]) -> str:
    """Return the names of what the user stated, `blur`, `noise` or both; else empty."""
    return str(details.get("given", ""))


def _is_sharp(details: Mapping[str, Any], scale: int) -> bool:
    """Tell whether a section counts as sharp: no blur was detected, or none stated but the averaging of a pixel."""
    sigma = details["sigma_px"] / scale
    if "blur" in _given(details):
        return bool(sigma < averaging_sigma_px(scale) + 0.005)
    return bool(sigma - details.get("sigma_error_px", 0.0) / scale < DETECTABLE_PX)


def noise_levels(statistics: SectionStatistics) -> float:
    """Return the standard deviation of the noise in tissue, of 255."""
    from bigrestore.model.nets.wiener import TISSUE_GREY  # torch, which is slow to import

    return 255 * math.sqrt(TISSUE_GREY * statistics.noise_gain + statistics.read_noise**2)


def _noise_words(statistics: SectionStatistics) -> str:
    """Return the noise in words."""
    levels = noise_levels(statistics)
    if "noise" in _given(statistics.details):
        return f"noise {round(levels, 2):g} of 255 as told"
    return f"noise {levels:.1f} of 255" if levels >= 0.05 else "no noise"


def _blur_words(details: Mapping[str, Any], scale: int) -> str:
    """Return the blur in words."""
    sigma = details["sigma_px"] / scale
    if "blur" in _given(details):
        none = _is_sharp(details, scale)
        return "soft by nature as told" if none else f"blurred by {round(sigma, 2):g} px as told"
    if _is_sharp(details, scale):
        return "sharp for its pixel grid"
    error = f" +- {details['sigma_error_px'] / scale:.2f}" if "sigma_error_px" in details else ""
    unit = "input pixels" if scale == 1 else "input pixels, averaging of the pixel included"
    return f"blurred by {sigma:.2f}{error} px ({unit})"


def _outcome(statistics: SectionStatistics, scale: int) -> str:
    """Return what a run does to a section, in words."""
    details = statistics.details
    if not _is_sharp(details, scale):
        undone = equivalent_sigma(statistics.kernel)
        if undone < NARROWED * details["sigma_px"]:
            return f"a run undoes {undone / scale:.2f} px of it{', enlarged' if scale > 1 else ''}"
        return "a run restores it" if scale == 1 else "a run restores and enlarges it"
    marks = ["the noise"] if noise_levels(statistics) >= NOTICEABLE_NOISE else []
    marks += ["the JPEG's blocks"] if details.get("jpeg_quality", 0) else []
    if marks:
        return f"a run {'' if scale == 1 else 'enlarges it and '}takes {' and '.join(marks)} out"
    if scale == 1:
        return "a run hardly changes it"
    return "a run enlarges it and undoes no blur but the averaging of the pixel"
