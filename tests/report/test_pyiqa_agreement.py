"""The native engine against pyiqa, tile by tile, and against what LIVE's and MATLAB's own code gave.

`make test-iqa` builds an environment with pyiqa and runs this; without it everything here is skipped.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from bigrestore.errors import InputMissingError, ModelError, UsageError
from bigrestore.report.metrics.columns import NATIVE_METRICS
from bigrestore.report.metrics.engine import create_engine, lower_better
from bigrestore.report.metrics.nss.fit_niqe import fit_niqe
from bigrestore.report.metrics.nss.niqe_model import save_niqe_model
from bigrestore.report.metrics.score_engine import ScoreEngine

Tile = NDArray[np.float32]

pytestmark = [
    pytest.mark.pyiqa,
    pytest.mark.skipif(importlib.util.find_spec("pyiqa") is None, reason="pyiqa is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of other people's packages
]

# LIVE's MATLAB code for BRISQUE and NIQE, MATLAB R2021b for PIQE.
ORIGINAL = {
    "I03": (94.6421, 15.7536, 100.0),
    "I04": (-0.1076, 3.6549, 21.62),
    "I06": (0.9929, 3.2355, 35.86),
    "I08": (5.3583, 3.1840, 41.15),
    "I19": (72.2617, 8.6352, 76.95),
}
# What implementations say of the images with exactly flat areas: LIVE's own, pyiqa in both precisions, plain scipy filters.
# Round-off decides there on which side of zero a flat pixel is counted; the native engine counts it on neither.
SPREAD = {
    "I03": ((94.6418, 94.6461), (15.6532, 15.7662)),
    "I06": ((0.9906, 1.0958), (3.2341, 3.2366)),
    "I08": ((5.1418, 5.9057), (3.1840, 3.2047)),
    "I19": ((63.9349, 74.4257), (8.6352, 9.1268)),
}


@pytest.fixture(scope="module")
def native() -> ScoreEngine:
    return create_engine()


@pytest.fixture(scope="module")
def pyiqa_engine() -> ScoreEngine:
    return create_engine("pyiqa")


@pytest.fixture(scope="module")
def histology() -> Tile:
    grey = Image.fromarray(skimage.data.immunohistochemistry()).convert("L")
    return np.asarray(grey, dtype=np.float32) / np.float32(255)


def reference_image(name: str) -> Tile:
    """One of the five images that come with pyiqa, grey."""
    distribution = importlib.metadata.distribution("pyiqa")
    path = Path(str(distribution.locate_file(f"ResultsCalibra/dist_dir/{name}.bmp")))
    with Image.open(path) as image:
        return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)


def assert_agree(native: ScoreEngine, other: ScoreEngine, tile: Tile, share: float, least: float) -> None:
    ours, theirs = native.score(tile), other.score(tile)
    for metric in NATIVE_METRICS:
        assert ours[metric] == pytest.approx(theirs[metric], rel=share, abs=least), metric


def has_flat_area(tile: Tile) -> bool:
    """Whether any 7 x 7 neighbourhood is of one grey level, at full or at half size (14 x 14)."""
    from scipy.ndimage import maximum_filter, minimum_filter

    levels = np.rint(tile * 255)
    return bool((maximum_filter(levels, 7) == minimum_filter(levels, 7)).any())


def test_the_image_without_flat_areas_scores_as_in_the_authors_code(native: ScoreEngine) -> None:
    scores = native.score(reference_image("I04"))
    brisque, niqe, piqe = ORIGINAL["I04"]
    assert scores["niqe"] == pytest.approx(niqe, abs=1e-3)
    assert scores["brisque"] == pytest.approx(brisque, abs=5e-3)
    assert scores["piqe"] == pytest.approx(piqe, abs=0.01)


@pytest.mark.parametrize("name", SPREAD)
def test_images_with_flat_areas_score_within_the_spread_of_implementations(
    native: ScoreEngine, name: str
) -> None:
    scores = native.score(reference_image(name))
    (brisque_low, brisque_high), (niqe_low, niqe_high) = SPREAD[name]
    assert brisque_low - 1e-3 <= scores["brisque"] <= brisque_high + 1e-3
    assert niqe_low - 1e-3 <= scores["niqe"] <= niqe_high + 1e-3
    assert scores["piqe"] == pytest.approx(ORIGINAL[name][2], abs=0.01)


def test_the_flattest_image_scores_nearer_to_the_authors_code_than_pyiqa_does(
    native: ScoreEngine, pyiqa_engine: ScoreEngine
) -> None:
    tile = reference_image("I19")
    ours, theirs = native.score(tile), pyiqa_engine.score(tile)
    for place, metric in enumerate(("brisque", "niqe")):
        original = ORIGINAL["I19"][place]
        assert abs(ours[metric] - original) < abs(theirs[metric] - original)


def test_tissue_with_a_little_noise_agrees(
    native: ScoreEngine, pyiqa_engine: ScoreEngine, histology: Tile
) -> None:
    noise = np.random.default_rng(0).random((480, 480), dtype=np.float32) - np.float32(0.5)
    for top, left in ((0, 0), (32, 0), (0, 32)):
        tile = np.clip(histology[top : top + 480, left : left + 480] + np.float32(0.01) * noise, 0, 1)
        assert_agree(native, pyiqa_engine, tile, 1e-4, 1e-3)


def test_tissue_with_some_saturated_pixels_agrees_within_two_percent(
    native: ScoreEngine, pyiqa_engine: ScoreEngine, histology: Tile
) -> None:
    assert_agree(native, pyiqa_engine, histology, 0.02, 0.05)


def real_tiles() -> Iterator[tuple[str, Tile]]:
    folder = Path(os.environ.get("BIGRESTORE_DATA", "")) / "val"
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)
        side = 480 if min(grey.shape) >= 480 else 288
        found = 0
        for top in range(0, grey.shape[0] - side + 1, side):
            for left in range(0, grey.shape[1] - side + 1, side):
                tile = grey[top : top + side, left : left + side]
                if found < 8 and not has_flat_area(tile):
                    found += 1
                    yield f"{path.stem} {top} {left}", tile


@pytest.mark.skipif(
    not os.environ.get("BIGRESTORE_DATA"), reason="BIGRESTORE_DATA names no folder of real images"
)
def test_real_tissue_without_flat_areas_agrees_tile_by_tile(
    native: ScoreEngine, pyiqa_engine: ScoreEngine
) -> None:
    names = []
    for name, tile in real_tiles():
        names.append(name)
        assert_agree(native, pyiqa_engine, tile, 0.01, 0.05)
    assert len(names) >= 6, names


def test_with_a_window_in_double_precision_pyiqa_says_the_same_of_fine_levels_too(
    native: ScoreEngine, pyiqa_engine: ScoreEngine, histology: Tile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own window is float32; on smooth tiles that alone moves BRISQUE by a tenth."""
    import torch
    from pyiqa.archs import func_util

    offsets = np.arange(-3, 4)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * (7 / 6) ** 2))
    shape = func_util.fspecial(7, 7 / 6, 1).shape
    exact = torch.from_numpy(window / window.sum()).reshape(shape)
    monkeypatch.setattr(func_util, "fspecial", lambda *_: exact)
    rng = np.random.default_rng(0)
    for share in (0.05, 0.3, 0.8):
        fine = share * histology[:480, :480] + (0.9 - share) + rng.normal(0, 0.004, (480, 480))
        assert_agree(native, pyiqa_engine, fine.astype(np.float32), 1e-5, 5e-3)


