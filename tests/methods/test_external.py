"""Networks of other projects: their files are read and not run, they restore as they are, and no cut is seen."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr

import bigrestore
from bigrestore.core.kernels import sharpest
from bigrestore.core.pixels import LUMA
from bigrestore.core.torchvision import import_torchvision
from bigrestore.errors import BigrestoreError, InputMissingError, ModelError, ModelScaleError, UsageError
from bigrestore.model.method import PSI_SIZE, Method, SectionStatistics, TileBatch
from bigrestore.model.methods.external import lattice_for
from bigrestore.model.nets.checkpoint import find_model
from bigrestore.model.nets.foreign import architectures
from bigrestore.model.nets.foreign.load import load_foreign
from bigrestore.model.nets.parts.drunet import noise_map
from bigrestore.model.registry import create_method
from bigrestore.settings import RunSettings
from tests.methods import foreign_networks as foreign
from tests.methods.foreign_networks import NETWORKS, WRAPPINGS, Weights, save_safetensors, save_wrapped

with contextlib.suppress(ModuleNotFoundError):  # spandrel imports it
    import_torchvision()
spandrel = pytest.importorskip("spandrel", exc_type=ImportError)

CPU = torch.device("cpu")
ORIGIN = np.zeros((1, 2), np.int64)
SIZE = (150, 170)
TILES_PX = (96, 144, 960)
ROI = (slice(60, 130), slice(50, 150))


@cache
def weights_of(architecture: str) -> Weights:
    return NETWORKS[architecture][1]()


@pytest.fixture(autouse=True)
def _small_windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let windows be small; a Uformer needs 128."""
    named = getattr(request.node, "callspec", None)
    side = 128 if named is not None and "Uformer" in named.params.values() else 64
    monkeypatch.setattr(architectures, "SIDE_PX", side)


def saved(folder: Path, weights: Any, name: str = "net.pth") -> Path:
    path = folder / name
    if path.suffix == ".safetensors":
        save_safetensors(path, weights)
    else:
        torch.save(weights, path)
    return path


def external(path: Path, scale: int, **settings: Any) -> Method:
    return create_method(RunSettings(method="external", model=str(path), scale=scale, **settings))


def of_one_window(method: Method, tile: np.ndarray, noise: float = 6.0) -> np.ndarray:
    kernel, psi = sharpest(int(method.scale)), np.zeros(PSI_SIZE, np.float32)
    statistics = SectionStatistics(kernel, psi, 0.0, noise / 255)
    return method.restore(TileBatch(tile[None], None, ORIGIN, 0), statistics).pixels[0]


@cache
def called_directly(architecture: str, side: int, step: int, noise: float) -> np.ndarray:
    """Return what spandrel's own call makes of the first window of a tile of tissue."""
    descriptor = spandrel.MAIN_REGISTRY.load(dict(weights_of(architecture)))
    x = torch.from_numpy(np.pad(section_pixels()[:step, :step], (0, side - step), mode="edge"))[None, None]
    with torch.inference_mode():
        if architecture == "DRUNet":
            made = descriptor.model.eval()(torch.cat([x, noise_map(x, 0.0, noise / 255)], dim=1))
        else:
            made = descriptor(x.repeat(1, descriptor.input_channels, 1, 1))
    colours = made[0].clamp(0, 1) if made.shape[1] == 1 else made[0]
    weights = torch.ones(1) if len(colours) == 1 else torch.from_numpy(LUMA)
    size = step * descriptor.scale
    grey: np.ndarray = (colours * weights[:, None, None]).sum(dim=0).clamp(0, 1).numpy()
    return grey[:size, :size]


@cache
def section_pixels() -> np.ndarray:
    from skimage import data

    grey: np.ndarray = np.asarray(data.immunohistochemistry()).mean(axis=2) / 255
    return grey[:330, :330].astype(np.float32)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_network_restores_as_when_called_directly(tmp_path: Path, architecture: str, wrapping: str) -> None:
    path = save_wrapped(tmp_path, wrapping, weights_of(architecture))
    method = external(path, NETWORKS[architecture][0], lock=False)
    side, step = architectures.SIDE_PX, method.alignment_px
    assert method.describe()["architecture"] == architecture
    made = of_one_window(method, section_pixels()[:step, :step])
    assert made.tobytes() == called_directly(architecture, side, step, 6.0).tobytes()


