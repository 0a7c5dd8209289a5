"""An adaptation from sections to a model that says what it was adapted to; what cannot be done is a sentence."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bigrestore.errors import (
    InputError,
    InputMissingError,
    ModelError,
    OutputError,
    OutputExistsError,
    UsageError,
)
from bigrestore.model.nets.checkpoint import load_model, save_model, update_info
from bigrestore.model.nets.restorer import Restorer
from bigrestore.model.network import NetworkMethod
from bigrestore.settings.presets import get_preset
from bigrestore.settings.train import AdaptOptions, StageOptions
from bigrestore.training.adaptation import adaptation
from bigrestore.training.adaptation.adaptation import adapt, lengths, sheet_path
from bigrestore.training.adaptation.sheet import refuse_other_picture
from bigrestore.training.loop import loop
from bigrestore.training.loop.schedule import TrainResult
from bigrestore.training.stages import fidelity
from bigrestore.training.stages.stage import train_stage
from tests.adaptation.conftest import texture

pytestmark = pytest.mark.filterwarnings("ignore:.*tensorboard.*")

TRAINING = StageOptions(steps=3, batch=2, threads=1, rate=2e-4)


def options(start: Path, **changes: Any) -> AdaptOptions:
    return AdaptOptions(str(start), training=attrs.evolve(TRAINING, **changes))


@pytest.fixture(scope="module")
def adapted(sections: list[Path], start_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model adapted to a sharp section and a soft one, a softest one being left out."""
    output = tmp_path_factory.mktemp("adapted") / "mine.safetensors"
    assert adapt(sections, output, options(start_model, steps=10)).status == "done"
    return output


