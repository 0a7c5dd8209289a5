"""The stages, from a folder of images to a working model: tiny networks, a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from bigrestore.core.host import waiting
from bigrestore.degradation.schema import Recipe
from bigrestore.errors import InputError, OutputExistsError, UsageError
from bigrestore.model.nets import guards
from bigrestore.model.nets.checkpoint import load_model
from bigrestore.model.nets.halo import CORE_PX, LIMIT_PX, probe_halo
from bigrestore.model.nets.restorer import Restorer
from bigrestore.settings.train import StageOptions
from bigrestore.training.data.images import load_images, split_by_section
from bigrestore.training.data.pairs import PairSource, patch_size
from bigrestore.training.data.patches import PatchSource
from bigrestore.training.loop.guard import StepGuard
from bigrestore.training.stages import halo
from bigrestore.training.stages.estimator import EstimatorStage
from bigrestore.training.stages.fidelity import FidelityStage
from bigrestore.training.stages.stage import train_stage
from tests.waits import Sends, Waits

pytestmark = pytest.mark.filterwarnings("ignore:.*tensorboard.*")


OPTIONS = StageOptions(preset="nano", scale=1, steps=3, batch=2, threads=1)


def test_two_stages_make_a_model_that_says_how_it_was_made(
    tissue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured_halo: None
) -> None:
    sides = []

    def watched(model: Restorer, probed: Tensor, *conditions: Any, **limits: Any) -> Any:
        sides.append(probed.shape[-1])
        return probe_halo(model, probed, *conditions, **limits)

    monkeypatch.setattr(halo, "probe_halo", watched)
    output = tmp_path / "model.safetensors"
    assert train_stage("estimator", tissue, output, OPTIONS).status == "done"
    result = train_stage("fidelity", tissue, output, attrs.evolve(OPTIONS, steps=8))
    assert result.steps == 8
    model = load_model(output, 1)
    assert list(model.info["training"]) == ["estimator", "fidelity"]
    assert model.info["training"]["fidelity"]["steps"] == 8
    assert model.info["training"]["fidelity"]["recipe"] == "default"
    assert model.halo_px % model.restorer.alignment_px == 0
    assert model.halo_px > 0
    assert min(sides) >= 2 * LIMIT_PX + CORE_PX, "held-out tissue shows the largest halo"
    assert bool(model.restorer.basis.components.any())
    sheets = list((tmp_path / "model.safetensors.train" / "fidelity" / "sheets").glob("*.png"))
    card = output.with_suffix(".md").read_text()
    assert model.sha256 in card
    assert "8 steps of 2 windows" in card
    assert sheets, "a sheet of held-out pairs is part of a training"


def test_fidelity_changes_the_unet_and_leaves_the_estimator(tissue: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    train_stage("estimator", tissue, first, OPTIONS)
    train_stage("fidelity", tissue, second, attrs.evolve(OPTIONS, start=first))
    before, after = load_model(first).restorer.state_dict(), load_model(second).restorer.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"unet"}


def test_a_card_says_what_was_trained_before(tissue: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    train_stage("estimator", tissue, first, attrs.evolve(OPTIONS, steps=2))
    train_stage("estimator", tissue, second, attrs.evolve(OPTIONS, steps=3, start=first))
    assert [old["steps"] for old in load_model(second).info["training"]["estimator"]["earlier"]] == [2]
    assert "started from a model trained before: 0 minutes, 2 steps" in second.with_suffix(".md").read_text()


def test_a_finished_training_is_not_its_own_predecessor(tissue: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.safetensors"
    train_stage("estimator", tissue, output, attrs.evolve(OPTIONS, steps=2))
    again = train_stage("estimator", tissue, output, attrs.evolve(OPTIONS, steps=2, resume=True))
    assert again.status == "done"
    assert load_model(output).info["training"]["estimator"]["earlier"] == []


def test_an_edited_recipe_is_not_resumed(tissue: Path, tmp_path: Path) -> None:
    recipe, output = tmp_path / "mine.toml", tmp_path / "a.safetensors"
    options = attrs.evolve(OPTIONS, steps=2, recipe=str(recipe))
    recipe.write_text('name = "mine"\nidentity_probability = 0.1\n')
    train_stage("estimator", tissue, output, options)
    recipe.write_text('name = "mine"\nidentity_probability = 0.2\n')
    with pytest.raises(UsageError, match="recipe"):
        train_stage("estimator", tissue, output, attrs.evolve(options, resume=True))


def test_held_out_images_without_a_window_are_said(
    tissue: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for image in tissue.iterdir():
        (folder / f"group__{image.name}").write_bytes(image.read_bytes())
    training, held_out = split_by_section(load_images(folder))
    for image in held_out:
        Image.fromarray(image.pixels[:40, :40]).save(folder / image.name)
    train_stage("estimator", folder, tmp_path / "a.safetensors", attrs.evolve(OPTIONS, steps=1))
    assert "No held-out image can be used" in caplog.text
    assert training


def test_the_same_seed_trains_the_same_weights(tissue: Path, tmp_path: Path) -> None:
    hashes = set()
    for name in ("one", "two"):
        output = tmp_path / f"{name}.safetensors"
        train_stage("estimator", tissue, output, OPTIONS)
        hashes.add(load_model(output).sha256)
    assert len(hashes) == 1


def test_scale_two_trains_and_the_host_reads_nothing_within_a_step(
    tissue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "x2.safetensors"
    options = attrs.evolve(OPTIONS, scale=2, steps=3)
    seen, counted = [], []

    def watched(method: Any) -> Any:
        def call(*args: Any) -> Any:
            begins = getattr(args[0], "held", None) == 0  # the estimator fills its pool, once
            with Waits() as waits, Sends() as sends:
                made = method(*args)
            if begins:
                return made
            # The optimiser sends its two numbers to the device where they are.
            seen.extend(waits.seen + (sends.seen if method.__name__ == "step" else []))
            counted.append(method.__qualname__)
            return made

        return call

    for module in (waiting, guards):
        monkeypatch.setattr(module, "readable", lambda _: False)
    for owner, name in ((EstimatorStage, "step"), (FidelityStage, "step"), (StepGuard, "follow")):
        monkeypatch.setattr(owner, name, watched(getattr(owner, name)))
    train_stage("estimator", tissue, output, options)
    train_stage("fidelity", tissue, output, options)
    assert load_model(output, 2).scale == 2
    assert seen == []
    steps = 2 * ["EstimatorStage.step"] + 3 * ["FidelityStage.step"]
    assert sorted(counted) == steps + 6 * ["StepGuard.follow"]


def test_patch_sizes_leave_room_for_the_kernel() -> None:
    assert patch_size(96, 2) > 2 * 96 + 20


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"steps": None}, "--steps and --minutes"),
        ({"minutes": 1.0}, "--steps and --minutes"),
        ({"preset": "giant"}, "preset"),
        ({"recipe": "nowhere"}, "nowhere"),
    ],
)
def test_wrong_options_are_sentences(
    tissue: Path, tmp_path: Path, change: dict[str, object], match: str
) -> None:
    with pytest.raises((UsageError, InputError), match=match):
        train_stage("estimator", tissue, tmp_path / "m.safetensors", attrs.evolve(OPTIONS, **change))
    assert not (tmp_path / "m.safetensors").exists()


def test_wrong_places_are_sentences(tissue: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.safetensors"):
        train_stage("estimator", tissue, tmp_path / "m.pt", OPTIONS)
    with pytest.raises(UsageError, match="train estimator"):
        train_stage("fidelity", tissue, tmp_path / "m.safetensors", OPTIONS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        train_stage("estimator", tmp_path / "empty", tmp_path / "m.safetensors", OPTIONS)


def test_a_training_that_runs_out_of_memory_says_what_to_make_smaller(
    tissue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(EstimatorStage, "step", too_large)
    with pytest.raises(UsageError, match=r"out of memory on cpu with 2 pairs a step; take a smaller --batch"):
        train_stage("estimator", tissue, tmp_path / "m.safetensors", OPTIONS)


def test_a_model_of_another_size_is_not_overwritten(tissue: Path, tmp_path: Path) -> None:
    output = tmp_path / "m.safetensors"
    train_stage("estimator", tissue, output, OPTIONS)
    with pytest.raises(UsageError, match="nano model for scale 1"):
        train_stage("fidelity", tissue, output, attrs.evolve(OPTIONS, scale=2))
    with pytest.raises(OutputExistsError, match="--resume"):
        train_stage("estimator", tissue, output, OPTIONS)


def test_fidelity_of_a_larger_scale_starts_from_a_smaller_one(
    tissue: Path, fidelity_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "x2.safetensors"
    options = attrs.evolve(OPTIONS, scale=2, steps=2, start=fidelity_model)
    assert train_stage("fidelity", tissue, output, options).steps == 2
    model = load_model(output)
    assert model.scale == 2
    assert bool(model.restorer.basis.components.any())
    records = model.info["training"]
    assert set(records) == {"estimator", "fidelity"}
    assert len(records["fidelity"]["earlier"]) == 1
    with pytest.raises(UsageError, match="nano model for scale 1"):
        train_stage("prior", tissue, tmp_path / "p.safetensors", options)


def test_the_command_trains(tissue: Path, tmp_path: Path) -> None:
    from bigrestore.cli.train import train_app

    output = tmp_path / "cli.safetensors"
    flags = ["--preset", "nano", "--steps", "2", "--batch", "2", "--threads", "1", "--device", "cpu"]
    result = CliRunner().invoke(train_app, ["estimator", str(tissue), "-o", str(output), *flags])
    assert result.exit_code == 0, result.output
    assert "2 steps" in result.output
    assert output.is_file()


def test_windows_of_a_set_are_of_one_image_and_one_degradation(tissue: Path) -> None:
    training, held_out = split_by_section(load_images(tissue))
    sources = [PatchSource(images, patch_size(64, 1)) for images in (training, held_out)]
    pairs = PairSource(
        *sources, Recipe.load("default"), 1, seed=0, device=torch.device("cpu"), held_out_count=8, together=4
    )
    for batch in (pairs.at(3, 8, 4), pairs.held_out()):
        assert all(one is batch.drawn[0] for one in batch.drawn[:4])
        assert batch.drawn[4] is not batch.drawn[0]
        assert torch.equal(batch.known.kernel[0], batch.known.kernel[3])
        assert not torch.equal(batch.target[0], batch.target[1])
    with pytest.raises(UsageError, match="divisor"):
        sources[0].draw(6, np.random.default_rng(0), together=4)
