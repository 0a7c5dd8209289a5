"""Training pairs drawn on the fly: clean windows, a drawn degradation each, and its true numbers.

The pairs of a step depend only on (seed, step), so a resumed training sees the same ones. Held-out pairs come from
files outside the training, under degradations drawn once.
"""

from __future__ import annotations

import attrs
import numpy as np
import torch
from torch import Tensor

from bigrestore.core.host.waiting import sent
from bigrestore.degradation.degradation import Degradation, psi_targets
from bigrestore.degradation.recipe import AnyRecipe, draw_degradations
from bigrestore.degradation.scanner import degrade_batch, margin_px
from bigrestore.model.nets.code import Degradations
from bigrestore.model.nets.restorer import Restorer
from bigrestore.training.data.focus import partly_unfocused
from bigrestore.training.data.patches import PatchSource, step_generator, step_rng
from bigrestore.training.data.tilt import TiltSettings, tilted

HELD_OUT_SEED = 7_654_321
BASIS_KERNELS = 6000
KERNEL_SEED = 1_234_567


@attrs.frozen(eq=False)
class Pairs:
    """A batch of pairs.

    Attributes
    ----------
    degraded, valid : Tensor, (N, 1, h, w)
        Input and its undamaged pixels.
    target : Tensor, (N, 1, scale * h, scale * w)
        What it should become.
    known : Degradations
        The truth of each degradation.
    drawn : list of Degradation
        The same, number by number.
    """

    degraded: Tensor
    valid: Tensor
    target: Tensor
    known: Degradations
    drawn: list[Degradation]


class PairSource:
    """Draws pairs.

    Parameters
    ----------
    train, held_out : PatchSource
        Clean windows of `patch_px * scale + 2 * margin_px(scale)` output pixels.
    recipe : Recipe or LearnedRecipe
        What may happen to them.
    scale : int
        Output pixels per input pixel.
    seed : int
        Seed of the training.
    device : torch.device
        Where pairs are made and wanted.
    held_out_count : int
        Number of held-out pairs.
    together : int
        How many held-out pairs in a row are of one image and one degradation.
    tilt : TiltSettings, optional
        New slopes for clean windows, beyond those of their tissue; None: the windows stay.
    unfocused : float
        Share of the clean windows that lie partly out of focus.
    """

    def __init__(
        self,
        train: PatchSource,
        held_out: PatchSource,
        recipe: AnyRecipe,
        scale: int,
        *,
        seed: int,
        device: torch.device,
        held_out_count: int = 32,
        together: int = 1,
        tilt: TiltSettings | None = None,
        unfocused: float = 0.0,
    ) -> None:
        self.tilt, self.unfocused = tilt, unfocused
        self.train, self.recipe, self.scale, self.seed, self.device = train, recipe, scale, seed, device
        self._held_out = self._make(held_out, HELD_OUT_SEED, 0, held_out_count, together)

    def at(self, step: int, count: int, together: int = 1) -> Pairs:
        """Return the pairs of a step, `together` in a row being of one image and one degradation."""
        return self._make(self.train, self.seed, step, count, together)

    def held_out(self) -> Pairs:
        """Return the held-out pairs, always the same."""
        return self._held_out

    def _make(self, source: PatchSource, seed: int, step: int, count: int, together: int) -> Pairs:
        rng = step_rng(seed, step)
        clean = source.draw(count, rng, self.device, together)
        if self.tilt is not None:
            clean = tilted(clean, rng, self.tilt, together)
        if self.unfocused:
            clean = partly_unfocused(clean, rng, self.unfocused, self.scale)
        drawn = [
            one
            for one in draw_degradations(self.recipe, self.scale, count // together, rng)
            for _ in range(together)
        ]
        generator = step_generator(seed, step, self.device)
        degraded, valid, target = degrade_batch(clean, drawn, self.scale, generator)
        return Pairs(degraded, valid, target, known_of(drawn, self.device), drawn)


def sample_kernels(recipe: AnyRecipe, scale: int, count: int) -> Tensor:
    """Return `count` drawn kernels, (count, k, k), for fitting a basis."""
    return psi_targets(draw_degradations(recipe, scale, count, np.random.default_rng(KERNEL_SEED)))["kernel"]


def fit_basis(model: Restorer, pairs: PairSource) -> None:
    """Fit the kernel basis of a model, if unfitted, to the kernels of a recipe."""
    if not bool(model.basis.components.any()):
        model.basis.fit(sample_kernels(pairs.recipe, model.scale, BASIS_KERNELS))


def patch_size(input_px: int, scale: int) -> int:
    """Return the side of a clean window, output pixels, for pairs of `input_px` input pixels."""
    return input_px * scale + 2 * margin_px(scale)


def known_of(drawn: list[Degradation], device: torch.device) -> Degradations:
    """Return the truth of drawn degradations as tensors on a device."""
    truth = {name: sent(value, device) for name, value in psi_targets(drawn).items()}
    return Degradations(
        kernel=truth["kernel"],
        noise_gain=truth["noise_gain"],
        read_noise=truth["read_noise"],
        jpeg_quality=truth["jpeg"],
        banding=truth["banding"],
        jitter_px=truth["jitter"],
        damage=truth["damage"],
        defocus=truth["defocus"],
        thickness_px=truth["thickness_px"],
    )
