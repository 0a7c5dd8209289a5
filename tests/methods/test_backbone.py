"""Backbones as a method: blind, in the windows of their training, and refused in one sentence where they do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bigrestore.cli.app import app
from bigrestore.core.interpolation import catmull_rom
from bigrestore.errors import InputMissingError, ModelError, ModelScaleError, UsageError
from bigrestore.model.method import TileBatch
from bigrestore.model.nets.parts.part import make_network, save_part
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings

Part = Callable[[str, int], Path]


def backbone(model: Path | str | None, scale: int = 1, **more: Any) -> Any:
    return create_method(
        RunSettings(method="backbone", scale=scale, model=None if model is None else str(model), **more)
    )


def made_of(method: Any, image: np.ndarray) -> np.ndarray:
    batch = TileBatch(image[None], None, np.zeros((1, 2), np.int64), 0)
    made: np.ndarray = method.restore(batch, method.analyse(image[None, :128, :128])).pixels[0]
    return made


@pytest.mark.parametrize(("arch", "scale"), [("uformer", 1), ("rft", 2), ("hat", 2), ("unet", 1)])
def test_the_network_sees_windows_of_its_training_alone(
    part: Part, tissue: np.ndarray, monkeypatch: pytest.MonkeyPatch, arch: str, scale: int
) -> None:
    method = backbone(part(arch, scale), scale, blur=(0.8, 0.8, 0.0), noise=2.0)
    assert (method.halo_px, method.alignment_px) == (96, 96)
    sizes, net = [], method._net
    monkeypatch.setattr(method, "_net", lambda x: (sizes.append(tuple(x.shape)), net(x))[1])
    made = made_of(method, tissue[:192, :288])
    assert made.shape == (192 * scale, 288 * scale)
    assert set(sizes) == {(1, 1, 128, 128)}
    assert len(sizes) == 6


@pytest.mark.parametrize("scale", [1, 2])
def test_an_untrained_backbone_gives_the_interpolation(
    tmp_path: Path, tissue: np.ndarray, scale: int
) -> None:
    sizes = {"arch": "unet", "channels": [4, 8], "blocks": 1, "scale": scale}
    facts = {"sizes": sizes, "window_px": 128, "halo_px": 96, "alignment_px": 96}
    save_part(tmp_path / "new.safetensors", make_network("backbone", sizes), "backbone", scale, facts)
    image = tissue[:192, :192]
    made = made_of(backbone(tmp_path / "new.safetensors", scale, noise=0.0, lock=False), image)
    wanted = image
    if scale > 1:
        wanted = catmull_rom(torch.from_numpy(image)[None, None], scale).clamp(0, 1)[0, 0].numpy()
    # The window's rim repeats at x2, and fades into its neighbour.
    inner = slice(0, 90 * scale)
    np.testing.assert_allclose(made[inner, inner], wanted[inner, inner], atol=1e-5)


def test_blur_and_noise_are_told_to_the_guards_alone(part: Part, tissue: np.ndarray) -> None:
    image, path = tissue[:192, :192], part("unet", 1)
    one, other = (
        made_of(backbone(path, blur=(sigma, sigma, 0.0), noise=1.0, lock=False), image)
        for sigma in (0.5, 2.0)
    )
    assert np.array_equal(one, other)
    one, other = (made_of(backbone(path, blur=(sigma, sigma, 0.0), noise=1.0), image) for sigma in (0.5, 2.0))
    assert not np.array_equal(one, other)


def test_the_file_and_its_windows_are_part_of_the_identity(part: Part) -> None:
    facts = backbone(part("rft", 1)).describe()
    assert facts["architecture"] == "rft"
    assert facts["window_px"] == 128
    assert facts["model"] == "rft-x1"
    assert len(facts["sha256"]) == 64


def test_costs_are_stated_for_every_architecture(part: Part) -> None:
    methods = [backbone(part(arch, 2), 2) for arch in ("uformer", "rft", "hat", "unet")]
    assert all(100 < method.bytes_per_px < 5000 for method in methods)
    assert min(methods, key=lambda method: method.px_per_second).options["architecture"] == "hat"


def test_what_does_not_fit_is_a_sentence(part: Part, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"none is shipped; name a file of `bigrestore train backbone` by --model"
    ):
        backbone(None)
    with pytest.raises(ModelScaleError, match="made for scale 1, not for 2; give --scale 1"):
        backbone(part("rft", 1), 2)
    with pytest.raises(UsageError, match="scale"):
        backbone(part("rft", 1), 4)
    with pytest.raises(UsageError, match="a denoiser, and a backbone is asked for"):
        backbone(part("denoiser", 1))
    with pytest.raises(UsageError, match="tiny-x1, a restorer, and a backbone is asked for"):
        backbone("tiny-x1")
    with pytest.raises(InputMissingError, match="no model file"):
        backbone(tmp_path / "absent.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    content = bytearray(part("unet", 1).read_bytes())
    content[-5] ^= 255
    damaged.write_bytes(bytes(content))
    with pytest.raises(ModelError, match="do not match their sha256"):
        backbone(damaged)


@pytest.mark.parametrize(
    ("flag", "value"), [("realness", 0.5), ("precision", "fp16"), ("options", {"rounds": 2})]
)
def test_a_flag_without_meaning_is_refused(part: Part, flag: str, value: Any) -> None:
    with pytest.raises(UsageError):
        backbone(part("unet", 1), **{flag: value})


def test_models_show_and_verify_know_a_backbone(part: Part) -> None:
    path = str(part("uformer", 1))
    shown = CliRunner().invoke(app, ["models", "show", path])
    assert shown.exit_code == 0
    assert "backbone, a part of other methods" in shown.output
    assert "arch uformer" in shown.output
    facts = json.loads(CliRunner().invoke(app, ["models", "show", path, "--json"]).output)
    assert (facts["kind"], facts["window_px"]) == ("backbone", 128)
    assert CliRunner().invoke(app, ["models", "verify", path]).exit_code == 0
