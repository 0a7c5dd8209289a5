"""Jumps of brightness between sections go, and what lies along the volume stays."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bigrestore
from bigrestore.errors import OutputError
from bigrestore.io.open_section import open_section
from bigrestore.run import prepared
from bigrestore.run.neighbours.harmony import Tone, find_tones, tones_from_json, tones_to_json
from tests.neighbours.conftest import layers, stored, to_bytes

WHITE = 0.95
JUMPS = (1, 1.06, 0.94, 1, 1.06, 1, 0.95, 1, 1.03, 1, 1, 0.94, 1)


def stained(folder: Path, factors: Sequence[float]) -> Path:
    """Write a volume of one tissue on glass, its distance from white times a factor in each section."""
    tissue = np.pad(layers()[:256, :256], 128, constant_values=WHITE)
    chance = np.random.default_rng(0)
    sections = [WHITE + f * (tissue - WHITE) + chance.normal(0, 1 / 255, tissue.shape) for f in factors]
    return stored(folder / "in.zarr", to_bytes(np.array(sections)))


def restored(source: Path, output: Path, **settings: Any) -> np.ndarray:
    given = {"method": "rational", "report": False, "progress": "none", "harmonise": True} | settings
    bigrestore.restore(source, output, **given)
    pixels: np.ndarray = zarr.open_array(output, path="0", mode="r")[:]
    return pixels


def distances(volume: np.ndarray) -> np.ndarray:
    """Return the mean distance of each section's tissue from white."""
    return np.mean(255 * WHITE - volume[:, 128:-128, 128:-128].astype(float), axis=(1, 2))


def test_jumps_of_six_per_cent_shrink_below_one(tmp_path: Path) -> None:
    source = stained(tmp_path, JUMPS)
    made = restored(source, tmp_path / "out.zarr")
    inner = slice(2, -2)
    before, after = (distances(v)[inner] for v in (zarr.open_array(source, mode="r")[:], made))
    assert np.abs(before / np.median(before) - 1).max() > 0.05
    assert np.abs(after / np.median(after) - 1).max() < 0.01
    glass = np.s_[:, :100, :100]
    given = zarr.open_array(source, mode="r")[:]
    assert abs(float(made[glass].mean()) - float(given[glass].mean())) < 0.1, "white stays"


@pytest.mark.parametrize("gradient", [np.linspace(0.9, 1.1, 13), np.linspace(1.15, 0.85, 13)])
def test_a_gradient_along_the_volume_stays(tmp_path: Path, gradient: np.ndarray) -> None:
    tones = find_tones(open_section(stained(tmp_path, list(gradient))), range(13))
    assert max(abs(tone.factor - 1) for tone in tones.values()) < 0.01


def test_more_than_a_tenth_is_not_taken_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    factors = [1.0] * 9
    factors[4] = 0.7
    tones = find_tones(open_section(stained(tmp_path, factors)), range(9))
    assert tones[4].factor == pytest.approx(1.1)
    assert "Section 4" in caplog.text


def test_other_tissue_is_no_other_tone(tmp_path: Path) -> None:
    """The median moves, and the quartile range the other way: cells of another kind, not another stain."""
    source = stained(tmp_path, [1.0] * 7)
    pixels = zarr.open_array(source, mode="r+")
    inner = pixels[3, 128:-128, 128:-128].astype(float)
    pixels[3, 128:-128, 128:-128] = to_bytes((0.5 * (inner - inner.mean()) + inner.mean() - 25) / 255)
    tones = find_tones(open_section(source), range(7))
    assert tones[3].factor == 1


def test_every_cut_of_the_run_is_of_one_tone(tmp_path: Path) -> None:
    source = stained(tmp_path, JUMPS[:5])
    whole = restored(source, tmp_path / "whole.zarr")
    assert np.array_equal(restored(source, tmp_path / "blocks.zarr", block_size=480), whole)
    part = restored(source, tmp_path / "roi.zarr", roi="1:3,100:400,90:300")
    assert np.array_equal(part, whole[1:3, 100:400, 90:300])


def test_colour_keeps_its_hue() -> None:
    tone = Tone(0.9, 1.1)
    rgb = np.array([[[0.5, 0.4, 0.7]]], np.float32)
    distances = 0.9 - tone.of(rgb)
    assert distances == pytest.approx(1.1 * (0.9 - rgb))


