"""Twins: two pairs of patches under one degradation, of which a network learns what a degradation is.

Half of a batch are real: two places of one window of the user's pairs. The other half are drawn: two windows of clean
tissue under one degradation of a recipe, whose kernel and noise are known.
"""

from __future__ import annotations

import attrs
import numpy as np
import torch
from torch import Tensor

from bigrestore.core.kernels import kernel_size
from bigrestore.degradation.degradation import Degradation
from bigrestore.degradation.scanner import margin_px
from bigrestore.degradation.schema import Recipe
from bigrestore.errors import InputError
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.training.data.images import GreyImage
from bigrestore.training.data.pairs import Pairs, PairSource
from bigrestore.training.data.patches import PatchSource, step_rng
from bigrestore.training.fitting.fit import PairsFit, WindowFit

TWIN_PX, SMALLEST_TWIN_PX, TWIN_STEP_PX = 96, 48, 8
"""Side of a patch, degraded pixels: the largest, the smallest, and what it is a multiple of."""

TWIN_STREAM = 17
HELD_OUT_TWINS = 56
TWIN_HELD_OUT_EVERY = 6
"""One real window in so many is held out."""


@attrs.frozen(eq=False)
class Twins:
    """A batch of twins; twin i lies at i and at i + n.

    Attributes
    ----------
    degraded, valid : Tensor, (2 n, 1, h, h)
    clean : Tensor, (2 n, 1, scale * h, scale * h)
    blurred : Tensor, (2 n, 1, h, h)
        The clean patches under kernel and grey curve, which are known or fitted.
    noise : Tensor, (2 n, 4)
        The numbers of `Noise`, known or fitted.
    drawn : list of Degradation or None, n
        What was drawn; None for real twins.
    """

    degraded: Tensor
    valid: Tensor
    clean: Tensor
    blurred: Tensor
    noise: Tensor
    drawn: list[Degradation | None]


