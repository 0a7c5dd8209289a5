"""The trainings of judges: they learn, resume to the same bits, and make files of a final format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from bigrestore.model.nets.parts.part import load_part
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.ladders import DISTORTIONS
from bigrestore.training.data.patches import PatchSource, step_rng
from bigrestore.training.stages.parts import likelihood, ranking
from bigrestore.training.stages.stage import train_stage
from tests.training.interrupted import train_interrupted

pytestmark = pytest.mark.filterwarnings("ignore:.*tensorboard.*")
OPTIONS = StageOptions(steps=4, batch=2, threads=1, rate=1e-3)
SIZES: dict[str, dict[str, Any]] = {
    "likelihood": {"channels": 8, "blocks": 1, "logistics": 2, "condition_channels": 4},
    "ranking": {"channels": [4, 4, 8, 8, 8, 8], "hidden": 8},
}
BUILDERS = {"likelihood": likelihood.LIKELIHOOD, "ranking": ranking.RANKING}
STAGE_CLASSES = {"likelihood": likelihood.LikelihoodStage, "ranking": ranking.RankingStage}
JUDGES = list(SIZES)


@pytest.fixture(autouse=True, scope="module")
def _few_figures() -> Iterator[None]:
    """Take the figures of few windows."""
    patch = pytest.MonkeyPatch()
    patch.setattr("bigrestore.training.stages.parts.likelihood.LIKELIHOOD_HELD_OUT", 4)
    patch.setattr("bigrestore.training.stages.parts.ranking.RANKING_HELD_OUT", 2)
    fast = {name: DISTORTIONS[name] for name in ("gaussian", "noise", "ringing")}
    patch.setattr("bigrestore.training.stages.parts.ranking.DISTORTIONS", fast)
    yield
    patch.undo()


def trained(name: str, tissue: Path, output: Path, **options: Any) -> Path:
    plan = attrs.evolve(BUILDERS[name].plan, sizes=SIZES[name])
    train_stage(name, tissue, output, attrs.evolve(OPTIONS, **options), plan)
    return output


@pytest.fixture(scope="module")
def parts(tissue: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("judges")
    return {name: trained(name, tissue, folder / f"{name}.safetensors") for name in JUDGES}


@pytest.mark.parametrize("name", JUDGES)
def test_a_trained_judge_has_figures_and_a_card(parts: dict[str, Path], name: str) -> None:
    part = load_part(name, 1, parts[name])
    record = part.info["training"][name]
    assert record["steps"] == 4
    assert all(np.isfinite(value) for value in record["figures"].values())
    assert f"---\n\n# {name}\n\nA {name} for scale x1" in parts[name].with_suffix(".md").read_text()


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_of_the_full_sizes_ships_below_two_megabytes(name: str) -> None:
    from bigrestore.model.nets.parts.part import make_network

    net = make_network(name, BUILDERS[name].plan.sizes)
    assert 2 * sum(weight.numel() for weight in net.parameters()) < 2e6


@pytest.mark.parametrize("name", JUDGES)
def test_a_resumed_judge_ends_in_the_same_bits(
    parts: dict[str, Path], tissue: Path, tmp_path: Path, name: str
) -> None:
    output, plan = tmp_path / f"{name}.safetensors", attrs.evolve(BUILDERS[name].plan, sizes=SIZES[name])
    train_interrupted(name, STAGE_CLASSES[name], tissue, output, OPTIONS, plan)
    assert load_part(name, 1, output).info["sha256"] == load_part(name, 1, parts[name]).info["sha256"]


def test_a_likelihood_of_two_pixels_for_one(tissue: Path, tmp_path: Path) -> None:
    part = load_part("likelihood", 2, trained("likelihood", tissue, tmp_path / "l.safetensors", scale=2))
    levels, restored = torch.full((1, 1, 12, 12), 200.0), torch.full((1, 1, 24, 24), 200 / 255)
    assert part.network(levels, restored).bits(levels).shape == (1, 1, 12, 12)


def test_a_likelihood_learns_that_an_input_is_near_its_restoration(tissue: Path, tmp_path: Path) -> None:
    path = trained("likelihood", tissue, tmp_path / "l.safetensors", steps=60, batch=4, rate=5e-3)
    figures = load_part("likelihood", 1, path).info["training"]["likelihood"]["figures"]
    assert figures["floor"] < figures["paired"] < figures["unpaired"] - 1


def test_a_ranking_learns_that_blur_is_worse(
    tissue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "DISTORTIONS", {"gaussian": DISTORTIONS["gaussian"]})
    path = trained("ranking", tissue, tmp_path / "r.safetensors", steps=50, rate=1e-2)
    figures = load_part("ranking", 1, path).info["training"]["ranking"]["figures"]
    assert figures["two_apart_least"] > 0.9


def test_the_scale_of_a_ranking_rises_and_lies_within_a_hundred(parts: dict[str, Path]) -> None:
    fit = load_part("ranking", 1, parts["ranking"]).info["fit"]
    assert len(fit["from"]) == len(fit["to"]) > 2
    assert (np.diff(fit["from"]) > 0).all()
    assert (np.diff(fit["to"]) >= 0).all()
    assert min(fit["to"]) >= 0
    assert max(fit["to"]) <= 100


def test_a_monotone_fit_follows_what_rises_and_levels_what_does_not() -> None:
    numbers = np.linspace(-3, 5, 200)
    fit = ranking.monotone_fit(numbers, 10 * numbers + 30)
    assert np.interp(1.0, fit["from"], fit["to"]) == pytest.approx(40, abs=0.5)
    fit = ranking.monotone_fit(numbers, np.where(numbers < 1, 20.0, 10.0))
    assert np.ptp(fit["to"]) < 1e-9
    assert ranking.monotone_fit(np.zeros(5), np.arange(5.0))["from"] == [0.0]


def test_the_hinge_looks_at_every_pair_of_a_ladder(tissue: Path) -> None:
    class Known(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.number = torch.nn.Parameter(torch.tensor([0.0, 2.0, 1.0, 5.0, 9.0, 13.0]))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.number.repeat(len(images) // 6)

    ladders = ranking.LadderSource(PatchSource(tissue, 96), PatchSource(tissue, 192), 0, torch.device("cpu"))
    loss = ranking.RankingStage(Known(), {}, ladders, batch=2).step(0, 0.0)["loss"]  # type: ignore[arg-type]
    assert float(loss.detach()) == pytest.approx(2 / 15), "of 15 pairs one is 1 behind instead of 1 ahead"


def test_half_of_the_ladders_begin_with_a_soft_patch(tissue: Path) -> None:
    patches = PatchSource(tissue, 96)
    ladders = ranking.LadderSource(patches, PatchSource(tissue, 192), 0, torch.device("cpu"))
    drawn = patches.draw(64, step_rng(0, 5, ranking.RANKING_STREAM))[:, 0]
    apart = (ladders.at(5, 64)[:, 0] - drawn).abs().amax((1, 2))
    assert 20 <= int((apart > 0).sum()) <= 44
