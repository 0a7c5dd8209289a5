"""Fitting NIQE to good histology, and the file of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from bigrestore.errors import InputError, InputMissingError, ModelError, OutputError, UsageError
from bigrestore.report.metrics.engine import create_engine
from bigrestore.report.metrics.nss.fit_niqe import fit_niqe
from bigrestore.report.metrics.nss.niqe_model import (
    NiqeModel,
    live_niqe_model,
    load_niqe_model,
    save_niqe_model,
)

Tile = NDArray[np.float32]


@pytest.fixture(scope="module")
def histology() -> Tile:
    grey = Image.fromarray(skimage.data.immunohistochemistry()).convert("L")
    return np.asarray(grey, dtype=np.float32) / np.float32(255)


@pytest.fixture(scope="module")
def tiles(histology: Tile) -> list[Tile]:
    """Overlapping tiles: enough blocks from one image."""
    return [histology[y : y + 480, x : x + 480] for y in (0, 17, 32) for x in (0, 13, 32)]


@pytest.fixture(scope="module")
def model(tiles: list[Tile]) -> NiqeModel:
    return fit_niqe(tiles, name="tissue", sharp_share=0.5)


@pytest.mark.filterwarnings("error")
def test_the_image_a_model_was_fitted_to_scores_better_than_with_photographs(
    tmp_path: Path, model: NiqeModel, histology: Tile
) -> None:
    path = tmp_path / "tissue.npz"
    save_niqe_model(path, model)
    engine = create_engine(metrics=["niqe"], niqe_model=path)
    assert engine.score(histology)["niqe"] < create_engine(metrics=["niqe"]).score(histology)["niqe"]
    facts = engine.describe()["parameters"]["niqe"]
    assert facts["name"] == "tissue"
    assert facts["sha256"] == model.sha256
    assert facts["blocks"] == model.facts["blocks"]


def test_only_sharp_blocks_count(histology: Tile) -> None:
    rng = np.random.default_rng(0)
    sharp = rng.random((672, 672), dtype=np.float32)
    dull = np.float32(0.5) + np.float32(0.1) * (sharp - np.float32(0.5))
    both = [np.concatenate([sharp, dull], axis=1)]
    model = fit_niqe(both)
    assert model.facts == {"blocks": 49, "blocks_seen": 98, "images": 1, "sharp_share": 0.75}
    alone = fit_niqe([sharp])
    # The blocks at the seam differ by the filter's reach and by nothing else.
    np.testing.assert_allclose(model.mean, alone.mean, atol=0.01)
    assert fit_niqe(both, sharp_share=0.0).facts["blocks"] == 98


def test_sharpness_is_relative_to_the_image_that_a_tile_belongs_to() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.random((672, 672), dtype=np.float32)
    dull = np.float32(0.5) + np.float32(0.1) * (sharp - np.float32(0.5))
    assert fit_niqe([sharp, dull]).facts["blocks"] == 49
    facts = fit_niqe([("one", sharp), ("two", dull)]).facts
    assert (facts["blocks"], facts["images"]) == (98, 2)


def test_flat_small_and_damaged_tiles_teach_nothing() -> None:
    rng = np.random.default_rng(0)
    good = rng.random((672, 672), dtype=np.float32)
    broken = good.copy()
    broken[5, 5] = np.nan
    others = [np.ones((480, 480), np.float32), good[:50], np.zeros((0, 0), np.float32), broken]
    model, alone = fit_niqe([*others, good]), fit_niqe([good])
    assert model.sha256 == alone.sha256
    assert np.isfinite(model.covariance).all()


def test_too_few_sharp_blocks_are_refused(histology: Tile) -> None:
    with pytest.raises(InputError, match=r"only \d+ of 25 blocks of 96 px are sharp .* needs 37 at least"):
        fit_niqe([histology])
    with pytest.raises(InputError, match="only 0 of 0 blocks"):
        fit_niqe([])


@pytest.mark.parametrize("share", [-0.1, 1.0, 75])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="must be in 0 <= share < 1"):
        fit_niqe([], sharp_share=share)


def test_a_model_on_few_blocks_warns(tiles: list[Tile], caplog: pytest.LogCaptureFixture) -> None:
    fit_niqe(tiles[:4], sharp_share=0.3)
    assert "steady" in caplog.text


def test_a_model_survives_the_file_and_the_same_model_makes_the_same_bytes(
    tmp_path: Path, model: NiqeModel
) -> None:
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    save_niqe_model(first, model)
    read = load_niqe_model(first)
    assert (read.mean == model.mean).all()
    assert (read.covariance == model.covariance).all()
    assert (read.name, read.facts) == (model.name, model.facts)
    save_niqe_model(second, read)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_a_model_that_cannot_be_written_leaves_nothing(tmp_path: Path, model: NiqeModel) -> None:
    with pytest.raises(OutputError, match=r"such.npz cannot be written"):
        save_niqe_model(tmp_path / "no" / "such.npz", model)
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(OutputError, match=r"folder\.npz"):
        save_niqe_model(tmp_path / "folder.npz", model)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.npz"]


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def head(**changes: Any) -> NDArray[Any]:
    live = live_niqe_model()
    return np.array(json.dumps({"format": "bigrestore-niqe/1", "name": "x", "sha256": live.sha256} | changes))


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"mu_pris_param": np.zeros(36)}, "is not a NIQE model of bigrestore"),
        (
            {"mean": np.zeros(36), "covariance": np.eye(36), "bigrestore": np.array("{")},
            "is not a NIQE model",
        ),
        (
            {"mean": np.zeros(36), "covariance": np.eye(36), "bigrestore": np.array("[]")},
            "has the format None",
        ),
        (
            {"mean": np.zeros(36), "covariance": np.eye(36), "bigrestore": head(format="z/9")},
            "has the format 'z/9'",
        ),
        ({"mean": np.zeros(18), "covariance": np.eye(36), "bigrestore": head()}, r"a mean of shape \(18,\)"),
        ({"mean": np.zeros(36), "covariance": np.eye(36), "bigrestore": head()}, "is damaged"),
        (
            {"mean": np.array([None] * 36), "covariance": np.eye(36), "bigrestore": head()},
            "is not a NIQE model",
        ),
    ],
)
def test_foreign_and_damaged_models_are_refused_in_a_sentence(
    tmp_path: Path, arrays: Any, sentence: str
) -> None:
    path = write(tmp_path / "model.npz", **arrays)
    with pytest.raises(ModelError, match=sentence):
        load_niqe_model(path)


@pytest.mark.parametrize("content", [b"", b"no numbers", b"PK\x03\x04 torn", b"\x93NUMPY"])
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is not a NIQE model of bigrestore"):
        load_niqe_model(path)


def test_a_torn_model_is_refused(tmp_path: Path, model: NiqeModel) -> None:
    path = tmp_path / "model.npz"
    save_niqe_model(path, model)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ModelError):
        load_niqe_model(path)


def test_a_single_array_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    np.save(path, np.zeros(36))
    with pytest.raises(ModelError, match="is not a NIQE model"):
        load_niqe_model(path)


def test_a_missing_model_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="fit-niqe"):
        load_niqe_model(tmp_path / "none.npz")
