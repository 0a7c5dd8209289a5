"""Stages 3 and 4: join the prior to the U-Net.

Trained are the latent head (reads codes off the U-Net's bottleneck), the channel-split transforms and the shares (let
the U-Net's features into the generator), and late, slowly, the generator itself: frozen for the first 70 % of
`bridge`, then at a hundredth of its former rate, so it does not forget tissue; in `polish` all at a small rate. The
U-Net and the estimator never move. Realness 0 stays the result of fidelity training to the bit, so nothing here has a
loss on y0. Where features take the place of noise (`--fusion noise`) the generator learns from the first step on, as GPEN's
does: nothing of it passes them untouched.

Losses on the output y1 = y0 + generator: a Charbonnier and the local-artifact loss to the target, a conditional
critic (hinge) and its features for the look of tissue under this input, and the maximum mean discrepancy of its codes
to the prior's. A pattern of period 2 px beyond the target's, too faint for the critic, is penalised. As in fidelity
training both sides are compared after the low-frequency lock: a critic would tell them apart by a shading absent from
the input. Only the interior of a patch is judged: at its rim the generator has no halo. The critic sees it from a
drawn phase of the generator's grid on.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bigrestore.core.interpolation import catmull_rom
from bigrestore.errors import UsageError
from bigrestore.model.nets.checkpoint import save_model
from bigrestore.model.nets.guards import low_frequency_lock
from bigrestore.model.nets.prior.discriminator import ConditionalDiscriminator
from bigrestore.model.nets.prior.generator import Generator
from bigrestore.model.nets.prior.latent import LatentHead
from bigrestore.model.nets.prior.smooth import DETAIL_SIGMA_PX, low_pass
from bigrestore.model.nets.restorer import Restorer
from bigrestore.model.nets.unet import UNetOutput
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.codes import drawn_codes, encode, estimate_codes, shown_masks
from bigrestore.training.data.detail import DETAIL_PATCH_PX, cut_patches
from bigrestore.training.data.pairs import PairSource
from bigrestore.training.data.patches import step_generator, step_rng
from bigrestore.training.data.windows import local_mean
from bigrestore.training.loop.adversary import GUARD, Adversary
from bigrestore.training.loop.options import TRAINING_DTYPES
from bigrestore.training.loop.schedule import LoopSettings
from bigrestore.training.loop.sheet import sheet_of
from bigrestore.training.stages import prior
from bigrestore.training.stages.assembly import (
    HALO_FACTS,
    Material,
    StageBuilder,
    StagePlan,
    detail_source,
    pair_source,
)
from bigrestore.training.stages.frechet import frechet_distance, texture_features
from bigrestore.training.stages.halo import measure_halo
from bigrestore.training.stages.losses import (
    charbonnier,
    code_discrepancy,
    feature_l1,
    hinge_critic_loss,
    local_artifact_l1,
    nyquist_db,
    nyquist_lines,
    nyquist_penalty,
    psnr_of_each,
)
from bigrestore.training.stages.prior import sample_patches

BRIDGE_PATCH_PX, RIM_PX = 112, 16
"""Side of the patches, and of the unjudged rim, input pixels."""
BRIDGE_BATCH = 4
BRIDGE_HELD_OUT = 40
FROZEN_SHARE = 0.7
"""Share of the schedule of `bridge` with a frozen prior."""
RATE_FACTORS = {
    "latent_head.*": 4.0,
    "*.bridge.*": 1.0,
    "*.shares.*": 4.0,
    "*.coupling.bridge_*": 4.0,
    "prior.*": 0.04,
}
"""Relative to the rate of 5e-4 of the transforms. The weights of the head and of the coupling have an equalised
learning rate and need the prior's 2e-3; the prior continues at a hundredth of it. At a tenth its unconditional
samples drifted from tissue, by half to three quarters of their Frechet distance, within the last 30 % of a bridge of
an hour."""
BRIDGE_STREAM, CODE_STREAM = 7, 8
AVERAGE_DECAY = 0.999
CODES = 256
CHARBONNIER, ADVERSARIAL, FEATURES, ARTIFACT, DISCREPANCY, NYQUIST = 0.5, 0.05, 1.0, 1.0, 0.1, 0.05
"""Weights of the losses. The gradient of lines at Nyquist standing out by 20 dB is several times that of the
features, and falls with them; with 0.02 they cost 1.7 times as much after 150 to 300 steps."""
BRIDGE_SHOWN = 8
PATTERN_STEP = 0.01
"""Change of a bias by which its effect is measured."""


def is_bridge(name: str) -> bool:
    """Return whether a parameter of the generator joins it to the U-Net; `bridge` trains these."""
    return name.startswith(("shares.", "coupling.bridge_")) or ".bridge." in name


@attrs.frozen(eq=False)
class Outputs:
    """What the network makes of a batch, after the lock.

    Attributes
    ----------
    base, y0, y1, target : Tensor, (N, 1, H, W)
        Interpolation, output at realness 0 and 1, and target.
    w_field : Tensor, (N, L, h, w)
        Latent codes.
    """

    base: Tensor
    y0: Tensor
    y1: Tensor
    target: Tensor
    w_field: Tensor


class BridgeStage:
    """The stage between a trained U-Net and a trained prior, for the training loop.

    Parameters
    ----------
    model : Restorer
        With a trained U-Net and a trained prior.
    pairs : PairSource
        Where pairs come from.
    adversary : Adversary
        A `ConditionalDiscriminator` and its optimiser.
    reference : Tensor, (M, d)
        Texture features of tissue, for the figure of unconditional samples.
    seed, batch : int
        Seed, and pairs per step.
    dtype : torch.dtype
        What U-Net, generator and critic compute in.
    frozen_share : float
        Share of the schedule with a frozen prior: 0.7 for `bridge`, 0 for `polish` and where features take the place of
        noise.
    name : str
        `bridge` or `polish`.
    kept : mapping
        Metadata kept from the model: the halo at realness 0.
    """

    def __init__(
        self,
        model: Restorer,
        pairs: PairSource,
        adversary: Adversary,
        reference: Tensor,
        *,
        seed: int,
        batch: int = BRIDGE_BATCH,
        dtype: torch.dtype = torch.float32,
        frozen_share: float = FROZEN_SHARE,
        name: str = "bridge",
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        if model.prior is None or model.latent_head is None:
            raise UsageError("this model has no prior to bridge to; run `bigrestore train prior` on it first")
        self.name = name
        self.model, self.pairs, self.adversary = model, pairs, adversary
        self.seed, self.batch, self.dtype, self._frozen_share = seed, batch, dtype, frozen_share
        self._reference, self._kept = reference, dict(kept or {})
        self._prior: Generator = model.prior
        self._head: LatentHead = model.latent_head
        model.requires_grad_(False)
        self._trained = nn.ModuleDict({"latent_head": self._head, "prior": self._prior})
        self._trained.requires_grad_(True)
        self._averaged = copy.deepcopy(self._trained).requires_grad_(False)
        self._follow = get_ema_multi_avg_fn(AVERAGE_DECAY)  # type: ignore[no-untyped-call]
        self._before = self._alone()
        self._own = [p for name, p in self._prior.named_parameters() if not is_bridge(name)]

    def modules(self) -> nn.Module:
        """Return the trained modules."""
        return self._trained

    def step(self, step: int, progress: float) -> dict[str, Tensor]:
        """Teach the critic, then return the losses, the total first."""
        # The running average, the judge of artifacts, follows the weights.
        self._follow(list(self._averaged.parameters()), list(self._trained.parameters()), None)
        for parameter in self._own:
            parameter.requires_grad_(progress >= self._frozen_share)
        pairs = self.pairs.at(step, self.batch)
        rng = step_rng(self.seed, step, BRIDGE_STREAM)
        valid = shown_masks(pairs, rng)
        codes = drawn_codes(self.model, pairs, rng)
        with torch.no_grad():
            base, y0, out = self.model.fidelity(pairs.degraded, valid, *codes, self.dtype)
        origins = torch.from_numpy(rng.integers(0, 1 << 16, (self.batch, 2)) * self.model.alignment_px)
        y1, w_field = self._detailed(self._trained, y0, out, step, origins)
        with torch.no_grad():
            averaged, _ = self._detailed(self._averaged, y0, out, step, origins)
        locked = [
            low_frequency_lock(side, pairs.degraded, valid, pairs.known.kernel, self.model.scale)
            for side in (y1, averaged, pairs.target)
        ]
        y1, averaged, target = (self._interior(side) for side in locked)
        # Windows of the critic begin about the interior's corner, at every phase of the grid alike.
        phases = self.model.preset.unshuffle * self.model.scale
        first = RIM_PX * self.model.scale - phases // 2
        corners = first + rng.integers(0, phases, (self.batch, 2))
        shown = (cut_patches(side, corners, y1.shape[-1]) for side in (locked[0], locked[2], base))
        parts = self._judged(*shown, step=step, progress=progress)
        parts["nyquist"] = nyquist_penalty(y1, target)
        parts["charbonnier"] = charbonnier(y1, target)
        parts["artifact"] = local_artifact_l1(y1, target, averaged)
        parts["mmd"] = self._discrepancy(w_field, step)
        total = (
            CHARBONNIER * parts["charbonnier"]
            + ADVERSARIAL * parts["hinge"]
            + FEATURES * parts["features"]
            + ARTIFACT * parts["artifact"]
            + DISCREPANCY * parts["mmd"]
            + NYQUIST * parts["nyquist"]
        )
        return {"loss": total, **parts}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return gains, sharpness, lines at Nyquist and distances from the targets of y0 and y1, and of free samples."""
        pairs = self.pairs.held_out()
        made = [self._held_out(start) for start in range(0, len(pairs.target), BRIDGE_SHOWN)]
        target = self._interior(pairs.target)
        enlarged = catmull_rom(pairs.degraded, self.model.scale).clamp(0, 1)
        start = psnr_of_each(self._interior(enlarged), target)
        changed = torch.tensor([not drawn.identity for drawn in pairs.drawn], device=start.device)
        texture, sharpness, lines = self._texture(pairs.target), _sharpness(target), nyquist_lines(target)
        figures = {}
        for name in ("y0", "y1"):
            y = torch.cat([getattr(outputs, name) for outputs in made]).clamp(0, 1)
            inner = self._interior(y)
            figures[f"gain_{name}"] = float((psnr_of_each(inner, target) - start)[changed].mean())
            figures[f"sharpness_{name}"] = float(_sharpness(inner) / sharpness)
            figures[f"frechet_{name}"] = frechet_distance(self._texture(y), texture)
            figures[f"nyquist_db_{name}"] = nyquist_db(inner, lines, BRIDGE_SHOWN)
        return {**figures, "frechet_prior": self._alone(), "frechet_prior_before": self._before}

    def _alone(self) -> float:
        """Return how far samples of the prior alone are from held-out tissue."""
        samples = texture_features(sample_patches(self._prior, len(self._reference), self.dtype))
        return frechet_distance(samples, self._reference)

    @torch.no_grad()
    def sheet(self) -> NDArray[np.uint8]:
        """Return held-out pairs, one a column: interpolated, realness 0, realness 1, target."""
        outputs = self._held_out(0)
        pairs = self.pairs.held_out()
        rows = (
            catmull_rom(pairs.degraded[:BRIDGE_SHOWN], self.model.scale),
            outputs.y0,
            outputs.y1,
            outputs.target,
        )
        return sheet_of(rows)

    def state(self) -> dict[str, Any]:
        """Return the state beside the trained modules for a checkpoint."""
        rest = {
            name: tensor
            for name, tensor in self.model.state_dict().items()
            if not name.startswith(("prior.", "latent_head."))
        }
        return {"adversary": self.adversary.state(), "averaged": self._averaged.state_dict(), "model": rest}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the result of `state`."""
        self.adversary.load_state(state["adversary"])
        self._averaged.load_state_dict(state["averaged"])
        self.model.load_state_dict(state["model"], strict=False)

    @torch.no_grad()
    def settle_pattern(self) -> None:
        """Take patterns in step with the pixels of a node out of the detail.

        Any checkerboard goes by the coupling's filter, and the constant pattern by the pixels' biases. It has some
        hundredths of a grey level, too little for any loss, but is the same all over a section and stands out at
        Nyquist. The change of every pixel's mean by every bias is measured, and the biases solved for.
        """
        if self._prior.coupling is None:
            return
        self._prior.coupling.silence_checkerboard()
        bias = self._prior.coupling.bridge_bias
        start = bias.detach().clone()
        steps = PATTERN_STEP * torch.eye(start.numel()).to(start).reshape(-1, *start.shape)
        pattern, *others = self._patterns([start, *(start + step for step in steps)])
        changes = [(other - pattern) / PATTERN_STEP for other in others]
        solved = torch.linalg.lstsq(
            torch.stack(changes, dim=1), -pattern[:, None], rcond=1e-3, driver="gelsd"
        ).solution
        bias.copy_(start + solved.to(bias).reshape_as(bias))

    @torch.no_grad()
    def _patterns(self, biases: Sequence[Tensor]) -> Tensor:
        """Return the constant pattern of the pixels of a node under each bias, (biases, unshuffle^2), float64.

        It is the mean detail of each pixel, less the mean of all. The last bias stays.
        """
        unshuffle, bias = self.model.preset.unshuffle, self._prior.coupling.bridge_bias  # type: ignore[union-attr]
        sums = torch.zeros(len(biases), unshuffle**2, dtype=torch.float64)
        for start in range(0, len(self.pairs.held_out().target), BRIDGE_SHOWN):
            given = self._given(start)  # by the modules that are not trained, once for all biases
            for total, tried in zip(sums, biases, strict=True):
                bias.copy_(tried)
                out = self._outputs(given)
                phases = nn.functional.pixel_unshuffle(self._interior(out.y1 - out.y0), unshuffle)
                total += phases.double().mean((2, 3)).sum(0).cpu()
        return sums - sums.mean(dim=1, keepdim=True)

    def export(self, path: Path) -> None:
        """Settle the pattern, measure the halo with the prior at work, and write the model."""
        self.settle_pattern()
        least = int(self._kept.get("halo_px", 0))
        halo_px, errors = measure_halo(
            self.model, self.pairs.held_out().degraded, realness=1.0, from_px=least
        )
        save_model(path, self.model, {**self._kept, "halo_prior_px": halo_px, "halo_prior_errors": errors})

    def _detailed(
        self, modules: nn.ModuleDict, y0: Tensor, out: UNetOutput, z: int, origins: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return y1 of some weights, and the codes."""
        prior = modules["prior"]
        with torch.autocast(y0.device.type, self.dtype, enabled=self.dtype != torch.float32):
            w_field = prior.mapping(modules["latent_head"](out.features[0]))  # type: ignore[operator]
            detail = prior(w_field, out.features, self.seed, z, origins)
        return y0 + detail.float(), w_field

    def _interior(self, image: Tensor) -> Tensor:
        rim = RIM_PX * self.model.scale
        return image[..., rim:-rim, rim:-rim]

    def _judged(
        self, y1: Tensor, target: Tensor, base: Tensor, *, step: int, progress: float
    ) -> dict[str, Tensor]:
        """Make the critic's step, and return its new judgement of y1."""
        critic = self.adversary.critic
        with torch.autocast(base.device.type, self.dtype, enabled=self.dtype != torch.float32):
            judged_real, judged_made = critic(target, base)[0], critic(y1.detach(), base)[0]
            taught = hinge_critic_loss(judged_real, judged_made)
            self.adversary.learn(step, progress, taught)
            with self.adversary.fixed():
                judged, seen = critic(y1, base)
                with torch.no_grad():
                    wanted = critic(target, base)[1]
        return {
            "hinge": -judged.mean(),
            "features": feature_l1(seen, wanted),
            "critic": taught.detach(),
            "sure": (judged_real.detach() - judged_made.detach()).mean(),
        }

    def _discrepancy(self, w_field: Tensor, step: int) -> Tensor:
        """Return the discrepancy of a draw of the codes from as many of the prior's."""
        generator = step_generator(self.seed, step, w_field.device, CODE_STREAM)
        codes = w_field.movedim(1, 3).flatten(0, 2)
        chosen = torch.randperm(len(codes), generator=generator, device=codes.device)[:CODES]
        chance = torch.randn(1, codes.shape[1], CODES, 1, generator=generator, device=codes.device)
        wanted = self._prior.mapping(chance)[0, :, :, 0].T
        return code_discrepancy(codes[chosen], wanted)

    def _held_out(self, start: int) -> Outputs:
        """Return the outputs for eight held-out pairs under codes of the model's own estimates."""
        return self._outputs(self._given(start))

    def _given(self, start: int) -> tuple[int, Tensor, Tensor, UNetOutput]:
        """Return the first of eight held-out pairs, and what the modules that are not trained make of them."""
        everything, part = self.pairs.held_out(), slice(start, start + BRIDGE_SHOWN)
        degraded, valid = everything.degraded[part], everything.valid[part]
        psi, filters = encode(self.model, estimate_codes(self.model, degraded, valid))
        return start, *self.model.fidelity(degraded, valid, psi, filters, self.dtype)

    def _outputs(self, given: tuple[int, Tensor, Tensor, UNetOutput]) -> Outputs:
        """Return the outputs for eight held-out pairs, from the result of `_given`."""
        start, base, y0, out = given
        everything, part = self.pairs.held_out(), slice(start, start + BRIDGE_SHOWN)
        degraded, valid = everything.degraded[part], everything.valid[part]
        kernel, target = everything.known.kernel[part], everything.target[part]
        origins = torch.zeros(len(degraded), 2, dtype=torch.int64)
        y1, w_field = self._detailed(self._trained, y0, out, start, origins)
        y0, y1 = (low_frequency_lock(y, degraded, valid, kernel, self.model.scale) for y in (y0, y1))
        return Outputs(base, y0, y1, target, w_field)

    def _texture(self, images: Tensor) -> Tensor:
        """Return the features of the detail of images, four windows of the interior of each."""
        smooth = low_pass(images, DETAIL_SIGMA_PX * self.model.scale)
        detail = self._interior(images - smooth)
        size = min(DETAIL_PATCH_PX, detail.shape[-1])
        ends = (slice(0, size), slice(detail.shape[-1] - size, None))
        return texture_features(torch.cat([detail[..., y, x] for y in ends for x in ends]))


