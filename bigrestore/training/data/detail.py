"""Clean detail for training a prior: `x - L(x)` of tissue windows, and its augmentation.

The windows are those of pairs on the grid of the output, without any degradation. L is a Gaussian, so the prior
learns texture only, never regional grey. The window exceeds the patch by the reach of L and by the shift below.

Augmentation is for the critic, which would learn a few hundred megapixels by heart: symmetries of the square,
contrast and grey. Real and made patches go through the same augmentation, so it betrays neither. It leaves two fifths
of the patches unchanged: if all were turned, a generator leaning to one side would never be caught (Karras et al.,
"Training Generative Adversarial Networks with Limited Data", NeurIPS 2020). All patches are shifted: a smaller one is
cut at a drawn place, without padding. A critic limited to one phase of the generator's grid, also its own, would know
only this phase; with shifts it sees repetition at every phase.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.waiting import sent
from bigrestore.model.nets.prior.smooth import DETAIL_REACH, DETAIL_SIGMA_PX, low_pass
from bigrestore.training.data.patches import PatchSource, step_rng

DETAIL_PATCH_PX = 64
"""Side of the judged patches, output pixels."""
SHIFT_PX = 8
"""Margin of a drawn window over its patch: a multiple of unshuffle * scale, so all phases are drawn alike."""
AUGMENTED_SHARE = 0.6
CONTRAST_DEVIATION = 0.2
GREY_DEVIATION = 0.01
"""Standard deviations of the log of the contrast factor and of the grey added to a whole patch."""
REAL_STREAM, MEASURED_STREAM = 4, 5
MEASURED_SEED = 2_468_013


def reach_px(scale: int) -> int:
    """Return how far L reaches to each side, output pixels."""
    return round(DETAIL_REACH * DETAIL_SIGMA_PX * scale)


def window_px(scale: int) -> int:
    """Return the side of the clean windows of `DetailSource`, output pixels."""
    return DETAIL_PATCH_PX + SHIFT_PX + 2 * reach_px(scale)


def detail_of(clean: Tensor, scale: int) -> Tensor:
    """Return x - L(x) of (N, 1, H, W), without the rim within reach of L."""
    rim = reach_px(scale)
    smooth = low_pass(clean, DETAIL_SIGMA_PX * scale)
    return (clean - smooth)[..., rim:-rim, rim:-rim]


class DetailSource:
    """Draws detail of clean windows.

    Parameters
    ----------
    train, held_out : PatchSource
        Clean windows of `window_px(scale)` output pixels.
    scale : int
        Output pixels per input pixel.
    seed : int
        Seed of the training.
    device : torch.device
        Where detail is wanted.
    """

    def __init__(
        self, train: PatchSource, held_out: PatchSource, scale: int, *, seed: int, device: torch.device
    ) -> None:
        self.train, self.scale, self.seed, self.device = train, scale, seed, device
        self._held_out = held_out

    def at(self, step: int, count: int) -> Tensor:
        """Return the detail of a step, (count, 1, 72, 72), before augmentation; it depends on (seed, step) only."""
        clean = self.train.draw(count, step_rng(self.seed, step, REAL_STREAM), self.device)
        return detail_of(clean, self.scale)

    def measured(self, count: int, *, held_out: bool, stream: int = 0) -> Tensor:
        """Return patches to measure with, (count, 1, 64, 64), always the same for one stream."""
        source = self._held_out if held_out else self.train
        rng = step_rng(MEASURED_SEED, stream, MEASURED_STREAM)
        parts = []
        for start in range(0, count, 64):
            clean = source.draw(min(64, count - start), rng, self.device)
            parts.append(detail_of(clean, self.scale)[..., :DETAIL_PATCH_PX, :DETAIL_PATCH_PX])
        return torch.cat(parts)


def augment(detail: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift all patches, turn three fifths, and change contrast and grey of three fifths, differentiably.

    Parameters
    ----------
    detail : Tensor, (N, 1, 72, 72)
        Detail with room for the shift.
    rng : numpy.random.Generator
        Source of chance.

    Returns
    -------
    Tensor, (N, 1, 64, 64)
    """
    count = len(detail)
    turned, changed = rng.random((2, count)) < AUGMENTED_SHARE
    shifted = cut_patches(detail, rng.integers(0, SHIFT_PX, (count, 2)), DETAIL_PATCH_PX)
    turns = np.where(turned, rng.integers(0, 8, count), 0)
    patches = []
    for one, turn in zip(shifted, turns, strict=True):
        patch = one.mT if turn & 1 else one
        patches.append(patch.flip([axis for axis, bit in ((1, 2), (2, 4)) if turn & bit]))
    contrast = np.where(changed, np.exp(rng.normal(0, CONTRAST_DEVIATION, count)), 1.0)
    grey = np.where(changed, rng.normal(0, GREY_DEVIATION, count), 0.0)
    factors, offsets = (
        sent(values, detail.device, detail.dtype)[:, None, None, None] for values in (contrast, grey)
    )
    return torch.addcmul(offsets, torch.stack(patches), factors)


def cut_patches(images: Tensor, corners: NDArray[np.int64], side: int) -> Tensor:
    """Cut one patch of (side, side) out of each image (N, C, H, W), at its own corner (y, x) of (N, 2)."""
    pairs = zip(images, corners.tolist(), strict=True)
    return torch.stack([image[..., y : y + side, x : x + side] for image, (y, x) in pairs])


def square_batch(batch: int) -> int:
    """Return the largest side k of a square of patches, at most 4, with an area dividing a batch."""
    return max(side for side in range(1, 5) if batch % side**2 == 0 and side <= math.isqrt(batch))