def test_the_denoiser_is_told_the_noise_of_the_section(tmp_path: Path) -> None:
    path = save_wrapped(tmp_path, "plain", weights_of("DRUNet"))
    tile = section_pixels()[:48, :48]
    weak, strong = (of_one_window(external(path, 1, lock=False), tile, noise) for noise in (1.0, 20.0))
    assert np.abs(weak - strong).mean() > 1e-3
    in_colour = saved(tmp_path, foreign.drunet(3), "colour.pth")
    assert of_one_window(external(in_colour, 1), tile).shape == (48, 48)


def test_layouts_of_the_same_network_are_alike(tmp_path: Path) -> None:
    layouts = {}
    for name, weights in {
        "x2": foreign.rrdb(shuffled=2),
        "x4": foreign.rrdb(shuffled=1),
        "half": {name: tensor.half() for name, tensor in foreign.rrdb(shuffled=1).items()},
    }.items():
        network = load_foreign(saved(tmp_path, weights, f"{name}.pth"), 2 if name == "x2" else 4, CPU, "auto")
        layouts[name] = network.run(torch.full((1, 3, 64, 64), 0.5), torch.zeros(1, 1, 64, 64))
    assert layouts["x2"].shape[-1] == 128
    assert layouts["x4"].shape[-1] == 256
    torch.testing.assert_close(layouts["half"], layouts["x4"], rtol=0, atol=5e-3)


# ------------------------------------------------------------------------------------- nothing is run