def test_tones_come_back_from_the_plan() -> None:
    tones = {3: Tone(0.912345678, 1.01234), 7: Tone(1.0, 0.9)}
    assert tones_from_json(json.loads(json.dumps(tones_to_json(tones)))) == tones


def test_a_section_that_cannot_be_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = stained(tmp_path, JUMPS[:5])
    for chunk in source.rglob("c/2/*/*"):
        chunk.write_bytes(b"torn")
    tones = find_tones(open_section(source), range(5))
    assert sorted(tones) == [0, 1, 3, 4]
    assert "Section 2 is left out of --harmonise" in caplog.text


def test_a_resumed_run_has_the_tones_of_its_plan(tmp_path: Path) -> None:
    source = stained(tmp_path, JUMPS[:5])
    whole = restored(source, tmp_path / "out.zarr")
    journal = tmp_path / "out.zarr.bigrestore" / "journal"
    next(iter(sorted(journal.glob("*.json")))).unlink()
    assert np.array_equal(restored(source, tmp_path / "out.zarr", resume=True), whole)


@pytest.mark.parametrize(
    ("begun", "again", "says"),
    [
        ({}, {}, "go on with it by --resume"),
        ({"harmonise": False}, {}, "was begun under other settings"),
        ({"harmonise": False}, {"resume": True}, "--harmonise (none then, true now)"),
        ({"mask": "none"}, {}, "was begun under other settings"),
        (None, {}, "move it away, or choose another output"),
        (None, {"overwrite": True}, "is not removed"),
    ],
)
def test_an_output_is_refused_before_tones_are_looked_for(
    begun: dict[str, Any] | None,
    again: dict[str, Any],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, output = stained(tmp_path, JUMPS[:3]), tmp_path / "out.zarr"
    if begun is None:
        output.mkdir()
        (output / "notes.txt").write_text("mine")
    else:
        restored(source, output, **begun)
    monkeypatch.setattr(prepared, "find_tones", lambda *_: pytest.fail("the volume was read"))
    with pytest.raises(OutputError, match=re.escape(says)):
        restored(source, output, **again)


def test_tones_are_found_anew_for_an_output_that_is_replaced(tmp_path: Path) -> None:
    source, output = stained(tmp_path, JUMPS[:5]), tmp_path / "out.zarr"
    before = restored(source, output)
    stained(tmp_path / "other", JUMPS[5:10])
    after = restored(tmp_path / "other" / "in.zarr", output, overwrite=True)
    assert not np.array_equal(before, after)
    assert np.array_equal(after, restored(tmp_path / "other" / "in.zarr", tmp_path / "fresh.zarr"))


def test_a_volume_without_tissue_has_no_tones_and_is_resumed(tmp_path: Path) -> None:
    source = stored(tmp_path / "in.zarr", np.full((3, 256, 256), 240, np.uint8))
    whole = restored(source, tmp_path / "out.zarr")
    next(iter(sorted((tmp_path / "out.zarr.bigrestore" / "journal").glob("*.json")))).unlink()
    assert np.array_equal(restored(source, tmp_path / "out.zarr", resume=True), whole)


@pytest.mark.parametrize("command", ["run", "profile"])
def test_one_section_is_a_sentence(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    zarr.save_array(tmp_path / "one.zarr", np.full((64, 64), 9, np.uint8))
    more = (tmp_path / "out.zarr", "--method", "rational") if command == "run" else ()
    assert call(command, tmp_path / "one.zarr", *more, "--harmonise") == 2
    assert "one section" in " ".join(capsys.readouterr().err.split())


def test_the_profile_prints_the_tones(
    call: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call("profile", stained(tmp_path, JUMPS[:5]), "--harmonise", "--json") == 0
    tones = json.loads(capsys.readouterr().out)["tones"]
    assert sorted(tones) == ["0", "1", "2", "3", "4"]
    assert tones["1"][1] < 1 < tones["2"][1]


def test_two_questions_at_once_are_refused(call: Callable[..., int], tmp_path: Path) -> None:
    source = stained(tmp_path, (1, 1))
    assert call("profile", source, "--harmonise", "--neighbours") == 2
    assert call("profile", source, "--harmonise", "-o", tmp_path / "p.json") == 2
