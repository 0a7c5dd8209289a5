"""Ladders of distortion: one clean patch at six levels of one kind of damage, each worse than the one before.

Nobody rates these images; all that is known of them is their order. The kinds are those of the degradation model, and the
sins of restorers: smoothing away what is faint, ringing, and detail that a prior has invented.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import attrs
import imagecodecs
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core import kernels
from bigrestore.degradation import steps
from bigrestore.degradation.degradation import Banding
from bigrestore.degradation.jpeg import JPEG_BLOCK_PX, jpeg_round_trip
from bigrestore.model.method import SectionStatistics, TileBatch
from bigrestore.model.network import NetworkMethod, load_network

RUNGS = 6
"""Levels of a ladder, the first the clean patch."""

LADDER_KERNEL_PX = 21
SPREAD = 0.25
"""Levels of a ladder are multiplied by one drawn number of 1 - this to 1 + this."""

INVENTED_SIGMA_PX, INVENTED_NOISE = 1.3, 1 / 255
"""Blur and noise of what is restored for the ladder of realness."""

PRIOR_MODEL = "tiny"


@attrs.frozen(eq=False)
class Drawn:
    """What is drawn for one ladder.

    Attributes
    ----------
    levels : sequence of float, (6,)
        Strengths, the first that of no damage.
    rng : numpy.random.Generator
        For all else that is drawn once for a ladder.
    """

    levels: tuple[float, ...]
    rng: np.random.Generator


@attrs.frozen
class Distortion:
    """One kind of damage.

    Attributes
    ----------
    levels : tuple of float
        The five strengths above none.
    apply : callable
        Of a clean patch, (H, W), and `Drawn`; returns the ladder, (6, H, W).
    first : float
        Strength of no damage.
    """

    levels: tuple[float, ...]
    apply: Callable[[Tensor, Drawn], Tensor]
    first: float = 0.0

    def ladder(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Return a patch, (H, W), at six levels, (6, H, W), in 0..1."""
        factor = rng.uniform(1 - SPREAD, 1 + SPREAD)
        drawn = Drawn((self.first, *(factor * level for level in self.levels)), rng)
        return self.apply(clean, drawn).clamp(0, 1)


def _blurred_by_gaussian(clean: Tensor, drawn: Drawn) -> Tensor:
    return _blurred(clean, [kernels.gaussian(LADDER_KERNEL_PX, sigma) for sigma in drawn.levels[1:]])


def _out_of_focus(clean: Tensor, drawn: Drawn) -> Tensor:
    return _blurred(clean, [kernels.defocus(LADDER_KERNEL_PX, radius) for radius in drawn.levels[1:]])


def _noisy(clean: Tensor, drawn: Drawn) -> Tensor:
    white = _normal(clean.shape, drawn.rng)
    rough = _normal(tuple(side + 4 for side in clean.shape), drawn.rng)
    share = drawn.rng.uniform(0, 0.5)
    field = steps.noise_field(white[None], steps.smooth_noise(rough[None]), share)
    reads = torch.tensor(drawn.levels, dtype=torch.float32)[:, None, None] / 255
    return steps.noisy(clean.expand(RUNGS, -1, -1), field, 0.0, reads)


def _as_jpeg(clean: Tensor, drawn: Drawn) -> Tensor:
    """Compress with qualities of 100 less the levels."""
    top, left = (int(phase) for phase in drawn.rng.integers(0, JPEG_BLOCK_PX, 2))
    height, width = clean.shape
    bottom, right = (-(side + first) % JPEG_BLOCK_PX for side, first in ((height, top), (width, left)))
    padded = F.pad(clean[None], (left, right, top, bottom), mode="replicate")
    qualities = [max(1, round(100 - level)) for level in drawn.levels[1:]]
    stored = jpeg_round_trip(padded.expand(RUNGS - 1, -1, -1), qualities)
    return torch.cat([clean[None], stored[:, top : top + height, left : left + width]])


def _jpeg2000(clean: Tensor, drawn: Drawn) -> Tensor:
    """Compress to a PSNR of 60 dB less the levels."""
    pixels = _to_eight_bits(clean)
    coded = [
        imagecodecs.jpeg2k_decode(
            imagecodecs.jpeg2k_encode(pixels, level=round(60 - level), codecformat="j2k")
        )
        for level in drawn.levels[1:]
    ]
    return torch.cat([clean[None], torch.from_numpy(np.stack(coded)).float() / 255])


def _banding(clean: Tensor, drawn: Drawn) -> Tensor:
    period, phase = drawn.rng.uniform(6, 40), drawn.rng.uniform(0, 2 * np.pi)
    at = torch.arange(clean.shape[0], dtype=torch.float64)
    rows = [steps.bands(Banding(level, period, phase, 0), at)[:, None] for level in drawn.levels]
    across = drawn.rng.random() < 0.5 and clean.shape[0] == clean.shape[1]
    return torch.stack([clean * (factors.T if across else factors) for factors in rows])


