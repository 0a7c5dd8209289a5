"""The network of a learned degradation: it learns to carry what happened to one image over to another.

`CodeNet` reads a code off both twins, and `SynNet` degrades the clean side of the second by that of the first (of four in
five twins; else by its own). Codes of twins are to agree, and those of different degradations to differ. `SynNet` is held
to the likelihood of the true degraded image under its mean and noise: a mean alone would say nothing of noise, and a
restorer would take that for the truth.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.degradation.degradation import Degradation
from bigrestore.degradation.schema import Recipe
from bigrestore.degradation.steps import local_contrast
from bigrestore.model.nets.parts.learned_degradation import SYN_REACH_PX, LearnedDegradation
from bigrestore.model.nets.parts.part import save_part
from bigrestore.model.nets.prior.discriminator import ConditionalDiscriminator
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.patches import step_generator, step_rng
from bigrestore.training.fitting.fit import PairsFit, WindowFit, fit_one
from bigrestore.training.fitting.real_pairs import RealWindow
from bigrestore.training.fitting.twins import Twins, TwinSource
from bigrestore.training.loop.adversary import Adversary
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.loop.sheet import sheet_of
from bigrestore.training.stages.assembly import Material, StageBuilder, StagePlan
from bigrestore.training.stages.losses import fft_amplitude_l1, hinge_critic_loss
from bigrestore.training.stages.parts.part_stage import PartStage

TWINS_BATCH = 8
DEGRADATION_STREAM = 18
SWAPPED_SHARE = 0.8
"""Twins of which the second is told the code of the first."""

WEIGHTS = {"likelihood": 1.0, "same": 0.1, "contrast": 1.0, "amplitude": 20.0, "hinge": 0.01}
"""Of the losses. With more weight on equal codes than on different ones all codes become one."""
TEMPERATURE = 0.1
"""Of the contrast between codes."""

LEAST_SPREAD = 0.4 / 255
"""Added to the noise, for rounding: a likelihood without noise has no bound."""

CRITIC_FEATURES, CRITIC_UNSHUFFLE = 8, 2
TRANSFERRED = 20
"""Held-out twins whose transfer is compared with a fit of their own."""

SHOWN_TWINS, CODED = 10, 28
"""Columns of a sheet, and pairs that are coded at once."""


@attrs.frozen(eq=False)
class PairsMaterial(Material):
    """The data of this stage: the fit of the user's pairs beside the recipe.

    Attributes
    ----------
    fit : PairsFit
    """

    fit: PairsFit = attrs.field(kw_only=True)


class DegradationStage(PartStage[LearnedDegradation]):
    """What the training loop asks for, for a learned degradation.

    Parameters
    ----------
    net : LearnedDegradation
        With networks.
    source : TwinSource
    adversary : Adversary
        A `ConditionalDiscriminator` of degraded images, given the clean ones.
    seed, batch : int
        Seed, and twins per step.
    """

    name = "degradation"

    def __init__(
        self, net: LearnedDegradation, source: TwinSource, adversary: Adversary, *, seed: int, batch: int
    ) -> None:
        assert net.code_net is not None
        assert net.syn_net is not None
        self.net, self.source, self.adversary = net, source, adversary
        self.code_net, self.syn_net = net.code_net, net.syn_net
        self.seed, self.batch = seed, max(2, batch)
        self.held_out = source.held_out()
        self.fitted = _fits_of_first_twins(self.held_out, source)

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Return the losses of a step."""
        twins = self.source.at(step, self.batch)
        count = len(twins.drawn)
        codes = self.code_net(twins.degraded, twins.clean)
        rng = step_rng(self.seed, step, DEGRADATION_STREAM)
        swapped = torch.from_numpy(rng.random(count) < SWAPPED_SHARE).to(codes.device)[:, None]
        told = torch.where(swapped, codes[:count], codes[count:])
        degraded, clean = twins.degraded[count:], twins.clean[count:]
        mean = twins.blurred[count:] + self.syn_net(clean, told)
        deviation = self._deviation(mean, twins.noise[count:], told)
        inner = self._inner(twins)[count:]
        error = (degraded - mean).abs() * math.sqrt(2) / deviation
        losses = {
            "likelihood": ((error + torch.log(deviation * 255)) * inner).sum() / inner.sum().clamp_min(1),
            "same": (codes[:count] - codes[count:]).abs().mean() * codes.shape[1] ** 0.5,
            "contrast": self._contrast(codes, twins),
        }
        frame = self.source.frame_px
        generator = step_generator(self.seed, step, mean.device, DEGRADATION_STREAM)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        made, real, white = (
            part[..., frame:-frame, frame:-frame]
            for part in (mean + noise * deviation, degraded, F.avg_pool2d(clean, self.source.scale))
        )
        losses["amplitude"] = fft_amplitude_l1(made, real)
        losses["hinge"] = self._judged(step, progress, made, real, white)
        return {"loss": torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum(), **losses}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return figures on held-out twins.

        `same` and `different`: median distances of codes of one degradation and of two. `partner`: share of twins whose
        code is nearest to its twin's among 56. `transfer_plain` and `transfer_other`: dB by which the network's image is
        nearer to the degraded one than that of a fit to the other twin, for blur and noise alone and for all else.
        `transfer_real`: the same for held-out windows of the user's pairs, against their own fit.
        """
        twins = self.held_out
        count = len(twins.drawn)
        codes = torch.cat(
            [
                self.code_net(twins.degraded[start : start + CODED], twins.clean[start : start + CODED])
                for start in range(0, 2 * count, CODED)
            ]
        )
        apart = torch.cdist(codes[:count], codes[count:])
        others = apart[~torch.eye(count, dtype=torch.bool, device=apart.device)]
        figures = {
            "same": float(apart.diagonal().median()),
            "different": float(others.median()),
            "partner": float((apart.argmin(1) == torch.arange(count, device=apart.device)).float().mean()),
        }
        gains: dict[str, list[float]] = {"plain": [], "other": []}
        for index, fit in enumerate(self.fitted):
            other = count + index
            own = fit.carried_to(twins.clean[other, 0].cpu().numpy())
            added = self.syn_net(twins.clean[other : other + 1], codes[index : index + 1])[0, 0].cpu().numpy()
            drawn = twins.drawn[index]
            assert drawn is not None
            inner = self._inner(twins)[other, 0].cpu().numpy() > 0
            truth = twins.degraded[other, 0].cpu().numpy()
            kind = "other" if _beyond_blur(drawn) else "plain"
            gains[kind].append(_nearer_db(fit.stored(own + added), fit.stored(own), truth, inner))
        for kind, values in gains.items():
            if values:
                figures[f"transfer_{kind}"] = float(np.mean(values))
        figures["transfer_real"] = self._real_gain()
        return figures

    @torch.no_grad()
    def _real_gain(self) -> float:
        """Return the dB by which the network is nearer than the fit on held-out real windows, by a code of another place."""
        twins = self.source.real_twins(self.source.real_held_out[:TRANSFERRED], np.random.default_rng(0))
        count = len(twins.drawn)
        codes = self.code_net(twins.degraded, twins.clean).roll(count, 0)
        mean = twins.blurred + self.syn_net(twins.clean, codes)
        inner = self._inner(twins).cpu().numpy() > 0
        made, fitted, truth = (part.cpu().numpy() for part in (mean, twins.blurred, twins.degraded))
        gains = [_nearer_db(made[i], fitted[i], truth[i], inner[i]) for i in range(2 * count)]
        return float(np.mean(gains))

    @torch.no_grad()
    def sheet(self) -> NDArray[np.uint8]:
        """Return held-out twins, one a column: clean, fitted blur, network by the other twin's code, degraded."""
        twins = self.held_out
        count = len(twins.drawn)
        columns = min(SHOWN_TWINS, count)
        shown = slice(count, count + columns)
        codes = self.code_net(twins.degraded[:columns], twins.clean[:columns])
        clean = twins.clean[shown]
        made = twins.blurred[shown] + self.syn_net(clean, codes)
        rows = (F.avg_pool2d(clean, self.source.scale), twins.blurred[shown], made, twins.degraded[shown])
        return sheet_of(rows)

    def state(self) -> dict[str, Any]:
        """Return the critic's state."""
        return {"adversary": self.adversary.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the result of `state`."""
        self.adversary.load_state(state["adversary"])

    def export(self, path: Path) -> None:
        """Read the codes of all real windows and write the part."""
        net = copy.deepcopy(self.net).cpu().eval()
        codes, contrast_kept = self._bank()
        net.codes.copy_(codes.cpu())
        save_fit(path, net, self.source.fit, contrast_kept)

    @torch.no_grad()
    def _bank(self) -> tuple[Tensor, float]:
        """Return the code of every real window, and the part of the unexplained residual that the network leaves.

        A code is the mean over patches of the window, of unit norm; the part is of standard deviations, in the median. What
        the network takes off the residual, it takes off the unexplained part: noise it cannot foretell.
        """
        rng = np.random.default_rng(0)
        codes, parts = [], []
        for fit in self.source.fit.fits:
            twins = self.source.real_twins([fit] * 4, rng)
            code = F.normalize(self.code_net(twins.degraded, twins.clean).mean(0), dim=0)
            codes.append(code)
            if fit.noise.contrast_gain > 0:
                inner = self._inner(twins)
                before = twins.degraded - twins.blurred
                now = before - self.syn_net(twins.clean, code.expand(len(twins.clean), -1))
                unexplained = fit.noise.contrast_gain * local_contrast(twins.blurred)
                powers = ((part * inner).square().sum() for part in (before, now, unexplained))
                whole, left, drawn = (float(power) for power in powers)
                parts.append(math.sqrt(min(max(1 - (whole - left) / max(drawn, 1e-12), 0.0), 1.0)))
        return torch.stack(codes), float(np.median(parts)) if parts else 1.0

    def _deviation(self, mean: Tensor, noise: Tensor, codes: Tensor) -> Tensor:
        """Return the standard deviation of the noise, the fitted law corrected by the code.

        What the fit left unexplained counts whole: the network gains where its mean explains it.
        """
        gain, read = noise[:, 0], noise[:, 1].square()
        change = torch.exp(self.syn_net.noise_change(codes))
        gain, read = (
            (law * factor)[:, None, None, None]
            for law, factor in ((gain, change[:, 0]), (read, change[:, 1]))
        )
        grey = mean.detach().clamp_min(0)
        by_contrast = noise[:, 3][:, None, None, None] * local_contrast(grey)
        return torch.sqrt(gain * grey + read + by_contrast.square() + LEAST_SPREAD**2)

    def _inner(self, twins: Twins) -> Tensor:
        """Return 1 for undamaged pixels whose blur lies within the patch."""
        frame = self.source.frame_px
        inner = torch.zeros_like(twins.valid)
        inner[..., frame:-frame, frame:-frame] = twins.valid[..., frame:-frame, frame:-frame]
        return inner

    def _contrast(self, codes: Tensor, twins: Twins) -> Tensor:
        """Return the cross-entropy of finding a twin by its code among the others."""
        count = len(twins.drawn)
        real = [drawn is None for drawn in twins.drawn]
        # Real windows of one process have one degradation: only the first may be told apart.
        kept = [
            index
            for index in range(count)
            if not (self.source.fit.shared and real[index] and any(real[:index]))
        ]
        chosen = torch.tensor(kept, device=codes.device)
        alike = codes[:count][chosen] @ codes[count:][chosen].T / TEMPERATURE
        goal = torch.arange(len(kept), device=codes.device)
        return 0.5 * (F.cross_entropy(alike, goal) + F.cross_entropy(alike.T, goal))

    def _judged(self, step: int, progress: float, made: Tensor, real: Tensor, clean: Tensor) -> Tensor:
        """Teach the critic, and return what it says of made images."""
        side = min(made.shape[-2:]) // (8 * CRITIC_UNSHUFFLE) * 8 * CRITIC_UNSHUFFLE
        made, real, clean = (part[..., :side, :side] for part in (made, real, clean))
        critic = self.adversary.critic
        taught = hinge_critic_loss(critic(real, clean)[0], critic(made.detach(), clean)[0])
        self.adversary.learn(step, progress, taught)
        with self.adversary.fixed():
            judged: Tensor = critic(made, clean)[0]
        return -judged.mean()


def _fits_of_first_twins(twins: Twins, source: TwinSource) -> list[WindowFit]:
    """Fit the first of some held-out twins, as a window of a user's pairs is fitted."""
    fits = []
    for index in range(min(TRANSFERRED, len(twins.drawn))):
        degraded, clean = (part[index, 0].cpu().numpy() for part in (twins.degraded, twins.clean))
        fits.append(fit_one(RealWindow.unmoved(degraded, clean), source.scale))
    return fits


def _beyond_blur(drawn: Degradation) -> bool:
    """Return whether a degradation is more than blur, noise and rounding."""
    return bool(drawn.worst_jpeg or drawn.banding or drawn.damage or drawn.lines or drawn.resampling)


def _nearer_db(
    made: NDArray[Any], other: NDArray[Any], truth: NDArray[Any], inner: NDArray[np.bool_]
) -> float:
    """Return by how many dB an image is nearer to the truth than another."""
    squares = [float(((image - truth)[inner] ** 2).mean()) + 1e-10 for image in (other, made)]
    return 10 * math.log10(squares[0] / squares[1])


def save_fit(path: Path, net: LearnedDegradation, fit: PairsFit, contrast_kept: float = 1.0) -> None:
    """Write a learned degradation: kernels, and networks if there are; what else was fitted stands in its metadata.

    `contrast_kept` is the part of each window's `contrast_gain` that the network leaves.
    """
    net.kernels.copy_(torch.from_numpy(fit.kernels))
    kernel_px = fit.kernels.shape[-1]
    network = net.syn_net is not None
    reach = max(kernel_px // 2, SYN_REACH_PX * fit.scale if network else 0)
    sizes = {"windows": len(fit.fits), "kernel_px": kernel_px, "scale": fit.scale, "network": network}
    windows = [each.facts() for each in fit.fits]
    facts = {"shared": fit.shared, "contrast_kept": contrast_kept, "windows": windows}
    save_part(
        path, net, "degradation", fit.scale, {"sizes": sizes, "halo_px": reach, "alignment_px": 1, **facts}
    )


def build_degradation(
    _: str,
    material: Material,
    net: LearnedDegradation,
    __: dict[str, Any],
    options: StageOptions,
    settings: LoopSettings,
) -> tuple[DegradationStage, TwinSource]:
    """Return the stage and the source of its data; see `assembly.build_stage`."""
    assert isinstance(material, PairsMaterial)
    assert isinstance(material.recipe, Recipe)
    device = torch.device(options.device)
    source = TwinSource(material.fit, material.recipe, options.seed, device)
    torch.manual_seed(options.seed)
    critic = ConditionalDiscriminator(CRITIC_FEATURES, CRITIC_UNSHUFFLE).to(device)
    adversary = Adversary(critic, settings.rate_at)
    stage = DegradationStage(net, source, adversary, seed=options.seed, batch=options.batch or TWINS_BATCH)
    return stage, source


DEGRADATION = StageBuilder(StagePlan(warmup_steps=200, sizes={}), build_degradation)
