"""The example package is installed by pip, found by its entry point, and run with an option and by two workers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from scipy.ndimage import gaussian_filter

from tests.warm_python import WarmPython

ROOT = Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, warm_python: WarmPython) -> Command:
    """Install the example beside this package; return what runs `bigrestore` with both."""
    folder = tmp_path_factory.mktemp("package")
    source, site = folder / "source", folder / "site"
    shutil.copytree(ROOT / "examples" / "method_package", source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    how = ["--no-deps", "--no-build-isolation", "--target", str(site), str(source)]
    subprocess.run([*pip, *how], check=True, capture_output=True, text=True)
    paths = os.pathsep.join([str(ROOT), str(site)])

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "200"}
        arguments = [warm_python.executable, "-m", "bigrestore", *map(str, words)]
        return subprocess.run(arguments, capture_output=True, text=True, cwd=folder, env=environment)

    return run


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "in.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(100, 150, (480, 700)).astype(np.uint8))
    return path


def expected(source: Path, amount: float, sigma: float) -> np.ndarray:
    """What unsharp masking makes of the whole image."""
    pixels = tifffile.imread(source).astype(np.float64) / 255
    sharp = pixels + amount * (pixels - gaussian_filter(pixels, sigma, mode="nearest"))
    return np.rint(np.clip(sharp, 0, 1) * 255)


@pytest.mark.slow
def test_a_method_of_another_package_runs_by_name_with_its_option(
    command: Command, source: Path, tmp_path: Path
) -> None:
    listed = command("models", "methods")
    assert "unsharp" in listed.stdout
    assert "bigrestore-unsharp 0.1.0" in listed.stdout
    how = ["--method", "unsharp", "--mask", "none", "--block-size", "480", "--tile-size", "160"]
    how += ["--voxel-size", "1", "--no-report", "-q"]
    one, two = tmp_path / "one.ome.zarr", tmp_path / "two.ome.zarr"
    ran = command("run", source, one, *how, "--set", "amount=1.5")
    assert ran.returncode == 0, ran.stderr
    ran = command("run", source, two, *how, "--set", "amount=1.5", "--workers", "2")
    assert ran.returncode == 0, ran.stderr

    made = np.asarray(zarr.open_array(one / "0", mode="r")[:]).squeeze()
    assert (made == np.asarray(zarr.open_array(two / "0", mode="r")[:]).squeeze()).all()
    wanted = expected(source, 1.5, 2.0)
    assert (np.abs(made - wanted) <= 1).all(), "rounding to 8 bits"
    assert np.mean(made == wanted) > 0.999
    assert np.mean(made == expected(source, 1.0, 2.0)) < 0.5, "the default would be told apart"
    said = json.loads((one / "zarr.json").read_text())["attributes"]["bigrestore"]["method"]
    assert said["options"] == {"amount": 1.5, "sigma": 2.0}
    assert said["package"] == "bigrestore-unsharp 0.1.0"


def test_a_value_that_its_option_does_not_take_is_a_sentence(
    command: Command, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.ome.zarr"
    ran = command("run", source, output, "--method", "unsharp", "--set", "amount=11", "--voxel-size", "1")
    assert ran.returncode == 2
    assert "--set amount is '11'; --method unsharp takes a number from 0 to 10." in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not output.exists()
