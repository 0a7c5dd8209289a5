"""The score `rankiqa`: nine crops of a tile on a fixed lattice, a number of 0 to 100, with a twin for the image before."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

import bigrestore
from bigrestore.errors import ModelError, UsageError
from bigrestore.model.nets.parts.part import load_part
from bigrestore.report.metrics.columns import COLUMNS
from bigrestore.report.metrics.judges.engine import JudgeSettings
from bigrestore.report.metrics.judges.rankiqa import RankingJudge, crops
from bigrestore.settings import RunSettings
from tests.judge_toys import likelihood_file, ranking_file

NAMES = ("rankiqa", "rankiqa_median", "rankiqa_256")


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    return np.asarray(data.immunohistochemistry() @ np.array([0.299, 0.587, 0.114]), np.float32) / 255


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> RankingJudge:
    return RankingJudge.create(JudgeSettings(ranking_model=str(ranking_file(tmp_path_factory.mktemp("r")))))


def test_a_blurred_tile_has_larger_numbers(judge: RankingJudge, grey: np.ndarray) -> None:
    tiles = [np.asarray(gaussian_filter(grey[:480, :480], sigma)) for sigma in (0, 0.8, 2)]
    said = [judge.score(tile, None) for tile in tiles]
    for name in NAMES:
        values = [each[name] for each in said]
        assert values == sorted(values)
        assert 0 <= values[0] < values[-1] <= 100


def test_crops_lie_on_a_fixed_lattice_and_none_is_twice_there() -> None:
    image = torch.arange(480 * 480.0).view(1, 1, 480, 480)
    made = crops(image)
    assert [(int(crop[0, 0, 0, 0]) // 480, int(crop[0, 0, 0, 0]) % 480) for crop in made] == [
        (y, x) for y in (0, 128, 256) for x in (0, 128, 256)
    ]
    assert len(crops(image[..., :224, :])) == 3
    assert [crop.shape[-2:] for crop in crops(image[..., :192, :192])] == [(192, 192)]


def test_mean_and_median_are_those_of_the_crops(judge: RankingJudge, grey: np.ndarray) -> None:
    tile = grey[:480, :480]
    alone = [
        judge.score(tile[y : y + 224, x : x + 224], None)["rankiqa"]
        for y in (0, 128, 256)
        for x in (0, 128, 256)
    ]
    said = judge.score(tile, None)
    assert said["rankiqa"] == pytest.approx(np.mean(alone), abs=1e-9)
    assert said["rankiqa_median"] == np.median(alone)
    small = judge.score(tile[:192, :192], None)
    assert math.isnan(small["rankiqa_256"])
    assert math.isfinite(small["rankiqa"])


def test_a_pair_has_it_before_and_after_and_the_rows_say_whose_scale_it_is_not(
    grey: np.ndarray, tmp_path: Path
) -> None:
    for name, pixels in (("after", grey[:, :260]), ("before", gaussian_filter(grey, 1.2)[:, :260])):
        Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    asked: dict[str, Any] = {
        "metrics": "rankiqa",
        "ranking_model": ranking_file(tmp_path),
        "progress": "none",
    }
    one, many = (
        bigrestore.score(tmp_path / "after.png", before=tmp_path / "before.png", threads=threads, **asked)
        for threads in (1, 3)
    )
    change = one.summary["metrics"]["rankiqa"]["change"]
    assert change["median_after"] < change["median_before"]
    for name in NAMES:
        for column in (name, f"{name}_before"):
            assert one.tiles[column].to_pylist() == pytest.approx(
                many.tiles[column].to_pylist(), abs=0, nan_ok=True
            )
    assert {"RankIQA"} < {name for name, _ in one.rows()}
    assert "not LIVE's scale" in COLUMNS["rankiqa"].says
    alone = bigrestore.score(tmp_path / "after.png", **asked)
    assert "rankiqa_before" not in alone.tiles.column_names


def test_a_ranking_without_a_scale_is_refused(tmp_path: Path) -> None:
    part = load_part("ranking", 1, ranking_file(tmp_path))
    part.info.pop("fit")
    with pytest.raises(ModelError, match="has no scale of 0 to 100"):
        RankingJudge(part)


def test_what_is_missing_or_another_network_is_one_sentence(grey: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(np.rint(grey * 255).astype(np.uint8)).save(tmp_path / "image.png")
    asked: dict[str, Any] = {"metrics": "rankiqa", "progress": "none"}
    with pytest.raises(UsageError, match="a likelihood, and a ranking is asked for"):
        bigrestore.score(tmp_path / "image.png", ranking_model=likelihood_file(tmp_path), **asked)
    with pytest.raises(UsageError, match="nothing asks for it; give --judges rankiqa"):
        RunSettings(ranking_model="r.safetensors", judges="likelihood")
    assert RunSettings(judges="rankiqa,likelihood").judges == ("likelihood", "rankiqa")  # type: ignore[arg-type]


def test_a_run_has_it_beside_the_others(grey: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(np.rint(grey[:200, :300] * 255).astype(np.uint8)).save(tmp_path / "image.png")
    asked: dict[str, Any] = {
        "method": "wiener",
        "judges": "rankiqa",
        "progress": "none",
        "score_tile_size": 96,
    }
    asked |= {"ranking_model": ranking_file(tmp_path)}
    bigrestore.restore(tmp_path / "image.png", tmp_path / "out.zarr", **asked)
    report = tmp_path / "out.zarr.bigrestore/report/summary.json"
    assert {"niqe", "rankiqa", "rankiqa_256"} < set(json.loads(report.read_text())["metrics"])
