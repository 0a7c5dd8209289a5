"""Several inputs in one command: each in the folder under its own name, the model loaded once, and one failure alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from bigrestore.cli.runs.many import outputs_in
from bigrestore.errors import InputMissingError, OutputError, UsageError
from bigrestore.io.open_section import open_section
from bigrestore.model import registry

Call = Callable[..., int]
QUICK = ("--method", "rational", "--no-report", "--progress", "none", "--input-range", "full")


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    """Return three inputs of three formats and sizes."""
    pixels = np.random.default_rng(0).integers(0, 255, (90, 80), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels)
    Image.fromarray(pixels[:50]).save(tmp_path / "b.png")
    zarr.save_array(tmp_path / "c.zarr", pixels[:70, :60])
    return [tmp_path / name for name in ("a.ome.tif", "b.png", "c.zarr")]


@pytest.mark.parametrize("ending", [".ome.zarr", ".ome.tif"])
def test_each_input_has_its_output_and_the_model_is_loaded_once(
    tmp_path: Path, inputs: list[Path], call: Call, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    made, original = [], registry._make_method
    monkeypatch.setattr(registry, "_make_method", lambda settings: made.append(1) or original(settings))
    form = ("--format", "ome-tiff") if ending == ".ome.tif" else ()
    folder = tmp_path / "new" / "folder"
    assert call("run", *inputs, "--output-folder", folder, *QUICK, *form, "-q") == 0
    assert len(made) == 1
    for source, stem in zip(inputs, "abc", strict=True):
        before, after = open_section(source), open_section(folder / f"{stem}{ending}")
        assert before.shape == after.shape
        window = (0, 0, before.height, 0, before.width)
        np.testing.assert_array_equal(before.read(*window), after.read(*window))
    assert call("run", *inputs, "--output-folder", folder, *QUICK, *form, "-q", "--resume") == 0


def test_one_that_fails_leaves_the_others_restored(
    tmp_path: Path, inputs: list[Path], call: Call, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs[1].write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    assert call("run", *inputs, "--output-folder", tmp_path / "out", *QUICK, "--json") == 3
    printed = capfd.readouterr()
    assert [Path(one["output"]).name for one in json.loads(printed.out)] == ["a.ome.zarr", "c.ome.zarr"]
    assert "1 of 3 inputs failed" in printed.err.splitlines()[-1]
    assert "b.png" in printed.err.splitlines()[-1]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.zarr")) == ["a.ome.zarr", "c.ome.zarr"]


@pytest.mark.parametrize(
    ("torn", "says"),
    [
        ((0, 1, 2), "All 3 inputs failed: "),
        ((0, 2), "2 of 3 inputs failed: "),
        ((1,), "above, and the others are done."),
    ],
)
def test_the_last_line_counts_what_failed(
    tmp_path: Path,
    inputs: list[Path],
    call: Call,
    capfd: pytest.CaptureFixture[str],
    torn: tuple[int, ...],
    says: str,
) -> None:
    files = [path if path.suffix != ".zarr" else tmp_path / "c.png" for path in inputs]
    shutil.copy(inputs[1], files[2])
    for index in torn:
        files[index].write_bytes(files[index].read_bytes()[:60])
    assert call("run", *files, "--output-folder", tmp_path / "out", *QUICK) == 3
    last = capfd.readouterr().err.splitlines()[-1]
    assert says in last
    assert ("the others" in last) == (len(torn) < 3)


def test_a_single_input_that_fails_is_said_once(
    tmp_path: Path, inputs: list[Path], call: Call, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs[1].write_bytes(b"")
    assert call("run", inputs[1], "--output-folder", tmp_path / "out", *QUICK) == 3
    assert capfd.readouterr().err.count("is empty (0 bytes)") == 1


@pytest.mark.parametrize("flag", ["--channel", "--series"])
def test_a_number_out_of_range_is_told_its_range(
    tmp_path: Path, inputs: list[Path], call: Call, capfd: pytest.CaptureFixture[str], flag: str
) -> None:
    assert call("run", inputs[1], tmp_path / "out.ome.zarr", *QUICK, flag, -1) == 2
    assert f"{flag} is -1; it takes a whole number from 0 to 1000000." in capfd.readouterr().err


def test_a_dry_run_estimates_each_and_writes_nothing(
    tmp_path: Path, inputs: list[Path], call: Call, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("run", *inputs, "--output-folder", tmp_path, *QUICK, "--dry-run", "--json") == 0
    shapes = [one["shape_in"] for one in json.loads(capfd.readouterr().out)]
    assert shapes == [[1, 90, 80], [1, 50, 80], [1, 70, 60]]
    assert not list(tmp_path.glob("*.bigrestore"))


@pytest.mark.parametrize("names", [("x/a.tif", "y/a.png"), ("a.tif", "A.ome.zarr"), ("a", "a.zarr.zip", "b")])
def test_two_inputs_of_one_name_are_refused_before_any_is_restored(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match="would both be restored into") as info:
        outputs_in([str(tmp_path / name) for name in names], str(tmp_path / "out"), ".ome.zarr")
    assert all(name in str(info.value) for name in names[:2])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["file", "below a file", "dangling link"])
def test_an_output_folder_that_is_none_is_refused(tmp_path: Path, inputs: list[Path], kind: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    folder = {"file": "file", "below a file": "file/out", "dangling link": "link"}[kind]
    with pytest.raises(OutputError):
        outputs_in([str(inputs[0])], str(tmp_path / folder), ".ome.zarr")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_input_that_is_missing_is_said_before_any_is_restored(tmp_path: Path, inputs: list[Path]) -> None:
    with pytest.raises(InputMissingError, match=r"nothing\.tif does not exist, and no input was restored"):
        outputs_in([str(inputs[0]), str(tmp_path / "nothing.tif")], str(tmp_path / "out"), ".ome.zarr")


def test_names_of_outputs(tmp_path: Path) -> None:
    names = ["s/pm1.ome.tiff", "s/v1.2.nii.gz", "s/x.zarr.zip", "s/y.ozx", "s/folder/", "pm*.png"]
    for name in names:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    pairs = outputs_in([str(tmp_path / name) for name in names], "s3://bucket/key/", ".ome.zarr")
    stems = ["pm1", "v1.2", "x", "y", "folder", "pm"]
    assert [output for _, output in pairs] == [f"s3://bucket/key/{stem}.ome.zarr" for stem in stems]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("a.tif",), "a.tif is INPUT, and OUTPUT is missing"),
        (("a.tif", "b.tif", "c.zarr"), "3 paths are given, and one INPUT and one OUTPUT are taken"),
    ],
)
def test_paths_that_are_too_few_or_many_are_a_sentence(
    call: Call, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    assert call("run", *words) == 2
    assert sentence in capfd.readouterr().err
