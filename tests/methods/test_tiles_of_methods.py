"""Every method restores a section alike, however it is cut into tiles, and keeps the grey of its regions."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

import bigrestore
from bigrestore.model.methods.table import METHODS

TOLD = {"blur": (0.8, 0.8, 0.0), "noise": 2.0}
CASES: dict[str, tuple[int, dict[str, Any], str | None]] = {
    "wiener": (1, TOLD, None),
    "wiener x2": (2, TOLD, None),
    "median": (1, {}, None),
    "gddec": (1, {**TOLD, "options": {"steps": "1"}}, None),
    "gddec x2": (2, {**TOLD, "options": {"steps": "1"}}, None),
    "drunet": (1, {"noise": 3.0}, "denoiser"),
    "dpir": (1, {**TOLD, "options": {"rounds": 1}}, "denoiser"),
    "srrunet": (1, {}, "resolver"),
    "nonblind": (1, TOLD, "denoiser"),
    "usrnet": (1, TOLD, "unrolled"),
    "usrnet x2": (2, TOLD, "unrolled"),
    "backbone": (1, TOLD, "uformer"),
    "backbone x2": (2, TOLD, "hat"),
    "backbone, rft": (1, TOLD, "rft"),
    "backbone, rft x2": (2, TOLD, "rft"),
    "backbone, unet": (1, {"blur": 2.5, "noise": 8.0}, "unet"),
    "wiener, no noise, sharpest": (1, {"blur": 2.5, "noise": 0.0, "options": {"boldness": 0.1}}, None),
    "wiener, wide": (1, {"blur": 4.0, "noise": 0.0, "options": {"boldness": 0.1}}, None),
    "wiener, wide x2": (2, {"blur": 3.0, "noise": 8.0}, None),
    "dpir, wide": (1, {"blur": 4.0, "noise": 1.0, "options": {"rounds": 1}}, "denoiser"),
    "drunet, no noise": (1, {"noise": 0.0}, None),
    "drunet, much noise": (1, {"noise": 8.0}, None),
    "drunet, most noise": (1, {"noise": 64.0}, None),
    "usrnet, no noise": (1, {"blur": 2.5, "noise": 0.0}, "unrolled"),
    "usrnet, much noise": (1, {"blur": 2.5, "noise": 8.0}, "unrolled"),
    "srrunet, factor 4": (1, {"options": {"factor": 4.0}}, "resolver"),
}
"""A case without a kind of part takes the shipped one, where its method needs any."""

REGION: dict[str, Any] = {"roi": "96:230,200:310"}
CUTS: dict[int, tuple[dict[str, Any], ...]] = {
    1: ({"tile_size": 256, "threads": 2}, REGION),
    2: ({"tile_size": 512, "threads": 2}, {"tile_size": 384}, REGION),
}
"""By scale; each but the region makes four tiles of the section."""


def of_case(name: str, part: Callable[[str, int], Path]) -> dict[str, Any]:
    scale, settings, kind = CASES[name]
    model = {} if kind is None else {"model": part(kind, 1 if kind == "denoiser" else scale)}
    if name == "nonblind":
        model = {"options": {"denoiser": str(model["model"])}}
    return {"method": re.split("[ ,]", name)[0], "scale": scale, **settings, **model}


def restored(source: Path, output: Path, **settings: Any) -> np.ndarray:
    bigrestore.restore(source, output, mask="none", report=False, progress="none", **settings)
    pixels: np.ndarray = zarr.open_array(output, path="0", mode="r")[:]
    return pixels.reshape(pixels.shape[-2:]).astype(int)


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the descents of the chain end after two steps."""
    monkeypatch.setattr("bigrestore.model.methods.nonblind.AUTO_STEPS", 2)
    monkeypatch.setattr("bigrestore.model.methods.nonblind.AUTO_WINDOWS", 2)


@pytest.fixture(scope="module")
def source(tissue: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("section") / "section.tif"
    tifffile.imwrite(path, np.rint(tissue[:300, :330] * 65535).astype(np.uint16), photometric="minisblack")
    return path


def test_every_method_is_tried() -> None:
    tried = {re.split("[ ,]", name)[0] for name in CASES}
    elsewhere = {"network", "rational", "catmull-rom", "external", "latent"}
    assert tried == set(METHODS) - elsewhere, "those are tried elsewhere"


@pytest.fixture(scope="module")
def in_one_tile(
    source: Path, part: Callable[[str, int], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], np.ndarray]:
    """Return a function that gives the section of a case, restored in one tile."""

    @functools.cache
    def made(name: str) -> np.ndarray:
        output = tmp_path_factory.mktemp("whole") / "whole.zarr"
        return restored(source, output, tile_size=960, **of_case(name, part))

    return made


@pytest.mark.parametrize("name", CASES)
def test_no_cut_is_seen(
    tmp_path: Path,
    source: Path,
    part: Callable[[str, int], Path],
    in_one_tile: Callable[[str], np.ndarray],
    name: str,
) -> None:
    settings = of_case(name, part)
    scale = settings["scale"]
    whole = in_one_tile(name)
    given = tifffile.imread(source).astype(int)
    assert whole.shape == (300 * scale, 330 * scale)
    assert np.abs(whole - np.kron(given, np.ones((scale, scale), int))).mean() > 10, "something is done"
    for index, cut in enumerate(CUTS[scale]):
        pixels = restored(source, tmp_path / f"{index}.zarr", **cut, **settings)
        wanted = whole[96:230, 200:310] if "roi" in cut else whole
        assert np.abs(pixels - wanted).max() <= 1, "a step of 16 bits"


@pytest.mark.usefixtures("warm_children")
@pytest.mark.parametrize(("arch", "scale"), [("rft", 1), ("hat", 2)])
def test_two_workers_give_the_bytes_of_one(
    tmp_path: Path, source: Path, part: Callable[[str, int], Path], arch: str, scale: int
) -> None:
    settings = {"method": "backbone", "scale": scale, **TOLD, "model": part(arch, scale)}
    settings["tile_size"] = 256 * scale
    one = restored(source, tmp_path / "one.zarr", **settings)
    two = restored(source, tmp_path / "two.zarr", workers=2, **settings)
    assert np.array_equal(one, two)


@pytest.mark.parametrize("name", [name for name in CASES if "," not in name])
def test_regional_grey_stays(source: Path, in_one_tile: Callable[[str], np.ndarray], name: str) -> None:
    scale = CASES[name][0]
    made = in_one_tile(name)[: 288 * scale, : 320 * scale]
    given = tifffile.imread(source)[:288, :320].astype(float)
    side = 32
    means = [
        image.reshape(image.shape[0] // size, size, -1, size).mean((1, 3))
        for image, size in ((given, side), (made, side * scale))
    ]
    assert np.abs(means[0] - means[1]).max() < 65535 * 2 / 255