def test_a_fitted_model_gives_both_engines_the_same_score(
    tmp_path: Path, pyiqa_engine: ScoreEngine, histology: Tile
) -> None:
    rng = np.random.default_rng(0)
    noisy = [histology[:480, :480] + rng.normal(0, 0.01, (480, 480)).astype(np.float32) for _ in range(3)]
    path = tmp_path / "model.npz"
    save_niqe_model(path, fit_niqe(noisy, sharp_share=0.3))
    tile = np.clip(noisy[0], 0, 1)
    engines = [create_engine(name, ["niqe"], path) for name in ("native", "pyiqa")]
    ours, theirs = (engine.score(tile)["niqe"] for engine in engines)
    assert ours == pytest.approx(theirs, rel=1e-3)
    first, second = (engine.describe()["parameters"]["niqe"] for engine in engines)
    assert first == second
    assert first["sha256"] != pyiqa_engine.describe()["parameters"]["niqe"]["sha256"]


def test_both_engines_name_the_same_parameters(native: ScoreEngine, pyiqa_engine: ScoreEngine) -> None:
    ours, theirs = native.describe(), pyiqa_engine.describe()
    assert ours["name"] != theirs["name"]
    assert theirs["versions"]["pyiqa"] == importlib.metadata.version("pyiqa")
    for metric in ("brisque", "niqe"):
        assert ours["parameters"][metric] == theirs["parameters"][metric]


