"""The score `likelihood`: bits of the input given the image, which refute a restoration and do not praise one."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, shift
from skimage import data

import bigrestore
from bigrestore.errors import UsageError
from bigrestore.model.likelihood import Likelihood
from bigrestore.report.metrics.engine import create_engine, lower_better
from bigrestore.report.metrics.judges.engine import InputOfTile, JudgedEngine, JudgeSettings, split_judges
from bigrestore.report.metrics.judges.likelihood import LikelihoodJudge, windows
from tests.judge_toys import likelihood_file

COLUMNS = ("likelihood", "likelihood_excess")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean tissue, 192 x 390, with what an input and restorations of it look like."""
    place = tmp_path_factory.mktemp("likelihood")
    grey = np.rint(data.immunohistochemistry() @ np.array([0.299, 0.587, 0.114]))[:192, :390]
    noise = np.random.default_rng(0).normal(0, 2, grey.shape)
    images = {
        "clean": grey,
        "before": grey + noise,
        "moved": shift(grey, (2, 2), mode="nearest", order=1),
        "small": (grey + noise).reshape(96, 2, 195, 2).mean(axis=(1, 3)),
        "soft": gaussian_filter(grey, 1.0),
    }
    for name, pixels in images.items():
        Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(place / f"{name}.png")
    likelihood_file(place)
    likelihood_file(place, 2)
    return place


def scored(
    folder: Path, name: str, before: str = "before", scale: int = 1, **settings: Any
) -> dict[str, Any]:
    asked = {"metrics": "likelihood", "likelihood_model": folder / f"likelihood-x{scale}-0.safetensors"}
    asked |= {"progress": "none", "threads": 1} | settings
    summary = bigrestore.score(folder / f"{name}.png", before=folder / f"{before}.png", **asked)
    return {"metrics": summary.summary["metrics"], "tiles": summary.tiles.to_pydict(), "rows": summary.rows()}


def median(said: dict[str, Any], name: str = "likelihood") -> float:
    value = said["metrics"][name]["image"]["median"]
    assert isinstance(value, float)
    return value


@pytest.fixture(scope="module")
def clean(folder: Path) -> dict[str, Any]:
    return scored(folder, "clean")


def test_a_shifted_image_contradicts_its_input(folder: Path, clean: dict[str, Any]) -> None:
    assert median(clean) < median(scored(folder, "moved", force=True)) - 0.5
    assert not set(clean["metrics"]) & {"niqe", "brisque", "piqe"}, "they were not asked for"
    assert {"noise", "blobs_unsupported"} < set(clean["metrics"])


def test_the_rows_say_what_the_bits_mean(clean: dict[str, Any]) -> None:
    text = "\n".join(f"{name} {value}" for name, value in clean["rows"])
    assert f"the input still says {median(clean):.2f} bits a pixel" in text
    assert "does not rank sharpness" in text
    assert "No tile is valid" not in text


def test_the_excess_is_what_lies_above_the_noise_that_was_read(clean: dict[str, Any]) -> None:
    floor = median(clean) - median(clean, "likelihood_excess")
    assert 1.5 < floor < 4.5, "noise of 2 levels has 3.05 bits"


def test_an_enlarged_image_is_compared_on_the_grid_of_its_input(folder: Path) -> None:
    said = scored(folder, "clean", "small", 2)
    other = scored(folder, "moved", "small", 2, force=True)
    assert median(said) < median(other) - 0.2


def test_the_columns_stand_beside_those_of_the_engine(folder: Path) -> None:
    said = scored(folder, "clean", metrics="piqe,likelihood")
    assert {"piqe", "piqe_before", *COLUMNS} < set(said["tiles"])
    assert not {"likelihood_before", "niqe"} & set(said["tiles"])


def test_the_bits_do_not_depend_on_threads_and_company(folder: Path, clean: dict[str, Any]) -> None:
    again = scored(folder, "clean", metrics="likelihood,piqe,niqe", threads=3)
    for name in COLUMNS:
        assert again["tiles"][name] == clean["tiles"][name]


