"""The network through the engine: tiled equals whole, TIFF output, statistics of the section."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from engine_toys import go, level0, save_zarr

from bigrestore.model.method import StatesCost
from bigrestore.model.nets.checkpoint import Model
from bigrestore.model.nets.restorer import Restorer
from bigrestore.model.network import NetworkMethod
from bigrestore.run.execute import execute
from bigrestore.settings import RunSettings
from bigrestore.settings.presets import get_preset


def network(scale: int = 1) -> NetworkMethod:
    """A nano network whose last convolutions are drawn, so that it does something everywhere."""
    torch.manual_seed(0)
    restorer = Restorer(get_preset("nano"), scale).eval()
    restorer.basis.fit(torch.rand(50, 21, 21))
    with torch.no_grad():
        for parameter in restorer.unet.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.02)
    info = {"halo_px": 96, "sha256": "0" * 64, "preset": "nano"}
    return NetworkMethod(Model(restorer, "nano", info), precision="fp32", device="cpu")


@pytest.mark.parametrize("scale", [1, 2])
def test_tiled_network_is_the_whole_within_a_grey_level(
    tmp_path: Path, tissue: np.ndarray, scale: int
) -> None:
    source = save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:400, :520]))
    found = []
    for tile in (160 * scale, 3840):
        settings = RunSettings(
            scale=scale, tile_size=tile, block_size=3840, mask="none", progress="none", threads=2
        )
        summary = execute(source, tmp_path / f"{tile}.zarr", settings, method=network(scale))
        assert not summary.failed
        found.append(level0(tmp_path / f"{tile}.zarr").astype(int))
    difference = np.abs(found[0] - found[1])
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.9995
    assert np.abs(found[1][::scale, ::scale] - tissue[:400, :520]).max() > 3, "the network must do something"


def test_the_network_states_its_cost() -> None:
    method = network()
    assert isinstance(method, StatesCost)
    assert 100 < method.bytes_per_px < 2000


def test_residual_and_profile_are_recorded(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:300, :300]))
    settings = RunSettings(progress="none", threads=1)
    execute(source, tmp_path / "out.ome.zarr", settings, method=network())
    folder = tmp_path / "out.ome.zarr.bigrestore"
    record = json.loads((folder / "journal/z00000-y0000-x0000.json").read_text())
    assert 0 < record["stats"]["residual_rms"] < 0.2
    profile = json.loads((folder / "profiles/z00000.json").read_text())
    assert np.asarray(profile["kernel"]).shape == (21, 21)


def test_tiff_output_is_streamed_and_the_store_is_gone(tmp_path: Path, tissue: np.ndarray) -> None:
    source = save_zarr(tmp_path / "in.zarr", tissue)
    out = tmp_path / "out.ome.tif"
    summary = go(source, out, "catmull-rom", scale=2)
    assert not summary.failed
    go(source, tmp_path / "out.zarr", "catmull-rom", scale=2)
    np.testing.assert_array_equal(tifffile.imread(out), level0(tmp_path / "out.zarr"))
    assert not (tmp_path / "out.ome.tif.bigrestore/store.ome.zarr").exists()
    again = go(source, out, "catmull-rom", scale=2, resume=True)
    assert again.blocks_restored == 0
    assert go(source, out, "catmull-rom", scale=2, overwrite=True).blocks_restored == 15