class TwinSource:
    """Draws twins.

    Parameters
    ----------
    fit : PairsFit
        The user's pairs.
    recipe : Recipe
        What else may happen to their clean sides.
    seed : int
        Of the training.
    device : torch.device
        Where twins are wanted.

    Raises
    ------
    InputError
        The windows are too small.
    """

    def __init__(self, fit: PairsFit, recipe: Recipe, seed: int, device: torch.device) -> None:
        self.fit, self.seed, self.device, self.scale = fit, seed, device, fit.scale
        least = min(min(each.window.degraded.shape) for each in fit.fits)
        largest = (least * fit.scale - 2 * margin_px(fit.scale)) // fit.scale
        self.patch_px = min(TWIN_PX, largest // TWIN_STEP_PX * TWIN_STEP_PX)
        if self.patch_px < SMALLEST_TWIN_PX:
            raise InputError(
                f"The pairs have windows of {least} degraded px, and a network learns from "
                f"{SMALLEST_TWIN_PX + 2 * margin_px(fit.scale) // fit.scale} px or more; give larger ones, or leave out "
                "--network."
            )
        held = [index % TWIN_HELD_OUT_EVERY == TWIN_HELD_OUT_EVERY - 1 for index in range(len(fit.fits))]
        self.real = [each for each, out in zip(fit.fits, held, strict=True) if not out]
        self._blurred = {id(each): each.expected for each in fit.fits}
        self.real_held_out = [each for each, out in zip(fit.fits, held, strict=True) if out] or self.real
        side = self.patch_px * fit.scale + 2 * margin_px(fit.scale)
        self.train = _clean_source(self.real, side)
        try:
            held_out = _clean_source(self.real_held_out, side, augment=False)
        except InputError:
            held_out = self.train
        self._pairs = PairSource(
            self.train,
            held_out,
            recipe.always_degrading(),
            fit.scale,
            seed=seed,
            device=device,
            held_out_count=2 * HELD_OUT_TWINS,
            together=2,
        )

    def at(self, step: int, count: int) -> Twins:
        """Return `count` twins of a step, the real ones first."""
        rng = step_rng(self.seed, step, TWIN_STREAM)
        real = count // 2
        chosen = [self.real[int(index)] for index in rng.integers(0, len(self.real), real)]
        return joined([self.real_twins(chosen, rng), self._drawn_twins(step, count - real)])

    def held_out(self) -> Twins:
        """Return the held-out twins of the recipe, always the same."""
        return self._of_pairs(self._pairs.held_out())

    def real_twins(self, fits: list[WindowFit], rng: np.random.Generator) -> Twins:
        """Return twins of real windows: two places of each."""
        degraded, clean, blurred, noise = [], [], [], []
        for _ in range(2):
            for fit in fits:
                shape = fit.window.degraded.shape
                y, x = (int(rng.integers(0, side - self.patch_px + 1)) for side in shape)
                part = np.s_[y : y + self.patch_px, x : x + self.patch_px]
                fine = np.s_[
                    y * self.scale : (y + self.patch_px) * self.scale,
                    x * self.scale : (x + self.patch_px) * self.scale,
                ]
                degraded.append(fit.window.degraded[part])
                clean.append(fit.window.clean[fine])
                blurred.append(self._blurred[id(fit)][part])
                noise.append(attrs.astuple(fit.noise))
        made, white, soft = (
            torch.from_numpy(np.stack(parts))[:, None].to(self.device) for parts in (degraded, clean, blurred)
        )
        return Twins(
            made,
            torch.ones_like(made),
            white,
            soft,
            torch.tensor(noise, device=self.device),
            [None] * len(fits),
        )

    def _drawn_twins(self, step: int, count: int) -> Twins:
        return self._of_pairs(self._pairs.at(step, 2 * count, together=2))

    def _of_pairs(self, pairs: Pairs) -> Twins:
        """Order pairs whose twins lie side by side."""
        order = torch.cat([torch.arange(0, len(pairs.degraded), 2), torch.arange(1, len(pairs.degraded), 2)])
        order = order.to(pairs.degraded.device)
        known = pairs.known
        more = [(d.noise.correlated_share, d.effective_contrast_gain) for d in pairs.drawn]
        law = torch.stack([known.noise_gain, known.read_noise], dim=1)
        noise = torch.cat([law, torch.tensor(more, device=law.device)], dim=1)
        blurred = redegrade(pairs.target, known.kernel, self.scale)
        degraded, valid, clean = pairs.degraded[order], pairs.valid[order], pairs.target[order]
        return Twins(degraded, valid, clean, blurred[order], noise[order], list(pairs.drawn[::2]))

    @property
    def frame_px(self) -> int:
        """Width of the border of a patch, degraded pixels, where the blur lacks its context."""
        return -(-(kernel_size(self.scale) // 2) // self.scale) + 1


def _clean_source(fits: list[WindowFit], side: int, *, augment: bool = True) -> PatchSource:
    """Return the clean sides of windows as they are: no other size, no other tone."""
    images = [
        GreyImage(
            f"{index}-{each.window.name}", np.rint(np.clip(each.window.clean, 0, 1) * 65535).astype(np.uint16)
        )
        for index, each in enumerate(fits)
    ]
    return PatchSource(
        images,
        side,
        augment=augment,
        scale_weights={1.0: 1.0},
        group_scale_weights={},
        remap_probability=0.0,
    )


def joined(parts: list[Twins]) -> Twins:
    """Return batches of twins as one."""
    counts = [len(part.drawn) for part in parts]

    def both(name: str) -> Tensor:
        split = [getattr(part, name).split(count) for part, count in zip(parts, counts, strict=True)]
        return torch.cat([*(first for first, _ in split), *(second for _, second in split)])

    drawn = [one for part in parts for one in part.drawn]
    return Twins(both("degraded"), both("valid"), both("clean"), both("blurred"), both("noise"), drawn)
