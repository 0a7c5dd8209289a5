"""The bench of realness on a small random model: every table has its rows, and the rules choose what they say."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from bigrestore.model.nets.checkpoint import save_model
from bigrestore.model.nets.restorer import Restorer
from bigrestore.report.metrics.blobs import BlobCount
from bigrestore.settings.presets import get_preset
from tests.bench import curves, realesrgan, realness, realness_card
from tests.bench.material import CASES, Pair
from tests.bench.naturalness import Judged, Row, at_equal, changes, is_better

NONE = BlobCount(10, 0, 1_000_000)


def judged(psnr: float, niqe: float = 5.0, invented: int = 0) -> Judged:
    scores = {
        (row, column): {"niqe": niqe, "brisque": 30.0, "piqe": 20.0}
        for row in range(6)
        for column in range(6)
    }
    return Judged(psnr, 0.9, 1e-3, scores, BlobCount(100, invented, 1_000_000), NONE)


def result_of(losses: list[float], niqes: list[float] | None = None) -> curves.CaseResult:
    rows = {
        value: Row(f"{value}", [judged(30 - loss, 5.0 if niqes is None else niqes[index])])
        for index, (value, loss) in enumerate(zip(curves.REALNESS, losses, strict=True))
    }
    masks = [Row("mask", [judged(30, 6 - index, 4 * index)]) for index in range(len(curves.AMOUNTS))]
    clean, before = Row("clean", [judged(math.inf, 4.0)]), Row("input", [judged(28)])
    return curves.CaseResult(CASES["a"], clean, before, rows, {"input": masks}, {})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    restorer = Restorer(get_preset("nano"), 1, with_prior=True).eval()
    path = tmp_path / "toy.safetensors"
    save_model(path, restorer, {"halo_px": 64, "halo_prior_px": 64, "training": "none"})
    return path


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grey = (data.immunohistochemistry()[:440, :440] @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    (tmp_path / "data/val").mkdir(parents=True)
    Image.fromarray(grey).save(tmp_path / "data/val/tissue__one.png")
    monkeypatch.setenv("BIGRESTORE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("tests.bench.metrics.RESULTS", tmp_path / "results")


class FakePeer:
    mpx_per_second = 1.0

    def __init__(self, threads: int = 1) -> None:
        pass

    def restore(self, image: np.ndarray, scale: int) -> np.ndarray:
        return image.repeat(scale, 0).repeat(scale, 1)


def test_every_table_has_its_rows_and_the_picture_is_drawn(
    tmp_path: Path,
    model: Path,
    images: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(curves, "REALNESS", (0.0, 0.5, 1.0))
    monkeypatch.setattr(curves, "AMOUNTS", (0.0, 1.0))
    monkeypatch.setattr(realesrgan, "available", lambda: True)
    monkeypatch.setattr(realesrgan, "RealEsrgan", FakePeer)
    card = tmp_path / "toy.md"
    card.write_text("# toy\n\nA model.\n\n## Realness\n\nof older weights\n\n## Data\n\nImages.\n")
    words = ["--model", str(model), "--cases", "a", "--peer-crop", "200", "--card", str(card)]
    options = realness.parse([*words, "--plot", str(tmp_path / "curves.png")])
    lines = realness.measure(options)
    shown = capsys.readouterr().out
    for row in ("input", "realness 0", "realness 0.5", "realness 1", "unsharp 1", "Real-ESRGAN x4plus"):
        assert f"\n{row}" in shown
    assert "4 tiles of 192 px" in shown
    names = [line.name.strip() for line in lines]
    assert names[0] == "default realness of toy"
    assert "Real-ESRGAN x4plus, output" in names
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert (tmp_path / "results/realness-toy-x1.json").is_file()
    text, chosen = card.read_text(), lines[0].measured
    assert "older weights" not in text
    assert text.index("A model.") < text.index("## Realness") < text.index("## Data\n\nImages.")
    assert "](toy-realness.png)" in text
    assert 10_000 < (tmp_path / "toy-realness.png").stat().st_size < 150_000
    for row in (
        "input",
        f"**realness {chosen}**",
        "unsharp mask over the input",
        "Real-ESRGAN x4plus, middle",
    ):
        assert f"\n| a | {row} |" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {len(realness_card.HEADER) + 1}


def test_at_scale_two_the_input_is_enlarged_before_it_is_compared(
    tmp_path: Path, images: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "REALNESS", (0.0, 1.0))
    monkeypatch.setattr(curves, "AMOUNTS", (0.0,))
    path = tmp_path / "double.safetensors"
    restorer = Restorer(get_preset("nano"), 2, with_prior=True).eval()
    save_model(path, restorer, {"halo_px": 64, "halo_prior_px": 64, "training": "none"})
    result = curves.measure_case(CASES["x2"], str(path), None, FakePeer(), 96)
    assert "\nCatmull-Rom " in realness.report(result)
    assert "\n| x2 | Catmull-Rom |" in realness_card.section([result], "x.png")
    sizes = {count.pixels for row in (result.before, *result.curve.values()) for count in [row.blobs("lost")]}
    assert sizes == {392 * 392}
    assert {row.blobs("lost").pixels for row in result.peer.values()} == {96 * 96}


def test_one_card_or_picture_is_not_made_of_two_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (
        ["--model", "a", "b", "--plot", "x.png"],
        ["--model", "a", "--card", str(tmp_path / "no.md")],
    ):
        with pytest.raises(SystemExit):
            realness.parse(words)
    said = capsys.readouterr().err
    assert "for one model" in said
    assert "there is no model card" in said


def test_the_default_is_the_largest_that_every_case_allows() -> None:
    small = result_of([0, 0.01, 0.05, 0.1, 0.19, 0.3, 0.9])
    large = result_of([0, 0.02, 0.1, 0.21, 0.15, 0.5, 2.0])
    assert curves.default_realness([small]) == 0.5
    assert curves.default_realness([small, large]) == 0.2, (
        "what follows the first that is too much does not count"
    )
    assert curves.default_realness([result_of([0, 1, 1, 1, 1, 1, 1])]) == 0.0


def test_a_mask_is_compared_where_it_reaches_the_same_niqe() -> None:
    found = result_of([0] * 7, [7.0, 6.0, 5.5, 5.0, 4.25, 3.0, -9.0])
    shares = [curves.control(found, value, "input") for value in curves.REALNESS]
    assert shares[:6] == pytest.approx([0.0, 0.0, 0.02, 0.04, 0.07, 0.12])
    assert math.isnan(shares[6])
    assert at_equal(4.0, [{"x": 5.0, "y": 1.0}, {"x": 6.0, "y": 2.0}], "x", "y") != at_equal(
        5.0, [{"x": 5.0, "y": 1.0}, {"x": 6.0, "y": 2.0}], "x", "y"
    )


def test_a_mask_that_invents_nothing_is_no_worse_than_one_that_does_not_either() -> None:
    def verdict(own: int) -> bool | None:
        found = result_of([0] * 7, [6.0] * 7)
        found.curve[1.0] = Row("1", [judged(30, 6.0, own)])
        lines = realness.figures("toy", [found])
        return next(line.met for line in lines if "unsharp mask over the input" in line.name)

    assert [verdict(own) for own in (0, 1)] == [True, False]


def test_a_change_is_better_only_where_its_interval_says_so() -> None:
    rng = np.random.default_rng(0)

    def noisy(middle: float) -> Judged:
        made = judged(30)
        for scores in made.scores.values():
            scores["niqe"] = middle + rng.normal(0, 0.1)
        return made

    assert is_better(changes([[noisy(4.0)]], [[noisy(5.0)]])["niqe"])
    assert not is_better(changes([[noisy(5.0)]], [[noisy(5.0)]])["niqe"])
    assert not is_better(changes([[noisy(6.0)]], [[noisy(5.0)]])["niqe"])
    few = attrs.evolve(judged(30, 4.0), scores=dict(list(judged(30, 4.0).scores.items())[:3]))
    assert changes([[few]], [[judged(30, 5.0)]])["niqe"] == (-1.0, None), "nothing to draw from"


def test_the_peer_sees_what_lies_behind_the_middle_of_the_clean_image() -> None:
    for scale, shape, crop in ((1, (101, 90), 64), (2, (210, 164), 99), (2, (64, 300), 128)):
        clean = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
        small = (
            clean.reshape(shape[0] // scale, scale, shape[1] // scale, scale)[:, 0, :, 0]
            if scale > 1
            else clean
        )
        blocks = small.repeat(scale, 0).repeat(scale, 1)
        pair = Pair("one", small, clean, np.ones((1, 1)), 0.0)
        found = curves._peer_output(FakePeer(), pair, scale, crop)
        np.testing.assert_array_equal(found, curves.middle(blocks, crop))


def test_a_model_without_a_prior_and_a_missing_peer_are_a_line_each(
    tmp_path: Path, images: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    restorer = Restorer(get_preset("nano"), 1).eval()
    path = tmp_path / "plain.safetensors"
    save_model(path, restorer, {"halo_px": 64, "training": "none"})
    options: argparse.Namespace = realness.parse(["--model", str(path), "--cases", "a"])
    (line,) = realness.measure(options)
    assert "no prior" in line.measured
    monkeypatch.setattr(realesrgan.importlib.util, "find_spec", lambda _: None)
    assert not realesrgan.available()
