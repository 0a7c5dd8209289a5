"""The prior's training: two independent players, a resume to the bit, meaningful figures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bigrestore.errors import UsageError
from bigrestore.model.nets.checkpoint import load_model
from bigrestore.model.nets.grow import take_over
from bigrestore.model.nets.prior.generator import Generator
from bigrestore.model.nets.prior.smooth import low_pass
from bigrestore.model.nets.restorer import Restorer
from bigrestore.settings.presets import PRESETS
from bigrestore.settings.train import StageOptions
from bigrestore.training.data import detail
from bigrestore.training.data.detail import (
    DetailSource,
    augment,
    detail_of,
    square_batch,
    window_px,
)
from bigrestore.training.data.images import load_images
from bigrestore.training.data.patches import PatchSource
from bigrestore.training.loop.adversary import Adversary, r1_penalty
from bigrestore.training.stages import copying, prior
from bigrestore.training.stages import stage as stages
from bigrestore.training.stages.copying import WindowIndex
from bigrestore.training.stages.frechet import frechet_distance, texture_features
from bigrestore.training.stages.prior import PriorStage, critic_for, cut_field, make_field
from bigrestore.training.stages.stage import train_stage

pytestmark = pytest.mark.filterwarnings("ignore:.*tensorboard.*")
OPTIONS = StageOptions(preset="nano", steps=3, batch=4, threads=1, rate=2e-3)


@pytest.fixture(scope="module")
def details(tissue: Path) -> DetailSource:
    images = load_images(tissue)
    sources = [PatchSource(part, window_px(1)) for part in (images[:3], images[3:])]
    return DetailSource(sources[0], sources[1], 1, seed=0, device=torch.device("cpu"))


def make_stage(details: DetailSource, **changes: Any) -> PriorStage:
    torch.manual_seed(0)
    model = Restorer(PRESETS["nano"], 1, with_prior=True)
    player = Adversary(critic_for(model, 0), lambda step, progress: 2e-3)
    values: dict[str, Any] = {"seed": 0, "batch": 4, "measured": 16, "indexed": 16} | changes
    return PriorStage(model, details, player, **values)


def copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def test_each_player_learns_by_its_own_loss_only(details: DetailSource) -> None:
    stage = make_stage(details)
    critic, model = copies(stage.adversary.critic), copies(stage.model)
    losses = stage.step(0, 0.0)
    assert changed(critic, stage.adversary.critic), "the critic learns within the step"
    assert not changed(model, stage.model)
    assert all(p.grad is None for p in stage.model.parameters())
    losses["loss"].backward()
    assert all(p.grad is None for p in stage.adversary.critic.parameters())
    with_gradient = {name for name, p in stage.model.named_parameters() if p.grad is not None}
    assert {"prior.vector", "prior.mapping.layers.0.weight", "prior.levels.3.grey.weight"} <= with_gradient
    assert all(name.startswith("prior.") and ".bridge." not in name for name in with_gradient)


def test_both_players_can_compute_in_bfloat16(details: DetailSource) -> None:
    stage = make_stage(details, dtype=torch.bfloat16)
    losses = stage.step(0, 0.0)
    losses["loss"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert all(bool(torch.isfinite(p.grad).all()) for p in stage.modules().parameters() if p.grad is not None)


def test_the_critic_is_taught_what_is_real(details: DetailSource) -> None:
    stage = make_stage(details)
    for step in range(12):
        parts = stage.step(step, 0.0)
    assert float(parts["sure"]) > 0


def test_r1_is_the_squared_gradient_at_real_patches() -> None:
    class Quadratic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (3 * x * x).sum((1, 2, 3))

    real = torch.randn(5, 1, 4, 4)
    by_hand = (36 * real.square()).sum((1, 2, 3)).mean()
    torch.testing.assert_close(r1_penalty(Quadratic(), real), by_hand)
    torch.testing.assert_close(r1_penalty(Quadratic(), real, 10.0), by_hand / 100)


def test_r1_reaches_the_critics_weights(details: DetailSource) -> None:
    critic = make_stage(details).adversary.critic
    r1_penalty(critic, 0.05 * torch.randn(2, 1, 64, 64)).backward()
    assert all(p.grad is not None for name, p in critic.named_parameters() if "weight" in name)


def test_the_weights_nearest_to_tissue_are_kept_from_half_of_the_way_on(
    details: DetailSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(details)
    vector = stage.modules().vector
    distances = iter([1.0, 5.0, 3.0, 4.0])
    monkeypatch.setattr(prior, "frechet_distance", lambda *_: next(distances))
    kept = []
    for number, progress in enumerate((0.4, 0.6, 0.7, 0.9)):
        stage.step(number, progress)
        with torch.no_grad():
            vector.fill_(float(number))
        kept.append(stage.validate()["frechet_kept"])
    assert kept == [1.0, 5.0, 3.0, 3.0]
    monkeypatch.undo()
    other = make_stage(details)
    other.load_state(stage.state())
    for one in (stage, other):
        one.export(tmp_path / "m.safetensors")
        assert float(one.modules().vector.detach().mean()) == 2.0


def test_a_critic_that_is_thrown_is_put_back(details: DetailSource) -> None:
    stage = make_stage(details)
    player = stage.adversary
    stage.step(0, 0.0)
    before = copies(player.critic)
    for step in range(1, 4):
        loss = sum(p.sum() for p in player.critic.parameters()) * float("nan")
        player.learn(step, 0.0, loss)
    assert not changed(before, player.critic)
    stage.step(4, 0.0)
    assert all(torch.isfinite(p).all() for p in player.critic.parameters())


def test_a_resumed_prior_ends_in_the_same_bits(
    tissue: Path,
    fidelity_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: Callable[..., AbstractContextManager[None]],
) -> None:
    quick(monkeypatch)
    options = attrs.evolve(OPTIONS, steps=6, start=fidelity_model)
    straight, broken = tmp_path / "straight.safetensors", tmp_path / "broken.safetensors"
    train_stage("prior", tissue, straight, options)
    with stop_at(PriorStage, 2):
        assert train_stage("prior", tissue, broken, options).status == "stopped"
    assert train_stage("prior", tissue, broken, attrs.evolve(options, resume=True)).status == "done"
    assert load_model(broken).sha256 == load_model(straight).sha256
    critics = [
        torch.load(next((tmp_path / f"{name}.safetensors.train/prior").glob("*6.pt")))["stage"]["adversary"][
            "critic"
        ]
        for name in ("straight", "broken")
    ]
    assert all(torch.equal(tensor, critics[1][name]) for name, tensor in critics[0].items())


def test_a_prior_is_put_into_a_model_and_changes_nothing_else(
    tissue: Path, fidelity_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    output = tmp_path / "prior.safetensors"
    result = train_stage("prior", tissue, output, attrs.evolve(OPTIONS, start=fidelity_model))
    before, after = load_model(fidelity_model), load_model(output)
    names = {
        "frechet",
        "frechet_kept",
        "frechet_floor",
        "copy",
        "copy_floor",
        "deviation_ratio",
        "nyquist_db",
    }
    assert set(result.figures) == names
    with torch.no_grad():
        assert float(make_field(after.restorer.prior, 1, 0, 0).std()) > 0
    assert not changed(copies(before.restorer), without_prior(after.restorer))
    assert after.halo_px == before.halo_px
    assert set(after.info["training"]) == {"estimator", "fidelity", "prior"}
    assert after.info["training"]["prior"]["recipe"] == stages.NO_RECIPE
    assert "with a generative prior" in output.with_suffix(".md").read_text()
    pictures = sorted(path.name for path in (tmp_path / "prior.safetensors.train/prior/sheets").iterdir())
    assert pictures == ["step-000000003-nearest.png", "step-000000003-samples.png"]


def without_prior(model: Restorer) -> nn.Module:
    model.prior = model.latent_head = None
    return model


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the figures of few patches."""
    defaults = dict(PriorStage.__init__.__kwdefaults__ or {}, measured=16, indexed=16)
    monkeypatch.setattr(PriorStage.__init__, "__kwdefaults__", defaults)


