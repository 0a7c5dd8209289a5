"""What sigma a model reads, over true blur, noise and tissue; and whether it leaves sharp images alone.

Every clean image is blurred by a Gaussian whose transfer function is exp(-2 pi^2 sigma^2 f^2) up to Nyquist, gets white
noise, and is rounded to 8 bits. A Gaussian sampled at pixel centres would not do: at sigma 0.4 px its second moment is
that of 0.28, and its transfer at Nyquist that of 0.19.

Images that fall faster than the standard before they are blurred are read as softer by right, so they are shown and not
judged.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bigrestore.model.method import SectionStatistics
from tests.bench.material import MARGIN_PX, SEED, ValidationImage, middle, validation_images
from tests.bench.metrics import table, to_bytes
from tests.bench.twin.gains import Model, read_sigma
from tests.bench.twin.pairs import clean_images
from tests.bench.twin.spectra import STANDARD_DB, spectral_fall_db

Grey = NDArray[np.uint8]
Analyse = Callable[[Grey], SectionStatistics]

SIGMAS = (0.0, 0.4, 0.55, 0.7, 1.0, 1.5, 2.0, 2.5)
NOISES = (0.0, 0.3, 1.0, 3.0, 8.0)
"""Standard deviations, of 255; with 0 there is rounding alone."""

MILD_NOISE = 1.0
"""Noise up to which sigma must be right; above, it must not be too wide."""

TOLERANCE_PX, TOLERANCE_SHARE = 0.1, 0.12
"""An error counts as small within the larger of the two."""


def tissue_images(crop_px: int | None = None) -> list[ValidationImage]:
    """Return the clean images: those of val/ as they are prepared, and those of val/twin/."""
    images = validation_images(crop_px)
    side = None if crop_px is None else crop_px + 2 * MARGIN_PX
    for image in clean_images():
        if image.name == "human cortex":  # one of val/, and so among the first
            continue
        pixels = image.pixels if side is None else middle(image.pixels, side)
        images.append(ValidationImage(image.name, pixels))
    return images


def degraded(image: ValidationImage, sigma_px: float, noise: float) -> Grey:
    """Return an image blurred, with noise, in 8 bits, without its margin; the same on every call."""
    values = gaussian_blurred(image.pixels.astype(np.float64), sigma_px)[
        MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX
    ]
    rng = np.random.default_rng([SEED, zlib.crc32(f"{sigma_px:g}/{noise:g}/{image.name}".encode())])
    noisy = values + rng.normal(0.0, noise, values.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def gaussian_blurred(image: NDArray[np.float64], sigma_px: float) -> NDArray[np.float64]:
    """Return an image under a Gaussian that is defined by its transfer function; its borders are mirrored."""
    margins = [(MARGIN_PX, MARGIN_PX)] * 2
    padded = np.pad(image, margins, mode="symmetric")
    fy = np.fft.fftfreq(padded.shape[0])[:, None]
    fx = np.fft.rfftfreq(padded.shape[1])[None, :]
    transfer = np.exp(-2 * np.pi**2 * sigma_px**2 * (fy**2 + fx**2))
    blurred = np.fft.irfft2(np.fft.rfft2(padded) * transfer, padded.shape)
    return np.asarray(blurred[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX])


def judge_grid(model: Model, images: Sequence[ValidationImage]) -> dict[str, Any]:
    """Return what the model reads in every cell of the grid, and by how much it changes the sharp images."""
    blind = model.candidate()
    assert blind.analyse is not None
    cells, changed = [], []
    for image in images:
        fall = spectral_fall_db(image.pixels)
        at_standard = fall <= STANDARD_DB
        cells += [
            {"image": image.name, "at_standard": at_standard, **read_cell(image, sigma, noise, blind.analyse)}
            for sigma in SIGMAS
            for noise in NOISES
        ]
        clean = degraded(image, 0.0, 0.0)
        row = {"image": image.name, "fall_db": fall, "at_standard": at_standard}
        changed.append(row | {"rms": change(blind.restore, clean)})
    return {"cells": cells, "undegraded": changed, **errors([cell for cell in cells if cell["at_standard"]])}


def read_cell(image: ValidationImage, sigma_px: float, noise: float, analyse: Analyse) -> dict[str, Any]:
    """Return the truth of one cell, what is read in it, and the error that is stated (None where none is)."""
    statistics = analyse(degraded(image, sigma_px, noise))
    stated = statistics.details.get("sigma_error_px")
    return {
        "sigma": sigma_px,
        "noise": noise,
        "read": read_sigma(statistics, 1),
        "stated_error": None if stated is None else float(stated),
        "read_noise": 255 * statistics.read_noise,
    }


def change(restore: Callable[[Grey], NDArray[np.float32]], clean: Grey) -> float:
    """Return the RMS by which an image is changed, of 255."""
    difference = to_bytes(restore(clean)).astype(np.float64) - clean
    return float(np.sqrt(np.mean(difference**2)))


def errors(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of the cells that are judged.

    Returns
    -------
    dict
        `error_median`, `error_worst`: pixels, of noise up to 1; `within`: share of these cells whose error is within 0.1 px
        or 12 %; `too_wide`: the most positive error under more noise; `covered`: share of all cells whose stated
        error covers the truth. None where there is nothing to take a figure of.
    """
    mild = [cell for cell in cells if cell["noise"] <= MILD_NOISE]
    apart = np.array([abs(cell["read"] - cell["sigma"]) for cell in mild])
    allowed = np.array([max(TOLERANCE_PX, TOLERANCE_SHARE * cell["sigma"]) for cell in mild])
    noisy = [cell["read"] - cell["sigma"] for cell in cells if cell["noise"] > MILD_NOISE]
    stated = [cell for cell in cells if cell["stated_error"] is not None]
    covers = [abs(cell["read"] - cell["sigma"]) <= cell["stated_error"] for cell in stated]
    return {
        "error_median": float(np.median(apart)) if mild else None,
        "within": float(np.mean(apart <= allowed)) if mild else None,
        "error_worst": float(apart.max()) if mild else None,
        "too_wide": float(max(noisy)) if noisy else None,
        "covered": float(np.mean(covers)) if covers else None,
    }


