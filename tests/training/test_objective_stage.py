"""The head of objectives: what it is trained by prefers grain, and it learns where detail is due, for one network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from bigrestore.errors import ModelError, UsageError
from bigrestore.model.nets.checkpoint import load_model
from bigrestore.model.nets.parts.objective import ObjectiveHead
from bigrestore.model.nets.parts.part import load_part
from bigrestore.model.network import load_objective
from bigrestore.report.metrics.judges.lpips import squeezenet
from bigrestore.settings.train import StageOptions
from bigrestore.training.stages.parts import objective
from bigrestore.training.stages.parts.objective import Line, ObjectiveStage
from bigrestore.training.stages.parts.perceptual import LpipsDistance, TextureDistance, texture_distance
from bigrestore.training.stages.stage import train_stage
from tests.run.prior_toys import model_file
from tests.training.interrupted import train_interrupted

pytestmark = pytest.mark.filterwarnings("ignore:.*tensorboard.*")
OPTIONS = StageOptions(steps=4, batch=2, threads=1, rate=1e-3)
SHARES = torch.linspace(0, 1, 21)


@pytest.fixture(autouse=True, scope="module")
def _few_figures() -> Iterator[None]:
    """Train on patches of 64 px, and take the figures of few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective, "OBJECTIVE_PATCH_PX", 64)
        patch.setattr(objective, "OBJECTIVE_HELD_OUT", 4)
        yield


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_file(tmp_path_factory.mktemp("network"))


def trained(tissue: Path, output: Path, model: Path, **options: Any) -> Path:
    train_stage("objective", tissue, output, attrs.evolve(OPTIONS, model=str(model), **options))
    return output


@pytest.fixture(scope="module")
def head(tissue: Path, network_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective, "measure_halo", lambda *_, **__: (128, {"128": 0.0}))
        return trained(tissue, tmp_path_factory.mktemp("head") / "head.safetensors", network_file)


@pytest.fixture(autouse=True)
def _stated_objective_halo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "measure_halo", lambda *_, **__: (128, {"128": 0.0}))


def noise(seed: int, sigma: float = 0.0, side: int = 96) -> Tensor:
    made = np.random.default_rng(seed).normal(0, 1, (side, side))
    made = gaussian_filter(made, sigma) if sigma else made
    return torch.from_numpy(made / made.std()).float()[None, None]


@pytest.mark.parametrize("sigma", [0.0, 0.5, 0.8])
def test_grain_that_is_true_is_nearer_than_smooth_at_equal_error(sigma: float) -> None:
    """Half of the grain is in place and half of it elsewhere, or none is there at all: both err by as much."""
    smooth = 0.5 + 0.1 * noise(0, 6.0)
    grain, other = noise(1, sigma), noise(2, sigma)
    clean = smooth + 0.03 * grain
    true = smooth + 0.03 * (0.5 * grain + np.sqrt(0.75) * other)
    errors = [float((image - clean).square().mean()) for image in (true, smooth)]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    near, far = (float(texture_distance(image, clean).mean()) for image in (true, smooth))
    assert near < 0.75 * far


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_the_finest_grain_counts_by_its_strength_alone(strength: float) -> None:
    clean, other = 0.5 + 0.03 * noise(1), 0.5 + 0.03 * noise(2)
    assert float(texture_distance(clean, clean).abs().max()) < 1e-5
    made = 0.5 + strength * (other - 0.5)
    apart = float(texture_distance(made, clean).mean())
    assert apart > float(texture_distance(other, clean).mean()) - 1e-3
    if strength == 1.0:
        assert float(TextureDistance()(made, 0 * made, clean, SHARES[:1], 1).mean()) < 0.5