def test_bad_options_are_sentences(tissue: Path, fidelity_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="train fidelity"):
        train_stage("prior", tissue, tmp_path / "m.safetensors", OPTIONS)
    options = attrs.evolve(OPTIONS, start=fidelity_model, prior=fidelity_model)
    with pytest.raises(UsageError, match="no prior to take over"):
        train_stage("prior", tissue, tmp_path / "m.safetensors", options)


def test_a_prior_of_x1_makes_the_same_at_x2_but_enlarged() -> None:
    torch.manual_seed(0)
    sizes = PRESETS["nano"]
    trained, prior_x2 = (Generator(sizes.channels, sizes.latent, scale, sizes.unshuffle) for scale in (1, 2))
    with torch.no_grad():
        for parameter in trained.coupling.parameters():
            parameter.normal_()
    take_over(prior_x2, trained)
    with torch.no_grad():
        fine, coarse = (make_field(one, 1, 3, 4) for one in (prior_x2, trained))
    nodes = fine.shape[-1] // (2 * sizes.alignment_px)
    side = nodes * sizes.alignment_px
    with torch.no_grad():
        from bigrestore.model.nets.prior.latent import sample_z_field

        origin = torch.zeros(1, 2, dtype=torch.int64)
        codes = trained.mapping(sample_z_field(sizes.latent, nodes, nodes, 3, 4, origin))
        coarse = trained(codes, None, 3, 4, origin)
    assert coarse.shape[-1] == side
    blurred = [low_pass(image, 4.0) for image in (nn.functional.avg_pool2d(fine, 2), coarse)]
    likeness = torch.corrcoef(torch.stack([one.flatten() for one in blurred]))[0, 1]
    assert likeness > 0.98
    assert 0.9 < float(blurred[0].std() / blurred[1].std()) < 1.1
    with pytest.raises(UsageError, match="no larger scale"):
        take_over(trained, prior_x2)


