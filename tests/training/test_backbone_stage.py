"""Training a backbone: it learns in twenty steps, resumes to the same bits, and refuses what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bigrestore.cli.app import app
from bigrestore.errors import UsageError
from bigrestore.model.nets.parts.part import load_part
from bigrestore.settings.presets import BACKBONES
from bigrestore.settings.train import StageOptions
from bigrestore.training.stages import assembly
from bigrestore.training.stages.parts import backbone
from bigrestore.training.stages.stage import train_stage
from tests.training.interrupted import train_interrupted

pytestmark = pytest.mark.filterwarnings("ignore:.*tensorboard.*")
OPTIONS = StageOptions(steps=20, batch=2, threads=1, rate=3e-3)
NANO: dict[str, dict[str, Any]] = {
    "uformer": {"channels": 4, "depths": [1, 1], "head_channels": 4, "side": 8, "modulators": False},
    "rft": {"channels": [4, 8], "blocks": 1, "fourier": True},
    "hat": {"channels": 8, "heads": 2, "groups": 1, "depth": 1, "side": 8},
    "unet": {"channels": [4, 8], "blocks": 1, "fourier": False},
}


@pytest.fixture(autouse=True, scope="module")
def _few_figures() -> Iterator[None]:
    """Train on windows of 64 px, which the tissue of the tests holds at x2, and take the figures of four."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "BACKBONE_HELD_OUT", 4)
        patch.setattr(backbone, "BACKBONE_SIDE_PX", 64)
        patch.setattr(backbone, "BACKBONE_STEP_PX", 48)
        yield


def trained(arch: str, tissue: Path, output: Path, **options: Any) -> Path:
    plan = attrs.evolve(backbone.BACKBONE.plan, sizes=NANO[arch], warmup_steps=2)
    train_stage("backbone", tissue, output, attrs.evolve(OPTIONS, arch=arch, **options), plan)
    return output


@pytest.mark.parametrize(("arch", "scale"), [("unet", 1), ("uformer", 1), ("rft", 2), ("hat", 2)])
def test_a_nano_backbone_learns_in_twenty_steps(tissue: Path, tmp_path: Path, arch: str, scale: int) -> None:
    path = trained(arch, tissue, tmp_path / f"{arch}.safetensors", scale=scale)
    part = load_part("backbone", scale, path)
    record = part.info["training"]["backbone"]
    assert part.info["sizes"] == {"arch": arch, **NANO[arch], "scale": scale}
    assert (part.info["window_px"], part.info["halo_px"], part.info["alignment_px"]) == (64, 48, 48)
    assert record["steps"] == 20
    assert np.isfinite(record["figures"]["gain"])
    assert record["figures"]["gain"] > -0.5
    tail: Any = part.network.tail
    assert float(tail.weight.abs().max()) > 0, "it started at zero"
    assert f"\n# {arch}\n\nA backbone for scale x{scale}" in path.with_suffix(".md").read_text()


def test_a_resumed_backbone_ends_in_the_same_bits(tissue: Path, tmp_path: Path) -> None:
    options = attrs.evolve(OPTIONS, steps=4, arch="rft")
    plan = attrs.evolve(backbone.BACKBONE.plan, sizes=NANO["rft"])
    hashes = []
    for name in ("whole", "stopped"):
        path = tmp_path / f"{name}.safetensors"
        if name == "whole":
            train_stage("backbone", tissue, path, options, plan)
        else:
            train_interrupted("backbone", backbone.BackboneStage, tissue, path, options, plan)
        hashes.append(load_part("backbone", 1, path).info["sha256"])
    assert hashes[0] == hashes[1]


def test_an_architecture_is_not_trained_on_as_another(tissue: Path, tmp_path: Path) -> None:
    path = trained("unet", tissue, tmp_path / "b.safetensors", steps=1)
    with pytest.raises(
        UsageError, match="is a backbone of the architecture unet, not rft; say so by --arch unet"
    ):
        trained("rft", tissue, path, steps=1)
    path.rename(tmp_path / "kept.safetensors")
    with pytest.raises(UsageError, match="arch was unet, now rft"):
        trained("rft", tissue, path, steps=1, resume=True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"arch": "hat"}, "--scale is 1; --arch hat takes 2"),
        ({"arch": "uformer", "scale": 4}, "--scale is 4; --arch uformer takes 1 or 2"),
        ({"arch": "unet", "scale": 4}, "--scale is 4; --arch unet takes 1 or 2"),
    ],
)
def test_a_scale_that_does_not_fit_is_refused_before_images_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setattr(assembly, "load_images", lambda *_: pytest.fail("images were read"))
    with pytest.raises(UsageError, match=sentence):
        train_stage("backbone", tmp_path, tmp_path / "b.safetensors", attrs.evolve(OPTIONS, **options))


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(UsageError, match="--arch is 'swinir'; choose uformer, rft, hat or unet"):
        StageOptions(arch="swinir")
    arguments = ["train", "denoiser", "images", "-o", "d.safetensors", "--steps", "1", "--arch", "unet"]
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_loss_is_that_of_locked_images(tissue: Path, tmp_path: Path) -> None:
    material = assembly.read_material(tissue, "default", 1)
    from bigrestore.model.nets.parts.backbone import BackboneNet

    torch.manual_seed(0)
    net = BackboneNet("unet", 1, **NANO["unet"])
    stage, _ = backbone.build_backbone("backbone", material, net, {"sizes": {}}, OPTIONS, None)  # type: ignore[arg-type]
    losses = stage.step(0, 0.0)
    assert float(losses["loss"].detach()) == pytest.approx(
        float((losses["near"] + 0.05 * losses["fft"]).detach())
    )
    assert set(BACKBONES) == set(NANO)
