"""Runs of the latent search: no cut shows, they are limited to a region, and say what they are."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import bigrestore
from bigrestore.model.methods.latent import SCOPE
from bigrestore.run.prepared import prepare
from bigrestore.settings import RunSettings
from tests.run.prior_toys import model_file


def restored(source: Path, output: Path, tmp_path: Path, **settings: Any) -> np.ndarray:
    asked = {"method": "latent", "model": model_file(tmp_path), "blur": 0.8, "noise": 2.0} | settings
    asked = {"mask": "none", "report": False, "progress": "none"} | asked
    asked["options"] = {"steps": 1, "start": "random", "noise": "hashed"} | asked.get("options", {})
    bigrestore.restore(source, output, **asked)
    pixels: np.ndarray = zarr.open_array(output, path="0", mode="r")[:]
    return pixels.reshape(pixels.shape[-2:]).astype(int)


@pytest.fixture(scope="module")
def source(tissue: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("section") / "section.tif"
    tifffile.imwrite(path, np.rint(tissue[:300, :330] * 65535).astype(np.uint16), photometric="minisblack")
    return path


@pytest.mark.usefixtures("warm_children")
def test_no_cut_is_seen(tmp_path: Path, source: Path) -> None:
    whole = restored(source, tmp_path / "whole.zarr", tmp_path, roi="0:300,0:330", tile_size=960)
    given = tifffile.imread(source).astype(int)
    assert np.abs(whole - given).mean() > 10, "something is done"
    cuts: tuple[dict[str, Any], ...] = (
        {"roi": "0:300,0:330", "tile_size": 192, "threads": 2},
        {"roi": "0:300,0:330", "tile_size": 384, "block_size": 960},
        {"roi": "96:230,200:310"},
        {"roi": "0:300,0:330", "tile_size": 192, "workers": 2},
    )
    for index, cut in enumerate(cuts):
        pixels = restored(source, tmp_path / f"{index}.zarr", tmp_path, **cut)
        wanted = whole[96:230, 200:310] if cut["roi"].startswith("96") else whole
        assert np.abs(pixels - wanted).max() <= 1, cut


def test_a_run_gives_the_map_and_says_what_it_is(
    tmp_path: Path, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    roi = "0:192,0:192"
    output = tmp_path / "out.ome.zarr"
    restored(source, output, tmp_path, roi=roi, report=True, score_tile_size=96)
    assert [path.name for path in (output / "maps").iterdir() if path.is_dir() and path.name != "OME"] == [
        "invented"
    ]
    assert float(zarr.open_array(output / "maps/invented/0", mode="r")[:].mean()) > 0
    assert f"--method latent is {SCOPE}." in caplog.messages
    provenance = json.dumps(dict(zarr.open_group(output, mode="r").attrs))
    assert SCOPE in provenance
    report = (tmp_path / "out.ome.zarr.bigrestore/report/report.html").read_text()
    assert re.search(r"invents:</strong> The method is a search in the prior", report)


@pytest.mark.parametrize(("output", "maps"), [("other.ome.zarr", "residual"), ("small.ome.tif", None)])
def test_the_map_is_left_out_for_others_and_in_a_tiff(
    tmp_path: Path, source: Path, output: str, maps: str | None
) -> None:
    settings = RunSettings(
        method="latent",
        model=str(model_file(tmp_path)),
        roi="0:192,0:192",
        maps=maps,  # type: ignore[arg-type]
    )
    assert prepare(source, tmp_path / output, settings).plan.maps == (() if maps is None else (maps,))


@pytest.mark.parametrize(
    ("roi", "asked"), [(None, "all, 0.099"), ("0:1999,0:2002", "4"), ("0:2100,0:2100", "4.41")]
)
def test_only_a_region_is_searched(
    tmp_path: Path, source: Path, call: Callable[..., int], capsys: Any, roi: str | None, asked: str
) -> None:
    if roi is not None:
        source = tmp_path / "large.tif"
        tifffile.imwrite(source, np.full((2200, 2200), 200, np.uint8), photometric="minisblack")
    how = ("--method", "latent", "--model", model_file(tmp_path), *(("--roi", roi) if roi else ()))
    assert call("run", source, tmp_path / "out.zarr", *how, "--no-report", "--mask", "none") == 2
    sentence = (
        "bigrestore: --method latent searches a region: give --roi y0:y1,x0:x1 of at most 4 Mpx "
        f"(asked: {asked}"
    )
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out.zarr").exists()
