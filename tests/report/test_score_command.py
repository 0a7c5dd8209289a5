"""`bigrestore score` as a user meets it: what it writes, what it refuses, and with which exit code."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
import zarr
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data

import bigrestore
from bigrestore.errors import CheckFailedError, InputError, UsageError
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section
from bigrestore.report.of_images import ScoreSummary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean tissue, 480 x 500, and what may stand beside it."""
    place = tmp_path_factory.mktemp("score")
    grey = np.rint(data.immunohistochemistry() @ np.array([0.299, 0.587, 0.114]))[:480, :500]
    rng = np.random.default_rng(0)
    before = gaussian_filter(grey, 1.3) + rng.normal(0, 2, grey.shape)
    small = grey.reshape(240, 2, 250, 2).mean(axis=(1, 3))
    images = {
        "clean": grey,
        "before": before,
        "small": small,
        "other": grey[:, :-20],
        "tiny": grey[:200, :300],
        "glass": 250 + rng.normal(0, 1, grey.shape),
        "white": np.full(grey.shape, 255.0),
    }
    for name, pixels in images.items():
        Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(place / f"{name}.png")
    tifffile.imwrite(place / "sixteen.tif", (before.clip(0, 255) * 257).astype(np.uint16))
    tifffile.imwrite(place / "clean16.tif", grey.astype(np.uint16) * 257)
    tifffile.imwrite(place / "clean32.tif", (grey / 255).astype(np.float32))
    Image.fromarray(grey[:50, :50].astype(np.uint8)).save(place / "stamp.png")
    store(place / "um.zarr", grey.astype(np.uint8), 10.0, 0.0)
    store(place / "um20.zarr", before.clip(0, 255).astype(np.uint8), 20.0, 0.0)
    store(place / "shifted.zarr", before.clip(0, 255).astype(np.uint8), 10.0, 700.0)
    return place


def store(path: Path, pixels: np.ndarray, um: float, shift: float) -> None:
    group = zarr.create_group(path, zarr_format=3)
    group.create_array("0", data=pixels, chunks=(240, 250), dimension_names=["y", "x"])
    transforms = [{"type": "scale", "scale": [um, um]}, {"type": "translation", "translation": [0.0, shift]}]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    dataset = {"path": "0", "coordinateTransformations": transforms}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [dataset]}]}


def same(one: ScoreSummary, other: ScoreSummary) -> None:
    """Every bit of every column, a missing value for a missing value."""
    assert one.tiles.column_names == other.tiles.column_names
    for name in one.tiles.column_names:
        values = (np.array(found.tiles[name].to_pylist()) for found in (one, other))
        np.testing.assert_array_equal(*values, err_msg=name)


def test_a_pair_is_scored_and_the_report_is_whole(
    folder: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    options = ("--before", folder / "before.png", "-o", out, "--csv", "--json", "--progress", "none")
    assert call("score", folder / "clean.png", *options) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "summary.json").read_text())
    assert {path.name for path in out.iterdir()} == {
        "report.html",
        "summary.json",
        "tiles.parquet",
        "tiles.csv",
    }
    found = pq.read_table(out / "tiles.parquet").to_pydict()
    assert found["reason"] == [""] * 9
    assert found["niqe"][0] != found["niqe_before"][0]
    assert found["sharpness"][0] > 2 * found["sharpness_before"][0]
    assert list(zip(found["y"], found["x"], strict=True))[-1] == (288, 308), "at the border"
    assert printed["tiles"]["invalid"] == {}
    assert printed["bootstrap"]["worth_tiles"] == pytest.approx(480 * 500 / 192**2, abs=1e-3)
    facts = printed["facts"]
    assert (facts["tile_px"], facts["scale"], facts["value_range"]) == (192, 1, [0.0, 255.0])
    assert facts["engine"]["name"] == "native"
    page = (out / "report.html").read_text()
    assert "NIQE" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert call("score", folder / "clean.png", "-o", out) == 4
    assert "--overwrite" in capsys.readouterr().err
    assert call("score", folder / "clean.png", "-o", out, "--overwrite", "-q") == 0