def test_patches_of_a_field_are_its_interior_64_px_apart() -> None:
    sizes = PRESETS["nano"]
    generator = Generator(sizes.channels, sizes.latent, 1, sizes.unshuffle)
    side = 16 * (2 * 4 + 2 * prior.RIM_NODES)
    field = torch.arange(side * side, dtype=torch.float32).view(1, 1, side, side)
    patches = cut_field(field, generator, 2, 5, 72)
    assert patches.shape == (4, 1, 72, 72)
    start = 16 * prior.RIM_NODES - 5
    assert torch.equal(patches[3], field[0, :, start + 64 : start + 136, start + 64 : start + 136])
    with torch.no_grad():
        assert make_field(generator, 2, 0, 0).shape[-1] == side


def test_detail_has_no_regional_grey_and_what_is_lost_is_only_the_rim() -> None:
    flat = torch.full((1, 1, 120, 120), 0.7)
    assert float(detail_of(flat, 1).abs().max()) < 1e-5
    assert detail_of(flat, 1).shape[-1] == 72
    assert window_px(2) == 72 + 96


def test_augmentation_has_a_gradient_and_turns_and_changes_three_fifths() -> None:
    rows, columns = torch.meshgrid(torch.arange(72.0), torch.arange(72.0), indexing="ij")
    patches = (0.5 * rows + 0.001 * columns).repeat(200, 1, 1, 1).requires_grad_()
    out = augment(patches, np.random.default_rng(0))
    out.sum().backward()
    assert out.shape == (200, 1, detail.DETAIL_PATCH_PX, detail.DETAIL_PATCH_PX)
    assert patches.grad is not None
    down, right = out[:, 0, 1, 0] - out[:, 0, 0, 0], out[:, 0, 0, 1] - out[:, 0, 0, 0]
    steepest, least = torch.maximum(down.abs(), right.abs()), torch.minimum(down.abs(), right.abs())
    unturned = (down == steepest) & (right == least)
    assert 70 <= int(unturned.sum()) <= 120, "two fifths, and an eighth of the rest"
    unchanged = (steepest - 0.5).abs() < 1e-4
    assert 60 <= int(unchanged.sum()) <= 100, "two fifths"
    assert torch.equal(augment(patches, np.random.default_rng(1)), augment(patches, np.random.default_rng(1)))