def _smoothed(clean: Tensor, drawn: Drawn) -> Tensor:
    """Take away detail that is fainter than the level, in two bands: edges stay, texture goes."""
    made = []
    fine, middle = (_blurred(clean, [kernels.gaussian(LADDER_KERNEL_PX, sigma)])[1] for sigma in (1.0, 2.0))
    for level in drawn.levels:
        bands = [F.softshrink(band, level / 255) for band in (clean - fine, fine - middle)]
        made.append(middle + bands[0] + bands[1])
    return torch.stack(made)


def _ringing(clean: Tensor, drawn: Drawn) -> Tensor:
    """Raise a band far above the others: overshoots run along every edge."""
    sigma = drawn.rng.uniform(1.0, 1.8)
    ladder = _blurred(
        clean, [kernels.gaussian(LADDER_KERNEL_PX, each) for each in (0.6 * sigma, 1.6 * sigma)]
    )
    band = ladder[1] - ladder[2]
    return torch.stack([clean + level * band for level in drawn.levels])


def _invented(clean: Tensor, drawn: Drawn) -> Tensor:
    """Restore a blurred patch and add the prior's detail by realness."""
    with torch.inference_mode():
        at_zero, at_one, statistics = _restorers()
        blurred = _blurred(clean, [kernels.gaussian(LADDER_KERNEL_PX, INVENTED_SIGMA_PX)])[1]
        seen = steps.eight_bits(blurred + INVENTED_NOISE * _normal(clean.shape, drawn.rng)).clamp(0, 1)
        batch = TileBatch(seen.numpy()[None], None, np.zeros((1, 2), np.int64), int(drawn.rng.integers(1000)))
        lowest, highest = (
            torch.from_numpy(method.restore(batch, statistics).pixels[0]) for method in (at_zero, at_one)
        )
    shares = torch.tensor(drawn.levels)[:, None, None] / drawn.levels[-1] * drawn.rng.uniform(1 - SPREAD, 1)
    return lowest.clone() + shares * (highest - lowest).clone()


@cache
def _restorers() -> tuple[NetworkMethod, NetworkMethod, SectionStatistics]:
    """Return the shipped network without and with its prior, and what it reads of such blur and noise."""
    settings: dict[str, Any] = {"device": "cpu", "precision": "fp32", "seed": 0, "lock": True, "kernel": None}
    made = [load_network(PRIOR_MODEL, scale=1, realness=realness, **settings) for realness in (0.0, 1.0)]
    blur = INVENTED_SIGMA_PX, INVENTED_SIGMA_PX, 0.0
    told = load_network(PRIOR_MODEL, scale=1, realness=0.0, blur=blur, noise=255 * INVENTED_NOISE, **settings)
    flat = np.full((1, 128, 128), 0.8, np.float32)
    return made[0], made[1], told.analyse(flat)


DISTORTIONS: dict[str, Distortion] = {
    "gaussian": Distortion((0.5, 0.8, 1.2, 1.8, 2.6), _blurred_by_gaussian),
    "defocus": Distortion((0.8, 1.2, 1.7, 2.4, 3.4), _out_of_focus),
    "noise": Distortion((2, 4, 7, 12, 20), _noisy),
    "jpeg": Distortion((15, 30, 45, 60, 72), _as_jpeg),
    "jpeg2000": Distortion((15, 19, 23, 26, 29), _jpeg2000),
    "banding": Distortion((0.01, 0.02, 0.035, 0.055, 0.08), _banding),
    "smoothed": Distortion((1.5, 3, 5, 8, 13), _smoothed),
    "ringing": Distortion((0.4, 0.9, 1.6, 2.6, 4.0), _ringing),
    "invented": Distortion((0.2, 0.4, 0.6, 0.8, 1.0), _invented),
}
"""The kinds by name."""


def softened(clean: Tensor, sigma: float) -> Tensor:
    """Return a patch, (H, W), blurred by a Gaussian of a standard deviation in px; 0 leaves it."""
    return _blurred(clean, [kernels.gaussian(LADDER_KERNEL_PX, sigma)])[1] if sigma > 0 else clean


def _blurred(clean: Tensor, blurs: list[kernels.Kernel]) -> Tensor:
    """Return a patch, and after it what each kernel makes of it."""
    weights = torch.from_numpy(np.stack(blurs))[:, None].to(clean)
    reach = weights.shape[-1] // 2
    padded = F.pad(clean[None, None], (reach,) * 4, mode="reflect")
    return torch.cat([clean[None], F.conv2d(padded, weights)[0]])


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, np.float32))


def _to_eight_bits(image: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.asarray((image.clamp(0, 1) * 255).round().byte().cpu().numpy())