def test_an_input_of_half_the_size_is_found_to_be_one(folder: Path) -> None:
    found = bigrestore.score(folder / "clean.png", before=folder / "small.png", progress="none")
    tiles, facts = found.tiles.to_pydict(), found.summary["facts"]
    assert facts["scale"] == 2
    assert tiles["mean"][0] == pytest.approx(tiles["mean_before"][0], abs=0.002), "on the same grid"
    assert tiles["sharpness"][0] > tiles["sharpness_before"][0]
    assert facts["before_native"]["tiles"]["valid"] == 4
    large = bigrestore.score(
        folder / "clean.png", before=folder / "small.png", tile_size=288, progress="none"
    ).summary["facts"]
    assert large["before_native"]["tiles"]["invalid"] == {"small": 1}


def test_a_reference_gives_what_needs_one(folder: Path) -> None:
    found = bigrestore.score(
        folder / "before.png",
        before=folder / "before.png",
        reference=folder / "clean.png",
        progress="none",
    )
    tiles = found.tiles.to_pydict()
    assert 20 < tiles["psnr"][0] < 40
    assert tiles["psnr"][0] == tiles["psnr_before"][0]
    assert 0.5 < tiles["ssim"][0] < tiles["ms_ssim"][0] < 1
    assert (tiles["drift"][0], tiles["invented"][0]) == (0.0, pytest.approx(0.0, abs=1e-6))


def test_threads_do_not_change_a_bit(folder: Path) -> None:
    one, four = (
        bigrestore.score(folder / "clean.png", tile_size=96, threads=n, progress="none") for n in (1, 4)
    )
    same(one, four)


def test_tiles_of_another_size_are_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = bigrestore.score(folder / "clean.png", tile_size=192, progress="none")
    assert "the size is part of a score" in caplog.text
    assert found.summary["tiles"]["valid"] == 9
    assert found.summary["facts"]["tile_px"] == 192


@pytest.mark.parametrize(
    ("height", "width", "side", "tiles"), [(512, 640, 192, 12), (300, 1024, 192, 12), (160, 400, 96, 10)]
)
def test_a_small_section_gets_scores_of_smaller_tiles(
    tmp_path: Path, folder: Path, height: int, width: int, side: int, tiles: int
) -> None:
    before = np.asarray(Image.open(folder / "before.png"))
    clean = np.asarray(Image.open(folder / "clean.png"))
    for name, pixels in (("clean", clean), ("before", before)):
        wide = np.pad(pixels, [(0, 32), (0, 524)], mode="reflect")[:height, :width]
        Image.fromarray(wide).save(tmp_path / f"{name}.png")
    report = tmp_path / "report"
    found = bigrestore.score(tmp_path / "clean.png", report, before=tmp_path / "before.png", progress="none")
    assert found.summary["facts"]["tile_px"] == side
    assert found.summary["tiles"]["valid_in_both"] == tiles
    changes = {name: entry["change"] for name, entry in found.summary["metrics"].items() if "change" in entry}
    assert all(changes[name]["low"] is not None for name in ("brisque", "piqe"))
    assert (changes["niqe"]["low"] is None) == (side < 192), "NIQE needs more than one block of 96 px"
    assert "Too few tiles" not in (report / "report.html").read_text()


def test_a_sample_is_stratified_and_said(folder: Path) -> None:
    found = bigrestore.score(folder / "clean.png", tile_size=96, sample=7, seed=3, progress="none")
    assert found.tiles.num_rows == 7
    assert "at most 7 of 30 tiles" in found.summary["facts"]["sampling"]
    again = bigrestore.score(folder / "clean.png", tile_size=96, sample=7, seed=3, progress="none")
    same(again, found)


