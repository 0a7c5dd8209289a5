"""A GPU restores as a CPU does: every method and precision, tiles, resuming, little memory. `make gpu-check` runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import tifffile
import torch
import zarr
from skimage import data

import bigrestore
from bigrestore.errors import BlocksFailedError
from bigrestore.model.method import PSI_SIZE, SectionStatistics
from bigrestore.model.nets.parts.part import make_network, save_part
from bigrestore.model.nets.prior.noise import hashed_normal
from bigrestore.model.network import NetworkMethod, load_network
from bigrestore.run.state.journal import Journal
from bigrestore.settings.presets import BACKBONES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DEVICE = "cuda"
TOLD = {"blur": (0.8, 0.8, 0.0), "noise": 2.0}
METHODS: dict[str, tuple[int, dict[str, Any], str]] = {
    "drunet": (1, {"noise": 3.0}, ""),
    "dpir": (1, {**TOLD, "options": {"rounds": 1}}, ""),
    "gddec": (1, {**TOLD, "options": {"steps": "1"}}, ""),
    "nonblind": (1, TOLD, ""),
    "srrunet": (1, {}, "resolver"),
    "usrnet": (1, TOLD, "unrolled"),
    "usrnet x2": (2, TOLD, "unrolled"),
    "backbone": (1, TOLD, "uformer"),
    "backbone, rft": (1, TOLD, "rft"),
    "backbone, hat": (2, TOLD, "hat"),
}
"""Methods beside the network on a GPU: scale, settings, and the part that none is shipped of, or an architecture."""

SIZES = {
    "resolver": {"channels": [8, 8], "blocks": 1},
    "unrolled": {"channels": [8, 8], "blocks": 1, "rounds": 2},
    **{arch: {"arch": arch, **BACKBONES[arch].sizes} for arch in ("uformer", "rft", "hat")},
}


def part(folder: Path, kind: str, scale: int) -> Path:
    """Return the file of a part of random weights."""
    torch.manual_seed(3)
    sizes = SIZES[kind] | ({} if kind == "resolver" else {"scale": scale})
    stored, tiling = kind, {"halo_px": 160, "alignment_px": 8}
    if kind in BACKBONES:
        stored, tiling = "backbone", {"window_px": 128, "halo_px": 96, "alignment_px": 96}
    network = make_network(stored, sizes)
    for name, weight in network.named_parameters():
        if name.endswith("tail.weight"):
            torch.nn.init.normal_(weight, std=0.05)
    path = folder / f"{kind}-x{scale}.safetensors"
    save_part(path, network, stored, scale, {"sizes": sizes, **tiling})
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return real tissue of 8 bits, 300 x 490: two blocks."""
    path = tmp_path_factory.mktemp("section") / "section.tif"
    grey = np.rint(np.asarray(data.immunohistochemistry()).mean(axis=2)).astype(np.uint8)
    tifffile.imwrite(path, grey[:300, :490], photometric="minisblack")
    return path


def restored(source: Path, output: Path, **settings: Any) -> np.ndarray:
    given = {"mask": "none", "report": False, "progress": "none"} | settings
    bigrestore.restore(source, output, **given)
    pixels: np.ndarray = zarr.open_array(output, path="0", mode="r")[:]
    return pixels.reshape(pixels.shape[-2:]).astype(int)


def levels_apart(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one - other).max())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize(("scale", "realness"), [(1, 0.0), (1, 0.5), (2, 0.0), (2, 0.5), (4, 0.0)])
def test_the_network_restores_as_on_a_cpu(
    tmp_path: Path, source: Path, precision: str, scale: int, realness: float
) -> None:
    settings = {"scale": scale, "realness": realness, "tile_size": 480}
    wanted = restored(source, tmp_path / "cpu.zarr", device="cpu", precision="fp32", **settings)
    made = restored(source, tmp_path / "gpu.zarr", device=DEVICE, precision=precision, **settings)
    assert levels_apart(made, wanted) <= 1


