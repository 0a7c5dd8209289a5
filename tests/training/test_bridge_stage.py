"""The bridge's training: the moving parts, the fixed parts, and the losses."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from bigrestore.errors import UsageError
from bigrestore.model.method import SectionStatistics, TileBatch
from bigrestore.model.nets.checkpoint import load_model
from bigrestore.model.nets.prior.discriminator import ConditionalDiscriminator
from bigrestore.model.nets.redegrade import KERNEL_PX
from bigrestore.model.network import NetworkMethod
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.detail import cut_patches
from bigrestore.training.stages import bridge, prior
from bigrestore.training.stages.bridge import BridgeStage
from bigrestore.training.stages.card import STAGES
from bigrestore.training.stages.losses import (
    code_discrepancy,
    feature_l1,
    hinge_critic_loss,
    local_artifact_l1,
)
from bigrestore.training.stages.prior import PriorStage
from bigrestore.training.stages.stage import train_stage

pytestmark = pytest.mark.filterwarnings("ignore:.*tensorboard.*")
OPTIONS = StageOptions(preset="nano", steps=10, batch=2, threads=1, rate=5e-4)


@pytest.fixture(scope="module", autouse=True)
def _few_figures() -> Any:
    """Take all figures of few patches."""
    before = dict(PriorStage.__init__.__kwdefaults__)
    PriorStage.__init__.__kwdefaults__.update(measured=16, indexed=16)
    measured, held_out, prior.MEASURED, bridge.BRIDGE_HELD_OUT = prior.MEASURED, bridge.BRIDGE_HELD_OUT, 16, 8
    yield
    PriorStage.__init__.__kwdefaults__.update(before)
    prior.MEASURED, bridge.BRIDGE_HELD_OUT = measured, held_out


@pytest.fixture(scope="module")
def prior_model(tissue: Path, fidelity_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    train_stage(
        "prior", tissue, output, attrs.evolve(OPTIONS, steps=2, batch=4, start=fidelity_model, rate=2e-3)
    )
    return output


class Watched(NamedTuple):
    """A bridge of ten steps, and what was seen of each.

    `learns` says whether its loss has a gradient for the prior, and for the head; `cuts` are the corners of the patches
    that its critic is shown.
    """

    output: Path
    losses: list[dict[str, float]]
    learns: list[tuple[bool, bool]]
    cuts: list[np.ndarray]


@pytest.fixture(scope="module")
def watched(tissue: Path, prior_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    seen = Watched(tmp_path_factory.mktemp("bridge") / "bridge.safetensors", [], [], [])
    step = BridgeStage.step

    def watched_step(self: BridgeStage, number: int, progress: float) -> dict[str, Tensor]:
        own = {n: p for n, p in self.model.prior.named_parameters() if not bridge.is_bridge(n)}  # type: ignore[union-attr]
        losses = step(self, number, progress)
        seen.losses.append({name: float(loss.detach()) for name, loss in losses.items()})
        losses["loss"].backward(retain_graph=True)
        moved = (any(p.grad is not None for p in part) for part in (own.values(), self._head.parameters()))
        seen.learns.append((next(moved), next(moved)))
        assert all(p.grad is None for p in self.model.unet.parameters())
        assert all(p.grad is None for p in self.adversary.critic.parameters())
        self.model.zero_grad(set_to_none=True)
        return losses

    def watched_cut(images: Tensor, corners: np.ndarray, side: int) -> Tensor:
        seen.cuts.append(corners)
        return cut_patches(images, corners, side)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BridgeStage, "step", watched_step)
        patch.setattr(bridge, "cut_patches", watched_cut)
        train_stage("bridge", tissue, seen.output, attrs.evolve(OPTIONS, start=prior_model))
    return seen


@pytest.fixture(scope="module")
def bridged(watched: Watched) -> Path:
    return watched.output


def weights(path: Path) -> dict[str, Tensor]:
    return load_model(path).restorer.state_dict()


def test_the_bridge_leaves_unet_and_estimator_alone_and_trains_the_rest(
    prior_model: Path, bridged: Path
) -> None:
    before, after = weights(prior_model), weights(bridged)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[0] for name in moved} == {"latent_head", "prior"}
    assert any(".bridge." in name for name in moved)
    assert {f"prior.coupling.bridge_{name}" for name in ("nodes", "pixels", "bias")} <= moved
    assert "prior.levels.0.first.weight" in moved, "after seven tenths of the schedule the prior learns too"
    info = load_model(bridged).info
    assert set(info["training"]) == {"estimator", "fidelity", "prior", "bridge"}
    headings = re.findall(r"Training, stage (\w+)", bridged.with_suffix(".md").read_text())
    assert headings == ["estimator", "fidelity", "prior", "bridge"], "in the order in which they were trained"
    assert info["halo_prior_px"] >= info["halo_px"]
    assert load_model(bridged).halo_for(0.0) == info["halo_px"]
    assert load_model(bridged).halo_for(1.0) == info["halo_prior_px"]
    figures = info["training"]["bridge"]["figures"]
    kinds = ("gain", "sharpness", "frechet", "nyquist_db")
    names = {f"{kind}_{y}" for kind in kinds for y in ("y0", "y1")}
    assert set(figures) == names | {"frechet_prior", "frechet_prior_before"}
    before = load_model(bridged).info["training"]["prior"]["figures"]["frechet_kept"]
    assert figures["frechet_prior_before"] == pytest.approx(before, rel=0.02), "float16 lies between the two"
    sheet = next((bridged.parent / "bridge.safetensors.train/bridge/sheets").glob("*.png"))
    assert np.asarray(Image.open(sheet)).shape == (4 * bridge.BRIDGE_PATCH_PX, 8 * bridge.BRIDGE_PATCH_PX)


def test_realness_zero_is_unchanged_to_the_bit(
    prior_model: Path, bridged: Path, fidelity_model: Path
) -> None:
    rng = np.random.default_rng(0)
    batch = TileBatch(rng.random((1, 48, 48), dtype=np.float32), None, np.zeros((1, 2), np.int64), 0)
    kernel = np.zeros((KERNEL_PX[1], KERNEL_PX[1]), np.float32)
    kernel[KERNEL_PX[1] // 2, KERNEL_PX[1] // 2] = 1
    statistics = SectionStatistics(kernel, np.full(24, 0.1, np.float32), 1e-4, 1e-2, {})
    outputs = [
        NetworkMethod(load_model(path), seed=seed, realness=realness).restore(batch, statistics).pixels
        for path, seed, realness in (
            (fidelity_model, 0, 0.0), (prior_model, 1, 0.0), (bridged, 2, 0.0), (bridged, 2, 1.0)
        )
    ]  # fmt: skip
    assert np.array_equal(outputs[0], outputs[1])
    assert np.array_equal(outputs[0], outputs[2])
    assert not np.array_equal(outputs[0], outputs[3])
    with pytest.raises(UsageError, match="train bridge"):
        NetworkMethod(load_model(prior_model), realness=0.1)


def test_the_prior_is_frozen_for_seven_tenths_of_the_way(watched: Watched) -> None:
    assert [prior for prior, _ in watched.learns] == [False] * 7 + [True] * 3
    assert all(head for _, head in watched.learns)


def test_the_critic_sees_every_phase_of_the_grid_and_both_sides_at_one_place(watched: Watched) -> None:
    assert len(watched.cuts) == 3 * 10, "made, real and what is interpolated, of ten steps"
    for step in range(10):
        assert len({corners.tobytes() for corners in watched.cuts[3 * step : 3 * step + 3]}) == 1
    corners = np.concatenate(watched.cuts)
    assert {(y, x) for y, x in (corners % 2).tolist()} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert np.abs(corners - bridge.RIM_PX).max() <= 1


def test_all_losses_count_by_their_weights(watched: Watched) -> None:
    weights = {
        "charbonnier": bridge.CHARBONNIER,
        "hinge": bridge.ADVERSARIAL,
        "features": bridge.FEATURES,
        "artifact": bridge.ARTIFACT,
        "mmd": bridge.DISCREPANCY,
        "nyquist": bridge.NYQUIST,
    }
    assert len(watched.losses) == 10
    for losses in watched.losses:
        assert all(losses[name] != 0 for name in weights)
        total = sum(weight * losses[name] for name, weight in weights.items())
        assert losses["loss"] == pytest.approx(total, rel=1e-5)


@pytest.fixture(scope="module")
def with_pattern(
    tissue: Path, prior_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Tensor]]:
    """A bridge whose prior is frozen to the end, and the pattern that it is given there, before and after it is settled."""
    output, patterns = tmp_path_factory.mktemp("pattern") / "b.safetensors", []
    settle = BridgeStage.settle_pattern

    def watched_settle(self: BridgeStage) -> None:
        coupling = self.model.prior.coupling  # type: ignore[union-attr]
        with torch.no_grad():
            coupling.bridge_bias.copy_(torch.tensor([0.2, -0.1, -0.3, 0.1])[:, None, None])  # type: ignore[union-attr]
        patterns.append(self._patterns([coupling.bridge_bias.clone()]).abs().max())  # type: ignore[union-attr]
        settle(self)
        patterns.append(self._patterns([coupling.bridge_bias.clone()]).abs().max())  # type: ignore[union-attr]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BridgeStage, "settle_pattern", watched_settle)
        patch.setattr(bridge, "FROZEN_SHARE", 2.0)
        train_stage("bridge", tissue, output, attrs.evolve(OPTIONS, steps=2, start=prior_model))
    return output, patterns


def test_a_constant_pattern_of_the_pixels_of_a_node_is_taken_out_at_the_end(
    with_pattern: tuple[Path, list[Tensor]],
) -> None:
    before, after = with_pattern[1]
    assert before > 1e-4
    assert after < 1e-2 * before


def test_a_prior_frozen_to_the_end_keeps_its_bits(
    prior_model: Path, with_pattern: tuple[Path, list[Tensor]]
) -> None:
    before, after = weights(prior_model), weights(with_pattern[0])
    own = [name for name in before if name.startswith("prior.") and not bridge.is_bridge(name[6:])]
    assert own
    assert all(torch.equal(before[name], after[name]) for name in own)


def test_a_resumed_bridge_ends_in_the_same_bits(
    tissue: Path,
    prior_model: Path,
    bridged: Path,
    tmp_path: Path,
    stop_at: Callable[..., AbstractContextManager[None]],
    measured_halo: None,
) -> None:
    output = tmp_path / "bridge.safetensors"
    options = attrs.evolve(OPTIONS, start=prior_model)
    with stop_at(BridgeStage, 8):
        assert train_stage("bridge", tissue, output, options).status == "stopped"
    assert train_stage("bridge", tissue, output, attrs.evolve(options, resume=True)).status == "done"
    assert load_model(output).sha256 == load_model(bridged).sha256


@pytest.fixture(scope="module")
def fused(tissue: Path, prior_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bridge whose features take the place of noise, stopped and resumed on its way."""
    output = tmp_path_factory.mktemp("fused") / "fused.safetensors"
    options = attrs.evolve(OPTIONS, steps=4, start=prior_model, fusion="noise")
    train_stage("bridge", tissue, output, options)
    return output