def test_a_volume_has_rows_for_every_section(tmp_path: Path, folder: Path) -> None:
    for z, name in enumerate(("clean", "before", "clean")):
        Image.open(folder / f"{name}.png").save(tmp_path / f"s{z}.png")
    found = bigrestore.score(str(tmp_path / "s*.png"), tmp_path / "report", progress="none")
    tiles = found.tiles.to_pydict()
    assert tiles["z"] == [0] * 9 + [1] * 9 + [2] * 9
    assert tiles["niqe"][0] == tiles["niqe"][18] != tiles["niqe"][9]
    assert [section["z"] for section in found.summary["sections"]] == [0, 1, 2]
    assert (tmp_path / "report/report.html").is_file()


def test_colour_is_scored_by_its_luma(tmp_path: Path) -> None:
    rgb = data.immunohistochemistry()[:480, :480]
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    grey = (rgb @ np.array([0.299, 0.587, 0.114]) / 255).astype(np.float32)
    tifffile.imwrite(tmp_path / "grey.tif", grey)
    colour, luma = (
        bigrestore.score(tmp_path / name, progress="none").tiles.to_pydict()
        for name in ("rgb.png", "grey.tif")
    )
    for name in ("niqe", "brisque", "piqe", "noise", "mean"):
        assert colour[name][0] == pytest.approx(luma[name][0], rel=1e-4), name


