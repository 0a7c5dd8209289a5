"""Names that are not UTF-8, and names where the locale is not: as input, output, model, kernel, configuration and report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from skimage import data

from bigrestore.core.host.names import name_bytes, printable, visible
from bigrestore.io.open_section import open_section
from bigrestore.model.nets.checkpoint import find_model
from bigrestore.report.table.tables import read_tiles

ODD = os.fsdecode(b"m\xe4use")
SHOWN = r"m\xe4use"
QUIET = ("--progress", "none", "--quiet")
PLAIN = ("--method", "rational", *QUIET)


@pytest.fixture
def grey() -> np.ndarray:
    return np.asarray(data.immunohistochemistry()[..., 1][:300, :300], np.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of such a name, the current one."""
    place = tmp_path / f"d-{ODD}"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def png(path: Path, grey: np.ndarray) -> Path:
    Image.fromarray(grey).save(path)
    return path


def tiff(path: Path, grey: np.ndarray) -> Path:
    tifffile.imwrite(path, grey, tile=(64, 64))
    return path


def stack(path: Path, grey: np.ndarray) -> Path:
    path.mkdir()
    for index in range(2):
        png(path / f"{ODD}{index}.png", grey)
    return path


def store(path: Path, grey: np.ndarray) -> Path:
    """Write a store with a file of such a name among its chunks."""
    zarr.create_array(path, data=grey, chunks=(100, 100))
    (path / "c/0" / ODD).touch()
    return path


def test_bytes_of_names_are_shown_and_told_apart() -> None:
    assert printable(f"{ODD}.tif and more") == rf"{SHOWN}.tif and more"
    assert printable("m\udcc3\udca4use") == "m\u00e4use", "UTF-8 where the locale is not"
    assert printable("m\u00e4use") == "m\u00e4use"
    assert name_bytes(ODD) == b"m\xe4use"


@pytest.mark.parametrize(
    ("make", "end"),
    [(png, ".png"), (tiff, ".tif"), (stack, ""), (store, ".zarr")],
    ids=["png", "tiff", "stack", "store"],
)
@pytest.mark.parametrize("output", [".ome.zarr", ".ome.tif", ".ome.zarr.zip"])
def test_an_input_and_an_output_may_have_any_name(
    folder: Path, grey: np.ndarray, call: Callable[..., int], make: Callable[..., Path], end: str, output: str
) -> None:
    source, out = make(folder / f"{ODD}{end}", grey), folder / f"{ODD}{output}"
    assert call("run", source, out, *PLAIN, "--no-report") == 0
    assert call("run", source, out, *PLAIN, "--no-report", "--resume") == 0
    assert call("verify", "--json", out) == 0
    assert call("status", "--json", out) == 0
    assert open_section(source).source.endswith(f"{SHOWN}{end}")


def test_a_report_on_such_images_is_written(folder: Path, grey: np.ndarray, call: Callable[..., int]) -> None:
    wide = np.tile(grey, (2, 2))
    source, out = png(folder / f"{ODD}.png", wide), folder / f"{ODD}.ome.zarr"
    assert call("run", source, out, *PLAIN) == 0
    page = (folder / f"{ODD}.ome.zarr.bigrestore/report/report.html").read_text(encoding="utf-8")
    assert SHOWN in page
    scores = folder / f"{ODD}.scores"
    assert call("score", out, "--before", source, "-o", scores, "--csv", *QUIET) == 0
    _, facts = read_tiles(scores / "tiles.parquet")
    assert SHOWN in facts["before"]
    assert json.loads((scores / "summary.json").read_bytes())["facts"]["tile_px"] == 192
    assert (scores / "tiles.csv").read_text(encoding="utf-8")


def test_what_a_run_reads_besides_may_have_any_name(
    folder: Path, grey: np.ndarray, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    source = png(folder / f"{ODD}.png", grey)
    kernel, config, model = (folder / f"{ODD}.{end}" for end in ("npy", "toml", "safetensors"))
    np.save(kernel, np.ones((3, 3), np.float32) / 9)
    config.write_text('mask = "none"\nreport = false\n')
    model.write_bytes(find_model("tiny", 1).read_bytes())
    out = folder / "o.ome.zarr"
    flags = ("--model", model, "--kernel", kernel, "--config", config)
    assert call("run", source, out, *flags, *QUIET) == 0
    assert call("models", "verify", model) == 0
    assert call("profile", source, "--kernel", kernel, "-o", folder / f"{ODD}.svg") == 0
    assert call("degrade", source, folder / f"{ODD}.pairs", "--count", "2", "--progress", "none") == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", f"{ODD}.tif", "o.ome.zarr"),
        ("run", "a.png", "o.ome.zarr", "--model", f"{ODD}.safetensors"),
        ("run", "a.png", "o.ome.zarr", "--kernel", f"{ODD}.npy"),
        ("run", "a.png", f"{ODD}.docx"),
        ("verify", f"{ODD}.ome.zarr"),
        ("--log-format", "json", "info", f"{ODD}.tif"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]).encode("ascii", "replace").decode(),
)
def test_what_is_wrong_with_such_a_name_is_a_sentence_with_it(
    folder: Path,
    grey: np.ndarray,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
) -> None:
    png(folder / "a.png", grey)
    assert call(*arguments) in (2, 3)
    said = capsys.readouterr().err
    assert SHOWN in (json.loads(said)["message"] if said.startswith("{") else said)


@pytest.mark.parametrize(
    ("locale", "name"),
    [
        ({"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "utf-8:strict"}, b"m\xe4use"),
        ({"LC_ALL": "C"}, "m\u00e4use".encode()),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "m\u00e4use".encode()),
    ],
    ids=["a terminal of UTF-8", "C", "ASCII"],
)
def test_names_are_printed_as_they_are_under_any_locale(
    tmp_path: Path, grey: np.ndarray, locale: dict[str, str], name: bytes
) -> None:
    path = tmp_path / os.fsdecode(name)
    png(path.with_suffix(".png"), grey).rename(path)
    others = {
        key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "PYTHON"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "bigrestore", "info", path],
        capture_output=True,
        env=others | locale | {"PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    shown = b"m\\xe4use" if name == b"m\xe4use" else name
    if "PYTHONUTF8" in locale:
        shown = b"m\\xe4use"  # a letter that ASCII does not have
    assert shown in done.stdout


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a\nb", r"a\nb"), ("a\x1b[2Jb", r"a\x1b[2Jb"), ("a\rb", r"a\rb"), ("a\x9bb", r"a\x9bb")],
)
def test_what_moves_a_cursor_is_escaped_wherever_a_name_is_shown(
    tmp_path: Path,
    grey: np.ndarray,
    call: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
    name: str,
    shown: str,
) -> None:
    path = png(tmp_path / f"{name}.png", grey)
    assert visible(name) == shown
    assert call("run", path, tmp_path / f"{name}.zarr", "--method", "rational", "--no-report") == 0
    assert call("info", path) == 0
    assert call("verify", tmp_path / f"{name}.zarr") == 0
    assert call("info", tmp_path / f"{name}.tif") == 3
    said = "".join(capfd.readouterr())
    assert shown in said
    assert name not in said