def test_features_in_the_place_of_noise_are_trained_with_the_prior_from_the_first_step(
    tissue: Path, prior_model: Path, fused: Path, tmp_path: Path
) -> None:
    model = load_model(fused)
    assert model.info["fusion"] == "noise"
    assert model.restorer.prior is not None
    before = weights(prior_model)
    moved = {
        name
        for name, weight in model.restorer.state_dict().items()
        if name not in before or not torch.equal(before[name], weight)
    }
    assert {name.split(".")[0] for name in moved} == {"latent_head", "prior"}
    assert {"prior.levels.0.bridge.first.weight", "prior.levels.0.first.weight"} <= moved
    assert "joined by features in the place of noise" in fused.with_suffix(".md").read_text()


def test_a_fused_bridge_resumes_to_the_same_bits_and_under_its_fusion_alone(
    tissue: Path,
    prior_model: Path,
    fused: Path,
    tmp_path: Path,
    stop_at: Callable[..., AbstractContextManager[None]],
) -> None:
    output = tmp_path / "fused.safetensors"
    options = attrs.evolve(OPTIONS, steps=4, start=prior_model, fusion="noise")
    with stop_at(BridgeStage, 2):
        assert train_stage("bridge", tissue, output, options).status == "stopped"
    with pytest.raises(UsageError, match="fusion was noise, now not set"):
        train_stage("bridge", tissue, output, attrs.evolve(options, resume=True, fusion="sft"))
    assert train_stage("bridge", tissue, output, attrs.evolve(options, resume=True)).status == "done"
    assert load_model(output).sha256 == load_model(fused).sha256


