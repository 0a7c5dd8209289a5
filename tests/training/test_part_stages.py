"""The trainings of parts: a denoiser, an unrolled restoration, a resolver; each makes a file that its method takes."""

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
from bigrestore.errors import ModelError, UsageError
from bigrestore.model.method import TileBatch
from bigrestore.model.nets.parts.part import load_part
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings
from bigrestore.settings.train import StageOptions
from bigrestore.training.stages import halo
from bigrestore.training.stages.parts import denoiser, resolver, unrolled
from bigrestore.training.stages.parts.resolver import VGGFeatures
from bigrestore.training.stages.stage import train_stage
from tests.training.interrupted import train_interrupted

pytestmark = pytest.mark.filterwarnings("ignore:.*tensorboard.*")
OPTIONS = StageOptions(steps=4, batch=2, threads=1, rate=1e-3)
SIZES: dict[str, dict[str, Any]] = {
    "denoiser": {"channels": [8, 8], "blocks": 1},
    "unrolled": {"channels": [8, 8], "blocks": 1, "rounds": 1},
    "resolver": {},
}
BUILDERS = {"denoiser": denoiser.DENOISER, "unrolled": unrolled.UNROLLED, "resolver": resolver.RESOLVER}
METHOD_OF = {"denoiser": "drunet", "unrolled": "usrnet", "resolver": "srrunet"}


@pytest.fixture(autouse=True, scope="module")
def _few_figures() -> Iterator[None]:
    """Take the figures of few windows, and measure halos in small."""
    patch = pytest.MonkeyPatch()
    patch.setattr(halo, "LIMIT_PX", 16)
    patch.setattr(halo, "FIRST_WINDOWS", (0,))
    for stage in ("DENOISER", "UNROLLED", "RESOLVER"):
        patch.setattr(f"bigrestore.training.stages.parts.{stage.lower()}.{stage}_HELD_OUT", 4)
    yield
    patch.undo()


def trained(name: str, tissue: Path, output: Path, **options: Any) -> Path:
    plan = attrs.evolve(BUILDERS[name].plan, sizes=SIZES[name])
    recipe = "noise" if name == "denoiser" else "default"
    train_stage(name, tissue, output, attrs.evolve(OPTIONS, recipe=recipe, **options), plan)
    return output


@pytest.fixture(scope="module")
def parts(tissue: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("parts")
    made = {name: trained(name, tissue, folder / f"{name}.safetensors") for name in ("denoiser", "unrolled")}
    made["resolver"] = trained("resolver", tissue, folder / "resolver.safetensors", start=made["denoiser"])
    return made


@pytest.mark.parametrize("name", list(METHOD_OF))
def test_a_trained_part_restores_and_has_a_card(parts: dict[str, Path], name: str) -> None:
    part = load_part(name, 1, parts[name])
    record = part.info["training"][name]
    assert record["steps"] == 4
    assert all(np.isfinite(value) for value in record["figures"].values())
    article = "An" if name == "unrolled" else "A"
    assert f"---\n\n# {name}\n\n{article} {name} for scale x1" in parts[name].with_suffix(".md").read_text()
    method = create_method(RunSettings(method=METHOD_OF[name], model=str(parts[name])))
    pixels = np.random.default_rng(0).random((1, 128, 128), np.float32)
    made = method.restore(
        TileBatch(pixels, None, np.zeros((1, 2), np.int64), 0), method.analyse(pixels)
    ).pixels
    assert made.shape == pixels.shape
    assert np.isfinite(made).all()
    assert method.describe()["sha256"] == part.info["sha256"]


def test_a_resolver_starts_as_the_denoiser(parts: dict[str, Path], tissue: Path, tmp_path: Path) -> None:
    assert load_part("resolver", 1, parts["resolver"]).info["training"].keys() == {"denoiser", "resolver"}
    with pytest.raises(UsageError, match="resolver starts from a trained denoiser; name one by --start"):
        trained("resolver", tissue, tmp_path / "r.safetensors")


def test_an_unrolled_restoration_of_two_pixels_for_one_starts_from_one_for_one(
    parts: dict[str, Path], tissue: Path, tmp_path: Path
) -> None:
    options = {"scale": 2, "steps": 1, "rate": 1e-9, "precision": "bf16", "start": parts["unrolled"]}
    path = trained("unrolled", tissue, tmp_path / "u.safetensors", **options)
    made, start = load_part("unrolled", 2, path), load_part("unrolled", 1, parts["unrolled"])
    assert made.info["sizes"]["scale"] == 2
    for name, weight in start.network.state_dict().items():
        assert torch.allclose(made.network.state_dict()[name], weight, atol=2e-3), name


@pytest.mark.parametrize("name", list(METHOD_OF))
def test_a_resumed_part_ends_in_the_same_bits(
    parts: dict[str, Path], tissue: Path, tmp_path: Path, name: str
) -> None:
    start = {"start": parts["denoiser"]} if name == "resolver" else {}
    output, plan = tmp_path / f"{name}.safetensors", attrs.evolve(BUILDERS[name].plan, sizes=SIZES[name])
    module = {"denoiser": denoiser, "unrolled": unrolled, "resolver": resolver}[name]
    recipe = "noise" if name == "denoiser" else "default"
    options = attrs.evolve(OPTIONS, recipe=recipe, **start)
    train_interrupted(name, getattr(module, f"{name.capitalize()}Stage"), tissue, output, options, plan)
    assert load_part(name, 1, output).info["sha256"] == load_part(name, 1, parts[name]).info["sha256"]


def test_features_of_a_vgg_are_read_without_running_code(tmp_path: Path) -> None:
    layers = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128)}
    state = {}
    for number, (out, into) in layers.items():
        state[f"features.{number}.weight"] = 0.01 * torch.randn(out, into, 3, 3)
        state[f"features.{number}.bias"] = torch.zeros(out)
    torch.save(state, tmp_path / "vgg19.pth")
    first, second = VGGFeatures(tmp_path / "vgg19.pth")(torch.rand(1, 1, 32, 32))
    assert (first.shape[1:], second.shape[1:]) == ((64, 32, 32), (128, 16, 16))


@pytest.mark.parametrize("content", [b"rubbish", b"", b"cos\nsystem\n(S'true'\ntR."])
def test_another_file_for_features_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vgg19.pth").write_bytes(content)
    with pytest.raises(ModelError, match="no state dict of torchvision's VGG19"):
        VGGFeatures(tmp_path / "vgg19.pth")
    with pytest.raises(ModelError, match="no state dict of torchvision's VGG19"):
        VGGFeatures(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("stage", "flag"), [("denoiser", "--preset"), ("denoiser", "--scale"), ("fidelity", "--features")]
)
def test_an_option_without_meaning_is_refused(tissue: Path, tmp_path: Path, stage: str, flag: str) -> None:
    value = {"--preset": "nano", "--scale": "2", "--features": "vgg19.pth"}[flag]
    arguments = [
        "train",
        stage,
        str(tissue),
        "-o",
        str(tmp_path / "m.safetensors"),
        flag,
        value,
        "--steps",
        "1",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