def test_any_metric_that_needs_no_weights_is_taken_by_its_name(histology: Tile) -> None:
    engine = create_engine("pyiqa", ["entropy", "piqe"])
    scores = engine.score(histology)
    assert list(scores) == ["entropy", "piqe"]
    assert 6 < scores["entropy"] < 8
    assert not lower_better("musiq")
    assert lower_better("ilniqe")


@pytest.mark.parametrize(
    "tile",
    [
        np.zeros((480, 480), np.float32),
        np.full((480, 480), np.nan, np.float32),
        np.zeros((0, 0), np.float32),
        np.zeros((3, 4, 5), np.float32),
    ],
)
def test_what_cannot_be_scored_is_nan(pyiqa_engine: ScoreEngine, tile: Tile) -> None:
    assert np.isnan(list(pyiqa_engine.score(tile).values())).all()


def test_a_tile_below_a_block_has_no_niqe(pyiqa_engine: ScoreEngine, histology: Tile) -> None:
    scores = pyiqa_engine.score(histology[:50, :60])
    assert np.isnan(scores["niqe"])
    assert np.isfinite(scores["brisque"])


@pytest.mark.parametrize(
    ("metrics", "error", "sentence"),
    [
        (["niqqe"], UsageError, "has no metric 'niqqe'; did you mean niqe"),
        (["qzx"], UsageError, "has no metric 'qzx'"),
        (["lpips"], UsageError, "lpips needs --reference and --lpips-backbone FILE"),
        (["dists"], UsageError, "'dists' compares with a reference"),
        (["fid"], UsageError, "'fid' rates a set of images"),
        (
            ["musiq"],
            ModelError,
            r"needs https://.*\.pth, and bigrestore downloads nothing; .* put it at .*\.pth, or name",
        ),
        (["arniqa"], ModelError, r"needs https://download\.pytorch\.org/.* put it at .*resnet50.*\.pth$"),
        (
            ["musiq=nowhere.pth"],
            InputMissingError,
            r"there are no weights nowhere\.pth for the metric 'musiq'",
        ),
        (
            ["qalign"],
            UsageError,
            r"needs the package '\w+', which is not installed; .* pip install '\S+\[iqa\]'",
        ),
    ],
)
def test_what_cannot_be_had_is_said_in_a_sentence(
    metrics: list[str], error: type[Exception], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(error, match=sentence):
        create_engine("pyiqa", metrics)


def test_weights_that_fit_no_network_are_refused(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "other.pth"
    torch.save({"params": {"a": torch.zeros(1)}}, path)
    with pytest.raises(ModelError, match=r"cannot use its metric 'cnniqa' with the weights .*other\.pth"):
        create_engine("pyiqa", [f"cnniqa={path}"])
    with pytest.raises(UsageError, match="takes no file of weights"):
        create_engine("pyiqa", [f"entropy={path}"])


def test_weights_are_taken_by_path_and_their_hash_is_told(tmp_path: Path, histology: Tile) -> None:
    import torch
    from pyiqa.archs.cnniqa_arch import CNNIQA

    torch.manual_seed(0)
    network: Any = CNNIQA(pretrained=None)
    path = tmp_path / "mine.pth"
    torch.save({"params": network.state_dict()}, path)
    engine = create_engine("pyiqa", [f"cnniqa={path}"])
    assert engine.metrics == ("cnniqa",)
    assert np.isfinite(engine.score(histology)["cnniqa"])
    facts = engine.describe()["parameters"]["cnniqa"]
    assert facts["name"] == "mine.pth"
    assert len(facts["sha256"]) == 64