class Command:
    """Runs a command where it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.made}",)


def zipped(path: Path, value: Any) -> None:
    torch.save(value, path)


def bare(path: Path, value: Any) -> None:
    path.write_bytes(pickle.dumps(value))


def legacy(path: Path, value: Any) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("ending", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("write", [zipped, bare, legacy])
@pytest.mark.parametrize("place", ["alone", "beside weights"])
def test_a_pickle_that_would_run_a_command_is_refused(
    tmp_path: Path, ending: str, write: Callable[[Path, Any], None], place: str
) -> None:
    mark, path = tmp_path / "run", tmp_path / f"net{ending}"
    command = Command(mark)
    write(path, command if place == "alone" else {"params": foreign.rrdb(), "other": command})
    with pytest.raises(ModelError, match=r"pickle that holds more than weights, which could run code; save"):
        external(path, 2)
    assert not mark.exists()


def test_a_program_is_refused(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.script(torch.nn.Conv2d(1, 1, 3)).save(tmp_path / "net.pt")
    for name in ("net.pt", "net.pth"):
        (tmp_path / "net.pt").rename(tmp_path / name)
        with pytest.raises(ModelError, match="is TorchScript, which could run code; save its state_dict"):
            external(tmp_path / name, 1)
        (tmp_path / name).rename(tmp_path / "net.pt")


def test_a_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Conv2d(3, 3, 3), tmp_path / "net.pth")
    with pytest.raises(ModelError, match="pickle that holds more than weights"):
        external(tmp_path / "net.pth", 1)


# ---------------------------------------------------------------------------------- another network


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth"])
def test_a_network_that_is_used_in_part_is_refused(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, foreign.srooe(), name)
    sentence = (
        r"holds 47 tensors of which the architecture ESRGAN takes 42; it is another network \(SROOE's has sft layers\), "
        r"export it to ONNX\."
    )
    with pytest.raises(ModelError, match=sentence):
        external(path, 4)


def with_scale(upsamplings: int) -> Weights:
    return foreign.rrdb(shuffled=1, upsamplings=upsamplings)


def swapped(name: str, shape: tuple[int, ...]) -> Weights:
    return foreign.rrdb() | {name: torch.zeros(shape)}


def without(name: str) -> Weights:
    return {key: tensor for key, tensor in foreign.rrdb().items() if key != name}


def marked(name: str) -> Weights:
    return {**foreign.rrdb(), architectures.EXTRA_ARCHITECTURES[name]: torch.zeros(1)}


REFUSALS: dict[str, tuple[Callable[[], Any], type[BigrestoreError], str]] = {
    "another scale": (foreign.rrdb, ModelScaleError, "restores at x2, and --scale is 4; give --scale 2"),
    "x3": (lambda: foreign.swinir(3), UsageError, "restores at x3; bigrestore enlarges by 1, 2 or 4"),
    "x8": (lambda: with_scale(3), UsageError, "restores at x8; bigrestore enlarges by 1, 2 or 4"),
    "faces": (
        lambda: {"toRGB.0.weight": torch.zeros(1), "stylegan_decoder.style_mlp.1.weight": torch.zeros(1)},
        UsageError,
        r"is made for faces \(GFPGAN\)",
    ),
    "faces of an extra": (lambda: marked("CodeFormer"), UsageError, r"is made for faces \(CodeFormer\)"),
    "holes": (
        lambda: {"model.model.1.bn_l.running_mean": torch.zeros(1)},
        UsageError,
        r"is made for filling holes \(LaMa\)",
    ),
    "unknown": (
        lambda: {"body.weight": torch.zeros(3)},
        ModelError,
        "is of no architecture that spandrel knows; export the network to ONNX",
    ),
    "lacks a weight": (
        lambda: without("body.0.rdb2.conv3.bias"),
        ModelError,
        "does not hold the weights of a network ESRGAN",
    ),
    "another shape": (
        lambda: swapped("conv_hr.weight", (9, 8, 3, 3)),
        ModelError,
        "does not hold the weights of a network ESRGAN",
    ),
    "no mapping": (lambda: torch.zeros(3), ModelError, "holds no weights by name; save the network's"),
    "no tensors": (lambda: {"params": {"a": 1}}, ModelError, "holds no weights by name"),
    "sparse": (
        lambda: {"a": torch.zeros(2, 2).to_sparse()},
        ModelError,
        "holds no weights by name",
    ),
    "empty": (lambda: {}, ModelError, "holds no weights by name"),
    "not finite": (
        lambda: {**foreign.rrdb(), "conv_hr.bias": torch.full((8,), float("nan"))},
        ModelError,
        "holds weights that are no numbers",
    ),
    "a claim of terabytes": (
        lambda: {"conv_first.weight": torch.zeros(1).expand(1_000_000, 1_000_000)},
        ModelError,
        "claims more than 4 GiB of weights",
    ),
    "a claim of layers": (
        lambda: {**foreign.rrdb(), "body.1000000000.rdb1.conv1.weight": torch.zeros(1)},
        ModelError,
        "names a layer 1000000000 in 43 tensors; it is damaged",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_used_is_refused_in_a_sentence(tmp_path: Path, case: str) -> None:
    make, kind, sentence = REFUSALS[case]
    path = saved(tmp_path, make())
    with pytest.raises(kind, match=sentence) as error:
        external(path, 4)
    assert str(path) in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("name", ["SRFormer", "Restormer", "MPRNet", "MIRNet2", "M3SNet"])
def test_an_architecture_with_a_restricted_licence_is_named(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, marked(name))
    if "spandrel_extra_arches" in sys.modules:
        pytest.skip("it is installed")
    sentence = rf"needs spandrel_extra_arches \({name}\), whose parts are not for commercial use, or copyleft; install"
    with pytest.raises(UsageError, match=sentence):
        external(path, 2)


def test_restricted_architectures_are_used_where_they_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its package is stood in for: it adds an architecture of one convolution."""
    descriptor_of = spandrel.ImageModelDescriptor

    class Restormer(spandrel.Architecture):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(
                id="Restormer", detect=lambda weights: "encoder_level1.0.attn.temperature" in weights
            )

        def load(self, weights: Weights) -> Any:
            network = torch.nn.Conv2d(3, 3, 3, padding=1)
            network.register_parameter("a", torch.nn.Parameter(torch.zeros(1)))
            renamed = {
                name.replace("encoder_level1.0.attn.temperature", "a"): w for name, w in weights.items()
            }
            facts = {"scale": 1, "input_channels": 3, "output_channels": 3, "tags": []}
            able = {"supports_half": False, "supports_bfloat16": True}
            return descriptor_of(network, renamed, self, "Restoration", **facts, **able)

    registry = spandrel.MAIN_REGISTRY.copy()
    monkeypatch.setattr(spandrel, "MAIN_REGISTRY", registry)
    monkeypatch.setattr(spandrel.ModelLoader.__init__, "__defaults__", (None, registry))
    support = spandrel.ArchSupport.from_architecture(Restormer())
    extra = types.ModuleType("spandrel_extra_arches")
    extra.install = lambda ignore_duplicates: registry.add(support, ignore_duplicates=ignore_duplicates)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", extra)
    weights = {**torch.nn.Conv2d(3, 3, 3).state_dict(), "encoder_level1.0.attn.temperature": torch.ones(1)}
    facts = external(saved(tmp_path, weights), 1).describe()
    assert facts["architecture"] == "Restormer"
    assert "not for commercial use" in facts["licence"]


