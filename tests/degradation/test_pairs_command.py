"""Pairs on disk: the table holds the true degradations, and the same command writes the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import bigrestore
from bigrestore.cli.log import use_format
from bigrestore.degradation.api import degrade
from bigrestore.degradation.schema import Recipe
from bigrestore.errors import OutputExistsError, UsageError
from bigrestore.model.nets.redegrade import redegrade


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return grey texture with structure at several sizes."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width))
    for size in (2, 8, 32):
        coarse = rng.standard_normal((-(-height // size), -(-width // size)))
        image += np.kron(coarse, np.ones((size, size)))[:height, :width]
    return np.clip(image * 30 + 150, 0, 255).astype(np.uint8)


@pytest.fixture
def section(tmp_path: Path) -> Path:
    path = tmp_path / "clean.png"
    Image.fromarray(texture(300, 340)).save(path)
    return path


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_same_seed_writes_the_same_bytes(section: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        degrade(section, tmp_path / name, count=4, seed=seed, patch_px=48)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert len(digests(tmp_path / "a")) == 9
    assert digests(tmp_path / "a") != digests(tmp_path / "c")


def test_more_patches_leave_the_first_ones_as_they_were(section: Path, tmp_path: Path) -> None:
    degrade(section, tmp_path / "few", count=2, patch_px=48)
    degrade(section, tmp_path / "many", count=4, patch_px=48)
    few, many = digests(tmp_path / "few"), digests(tmp_path / "many")
    assert all(many[name] == few[name] for name in few if name.endswith(".png"))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_table_holds_the_applied_kernel(section: Path, tmp_path: Path, scale: int) -> None:
    recipe = Recipe.from_dict({"name": "blur", "blur": {"probability": 1.0}})
    table = pq.read_table(
        degrade(section, tmp_path / "out", scale=scale, count=3, recipe=recipe, patch_px=32)
    )
    clean = np.asarray(Image.open(section), np.float32) / 255
    for row in table.to_pylist():
        lq = np.asarray(Image.open(tmp_path / "out" / row["lq"]), np.float32)
        hq = np.asarray(Image.open(tmp_path / "out" / row["hq"]))
        assert lq.shape == (32, 32)
        assert hq.shape == (row["height"], row["width"]) == (32 * scale, 32 * scale)
        y, x = row["y"], row["x"]
        assert np.array_equal(hq, np.rint(clean[y : y + 32 * scale, x : x + 32 * scale] * 255))
        kernel = torch.tensor(row["kernel"])
        window = torch.from_numpy(clean[y - 8 * scale : y + 40 * scale, x - 8 * scale : x + 40 * scale])
        full = torch.nn.functional.pad(window[None, None], (20, 20, 20, 20), mode="replicate")
        expected = redegrade(full, kernel, scale)[0, 0]
        first = 8 + 20 // scale
        inner = expected[first : first + 32, first : first + 32].numpy() * 255
        assert np.abs(lq - inner)[8:-8, 8:-8].max() <= 0.51


def test_the_table_holds_every_drawn_number(section: Path, tmp_path: Path) -> None:
    table = pq.read_table(degrade(section, tmp_path / "out", count=12, seed=1, patch_px=32))
    facts = json.loads(table.schema.metadata[b"bigrestore"])
    assert facts["recipe"]["name"] == "default"
    assert Recipe.from_dict(facts["recipe"]) == Recipe.load("default")
    rows = table.to_pylist()
    assert [row["lq"] for row in rows] == [f"lq/{i:06d}.png" for i in range(12)]
    for row in rows:
        parameters = json.loads(row["parameters"])
        assert set(parameters) >= {
            "stain",
            "illumination",
            "lines",
            "banding",
            "damage",
            "noise",
            "storage",
            "second",
        }
        assert parameters["sigma_px"] == row["sigma_px"]
        assert np.sum(row["kernel"]) == pytest.approx(1.0, abs=1e-5)
        assert np.shape(row["effective_kernel"]) == (21, 21)


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    deep = texture(120, 120).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    recipe = Recipe.from_dict({"name": "nothing", "identity_probability": 1.0})
    degrade(tmp_path / "deep.png", tmp_path / "out", count=1, recipe=recipe, patch_px=40)
    lq = np.asarray(Image.open(tmp_path / "out" / "lq" / "000000.png"))
    assert lq.dtype == np.uint16
    assert np.array_equal(lq, np.asarray(Image.open(tmp_path / "out" / "hq" / "000000.png")))


def test_the_public_name_can_be_called_twice(section: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        table = bigrestore.degrade(section, tmp_path / name, count=1, patch_px=32)
        assert table == tmp_path / name / "pairs.parquet"


def test_an_empty_slide_gives_way_to_tissue(tmp_path: Path) -> None:
    image = np.full((400, 900), 255, np.uint8)
    image[:, 700:] = texture(400, 200)
    Image.fromarray(image).save(tmp_path / "mostly_glass.png")
    table = degrade(tmp_path / "mostly_glass.png", tmp_path / "out", count=6, patch_px=64)
    hq = [np.asarray(Image.open(table.parent / "hq" / f"{i:06d}.png")) for i in range(6)]
    assert np.mean([patch.std() > 3 for patch in hq]) > 0.8


@pytest.mark.parametrize("tissue", [False, True])
def test_patches_of_flat_grey_are_counted_in_a_warning(
    section: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, tissue: bool
) -> None:
    Image.fromarray(np.full((300, 300), 128, np.uint8)).save(tmp_path / "flat.png")
    degrade(section if tissue else tmp_path / "flat.png", tmp_path / "out", count=3, patch_px=48)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [words.split(":")[0] for words in said] == (
        [] if tissue else ["3 of 3 patches show nothing but flat grey"]
    )


@pytest.mark.parametrize("words", [("--count", 2, "--patch-size", 48), ("--whole",)])
def test_progress_is_silent_with_q_and_json_in_a_log_of_json(
    section: Path,
    tmp_path: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    words: tuple[object, ...],
) -> None:
    assert call("degrade", section, tmp_path / "quiet", *words, "-q") == 0
    assert capsys.readouterr() == ("", "")
    assert call("degrade", section, tmp_path / "lines", *words, "-q", "--progress", "lines") == 0
    assert "100.0%" in capsys.readouterr().err
    try:
        assert call("--log-format", "json", "degrade", section, tmp_path / "json", *words) == 0
    finally:
        use_format(None)  # as in a process of its own
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert any("phase" in line for line in lines)


def test_a_full_folder_is_not_touched_unless_asked(section: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    degrade(section, out, count=3, patch_px=32)
    before = digests(out)
    with pytest.raises(OutputExistsError, match="not empty"):
        degrade(section, out, count=1, patch_px=32)
    assert digests(out) == before
    (out / "notes.txt").write_text("mine")
    degrade(section, out, count=1, patch_px=32, overwrite=True)
    assert len(list((out / "lq").iterdir())) == 1
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "Give either"),
        ({"count": 2, "whole": True}, "Give either"),
        ({"count": 0}, "--count is 0; it takes a whole number of patches from 1"),
        ({"count": 1, "scale": 3}, "--scale is 3; choose 1, 2 or 4"),
        ({"count": 1, "scale": 2.0}, "--scale is 2.0; choose 1, 2 or 4"),
        ({"count": 2.0}, "--count is 2.0; it takes a whole number of patches from 1"),
        ({"count": 1, "patch_px": 4}, "--patch-size is 4; it takes a whole number of pixels from 8"),
        ({"count": 1, "patch_px": 400}, "needs 436 px"),
        ({"count": 1, "seed": -1}, "--seed is -1; it takes a whole number from 0"),
        ({"count": 1, "resume": True}, "resume only a whole section"),
        ({"whole": True, "resume": True, "overwrite": True}, "exclude each other"),
        ({"count": 1, "progress": "loud"}, "--progress is 'loud'"),
        (
            {"count": 1, "recipe": 5},
            "--recipe is 5; it takes the name of a recipe, a TOML file or a file of train",
        ),
        ({"count": 1, "recipe": {"name": "x"}}, "--recipe is name='x'; it takes the name of a recipe"),
        (
            {"count": 1, "recipe": " "},
            "--recipe is ' '; it takes the name of a recipe, a TOML file or a file of train",
        ),
        (
            {"count": 1, "recipe": None},
            "--recipe is none; it takes the name of a recipe, a TOML file or a file of train",
        ),
    ],
)
def test_an_absurd_request_is_a_sentence_and_leaves_nothing(
    section: Path, tmp_path: Path, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        degrade(section, tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_the_command_line_makes_pairs(section: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    from bigrestore.cli.degrade import degrade_command as command

    monkeypatch.setattr("bigrestore.cli.log.configure_logging", lambda **_: None)
    app = typer.Typer()
    app.command()(command)
    recipe = tmp_path / "mine.toml"
    recipe.write_text("[noise]\nprobability = 1.0\n")
    arguments = [str(section), str(tmp_path / "out"), "--scale", "2", "--count", "2", "--recipe", str(recipe)]
    result = CliRunner().invoke(app, [*arguments, "--patch-size", "32", "--seed", "5"])
    assert result.exit_code == 0, result.output
    rows = pq.read_table(tmp_path / "out" / "pairs.parquet").to_pylist()
    assert [(row["scale"], row["seed"], row["kind"]) for row in rows] == [(2, 5, "none")] * 2
