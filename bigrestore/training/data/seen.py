"""Other views of known windows: turned by a right angle, mirrored, or of another contrast.

The estimator sees statistics of windows. A symmetry of the square or a change of contrast has a known effect on them,
exactly or nearly: directions of the spectrum change places, logarithms of power shift. So one window serves as many.
"""

from __future__ import annotations

import attrs
import numpy as np
import torch
from torch import Tensor

from bigrestore.core.waiting import sent
from bigrestore.model.nets.reading import local_energy, spectrum
from bigrestore.model.nets.reading.blockiness import PERIOD
from bigrestore.model.nets.reading.estimator import JUDGED

CONTRAST = (0.6, 1.4)
"""Least and largest factor on the contrast."""
CONTRAST_SHARE = 0.5
NOISE_GAIN, READ_NOISE = 0, 1
FLOOR_LEVELS = 0.29 / 255
"""Noise of rounding to 8 bits, the same at any contrast: fainter noise is not rescaled."""


@attrs.frozen(eq=False)
class Truth:
    """What is known of sets of windows.

    Attributes
    ----------
    kernel : Tensor, (N, k, k)
        Effective kernels.
    scalars : Tensor, (N, 8)
        Scalar codes in the order of `bigrestore.model.nets.reading.estimator.SCALARS`.
    """

    kernel: Tensor
    scalars: Tensor


def turned(seen: Tensor, truth: Truth, symmetry: int) -> tuple[Tensor, Truth]:
    """Return the statistics, (N, K, SEEN), of images and kernels turned by a symmetry of the square, 0 .. 7.

    Bit 0 swaps the axes, bit 1 mirrors along y, bit 2 along x. Row jitter and bands keep their names: the codes have
    no axis for them.
    """
    swap, up, left = (bool(symmetry & bit) for bit in (1, 2, 4))
    directions = torch.arange(spectrum.DIRECTIONS)
    if swap:
        directions = (spectrum.DIRECTIONS // 2 - directions) % spectrum.DIRECTIONS
    if up != left:
        directions = (-directions) % spectrum.DIRECTIONS
    powers = seen[..., : spectrum.SPECTRUM_FEATURES].reshape(
        *seen.shape[:-1], spectrum.SPECTRUM_RINGS, spectrum.DIRECTIONS
    )
    steps = seen[..., JUDGED:].reshape(*seen.shape[:-1], 2, PERIOD)
    kernel = truth.kernel
    if swap:
        steps, kernel = steps.flip(-2), kernel.mT
    for mirrored, axis in ((up, 1), (left, 2)):
        if mirrored:
            steps = torch.stack(
                [part.flip(-1) if i == axis - 1 else part for i, part in enumerate(steps.unbind(-2))], -2
            )
            kernel = kernel.flip(axis)
    parts = [
        powers[..., directions].flatten(-2),
        seen[..., spectrum.SPECTRUM_FEATURES : JUDGED],
        steps.flatten(-2),
    ]
    return torch.cat(parts, dim=-1), attrs.evolve(truth, kernel=kernel)


def with_contrast(seen: Tensor, truth: Truth, rng: np.random.Generator) -> tuple[Tensor, Truth]:
    """Return the statistics of half of the sets at another contrast, drawn per set, about the same mean grey.

    Power of tissue and of noise change alike; sets stay unchanged if their noise would fall below that of rounding.
    """
    count = len(seen)
    factors = np.exp(rng.uniform(np.log(CONTRAST[0]), np.log(CONTRAST[1]), count))
    factors[rng.random(count) >= CONTRAST_SHARE] = 1.0
    decades = sent(np.log10(factors), seen.device, torch.float32)
    read = 10 ** (truth.scalars[:, READ_NOISE] - 2)
    decades = torch.where(read * 10**decades < 2 * FLOOR_LEVELS, torch.zeros_like(decades), decades)
    quantiles = len(local_energy.ENERGY_QUANTILES) * local_energy.OCTAVES
    shift = torch.zeros(seen.shape[-1], device=seen.device)
    shift[: spectrum.SPECTRUM_FEATURES] = 1.0
    shift[spectrum.SPECTRUM_FEATURES : spectrum.SPECTRUM_FEATURES + quantiles] = 1.0
    deviation = spectrum.SPECTRUM_FEATURES + local_energy.ENERGY_FEATURES + 1
    shift[deviation] = 1.0
    scalars = truth.scalars.clone()
    has_gain = scalars[:, NOISE_GAIN] > -1
    scalars[:, NOISE_GAIN] += torch.where(has_gain, decades, torch.zeros_like(decades))
    scalars[:, READ_NOISE] += decades
    return seen + decades[:, None, None] * shift, attrs.evolve(truth, scalars=scalars)