@pytest.mark.parametrize("pixels", [1, 2, 4])
def test_a_shifted_edge_and_a_blurred_one_are_further(pixels: int) -> None:
    edge = torch.full((1, 1, 96, 96), 0.4)
    edge[..., 48:] = 0.7
    blurred = torch.from_numpy(gaussian_filter(edge.numpy(), (0, 0, pixels, pixels)))
    distances = [
        float(texture_distance(image, edge).mean()) for image in (edge, edge.roll(pixels, 3), blurred)
    ]
    assert distances[0] < 1e-5
    assert min(distances[1:]) > 0.003


@pytest.mark.parametrize("step", [1, 2, 4])
def test_distances_of_a_line_are_those_of_its_images(step: int) -> None:
    y0, change, clean = (0.5 + 0.05 * noise(seed, 1.0) for seed in (1, 2, 3))
    change = change - 0.5
    along = TextureDistance()(y0, change, clean, SHARES, step)
    assert along.shape == (1, 21, 96 // step, 96 // step)
    for index in (0, 7, 20):
        single = texture_distance(y0 + SHARES[index] * change, clean, step)
        assert torch.allclose(along[:, index : index + 1], single, atol=1e-5)


def test_lpips_of_a_line_is_least_at_the_clean_image() -> None:
    torch.manual_seed(0)
    distance = LpipsDistance(squeezenet())
    y0, clean = 0.5 + 0.1 * noise(1, 1.0), 0.5 + 0.1 * noise(2, 1.0)
    for wanted in (0, 10, 20):
        change = torch.zeros_like(y0) if wanted == 0 else (clean - y0) / SHARES[wanted]
        start = clean if wanted == 0 else y0
        with torch.no_grad():
            made = distance(start, change, clean, SHARES[[0, 10, 20]], 4)
        assert made.shape == (1, 3, 24, 24)
        if wanted:
            assert int(made.mean((0, 2, 3)).argmin()) == wanted // 10
        assert float(made.min()) < 1e-6


def test_the_map_holds_the_least_share_that_is_good_enough() -> None:
    distances = torch.full((1, 21, 1, 3), 0.5)
    distances[0, 12, 0, 0] = 0.2
    distances[0, 4, 0, 1], distances[0, 15, 0, 1] = 0.3005, 0.3
    assert objective._least(distances).flatten().tolist() == [12, 4, 0]
    rising = torch.linspace(1, 3, 21)[None, :, None, None]
    for share in (0.0, 0.333, 1.0):
        assert float(objective._at(rising, torch.full((1, 1, 1, 1), share))) == pytest.approx(1 + 2 * share)


def test_the_head_learns_where_detail_is_due() -> None:
    """The detail is true in the left half and false in the right one, and features tell the halves apart."""
    torch.manual_seed(0)
    clean, y0 = 0.5 + 0.05 * noise(1, 0.8), torch.full((1, 1, 96, 96), 0.5)
    right = torch.zeros(1, 1, 96, 96)
    right[..., 48:] = 1
    y1 = torch.where(right > 0, y0 + 0.2 * noise(2), clean)
    flat = y0 + 0.002 * noise(3)
    clean = torch.where(right > 0, flat, clean)
    y0 = torch.where(right > 0, flat, y0)
    features = torch.nn.functional.avg_pool2d(right, 2) + 0.1 * torch.randn(1, 1, 48, 48)
    distances = TextureDistance()(y0, y1 - y0, clean, SHARES, 4)
    ones = torch.ones_like(y0)
    line = Line(features, y1 - y0, ones, y0, y1, clean, distances, torch.ones(1, 1, 24, 24))
    net = ObjectiveHead(1, 2, 1, hidden=8)
    stage = ObjectiveStage.__new__(ObjectiveStage)
    stage.net, stage.shares = net, SHARES
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(120):
        optimiser.zero_grad()
        stage._losses(line)["loss"].backward()
        optimiser.step()
    drawn = net.shares(features, y1 - y0, ones)[0, 0].detach()
    assert drawn.shape == (96, 96)
    assert float(drawn[:, 8:36].mean()) > 0.8
    assert float(drawn[:, 60:88].mean()) < 0.1


def test_a_trained_head_names_its_network_and_leaves_it_alone(
    head: Path, network_file: Path, tmp_path: Path
) -> None:
    part, model = load_part("objective", 1, head), load_model(network_file)
    record = part.info["training"]["objective"]
    assert record["steps"] == 4
    assert all(np.isfinite(value) for value in record["figures"].values())
    assert part.info["network"] == model.sha256
    assert part.info["halo_px"] == 128
    assert part.info["distance"] == "texture"
    card = head.with_suffix(".md").read_text()
    assert "An objective for scale x1" in card
    assert f"the network `{network_file.stem}`" in card
    assert load_objective(model, head).info["sha256"] == part.info["sha256"]
    other = model_file(tmp_path, with_prior=False)
    with pytest.raises(UsageError, match="other weights than nano"):
        load_objective(load_model(other), head)


def test_the_head_of_the_shipped_sizes_is_small() -> None:
    sizes = objective.OBJECTIVE.plan.sizes | {"features": 32, "unshuffle": 2, "scale": 1}
    count = sum(weight.numel() for weight in ObjectiveHead(**sizes).parameters())
    assert count <= 100_000
    assert 2 * count < 2e6


def test_a_resumed_head_ends_in_the_same_bits(
    head: Path, tissue: Path, network_file: Path, tmp_path: Path
) -> None:
    output, options = tmp_path / "head.safetensors", attrs.evolve(OPTIONS, model=str(network_file))
    train_interrupted("objective", ObjectiveStage, tissue, output, options, objective.OBJECTIVE.plan)
    assert load_part("objective", 1, output).info["sha256"] == load_part("objective", 1, head).info["sha256"]


def test_a_training_goes_on_with_its_own_network_alone(tissue: Path, network_file: Path) -> None:
    stage = ObjectiveStage.__new__(ObjectiveStage)
    stage.model = load_model(network_file)
    stage.load_state(stage.state())
    with pytest.raises(UsageError, match="begun for other weights"):
        stage.load_state({"network": "0" * 64})


def test_a_head_for_x2_sees_the_output_grid(tissue: Path, tmp_path: Path) -> None:
    model = model_file(tmp_path, 2)
    output = trained(tissue, tmp_path / "head.safetensors", model, scale=2, steps=2)
    part = load_part("objective", 2, output)
    assert part.info["sizes"]["scale"] == 2
    assert np.isfinite(part.info["training"]["objective"]["figures"]["distance"])


def test_lpips_chooses_where_a_backbone_is_given(tissue: Path, network_file: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = tmp_path / "squeezenet.pth"
    torch.save(
        {f"features.{name}": part for name, part in squeezenet().layers.state_dict().items()}, backbone
    )
    output = trained(
        tissue, tmp_path / "head.safetensors", network_file, lpips_backbone=backbone, steps=1, batch=1
    )
    assert load_part("objective", 1, output).info["distance"] == "lpips"
    backbone.write_bytes(b"no state dict")
    with pytest.raises(ModelError, match="no state dict of torchvision's"):
        trained(tissue, tmp_path / "other.safetensors", network_file, lpips_backbone=backbone, steps=1)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--model", "BARE"], 2, "has no prior that is joined to its U-Net"),
        (["--scale", "4"], 2, "tiny-x4 has no prior"),
        (["--model", "absent.safetensors"], 3, "absent.safetensors"),
        (["--model", "tiny-x2"], 2, "scale 2"),
        (["--lpips-backbone", "absent.pth"], 3, "absent.pth"),
        (["--model", "PRIOR", "--arch", "unet"], 2, "--arch"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(
    tissue: Path,
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    code: int,
    said: str,
) -> None:
    words = [
        str(model_file(tmp_path, with_prior=word == "PRIOR")) if word in ("BARE", "PRIOR") else word
        for word in flags
    ]
    output = tmp_path / "out.safetensors"
    assert call("train", "objective", tissue, "-o", output, "--steps", 1, *words) == code
    assert said in " ".join(capsys.readouterr().err.split())
    assert not output.exists()