def test_a_run_reports_it_when_asked(folder: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"method": "wiener", "judges": "likelihood", "progress": "none", "mask": "none"}
    asked |= {"likelihood_model": folder / "likelihood-x1-0.safetensors"}
    bigrestore.restore(folder / "before.png", tmp_path / "out.zarr", **asked)
    report = tmp_path / "out.zarr.bigrestore/report/summary.json"
    said = json.loads(report.read_text())
    assert {"niqe", *COLUMNS} < set(said["metrics"])
    assert said["facts"]["engine"]["judges"]["likelihood"]["model"] == "likelihood-x1-0"
    own = scored(folder, "clean")["metrics"]["likelihood_excess"]["image"]["count"]
    assert said["metrics"]["likelihood_excess"]["image"]["count"] == own
    bigrestore.restore(folder / "before.png", tmp_path / "plain.zarr", method="wiener", progress="none")
    bigrestore.restore(
        folder / "before.png", tmp_path / "plain.zarr", resume=True, **(asked | {"mask": "auto"})
    )
    later = json.loads((tmp_path / "plain.zarr.bigrestore/report/summary.json").read_text())
    assert "likelihood" in later["metrics"], "a finished run gets the judge that it was made without"


def test_what_is_missing_is_one_sentence(folder: Path, tmp_path: Path, call: Callable[..., int]) -> None:
    image, before = folder / "clean.png", folder / "before.png"
    with pytest.raises(
        UsageError, match="metrics likelihood compares with what the image was made of; give --before"
    ):
        bigrestore.score(image, metrics="likelihood", progress="none")
    with pytest.raises(UsageError, match="made for scale 2"):
        scored(folder, "clean", likelihood_model=folder / "likelihood-x2-0.safetensors")
    with pytest.raises(UsageError, match="names a file; give it by the option of likelihood"):
        bigrestore.score(image, before=before, metrics="likelihood=x.safetensors", progress="none")
    with pytest.raises(UsageError, match="no metric 'likelyhood', only brisque, niqe, piqe, likelihood"):
        bigrestore.score(image, before=before, metrics="likelyhood", progress="none")
    arguments = ("score", image, "-o", tmp_path / "r", "--metrics", "likelihood")
    assert call(*arguments) == 2
    assert call(*arguments, "--before", before, "--likelihood-model", tmp_path / "no.safetensors") == 3
    assert not (tmp_path / "r").exists()


def test_judges_are_split_off_and_described(folder: Path) -> None:
    assert split_judges(("piqe", "likelihood", "niqe")) == (("piqe", "niqe"), ("likelihood",))
    judging = JudgeSettings(before=True, likelihood_model=str(folder / "likelihood-x1-0.safetensors"))
    engine = create_engine("native", ["likelihood"], judging=judging)
    assert isinstance(engine, JudgedEngine)
    assert (engine.metrics, engine.columns("before")) == ((), COLUMNS)
    assert len(engine.describe()["judges"]["likelihood"]["sha256"]) == 64
    assert lower_better("likelihood_excess")


def test_windows_lie_in_the_quarters_of_a_tile_or_in_its_middle() -> None:
    assert windows(480, 480) == [(72, 72, 96), (72, 312, 96), (312, 72, 96), (312, 312, 96)]
    assert windows(192, 192) == [(0, 0, 96), (0, 96, 96), (96, 0, 96), (96, 96, 96)]
    assert windows(96, 191) == [(0, 48, 96)]
    assert windows(48, 48) == [(0, 0, 48)]


def test_a_tile_that_begins_between_input_pixels_is_compared_in_place(folder: Path) -> None:
    judge = LikelihoodJudge(Likelihood.load(2, folder / "likelihood-x2-0.safetensors"))
    large = np.asarray(Image.open(folder / "clean.png"), np.float32)[:100, :100] / 255
    small = large.reshape(50, 2, 50, 2).mean(axis=(1, 3))
    inside = judge.score(large[1:99, 1:99], InputOfTile(small[1:49, 1:49], (1, 1), 2, None))
    whole = judge.score(large[2:98, 2:98], InputOfTile(small[1:49, 1:49], (0, 0), 2, None))
    assert inside["likelihood"] == whole["likelihood"]
    assert math.isnan(inside["likelihood_excess"]), "no noise was read"


def test_without_judges_no_torch_is_loaded() -> None:
    code = (
        "import sys\n"
        "from bigrestore.report.metrics.engine import create_engine\n"
        "import bigrestore.report.table.tiles, bigrestore.settings\n"
        "create_engine()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
