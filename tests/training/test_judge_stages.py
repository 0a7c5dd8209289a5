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
from bigrestore.training.stages.parts import likelihood
from bigrestore.training.stages.stage import train_stage

pytestmark = pytest.mark.filterwarnings("ignore:.*tensorboard.*")
OPTIONS = StageOptions(steps=4, batch=2, threads=1, rate=1e-3)
SIZES: dict[str, dict[str, Any]] = {
    "likelihood": {"channels": 8, "blocks": 1, "logistics": 2, "condition_channels": 4},
}
BUILDERS = {"likelihood": likelihood.LIKELIHOOD}
STAGE_CLASSES = {"likelihood": likelihood.LikelihoodStage}
JUDGES = list(SIZES)


@pytest.fixture(autouse=True, scope="module")
def _few_figures() -> Iterator[None]:
    """Take the figures of few windows."""
    patch = pytest.MonkeyPatch()
    patch.setattr("bigrestore.training.stages.parts.likelihood.LIKELIHOOD_HELD_OUT", 4)
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
    assert parts[name].with_suffix(".md").read_text().startswith(f"# {name}\n\nA {name} for scale x1")


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_of_the_full_sizes_ships_below_two_megabytes(name: str) -> None:
    from bigrestore.model.nets.parts.part import make_network

    net = make_network(name, BUILDERS[name].plan.sizes)
    assert 2 * sum(weight.numel() for weight in net.parameters()) < 2e6


@pytest.mark.parametrize("name", JUDGES)
def test_a_resumed_judge_ends_in_the_same_bits(
    parts: dict[str, Path], tissue: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage: Any = STAGE_CLASSES[name]
    step = stage.step

    def stopped(self: Any, number: int, progress: float) -> Any:
        if number == 2:
            raise KeyboardInterrupt
        return step(self, number, progress)

    monkeypatch.setattr(stage, "step", stopped)
    plan = attrs.evolve(BUILDERS[name].plan, sizes=SIZES[name], checkpoint_s=1e-9)
    output = tmp_path / f"{name}.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_stage(name, tissue, output, OPTIONS, plan)
    monkeypatch.setattr(stage, "step", step)
    train_stage(name, tissue, output, attrs.evolve(OPTIONS, resume=True), plan)
    assert load_part(name, 1, output).info["sha256"] == load_part(name, 1, parts[name]).info["sha256"]


def test_a_likelihood_of_two_pixels_for_one(tissue: Path, tmp_path: Path) -> None:
    part = load_part("likelihood", 2, trained("likelihood", tissue, tmp_path / "l.safetensors", scale=2))
    levels, restored = torch.full((1, 1, 12, 12), 200.0), torch.full((1, 1, 24, 24), 200 / 255)
    assert part.network(levels, restored).bits(levels).shape == (1, 1, 12, 12)


def test_a_likelihood_learns_that_an_input_is_near_its_restoration(tissue: Path, tmp_path: Path) -> None:
    path = trained("likelihood", tissue, tmp_path / "l.safetensors", steps=60, batch=4, rate=5e-3)
    figures = load_part("likelihood", 1, path).info["training"]["likelihood"]["figures"]
    assert figures["floor"] < figures["paired"] < figures["unpaired"] - 1