def test_a_fused_model_restores_without_noise_and_unchanged_at_realness_zero(
    fused: Path, prior_model: Path
) -> None:
    rng = np.random.default_rng(0)
    batch = TileBatch(rng.random((1, 48, 48), dtype=np.float32), None, np.zeros((1, 2), np.int64), 0)
    kernel = np.zeros((KERNEL_PX[1], KERNEL_PX[1]), np.float32)
    kernel[KERNEL_PX[1] // 2, KERNEL_PX[1] // 2] = 1
    statistics = SectionStatistics(kernel, np.full(24, 0.1, np.float32), 1e-4, 1e-2, {})
    zero, still, other, before = (
        NetworkMethod(load_model(path), seed=seed, realness=realness).restore(batch, statistics).pixels
        for path, seed, realness in ((fused, 0, 0.0), (fused, 0, 1.0), (fused, 1, 1.0), (prior_model, 0, 0.0))
    )
    assert np.array_equal(zero, before)
    assert np.array_equal(still, other), "no seed"
    assert not np.array_equal(zero, still)


def test_a_trained_bridge_keeps_its_fusion(tissue: Path, bridged: Path, fused: Path, tmp_path: Path) -> None:
    output = tmp_path / "again.safetensors"
    for start, fusion, other in ((bridged, "noise", "sft"), (fused, "sft", "noise")):
        with pytest.raises(
            UsageError, match=f"joins its prior by {other}, not by {fusion}; say so by --fusion {other}"
        ):
            train_stage("bridge", tissue, output, attrs.evolve(OPTIONS, steps=1, start=start, fusion=fusion))
    train_stage("polish", tissue, output, attrs.evolve(OPTIONS, steps=1, start=fused))
    assert load_model(output).info["fusion"] == "noise"
    with pytest.raises(UsageError, match="--fusion is 'gpen'; choose sft or noise"):
        attrs.evolve(OPTIONS, fusion="gpen")


def test_polish_continues_from_the_bridge(tissue: Path, bridged: Path, tmp_path: Path) -> None:
    output = tmp_path / "polished.safetensors"
    options = attrs.evolve(OPTIONS, steps=2, start=bridged, rate=1e-4)
    assert train_stage("polish", tissue, output, options).status == "done"
    before, after = weights(bridged), weights(output)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert "prior.levels.0.first.weight" in moved
    assert not any(name.startswith(("unet", "estimator", "basis")) for name in moved)
    of_restorers = {name for name, row in STAGES.items() if row.part is None}
    assert set(load_model(output).info["training"]) == of_restorers


def test_a_new_prior_parts_what_was_joined(tissue: Path, bridged: Path, tmp_path: Path) -> None:
    output = tmp_path / "again.safetensors"
    train_stage("prior", tissue, output, attrs.evolve(OPTIONS, steps=1, batch=4, start=bridged))
    info = load_model(output).info
    assert "bridge" not in info["training"]
    assert len(info["training"]["prior"]["earlier"]) == 1
    assert "halo_prior_px" not in info


def test_the_prior_of_one_scale_serves_another(tissue: Path, prior_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "x2.safetensors"
    options = attrs.evolve(OPTIONS, steps=1, scale=2)
    for stage in ("estimator", "fidelity"):
        train_stage(stage, tissue, output, options)
    train_stage("bridge", tissue, output, attrs.evolve(options, prior=prior_model))
    model = load_model(output, 2)
    taken = load_model(prior_model).restorer
    assert model.restorer.prior is not None
    assert taken.prior is not None
    assert torch.equal(model.restorer.prior.levels[0].first.weight, taken.prior.levels[0].first.weight)


@pytest.mark.parametrize("command", ["prior", "bridge", "polish"])
def test_the_commands_say_what_is_missing(
    command: str, tissue: Path, fidelity_model: Path, tmp_path: Path
) -> None:
    from bigrestore.cli.train import train_app

    flags = ["--preset", "nano", "--steps", "1", "--threads", "1"]
    given = ["-o", str(tmp_path / "m.safetensors"), *flags]
    with pytest.raises(UsageError, match="starts from a model with a trained"):
        CliRunner().invoke(train_app, [command, str(tissue), *given], catch_exceptions=False)
    if command != "prior":
        with pytest.raises(UsageError, match="train prior"):
            CliRunner().invoke(
                train_app,
                [command, str(tissue), *given, "--start", str(fidelity_model)],
                catch_exceptions=False,
            )


def test_equal_codes_have_no_discrepancy_and_others_have() -> None:
    torch.manual_seed(0)
    codes = torch.randn(64, 12)
    assert abs(float(code_discrepancy(codes, codes.clone()))) < 1e-6
    again, shifted = torch.randn(64, 12), torch.randn(64, 12) + 0.7
    near, far = code_discrepancy(codes, again), code_discrepancy(codes, shifted)
    assert 0 < float(near) < 0.3 * float(far)
    moved = codes.clone().requires_grad_(True)
    code_discrepancy(moved, shifted).backward()
    assert moved.grad is not None
    assert float(moved.grad.sum()) < 0, "the codes are drawn towards the wanted ones"


def test_artifacts_weigh_where_the_residual_is_restless_and_the_average_was_better() -> None:
    target = torch.zeros(1, 1, 32, 32)
    shift, restless = torch.full_like(target, 0.1), target.clone()
    restless[..., ::2] = 0.1
    assert float(local_artifact_l1(shift, target, target)) < 1e-6
    assert float(local_artifact_l1(restless, target, target)) > 1e-5
    assert float(local_artifact_l1(restless, target, 10 * restless)) == 0.0


def test_hinge_and_features_are_what_they_say() -> None:
    assert float(hinge_critic_loss(torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.0]))) == pytest.approx(
        0.25 + 0.5
    )
    real = [torch.zeros(2, 3, requires_grad=True), torch.zeros(4)]
    made = [torch.ones(2, 3, requires_grad=True), torch.full((4,), 3.0)]
    loss = feature_l1(made, real)
    assert float(loss.detach()) == 2.0
    loss.backward()
    assert real[0].grad is None


def test_the_conditional_critic_sees_both_pictures_and_judges_every_pixel() -> None:
    torch.manual_seed(0)
    critic = ConditionalDiscriminator(12, 2)
    image, base = torch.rand(2, 1, 80, 64), torch.rand(2, 1, 80, 64)
    with torch.no_grad():
        judged, seen = critic(image, base)
        others = critic(image, base.flip(0))[0], critic(image.flip(0), base)[0]
    assert judged.shape == image.shape
    assert len(seen) == 8
    assert all(float((judged - other).abs().max()) > 1e-4 for other in others)


def test_the_conditional_critic_is_bounded_by_its_spectral_norms() -> None:
    critic = ConditionalDiscriminator(8, 1)
    image, base = torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        for layer in (critic.stem, *critic.down, *critic.up, critic.last):
            layer.parametrizations.weight.original.mul_(100)  # type: ignore[union-attr, operator]
        critic(image, base)
    for layer in critic.modules():
        if isinstance(layer, nn.Conv2d) and layer is not critic.verdict:
            norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
            assert 0.5 < float(norm) < 2.0