@pytest.mark.parametrize("name", METHODS)
def test_a_method_restores_as_on_a_cpu(tmp_path: Path, source: Path, name: str) -> None:
    scale, given, kind = METHODS[name]
    settings = {"method": re.split("[ ,]", name)[0], "scale": scale, **given}
    if kind:
        settings["model"] = part(tmp_path, kind, scale)
    wanted = restored(source, tmp_path / "cpu.zarr", device="cpu", **settings)
    assert levels_apart(restored(source, tmp_path / "gpu.zarr", device=DEVICE, **settings), wanted) <= 1


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("realness", [0.0, 0.5])
def test_tiles_equal_the_whole(tmp_path: Path, source: Path, precision: str, realness: float) -> None:
    settings = {"scale": 1, "device": DEVICE, "precision": precision, "realness": realness}
    whole = restored(source, tmp_path / "whole.zarr", tile_size=960, **settings)
    tiled = restored(source, tmp_path / "tiled.zarr", tile_size=160, batch_size=2, **settings)
    assert levels_apart(tiled, whole) <= 1


def test_a_run_is_the_same_every_time_and_with_two_workers(tmp_path: Path, source: Path) -> None:
    settings = {"scale": 1, "device": DEVICE, "deterministic": True, "tile_size": 160, "block_size": 480}
    first = restored(source, tmp_path / "first.zarr", **settings)
    np.testing.assert_array_equal(restored(source, tmp_path / "again.zarr", **settings), first)
    np.testing.assert_array_equal(restored(source, tmp_path / "two.zarr", workers=2, **settings), first)


def test_a_resumed_run_has_the_bytes_of_one_run(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "scale": 1,
        "device": DEVICE,
        "deterministic": True,
        "tile_size": 160,
        "block_size": 480,
        "threads": 1,
    }
    wanted = restored(source, tmp_path / "wanted.zarr", **settings)
    calls: list[int] = []
    restore = NetworkMethod.restore

    def failing(self: NetworkMethod, *given: Any) -> Any:
        calls.append(1)
        if len(calls) > 6:  # the first block has six
            raise ValueError("a tile that fails")
        return restore(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(NetworkMethod, "restore", failing)
        with pytest.raises(BlocksFailedError):
            restored(source, tmp_path / "out.zarr", **settings)
    made = restored(source, tmp_path / "out.zarr", resume=True, **settings)
    np.testing.assert_array_equal(made, wanted)


def test_a_gpu_out_of_memory_takes_smaller_tiles(tmp_path: Path, source: Path) -> None:
    settings = {"scale": 1, "device": DEVICE, "precision": "fp32", "tile_size": 480, "threads": 1}
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    wanted = restored(source, tmp_path / "wanted.zarr", **settings)
    needed, total = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.6 * needed / total)
    try:
        made = restored(source, tmp_path / "out.zarr", **settings)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any(record.stats.get("cut_tiles") for record in Journal(tmp_path / "out.zarr").records())
    assert levels_apart(made, wanted) <= 1


@pytest.mark.parametrize("realness", [0.0, 0.5])
@pytest.mark.parametrize("whole", [True, False])
def test_a_tile_waits_for_nothing(realness: float, whole: bool) -> None:
    options = {"precision": "auto", "seed": 0, "lock": True, "kernel": None}
    method = load_network("tiny-x1", scale=1, realness=realness, device=DEVICE, **options)  # type: ignore[arg-type]
    size = method._net.basis.mean.numel() ** 0.5
    kernel = np.full((round(size), round(size)), round(size) ** -2, np.float32)
    statistics = SectionStatistics(kernel, np.ones(PSI_SIZE, np.float32), 1e-4, 0.01)
    conditions = attrs.evolve(method._conditions(statistics), realness=realness)
    x, origins = torch.rand(1, 1, 128, 128, device=DEVICE), torch.zeros(1, 2, dtype=torch.int64)
    with torch.inference_mode():
        for mode in ("default", "error"):  # the first tile fills the tables
            torch.cuda.set_sync_debug_mode(mode)
            try:
                method._net.restore(x, torch.ones_like(x), conditions, origins, both=True, whole=whole)
            finally:
                torch.cuda.set_sync_debug_mode("default")


def test_a_gpu_that_is_lost_is_known_by_its_error() -> None:
    script = (
        "import torch\n"
        "from bigrestore.errors import GpuLostError, gpu_failures\n"
        "try:\n"
        "    with gpu_failures():\n"
        "        torch.zeros(1, device='cuda')[torch.tensor([5], device='cuda')].sum()\n"
        "        torch.cuda.synchronize()\n"
        "except GpuLostError as error:\n"
        "    import os\n"
        "    os._exit(error.exit_code)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 75


def test_the_noise_of_the_prior_has_the_same_bytes() -> None:
    here = hashed_normal(1, 2, 3, 4, 5, 300, 301)
    assert torch.equal(here, hashed_normal(1, 2, 3, 4, 5, 300, 301, device=DEVICE).cpu())