@pytest.mark.parametrize("package", ["spandrel", "torchvision"])
def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"{package} is not installed; pip install '\S+\[external\]'"):
        external(saved(tmp_path, foreign.rrdb()), 2)


def test_files_that_are_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="There is no model file"):
        external(tmp_path / "absent.pth", 1)
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(InputMissingError, match="There is no model file"):
        external(tmp_path / "folder.pth", 1)
    with pytest.raises(
        UsageError, match=r"but --method external reads .safetensors, .pth, .pt, .ckpt and .onnx"
    ):
        external(tmp_path / "net.bin", 1)
    with pytest.raises(UsageError, match=r"name its file by --model \(.safetensors, .pth"):
        create_method(RunSettings(method="external"))
    with pytest.raises(UsageError, match="is a model of bigrestore; give another --method than external"):
        external(find_model("tiny-x1", 1), 1)


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "net.ckpt"])
@pytest.mark.parametrize("content", [b"", b"weights", bytes(range(256)) * 9, b"PK\x03\x04" + bytes(40)])
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=r"(is damaged|is a damaged archive|could run code).*\.$"):
        external(tmp_path / name, 1)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("name", ["net.safetensors", "net.pth"])
def test_a_file_cut_off_is_refused(tmp_path: Path, name: str, keep: float) -> None:
    path = saved(tmp_path, foreign.rrdb(), name)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ModelError, match=r"damaged"):
        external(path, 2)


def test_a_precision_that_a_network_has_not_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, weights_of("HAT"))
    with pytest.raises(
        UsageError, match=r"--precision is fp16, and the network HAT in .* computes in fp32 or bf16"
    ):
        load_foreign(path, 2, torch.device("cuda"), "fp16")
    with pytest.raises(UsageError, match="fp16 is for GPUs"):
        external(path, 2, precision="fp16")


def test_half_precision_is_near(tmp_path: Path) -> None:
    path = saved(tmp_path, foreign.rrdb())
    tile = section_pixels()[:48, :48]
    full, half = (of_one_window(external(path, 2, precision=name), tile) for name in ("fp32", "bf16"))
    assert 0 < np.abs(full - half).max() < 0.02


# ---------------------------------------------------------------------------------- in sections


def test_windows_have_whole_steps_in_a_block() -> None:
    for side in range(32, 961, 8):
        for scale in (1, 2, 4):
            lattice = lattice_for(side, scale)
            assert side / 2 <= lattice.step_px <= side * 3 / 4
            assert 3840 // scale % lattice.step_px == 0
    assert lattice_for(256, 4).step_px == 192


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("section") / "section.tif"
    pixels = np.rint(section_pixels()[: SIZE[0], : SIZE[1]] * 65535).astype(np.uint16)
    tifffile.imwrite(path, pixels, photometric="minisblack")
    return path


