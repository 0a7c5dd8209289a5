"""LPIPS: what it says of equal and of other images, which files it takes, and that it agrees with its authors' package."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data
from torch import nn

import bigrestore
from bigrestore.errors import InputMissingError, ModelError, UsageError
from bigrestore.report.metrics.judges import lpips
from bigrestore.report.metrics.judges.engine import JudgeSettings
from bigrestore.report.metrics.judges.lpips import Backbone, LpipsJudge, channel_weights, load_backbone
from bigrestore.settings import ScoreSettings

BACKBONES: dict[str, Callable[[], Backbone]] = {
    "alexnet": lpips.alexnet,
    "vgg16": lpips.vgg16,
    "squeezenet1_1": lpips.squeezenet,
}


def backbone_file(folder: Path, name: str) -> Path:
    """Write a random backbone as torchvision writes its own, the classifier included."""
    torch.manual_seed(0)
    layers, path = BACKBONES[name]().layers, folder / f"{name}.pth"
    state = {f"features.{key}": weight for key, weight in layers.state_dict().items()}
    torch.save(state | {"classifier.1.weight": torch.zeros(4, 4)}, path)
    return path


@pytest.fixture(scope="module")
def tiles() -> dict[str, np.ndarray]:
    grey = (data.immunohistochemistry()[:192, :192] @ np.array([0.299, 0.587, 0.114])).astype(
        np.float32
    ) / 255
    return {"clean": grey, "soft": gaussian_filter(grey, 0.7), "softer": gaussian_filter(grey, 2)}


@pytest.mark.parametrize("name", BACKBONES)
def test_equal_images_have_none_and_a_worse_one_has_more(
    tmp_path: Path, tiles: dict[str, np.ndarray], name: str
) -> None:
    judge = LpipsJudge.create(JudgeSettings(lpips_backbone=str(backbone_file(tmp_path, name))))
    said = [judge.score(tiles[each], tiles["clean"])["lpips"] for each in ("clean", "soft", "softer")]
    assert said[0] == 0
    assert 0 < said[1] < said[2]
    assert judge.describe()["backbone"] == name
    assert judge.describe()["sha256"] == hashlib.sha256((tmp_path / f"{name}.pth").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", BACKBONES)
def test_the_learned_weights_fit_the_features_and_praise_nothing(name: str) -> None:
    backbone = BACKBONES[name]()
    made = backbone.features(torch.zeros(1, 3, 96, 96))
    weights = channel_weights(name)
    assert [features.shape[1] for features in made] == [len(each) for each in weights]
    assert all(float(each.min()) >= 0 for each in weights)


def test_the_distance_is_that_of_the_formula(
    tiles: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Backbone("toy", nn.Sequential(nn.Conv2d(3, 2, 1, bias=False)), (0,))
    nn.init.constant_(one.layers[0].weight, 0.5)  # type: ignore[arg-type]
    with torch.no_grad():
        one.layers[0].weight[1] *= -2  # type: ignore[index]
    monkeypatch.setattr(lpips, "channel_weights", lambda _: [torch.tensor([1.0, 3.0])])
    a, b = (np.full((96, 96), grey, np.float32) for grey in (0.2, 0.9))
    features = [
        np.array([0.5, -1.0])
        * sum((2 * g - 1 - s) / c for s, c in zip(lpips.SHIFT, lpips.SCALE, strict=True))
        for g in (0.2, 0.9)
    ]
    unit = [each / np.linalg.norm(each) for each in features]
    wanted = float(np.dot([1.0, 3.0], (unit[0] - unit[1]) ** 2))
    assert LpipsJudge(one, "").score(a, b)["lpips"] == pytest.approx(wanted, rel=1e-5)
    assert wanted > 1


def test_a_pair_and_its_reference_have_a_column_each(tmp_path: Path, tiles: dict[str, np.ndarray]) -> None:
    paths = {}
    for name, tile in tiles.items():
        paths[name] = tmp_path / f"{name}.png"
        Image.fromarray(np.rint(tile * 255).astype(np.uint8)).save(paths[name])
    asked: dict[str, Any] = {
        "metrics": "lpips",
        "lpips_backbone": backbone_file(tmp_path, "alexnet"),
        "progress": "none",
    }
    said = bigrestore.score(paths["soft"], before=paths["softer"], reference=paths["clean"], **asked).summary
    change = said["metrics"]["lpips"]["change"]
    assert change["median_after"] < change["median_before"]
    assert said["facts"]["engine"]["judges"]["lpips"]["backbone"] == "alexnet"
    alone = bigrestore.score(paths["soft"], reference=paths["clean"], **asked)
    assert {"lpips", "psnr"} < set(alone.tiles.column_names)
    assert "lpips_before" not in alone.tiles.column_names


NEEDS = r"lpips needs --reference and --lpips-backbone FILE \(torchvision's alexnet-owt-7be5be79.pth\)"


def test_what_is_missing_is_one_sentence(tmp_path: Path, tiles: dict[str, np.ndarray]) -> None:
    path, clean = tmp_path / "image.png", tmp_path / "clean.png"
    for each, name in ((path, "soft"), (clean, "clean")):
        Image.fromarray(np.rint(tiles[name] * 255).astype(np.uint8)).save(each)
    with pytest.raises(UsageError, match=NEEDS):
        bigrestore.score(path, metrics="lpips", progress="none")
    with pytest.raises(UsageError, match=NEEDS):
        bigrestore.score(path, reference=clean, metrics="lpips", progress="none")
    with pytest.raises(InputMissingError, match=r"no file .*nowhere\.pth"):
        bigrestore.score(
            path, reference=clean, metrics="lpips", lpips_backbone="nowhere.pth", progress="none"
        )
    for field, name in (
        ("lpips_backbone", "lpips"),
        ("likelihood_model", "likelihood"),
        ("ranking_model", "rankiqa"),
    ):
        with pytest.raises(UsageError, match=f"nothing asks for it; add {name} to --metrics"):
            ScoreSettings(**{field: "x", "metrics": "niqe"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content", [b"", b"rubbish", b"cos\nsystem\n(S'true'\ntR.", "resnet", "list", "script"]
)
def test_another_file_is_refused_and_runs_no_code(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "net.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "script":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.script(nn.Conv2d(3, 3, 1)), path)
    else:
        torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)} if content == "resnet" else [1, 2], path)
    with pytest.raises(ModelError, match=r"no state dict of torchvision's AlexNet, VGG16 or SqueezeNet 1\.1"):
        load_backbone(path)


@pytest.mark.pyiqa
@pytest.mark.skipif(importlib.util.find_spec("lpips") is None, reason="lpips is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "theirs"), [("alexnet", "alex"), ("vgg16", "vgg"), ("squeezenet1_1", "squeeze")]
)
def test_the_package_of_the_authors_says_the_same(
    tmp_path: Path, tiles: dict[str, np.ndarray], name: str, theirs: str
) -> None:
    import lpips as package  # type: ignore[import-not-found,unused-ignore]

    torch.manual_seed(0)
    model: Any = package.LPIPS(net=theirs, pnet_rand=True, verbose=False)
    state = {
        f"features.{key.partition('.')[2]}": weight
        for key, weight in model.net.state_dict().items()
        if key.startswith("slice")
    }
    torch.save(state, tmp_path / "net.pth")
    judge = LpipsJudge.create(JudgeSettings(lpips_backbone=str(tmp_path / "net.pth")))
    for other in ("soft", "softer"):
        images = (
            torch.from_numpy(tiles[each])[None, None].expand(-1, 3, -1, -1) for each in ("clean", other)
        )
        with torch.no_grad():
            wanted = float(model(*images, normalize=True))
        assert judge.score(tiles["clean"], tiles[other])["lpips"] == pytest.approx(wanted, abs=1e-5)
        assert wanted > 1e-3
