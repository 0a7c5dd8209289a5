"""How many dB a model brings on the twin: blind, and told a Gaussian; and the sigma that it reads.

The true blur of a pair has no closed form, so its sigma is not known. What stands in for it is the Gaussian that gains
most when the model is told it, chosen by the truth, image by image. Only the kernel is told: noise and JPEG stay as
they are read. Every sigma is in input pixels; at x2 it is that of a Gaussian before the mean of 2 x 2 output pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.model.method import Method, SectionStatistics
from tests.bench.classical import catmull_rom_twice
from tests.bench.material import Kernel, gaussian, sigma_of
from tests.bench.metrics import psnr, table, to_bytes
from tests.bench.models import load_method
from tests.bench.restorers import Candidate, from_method, from_run
from tests.bench.twin.pairs import TwinPair
from tests.bench.twin.spectra import STANDARD_DB, spectral_fall_db

Grey = NDArray[np.uint8]

TOLD_SIGMAS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
USUAL_SIGMA = 0.6
"""What is told to every image alike: about the blur of the pairs."""

BOX_VARIANCE = {1: 0.0, 2: 0.25}
"""Variance of the mean over the output pixels of an input pixel, along one axis."""


@attrs.frozen
class Model:
    """A model to judge, and how it is run.

    Attributes
    ----------
    name : str
        A file, or the name of a shipped model.
    scale : int
        1 or 2.
    device, precision : str
        As on the command line of `bigrestore run`.
    through_run : bool
        Whether images go through files and the whole run, and not through the bare network.
    """

    name: str
    scale: int
    device: str = "cpu"
    precision: str = "fp32"
    through_run: bool = False

    def candidate(self, realness: float | None = 0.0, told_sigma: float | None = None) -> Candidate:
        """Return the model as something to judge; realness None is the model's default."""
        method = self.method(realness, None if told_sigma is None else told_kernel(told_sigma, self.scale))
        make: Callable[[str, Method], Candidate] = from_run if self.through_run else from_method
        return make(self.name, method)

    def method(self, realness: float | None, kernel: Kernel | None = None) -> Method:
        """Load the model."""
        return load_method(
            self.name,
            scale=self.scale,
            realness=realness,
            device=self.device,
            precision=self.precision,
            kernel=kernel,
        )


def told_kernel(sigma_px: float, scale: int) -> Kernel:
    """Return a Gaussian of a sigma in input pixels on the output grid, with the mean over an input pixel.

    Its middle tap lies on the first of the output pixels that an input pixel covers, as the package has it.
    """
    blur = gaussian(scale * sigma_px, scale * sigma_px)
    if scale == 1:
        return blur
    side = blur.shape[0]
    kernel = np.zeros((side + 2, side + 2))
    for y in (1, 2):
        for x in (1, 2):
            kernel[y : y + side, x : x + side] += blur / 4
    return kernel


def read_sigma(statistics: SectionStatistics, scale: int) -> float:
    """Return the sigma that a model has read, input pixels, without the mean over an input pixel."""
    read = float(statistics.details.get("sigma_px", sigma_of(statistics.kernel)))
    return math.sqrt(max(0.0, read**2 - BOX_VARIANCE[scale])) / scale


def reference_of(pair: TwinPair) -> Grey:
    """Return what a restored image is compared with: the input, enlarged by Catmull-Rom at x2."""
    return catmull_rom_twice(pair.low) if pair.scale == 2 else pair.low


def fidelity(image: Grey, pair: TwinPair) -> float:
    """Return the PSNR of an image on the target's grid, in dB, without the border."""
    return psnr(pair.inside(image), pair.inside(pair.target))


def restored(model: Model, pairs: Sequence[TwinPair], realness: float | None) -> list[Grey]:
    """Return the restored inputs of all pairs, blind."""
    candidate = model.candidate(realness)
    return [to_bytes(candidate.restore(pair.low)) for pair in pairs]


def judge_gains(
    model: Model,
    pairs: Sequence[TwinPair],
    blind: Sequence[Grey],
    sigmas: Sequence[float] = TOLD_SIGMAS,
) -> list[dict[str, Any]]:
    """Return a row for every pair: the input's PSNR, the gain blind and told each sigma, and what was read.

    Parameters
    ----------
    model : Model
        Judged at realness 0.
    pairs : sequence of TwinPair
        What it restores.
    blind : sequence of ndarray
        What it made of them blind.
    sigmas : sequence of float
        Input pixels.
    """
    told = {sigma: model.candidate(told_sigma=sigma) for sigma in sorted({*sigmas, USUAL_SIGMA})}
    analyse = model.candidate().analyse
    rows = []
    for pair, image in zip(pairs, blind, strict=True):
        row = gain_row(pair, image, told)
        if analyse is not None:
            statistics = analyse(pair.low)
            row |= {"sigma_read": read_sigma(statistics, pair.scale), "details": dict(statistics.details)}
        rows.append(row)
    return rows


def gain_row(pair: TwinPair, blind: Grey, told: Mapping[float, Candidate]) -> dict[str, Any]:
    """Return the gains of one pair; `told` holds the model by the sigma that it is told."""
    before = fidelity(reference_of(pair), pair)
    gains = {
        sigma: fidelity(to_bytes(candidate.restore(pair.low)), pair) - before
        for sigma, candidate in told.items()
    }
    best = max(gains, key=lambda sigma: gains[sigma])
    fall = spectral_fall_db(pair.target)
    return {
        "image": pair.name,
        "fall_db": fall,
        "at_standard": fall <= STANDARD_DB,
        "psnr_input": before,
        "gain_blind": fidelity(blind, pair) - before,
        "gain_told": gains[USUAL_SIGMA],
        "gain_best": gains[best],
        "sigma_best": best,
        "gains_told": {f"{sigma:g}": gain for sigma, gain in gains.items()},
    }


def gains_table(rows: Sequence[dict[str, Any]], scale: int) -> str:
    """Return the rows as text, with their means."""
    over = "Catmull-Rom" if scale == 2 else "input"
    header = (
        "image",
        "fall",
        over,
        "blind",
        f"told {USUAL_SIGMA:g}",
        "best told",
        "sigma best",
        "sigma read",
    )
    cells: list[tuple[str, ...]] = [
        (
            row["image"],
            f"{row['fall_db']:.1f}{'' if row['at_standard'] else '*'}",
            f"{row['psnr_input']:.2f}",
            f"{row['gain_blind']:+.2f}",
            f"{row['gain_told']:+.2f}",
            f"{row['gain_best']:+.2f}",
            f"{row['sigma_best']:g}",
            f"{row.get('sigma_read', math.nan):.2f}",
        )
        for row in rows
    ]
    means = {
        key: float(np.mean([row[key] for row in rows])) for key in ("gain_blind", "gain_told", "gain_best")
    }
    input_mean = float(np.mean([row["psnr_input"] for row in rows]))
    cells.append(("mean", "", f"{input_mean:.2f}", *(f"{mean:+.2f}" for mean in means.values()), "", ""))
    return table(header, cells) + "\ndB; * misses the standard of sharpness; sigma in input pixels"