@pytest.fixture(autouse=True)
def no_halo_and_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring a halo and drawing a sheet take most of so short a training; `adapted` has both, as it is made before."""
    monkeypatch.setattr(fidelity, "measure_halo", lambda *_: (64, {"64": 0.0}))
    monkeypatch.setattr(adaptation, "draw_sheet", lambda *_: None)


def test_estimator_and_unet_are_tuned_and_the_rest_is_kept(adapted: Path, start_model: Path) -> None:
    before, after = (load_model(path).restorer.state_dict() for path in (start_model, adapted))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"estimator", "unet"}
    assert torch.equal(before["estimator.mean"], after["estimator.mean"]), (
        "inputs are those it was trained with"
    )


def test_the_model_is_used_at_realness_0_with_a_halo_of_its_own(adapted: Path) -> None:
    model = load_model(adapted)
    assert model.realness == 0
    assert model.halo_px > 0
    assert model.info["halo_errors"]
    assert "halo_prior_px" not in model.info
    assert NetworkMethod(model, device="cpu").realness == 0
    with pytest.raises(UsageError, match="train bridge"):
        NetworkMethod(model, device="cpu", realness=0.2)


def test_model_and_card_say_what_it_was_adapted_to(adapted: Path, start_model: Path) -> None:
    info = load_model(adapted).info
    record = info["adapted"]
    assert (record["start"], record["start_sha256"]) == ("start", load_model(start_model).sha256)
    soft = next(one for one in record["sections"] if one["name"] == "soft.png")
    assert set(soft["factors"]) == {"0.6", "0.5", "0.35"}
    assert soft["size"] == [520, 560]
    assert "blurred by 0.7" in soft["read"]
    assert next(one for one in record["sections"] if one["name"] == "softest.png")["factors"] == {}
    assert set(info["training"]) == {"estimator", "fidelity", "prior"}
    assert info["training"]["fidelity"]["recipe"] == "adapted"
    assert [old["steps"] for old in info["training"]["fidelity"]["earlier"]] == [7]
    card = adapted.with_suffix(".md").read_text()
    for words in (
        "Adapted from `start`",
        "| soft.png | 560 x 520 |",
        "x 0.5: ",
        "none, left out",
        "realness 0",
        "blurred by",
    ):
        assert words in card
    assert f"| gain_oracle | {record['gains']['gain_oracle'][0]:g} |" in card


def test_the_sheet_shows_what_was_taken(adapted: Path) -> None:
    with Image.open(sheet_path(adapted)) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB")).astype(int)
    green = (abs(pixels - (26, 127, 55)).sum(-1) < 20).sum()
    red = (abs(pixels - (180, 35, 24)).sum(-1) < 20).sum()
    assert green > 500
    assert red > 500
    refuse_other_picture(sheet_path(adapted))


def test_a_stop_is_gone_on_with(
    sections: list[Path], start_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "mine.safetensors"
    step = loop._Training._make_step
    left = [0]

    def stopped(self: Any) -> None:
        step(self)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(loop._Training, "_make_step", stopped)
    # Of 10 steps the estimator gets 2: the first stop is in its stage, the second in that of the U-Net.
    for steps, status in ((1, "stopped"), (4, "stopped"), (99, "done")):
        left[0] = steps
        again = options(start_model, resume=(tmp_path / "mine.safetensors.train").exists(), steps=10)
        assert adapt(sections[:1], output, again).status == status
        assert output.exists() == (status == "done")
    fresh = tmp_path / "fresh.safetensors"
    adapt(sections[:1], fresh, options(start_model, steps=10))
    assert load_model(output).sha256 == load_model(fresh).sha256


def test_a_finished_adaptation_is_not_replaced(
    sections: list[Path], start_model: Path, adapted: Path
) -> None:
    before = adapted.read_bytes()
    with pytest.raises(OutputExistsError, match="--resume"):
        adapt(sections, adapted, options(start_model))
    with pytest.raises(UsageError, match="other settings"):
        adapt(sections[:1], adapted, options(start_model, resume=True))
    assert adapted.read_bytes() == before


def test_an_adapted_model_can_be_adapted_again(sections: list[Path], adapted: Path, tmp_path: Path) -> None:
    output = tmp_path / "twice.safetensors"
    adapt(sections[:1], output, options(adapted, steps=2))
    info = load_model(output).info
    assert info["adapted"]["start"] == "mine"
    assert [old["recipe"] for old in info["training"]["fidelity"]["earlier"]] == ["default", "adapted"]


def test_a_section_too_small_for_the_estimator_leaves_it_as_it_is(
    start_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(texture(300, 300).astype(np.uint8)).save(tmp_path / "small.png")
    trained = []
    with monkeypatch.context() as patch:
        patch.setattr(adaptation, "train_stage", lambda stage, *_: trained.append(stage) or STOPPED)
        adapt([tmp_path / "small.png"], tmp_path / "m.safetensors", options(start_model))
    assert trained == ["estimator"]
    assert "too small for the estimator" not in caplog.text
    Image.fromarray(texture(250, 250).astype(np.uint8)).save(tmp_path / "smaller.png")
    adapt([tmp_path / "smaller.png"], tmp_path / "n.safetensors", options(start_model))
    assert "too small for the estimator" in caplog.text
    before, after = (
        load_model(path).restorer.estimator.state_dict() for path in (start_model, tmp_path / "n.safetensors")
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("minutes", "steps", "first", "second"),
    [
        (15.0, None, {"minutes": 3.0}, {"minutes": 12.0}),
        (None, 10, {"steps": 2}, {"steps": 8}),
        (None, 2, {"steps": 1}, {"steps": 1}),
    ],
)
def test_most_of_the_length_goes_to_the_unet(minutes: Any, steps: Any, first: Any, second: Any) -> None:
    assert lengths(attrs.evolve(TRAINING, minutes=minutes, steps=steps)) == (first, second)


def test_sections_that_cannot_be_learned_from_are_refused_by_name(
    sections: list[Path], start_model: Path, tmp_path: Path
) -> None:
    softest = sections[2]
    small = tmp_path / "small.png"
    Image.fromarray(texture(100, 400).astype(np.uint8)).save(small)
    white = tmp_path / "white.png"
    Image.fromarray(np.full((300, 300), 240, np.uint8)).save(white)
    output = tmp_path / "m.safetensors"
    for bad, words in (
        (
            softest,
            r"softest\.png is sharp at no size: .* falls by \d\d\.\d dB at 1 of its size .*at most 21 dB",
        ),
        (small, r"small\.png is 400 x 100 pixels, smaller than a training window of 132"),
        (white, r"white\.png shows no tissue"),
    ):
        with pytest.raises(InputError, match=words):
            adapt([bad], output, options(start_model))
    with pytest.raises(InputError, match=r"softest\.png is sharp.*small\.png is 400"):
        adapt([softest, small], output, options(start_model))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.png", "white.png"]


def test_one_of_several_that_cannot_be_learned_from_is_left_out_with_a_warning(
    sections: list[Path],
    start_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trained = []
    monkeypatch.setattr(
        adaptation, "train_stage", lambda _, material, *__: trained.append(material) or STOPPED
    )
    adapt(sections, tmp_path / "m.safetensors", options(start_model))
    assert "Left out: softest.png is sharp at no size" in caplog.text
    assert trained[0].name == "sharp.png, soft.png"


STOPPED = TrainResult("stopped", 1, 1.0, {}, 0, 0, signal_number=signal.SIGTERM)


def test_every_twelfth_block_is_held_out(
    start_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigrestore.training.adaptation import sections as adapt_sections

    monkeypatch.setattr(adapt_sections, "LARGEST_BLOCK_PX", 300)
    monkeypatch.setattr(adaptation, "MOST_BLOCKS", 14)
    Image.fromarray(texture(1200, 1200).astype(np.uint8)).save(tmp_path / "a__b.png")
    trained = []
    monkeypatch.setattr(
        adaptation, "train_stage", lambda _, material, *__: trained.append(material) or STOPPED
    )
    adapt([tmp_path / "a__b.png"], tmp_path / "m.safetensors", options(start_model))
    factors = (0.6, 0.5)
    assert (len(trained[0].training), len(trained[0].held_out)) == (13 * len(factors), len(factors))
    assert not {image.name for image in trained[0].training} & {image.name for image in trained[0].held_out}
    assert {image.group for image in trained[0].training} == {f"1 a_b.png x {factor:g}" for factor in factors}


def test_starts_of_another_kind_are_sentences(
    sections: list[Path], start_model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "m.safetensors"
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    new = tmp_path / "new.safetensors"
    save_model(new, Restorer(get_preset("nano"), 1), {"halo_px": 16, "training": {"estimator": {}}})
    for start, kind, words in (
        ("nowhere.safetensors", InputMissingError, "nowhere"),
        ("nowhere", UsageError, "nowhere"),
        (str(foreign), ModelError, "not a bigrestore model"),
        (str(sections[0]), ModelError, r"sharp\.png is damaged or no safetensors file"),
        (str(new), UsageError, "no trained U-Net"),
    ):
        with pytest.raises(kind, match=words):
            adapt(sections, output, AdaptOptions(start, training=TRAINING))
    assert not output.exists()


def test_places_and_lengths_are_looked_at_before_the_sections(start_model: Path, tmp_path: Path) -> None:
    nothing = [tmp_path / "nowhere.png"]
    for name, changes, words in (
        ("m.pt", {}, "must end in .safetensors"),
        ("m.safetensors", {"minutes": 1.0}, "one of --steps and --minutes"),
        ("m.safetensors", {"steps": None}, "one of --steps and --minutes"),
        ("m.safetensors", {"steps": 1}, "--steps is 1"),
    ):
        with pytest.raises(UsageError, match=words):
            adapt(nothing, tmp_path / name, options(start_model, **changes))
    taken = tmp_path / "taken.safetensors"
    taken.write_bytes(start_model.read_bytes())
    for resume in (False, True):
        with pytest.raises(OutputExistsError, match=r"taken\.safetensors exists already"):
            adapt(nothing, taken, options(start_model, resume=resume))
    with pytest.raises(UsageError, match="cannot start from itself"):
        adaptation.load_start(str(taken), taken)
    Image.new("L", (8, 8)).save(tmp_path / "m-sections.png")
    with pytest.raises(OutputExistsError, match=r"would replace .*m-sections\.png"):
        adapt(nothing, tmp_path / "m.safetensors", options(start_model))


def test_a_folder_that_cannot_be_made_is_a_sentence(
    sections: list[Path], start_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    output = tmp_path / "place" / "m.safetensors"
    monkeypatch.setattr(type(output), "mkdir", refuse)
    with pytest.raises(OutputError, match="place"):
        adapt(sections[:1], output, options(start_model))


def test_the_command_ends_with_the_codes_that_are_documented(
    sections: list[Path],
    start_model: Path,
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "m.safetensors"
    assert call("adapt", sections[2], "-o", output, "--start", start_model, "--steps", 2) == 3
    assert "softest.png is sharp at no size" in " ".join(capsys.readouterr().err.split())
    assert call("adapt", sections[0], "-o", output, "--steps", 2, "--minutes", 1) == 2
    flags = ("--start", start_model, "--steps", 2, "--batch", 2, "--threads", 1, "--device", "cpu")
    assert call("adapt", sections[0], "-o", output, *flags) == 0
    shown = capsys.readouterr()
    assert "m.safetensors: 1 steps" in shown.out
    assert "used at realness 0" in " ".join(shown.err.split())
    assert "sharp.png" in json.dumps(load_model(output).info["adapted"])


def test_more_training_forgets_the_record_but_not_the_lineage(adapted: Path, tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "more.safetensors"
    data.mkdir()
    for index in range(3):
        Image.fromarray(texture(300, 300, index).astype(np.uint8)).save(data / f"{index}.png")
    train_stage("fidelity", data, output, attrs.evolve(TRAINING, preset="nano", steps=1, start=adapted))
    info = load_model(output).info
    assert "adapted" not in info
    assert [old["recipe"] for old in info["training"]["fidelity"]["earlier"]] == ["default", "adapted"]
    update_info(output, {"adapted": load_model(adapted).info["adapted"]})
    assert load_model(output).info["adapted"]["start"] == "start"