def test_sixteen_bits_beside_eight_are_taken_where_the_range_is_said(folder: Path) -> None:
    found = bigrestore.score(
        folder / "clean.png", before=folder / "sixteen.tif", before_range=(0, 65535), progress="none"
    )
    beside = bigrestore.score(folder / "clean.png", before=folder / "before.png", progress="none")
    assert found.tiles["mean_before"][0].as_py() == pytest.approx(
        beside.tiles["mean_before"][0].as_py(), abs=2e-3
    )
    assert found.summary["facts"]["value_range_before"] == [0.0, 65535.0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("clean.png", "--before", "other.png"), 2, ("480 x 500", "480 x 480")),
        (("clean.png", "--before", "tiny.png"), 2, ("same field",)),
        (("clean.png", "--reference", "small.png"), 2, ("reference", "240 x 250")),
        (("clean.png", "--before", "sixteen.tif"), 2, ("uint16", "uint8", "--before-range")),
        (("clean.png", "--reference", "sixteen.tif"), 2, ("--reference-range",)),
        (("um.zarr", "--before", "um20.zarr"), 2, ("voxel size", "--any-placement")),
        (("um.zarr", "--before", "shifted.zarr"), 2, ("begins at", "700")),
        (("clean.png", "--before", "before.png", "--reference", "before.png"), 2, ("degraded input",)),
        (("clean.png", "--reference", "clean.png"), 2, ("the image itself",)),
        (
            ("clean.png", "--reference", "clean16.tif", "--reference-range", "0", "65535"),
            2,
            ("the image itself",),
        ),
        (
            ("clean16.tif", "--reference", "clean32.tif", "--reference-range", "0", "1"),
            2,
            ("the image itself",),
        ),
        (("tiny.png", "--tile-size", "480"), 2, ("480 x 480", "--tile-size 192")),
        (("stamp.png",), 2, ("50 x 50", "--tile-size 96", "larger image")),
        (("glass.png",), 3, ("No tile", "background")),
        (("white.png",), 3, ("No tile", "blank")),
        (("clean.png", "--tile-size", "100"), 2, ("--tile-size", "96")),
        (("clean.png", "--tile-size", "96000"), 2, ("--tile-size", "from 96 to 9600")),
        (("clean.png", "--metrics", "vmaf"), 2, ("vmaf",)),
        (("clean.png", "--engine", "magic"), 2, ("--engine", "native")),
        (("clean.png", "--niqe-model", "none.npz"), 3, ("none.npz",)),
        (("clean.png", "--sample", "0"), 2, ("--sample",)),
        (("clean.png", "--fail-if", "niqe.mode > 1"), 2, ("niqe.mode", "median")),
        (("clean.png", "--fail-if", "import os"), 2, ("--fail-if",)),
        (("missing.png",), 3, ("does not exist",)),
        (("clean.png", "--before", "missing.png"), 3, ("missing.png",)),
        (("clean.png", "--input-range", "9", "3"), 2, ("--input-range",)),
    ],
)
def test_what_cannot_be_compared_is_a_sentence_and_a_code(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: int,
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(folder)
    out = tmp_path / "report"
    assert call("score", *arguments, "-o", out, "--progress", "none") == code
    said = capsys.readouterr().err
    assert all(word.lower() in said.lower() for word in words), said
    assert "Traceback" not in said
    assert not out.exists()


def test_the_same_pixels_in_another_type_are_a_reference_only_where_the_range_makes_them_others(
    folder: Path,
) -> None:
    found = bigrestore.score(
        folder / "clean.png", reference=folder / "clean16.tif", reference_range=(0, 60000), progress="none"
    )
    assert 10 < found.tiles["psnr"][0].as_py() < 40


def test_a_run_packed_into_a_zip_file_is_scored_as_the_store_that_it_holds(
    tmp_path: Path, folder: Path
) -> None:
    found = []
    for name in ("out.ome.zarr", "out.ome.zarr.zip"):
        options = {"method": "rational", "mask": "none", "report": False, "progress": "none"}
        bigrestore.restore(folder / "before.png", tmp_path / name, **options)
        found.append(bigrestore.score(tmp_path / name, before=folder / "before.png", progress="none"))
    same(*found)
    methods = [each.summary["facts"]["method"] for each in found]
    assert methods[0] == methods[1]
    assert methods[0]["name"] == "rational"


def test_options_reach_every_image_behind_a_url(
    folder: Path, tmp_path: Path, call: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def opened(path: str, *, storage_options: dict[str, str], **others: object) -> Section:
        asked.append((path.rsplit("/", 1)[-1], storage_options))
        return open_section(folder / asked[-1][0], **others)

    monkeypatch.setattr("bigrestore.report.checks.open_section", opened)
    url = "https://example.org"
    compared = ("--before", f"{url}/before.png", "--reference", f"{url}/um.zarr", "--any-placement")
    options = ("--storage-options", '{"token": "sesame"}', "-o", tmp_path / "report", "-q")
    assert call("score", f"{url}/before.png", *compared, *options) == 0
    assert asked == [(name, {"token": "sesame"}) for name in ("before.png", "before.png", "um.zarr")]
    assert not any(b"sesame" in path.read_bytes() for path in (tmp_path / "report").iterdir())


def test_any_placement_compares_all_the_same(folder: Path) -> None:
    found = bigrestore.score(
        folder / "um.zarr", before=folder / "shifted.zarr", any_placement=True, progress="none"
    )
    assert found.summary["tiles"]["valid"] == 9


def test_the_degraded_input_is_known_from_the_stores_own_words(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "restored.ome.zarr"
    bigrestore.restore(
        folder / "before.png", out, method="rational", mask="none", report=False, progress="none"
    )
    pixels = zarr.open_array(out / "0", mode="r+")
    pixels[0, 0] = 255 - int(pixels[0, 0])
    with pytest.raises(UsageError, match="says it was restored from"):
        bigrestore.score(out, reference=folder / "before.png", progress="none")


def test_a_condition_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(UsageError, match=re.escape("--fail-if '1 + 1' is a number and no condition")):
        bigrestore.score("missing.png", fail_if="1 + 1", progress="none")


def test_fail_if_ends_with_six_after_the_report(
    folder: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("-o", tmp_path / "report", "--fail-if", "niqe.median > 1", "-q", "--progress", "none")
    assert call("score", folder / "clean.png", *options) == 6
    assert "niqe.median is" in capsys.readouterr().err
    assert (tmp_path / "report/report.html").is_file()
    with pytest.raises(CheckFailedError):
        bigrestore.score(folder / "clean.png", fail_if="valid.count < 10", progress="none")


def test_a_fitted_model_is_another_niqe(
    folder: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    grey = np.rint(data.immunohistochemistry() @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    Image.fromarray(np.pad(grey, [(0, 500), (0, 500)], mode="reflect")).save(tmp_path / "good.png")
    model = tmp_path / "good.npz"
    assert call("score", "fit-niqe", tmp_path / "good.png", "-o", model) == 0
    assert call("score", "fit-niqe", tmp_path / "good.png", "-o", model) == 4
    assert call("score", "fit-niqe", tmp_path / "good.png", "-o", model, "--overwrite") == 0
    assert call("score", "fit-niqe", folder / "tiny.png", "-o", tmp_path / "x.npz") == 3
    np.savez(tmp_path / "mine.npz", mean=np.zeros(3))
    given = ("score", "fit-niqe", tmp_path / "good.png", "-o", tmp_path / "mine.npz", "--overwrite")
    assert call(*given) == 4
    capsys.readouterr()
    usual = bigrestore.score(folder / "clean.png", progress="none")
    own = bigrestore.score(folder / "clean.png", niqe_model=model, progress="none")
    assert own.tiles["niqe"][0].as_py() != usual.tiles["niqe"][0].as_py()
    assert own.tiles["piqe"][0].as_py() == usual.tiles["piqe"][0].as_py()
    assert own.summary["facts"]["engine"] != usual.summary["facts"]["engine"]


def test_overwrite_replaces_reports_and_nothing_else(
    folder: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    options = ("score", folder / "clean.png", "-o", out, "--progress", "none", "-q")
    assert call(*options, "--csv") == 0
    (out / "notes.txt").write_text("mine")
    assert call(*options, "--overwrite") == 0
    assert not (out / "tiles.csv").exists(), "it would belong to the report that was replaced"
    assert (out / "notes.txt").read_text() == "mine"
    for name, text in (
        ("summary.json", '{"total": 5}'),
        ("report.html", "<html>mine</html>"),
        ("tiles.csv", "a,b\n1,2\n"),
        ("tiles.parquet", "no table"),
    ):
        place = tmp_path / f"of mine {name}"
        place.mkdir()
        (place / name).write_text(text)
        for extra in ((), ("--overwrite",)):
            given = ("score", folder / "clean.png", "-o", place, "--progress", "none", *extra)
            assert call(*given) == 4
            said = capsys.readouterr().err
            assert name in said
            assert "name another folder" in said
        assert [path.name for path in place.iterdir()] == [name]
        assert (place / name).read_text() == text


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_scored(
    folder: Path, tmp_path: Path, call: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it was scored")

    monkeypatch.setattr("bigrestore.report.of_images._Scoring.run", never)
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file/report", folder / "um.zarr/report"):
        assert call("score", folder / "um.zarr", "-o", place) == 4
    assert call("score", "fit-niqe", folder / "clean.png", "-o", tmp_path / "file/x.npz") == 4


def test_a_full_disk_is_a_sentence(
    folder: Path,
    tmp_path: Path,
    call: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert call("score", folder / "clean.png", "-o", tmp_path / "report", "--progress", "none") == 4
    said = capsys.readouterr().err
    assert "no space left" in said
    assert "Traceback" not in said
    assert list((tmp_path / "report").iterdir()) == []


def test_help_is_quick_and_names_the_way_out() -> None:
    script = (
        "import sys\nsys.argv = ['bigrestore', *sys.argv[1:]]\nfrom bigrestore.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = {'torch', 'zarr', 'dask', 'numpy', 'pyarrow', 'jinja2', 'matplotlib'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)), code)"
    )
    for words in (("score", "--help"), ("score", "fit-niqe", "--help")):
        found = subprocess.run(
            [sys.executable, "-c", script, *words], capture_output=True, text=True, timeout=60
        )
        assert "LOADED [] 0" in found.stdout, found.stdout + found.stderr
        assert "Usage: bigrestore " + " ".join(words[:-1]) in found.stdout


def test_the_public_name_is_the_function_whatever_was_imported() -> None:
    import bigrestore.report.of_images

    with pytest.raises(InputError, match="does not exist"):
        bigrestore.score("missing.png", progress="none")
    assert "score" in bigrestore.__all__