def restored(source: Path, output: Path, **settings: Any) -> np.ndarray:
    quiet = {"mask": "none", "report": False, "progress": "none"}
    bigrestore.restore(source, output, method="external", **{**quiet, **settings})
    pixels: np.ndarray = zarr.open_array(output, path="0", mode="r")[:]
    return pixels.reshape(pixels.shape[-2:]).astype(int)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("architecture", ["DRUNet", "HAT"])
def test_no_cut_is_seen(tmp_path: Path, source: Path, architecture: str) -> None:
    scale = NETWORKS[architecture][0]
    path = save_wrapped(tmp_path, "plain", weights_of(architecture))
    settings = {"model": path, "scale": scale, "blur": (0.8, 0.8, 0.0), "noise": 2.0}
    cuts = [{"tile_size": size * scale, "threads": 2} for size in TILES_PX[:2]]
    region = ",".join(f"{part.start}:{part.stop}" for part in ROI)
    whole = restored(source, tmp_path / "whole.zarr", tile_size=TILES_PX[2], **settings)
    assert whole.shape == (SIZE[0] * scale, SIZE[1] * scale)
    given = np.kron(tifffile.imread(source).astype(int), np.ones((scale, scale), int))
    assert np.abs(whole - given).mean() > 10, "something is done"
    for index, cut in enumerate([*cuts, {"roi": region}]):
        pixels = restored(source, tmp_path / f"{index}.zarr", **cut, **settings)
        np.testing.assert_array_equal(pixels, whole[ROI] if "roi" in cut else whole)


@pytest.mark.parametrize("architecture", ["ESRGAN", "SwinIR"])
def test_constant_grey_stays_grey(
    tmp_path: Path, architecture: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = save_wrapped(tmp_path, "plain", weights_of(architecture))
    method = external(path, 2, blur=(0.8, 0.8, 0.0), noise=1.0)
    grey = np.full((96, 96), 0.6, np.float32)
    statistics = method.analyse(np.full((2, 128, 128), 0.6, np.float32))
    made = method.restore(TileBatch(grey[None], None, ORIGIN, 0), statistics).pixels[0]
    assert np.abs(made.reshape(12, 16, 12, 16).mean((1, 3)) - 0.6).max() < 2 / 255
    assert statistics.details["channels_apart"] > 4, "random weights tint"
    assert "The network plain tints grey: its channels differ by up to" in caplog.text


def test_a_network_of_grey_cannot_tint(tmp_path: Path) -> None:
    method = external(save_wrapped(tmp_path, "plain", weights_of("DRUNet")), 1)
    assert "channels_apart" not in method.analyse(section_pixels()[None, :128, :128]).details


def test_the_output_says_what_it_was_made_by(tmp_path: Path, source: Path) -> None:
    import hashlib

    path = save_wrapped(tmp_path, "params_ema", weights_of("ESRGAN"))
    restored(source, tmp_path / "out.zarr", model=path, scale=2, roi="0:64,0:64")
    facts = zarr.open_group(tmp_path / "out.zarr", mode="r").attrs["bigrestore"]["method"]
    assert facts["name"] == "external"
    assert facts["model"] == "params_ema"
    assert facts["architecture"] == "ESRGAN"
    assert facts["licence"] == "Apache-2.0; Real-ESRGAN: BSD-3-Clause"
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["precision"] == "fp32"


def test_the_command_line_ends_with_the_code_of_the_kind(
    tmp_path: Path, source: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_wrapped(tmp_path, "plain", weights_of("ESRGAN"))
    run = ("run", source, tmp_path / "out.zarr", "--method", "external", "--no-report", "--progress", "none")
    assert call(*run, "--model", path, "--scale", "1") == 2
    assert call(*run) == 2
    assert call(*run, "--model", tmp_path / "absent.pth") == 3
    assert call(*run, "--model", saved(tmp_path, foreign.srooe()), "--scale", "4") == 3
    capsys.readouterr()
    assert call("models", "methods") == 0
    assert "external" in capsys.readouterr().out
    assert not (tmp_path / "out.zarr").exists()
