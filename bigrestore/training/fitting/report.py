"""What a fit says, as rows for the terminal and as a table for the card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

HALO = 0.01
"""Median share of negative taps from which on they are named."""

TABLED = 40
"""Windows listed in a card at most."""

UNEXPLAINED = 1.5
"""Residual over the expected noise from which on a sentence says that something is unexplained."""

Facts = dict[str, Any]
"""Of a window, as `WindowFit.facts`."""


def fit_rows(windows: Sequence[Facts], *, shared: bool, scale: int) -> list[tuple[str, str]]:
    """Return a fit as names and values."""
    offsets = [float(np.hypot(*window["offset_px"])) for window in windows]
    noise = [window["noise_255"] for window in windows]
    left = [window["residual_255"] for window in windows]
    offsets_255 = [255 * window["grey_offset"] for window in windows]
    qualities = [window["jpeg_quality"] for window in windows if window["jpeg_quality"]]
    gain = float(np.median([window.get("contrast_gain", 0.0) for window in windows]))
    drawn = f"; drawn as noise of {gain:.2f} of the contrast around a pixel" if gain > 0 else ""
    smooth = f", {100 * float(np.median(_each_of(windows, 'correlated_share'))):.0f} % of it smooth"
    kernels = "one for all windows" if shared else "one for each window"
    rows = [
        (
            "windows",
            f"{len(windows)}, shifted by {_middle(offsets)} px, correlation {_middle(_each_of(windows, 'correlation'))}",
        ),
        ("kernel", f"{kernels}, sigma {_middle(_each_of(windows, 'sigma_px'))} output px at x{scale}"),
        (
            "negative taps",
            f"{100 * float(np.median(_each_of(windows, 'negative'))):.1f} % of the sum: a halo",
        ),
        (
            "grey",
            f"gain {_middle(_each_of(windows, 'grey_gain'))}, offset {_middle(offsets_255)} of 255",
        ),
        (
            "noise",
            f"{_middle(noise)} of 255{'' if drawn else smooth}",
        ),
        (
            "JPEG",
            f"{len(qualities)} windows, quality {min(qualities)} to {max(qualities)}"
            if qualities
            else "none found",
        ),
        ("unexplained", _unexplained(left, noise) + (f"{drawn}{smooth}" if drawn else "")),
    ]
    if np.median(_each_of(windows, "negative")) < HALO:
        rows = [row for row in rows if row[0] != "negative taps"]
    return rows


def _each_of(windows: Sequence[Facts], name: str) -> list[float]:
    return [float(window[name]) for window in windows]


def _middle(values: Sequence[float]) -> str:
    """Return a median with its range, where there is one."""
    low, middle, high = (float(value) for value in np.quantile(values, [0, 0.5, 1]))
    return f"{middle:.2f}" if high - low < 0.01 else f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _unexplained(left: Sequence[float], noise: Sequence[float]) -> str:
    """Return what blur and noise leave."""
    rest = float(np.median(np.sqrt(np.maximum(np.square(left) - np.square(noise), 0))))
    much = float(np.median(left)) > UNEXPLAINED * max(float(np.median(noise)), 0.3)
    why = (
        ": no blur of the clean image explains it, such as cells of other depths, the errors of a compression, damage or a "
        "shift that varies"
        if much
        else ""
    )
    return f"{rest:.2f} of 255 beside the noise{why}"


def fit_lines(windows: Sequence[Facts], *, shared: bool, scale: int) -> list[str]:
    """Return a fit as lines of Markdown."""
    lines = ["", "## Fit", "", "| what | median (range) |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in fit_rows(windows, shared=shared, scale=scale)]
    lines += [
        "",
        "| window | shift, px | correlation | sigma, px | noise, of 255 | JPEG | residual, of 255 |",
        "|---|---|---|---|---|---|---|",
    ]
    for window in windows[:TABLED]:
        z, y, x = window["place"]
        lines.append(
            f"| {window['name']} {z}, {y}, {x} | {window['offset_px'][0]:.2f}, {window['offset_px'][1]:.2f} "
            f"| {window['correlation']:.2f} | {window['sigma_px']:.2f} | {window['noise_255']:.2f} "
            f"| {window['jpeg_quality'] or 'none'} | {window['residual_255']:.2f} |"
        )
    more = len(windows) - TABLED
    return lines + ([f"| and {more} more | | | | | | |"] if more > 0 else [])