def report(results: dict[str, Any]) -> str:
    """Return the grid as tables: what is read over blur and noise, and the errors image by image."""
    judged = [cell for cell in results["cells"] if cell["at_standard"]]
    rows = [(f"{sigma:g}", *(_readings(judged, sigma, noise) for noise in NOISES)) for sigma in SIGMAS]
    head = ("true sigma, px", *(f"noise {noise:g}" if noise else "no noise" for noise in NOISES))
    images = []
    for row in results["undegraded"]:
        own = errors([cell for cell in results["cells"] if cell["image"] == row["image"]])
        images.append(
            (
                row["image"],
                f"{row['fall_db']:.1f}{'' if row['at_standard'] else '*'}",
                f"{own['error_median']:.2f}",
                f"{own['error_worst']:.2f}",
                f"{own['too_wide']:+.2f}",
                "-" if own["covered"] is None else f"{own['covered']:.0%}",
                f"{row['rms']:.2f}",
            )
        )
    titles = ("image", "fall", "median error", "worst", "too wide", "covered", "undegraded changed by")
    return (
        table(head, rows)
        + "\nsigma read: median (least to most) over the images at the standard\n\n"
        + table(titles, images)
        + "\npx, noise up to 1; too wide: noise 3 and 8; changed: RMS of 255; * misses the standard, not judged"
    )


def _readings(cells: Sequence[dict[str, Any]], sigma: float, noise: float) -> str:
    """Return the sigmas that are read in one cell of the grid, over its images."""
    read = [cell["read"] for cell in cells if (cell["sigma"], cell["noise"]) == (sigma, noise)]
    return f"{np.median(read):.2f} ({min(read):.2f} to {max(read):.2f})" if read else "-"