def _sharpness(images: Tensor) -> Tensor:
    """Return the root mean square of the finest band: the difference of a pixel from its 3x3 mean."""
    return (images - local_mean(images, 3)).square().mean().sqrt()


def conditional_critic_for(model: Restorer, seed: int) -> ConditionalDiscriminator:
    """Return a fresh critic for a restorer: three quarters of the channels of its first grid."""
    torch.manual_seed(seed + 2)
    return ConditionalDiscriminator(3 * model.preset.channels[0] // 4, model.preset.unshuffle)


def build_bridge(
    name: str,
    material: Material,
    model: Restorer,
    info: dict[str, Any],
    options: StageOptions,
    settings: LoopSettings,
) -> tuple[BridgeStage, PairSource]:
    """Return the stage `bridge` or `polish` and the source of its data; see `assembly.build_stage`."""
    pairs = pair_source(material, model.scale, options, BRIDGE_PATCH_PX, BRIDGE_HELD_OUT)
    tissue = prior.reference_windows(detail_source(material, model, options), prior.MEASURED)
    critic = conditional_critic_for(model, options.seed).to(options.device)
    stage = BridgeStage(
        model,
        pairs,
        Adversary(critic, settings.rate_at),
        texture_features(tissue),
        seed=options.seed,
        batch=options.batch or BRIDGE_BATCH,
        dtype=TRAINING_DTYPES[options.precision],
        frozen_share=FROZEN_SHARE if name == "bridge" and options.fusion == "sft" else 0.0,
        name=name,
        kept={key: info[key] for key in HALO_FACTS if key in info},
    )
    return stage, pairs


BRIDGE = StageBuilder(
    StagePlan(300, checkpoint_s=240.0, guard=GUARD, rate_factors=RATE_FACTORS), build_bridge
)