def test_every_patch_is_shifted_and_all_phases_are_drawn_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detail, "AUGMENTED_SHARE", 0.0)
    rows, columns = torch.meshgrid(torch.arange(72.0), torch.arange(72.0), indexing="ij")
    out = augment((rows + 1000 * columns).expand(800, 1, 72, 72), np.random.default_rng(0))
    counts = [
        torch.bincount(out[:, 0, 0, 0].long() % 1000 % period, minlength=period) for period in (2, 4, 8)
    ]
    counts += [
        torch.bincount(out[:, 0, 0, 0].long() // 1000 % period, minlength=period) for period in (2, 4, 8)
    ]
    for drawn in counts:
        assert (drawn * len(drawn) / 800 - 1).abs().max() < 0.3
    assert len(out[:, 0, 0, 0].unique()) == detail.SHIFT_PX**2


def test_a_checkerboard_of_the_generator_costs_and_is_told(
    details: DetailSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prior, "logistic_generator_loss", lambda judged: 0 * judged.sum())
    stage = make_stage(details)
    before, cost = stage.validate()["nyquist_db"], float(stage.step(0, 0.0)["nyquist"])
    with torch.no_grad():
        stage.modules().levels[-1].grey_bias.copy_(torch.tensor([1.0, -1.0, -1.0, 1.0])[:, None, None])
    losses = stage.step(0, 0.0)
    assert stage.validate()["nyquist_db"] > before + 10
    assert float(losses["nyquist"]) > cost + 0.3
    assert float(losses["loss"].detach()) == pytest.approx(prior.PRIOR_NYQUIST * float(losses["nyquist"]))
    losses["loss"].backward()
    coupling = stage.modules().coupling
    for parameter in (coupling.nodes, coupling.pixels):
        assert float(parameter.grad.abs().max()) > 0


@pytest.mark.parametrize(("batch", "side"), [(16, 4), (8, 2), (4, 2), (32, 4), (3, 1), (1, 1), (9, 3)])
def test_fields_share_a_batch_out(batch: int, side: int) -> None:
    assert square_batch(batch) == side


def test_the_distance_is_nought_for_the_same_set_and_grows_with_blur_and_noise(details: DetailSource) -> None:
    real = details.measured(160, held_out=False)
    reference = texture_features(real)
    assert frechet_distance(reference, reference) < 1e-6
    floor = frechet_distance(texture_features(details.measured(160, held_out=False, stream=1)), reference)
    blurred = [
        frechet_distance(texture_features(low_pass(real, sigma)), reference) for sigma in (0.5, 1.0, 2.0)
    ]
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))
    noisy = [frechet_distance(texture_features(real + sd * noise), reference) for sd in (0.05, 0.1, 0.2)]
    assert floor < blurred[0] < blurred[1] < blurred[2]
    assert floor < noisy[0] < noisy[1] < noisy[2]


def test_a_copy_is_found_in_whatever_turn(details: DetailSource) -> None:
    windows = details.measured(24, held_out=False)
    index = WindowIndex(windows)
    for number in range(8):
        turned = copying.turn(windows[number : number + 1], number)
        likeness, nearest = index.nearest(turned)
        assert float(likeness) > 0.999
        torch.testing.assert_close(nearest, turned, atol=1e-3, rtol=0)
    assert float(index.nearest(torch.randn(4, 1, 64, 64))[0].max()) < 0.9
