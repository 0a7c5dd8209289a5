"""`try`: each variant has the pixels of a run, the sheet shows them, and bad input is a sentence."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage import data

import bigrestore
from bigrestore.core.files import is_picture_of
from bigrestore.errors import UsageError
from bigrestore.report.page.contact_sheet import SHEET_SOFTWARE
from bigrestore.settings import RunSettings
from bigrestore.settings.trial import Varied, variants_of

Call = Callable[..., int]
METHODS = ["rational", "catmull-rom"]


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return np.asarray(data.immunohistochemistry())[:400, :500]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, rgb: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("try") / "in.tif"
    tifffile.imwrite(path, rgb[..., 1])
    return path


@pytest.mark.parametrize(("scale", "roi"), [(1, "101:301,53:390"), (2, "31:400,200:601"), (2, None)])
@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_a_variant_has_the_pixels_of_a_run(
    tmp_path: Path, rgb: np.ndarray, kind: str, scale: int, roi: str | None
) -> None:
    image = rgb if kind == "colour" else rgb[..., 1].copy()
    tried = bigrestore.try_variants(
        image, method=METHODS, scale=scale, **({} if roi is None else {"roi": roi})
    )
    region = ",".join(f"{start}:{stop}" for start, stop in tried.roi)
    assert roi in (None, region)
    for variant, method in zip(tried.variants, METHODS, strict=True):
        run = bigrestore.restore(image, method=method, scale=scale, roi=region, progress="none")
        np.testing.assert_array_equal(variant.image, run)
        assert variant.settings == {"method": method}
        assert {"niqe", "brisque", "piqe"} <= variant.scores.keys()


def test_a_section_of_a_volume_is_its_middle_or_the_asked_one(rgb: np.ndarray) -> None:
    volume = np.stack([np.zeros_like(rgb[..., 0]), rgb[..., 1], rgb[..., 2]])
    assert bigrestore.try_variants(volume, method="rational").z == 1
    tried = bigrestore.try_variants(volume, method="rational", roi="2:3,10:90,10:110")
    assert tried.z == 2
    np.testing.assert_array_equal(tried.before, rgb[10:90, 10:110, 2])


def test_every_combination_is_a_variant() -> None:
    varied = Varied(method="wiener,gddec", realness=[0, 1], blur=["0.8", (1.2, 0.9, 30)])
    variants = variants_of(RunSettings(), varied.values())
    chosen = [tuple(one.values()) for one, _ in variants]
    assert chosen[0] == ("wiener", 0, "0.8")
    assert len(set(chosen)) == 8
    assert [settings.method for _, settings in variants] == ["wiener"] * 4 + ["gddec"] * 4
    assert variants[-1][1].blur == (1.2, 0.9, 30.0)
    assert len(variants_of(RunSettings(), Varied().values())) == 1


def test_blurs_are_compared(source: Path) -> None:
    tried = bigrestore.try_variants(source, method="wiener", blur=[0.8, "1.2,0.9,30"], roi="100:200,100:200")
    names = [variant.name for variant in tried.variants]
    assert names == ["method wiener, blur 0.8", "method wiener, blur 1.2,0.9,30"]
    assert len({variant.image.tobytes() for variant in tried.variants}) == 2


@pytest.mark.slow
def test_realness_is_tried_by_default(source: Path) -> None:
    tried = bigrestore.try_variants(source, roi="100:292,100:292")
    assert [variant.name for variant in tried.variants] == ["realness 0", "realness 0.5", "realness 1"]
    assert "blurred" in tried.variants[0].read or "sharp" in tried.variants[0].read
    assert len({variant.image.tobytes() for variant in tried.variants}) == 3


def test_a_notebook_and_the_file_show_the_same_sheet(tmp_path: Path, source: Path) -> None:
    tried = bigrestore.try_variants(source, method=METHODS)
    tried.save(tmp_path / "sheet.png")
    assert is_picture_of(tmp_path / "sheet.png", SHEET_SOFTWARE)
    with Image.open(tmp_path / "sheet.png") as saved, Image.open(io.BytesIO(tried._repr_png_())) as shown:
        assert saved.size == shown.size
        assert saved.size[0] == 3 * 363
        np.testing.assert_array_equal(np.asarray(saved), np.asarray(shown))


def test_the_command_writes_a_sheet_named_after_the_input(
    tmp_path: Path,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # its own sheet is replaced
        assert call("try", source, "--method", "rational,catmull-rom", "--roi", "0:100,0:210") == 0
    printed = capsys.readouterr().out
    assert "method catmull-rom" in printed
    assert "in-try.png" in printed
    assert is_picture_of(tmp_path / "in-try.png", SHEET_SOFTWARE)
    assert call("try", source, "--method", "rational", "--json", "-o", "b.png", "--roi", "0:200,0:210") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["roi"] == [[0, 200], [0, 210]]
    assert document["variants"][0]["settings"] == {"method": "rational"}


BAD: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no picture": (("-o", "a.tif"), 2, "-o is a.tif"),
    "folder missing": (("-o", "no/a.png"), 4, "no folder no"),
    "a folder": (("-o", "folder.png"), 4, "folder.png"),
    "another's picture": (("-o", "own.png"), 4, "own.png, which is no sheet"),
    "too many": (("--realness", ",".join(f"0.{i:02d}" for i in range(13))), 2, "a sheet holds 12"),
    "no number": (("--realness", "much"), 2, "--realness is 'much'"),
    "no method": (("--method", "magic"), 2, "magic"),
    "outside": (("--roi", "0:10,490:600", "--method", "rational"), 2, "--roi ends at"),
    "too large": (("--roi", "0:5000,0:5000"), 2, "4096 x 4096 at most"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(
    tmp_path: Path,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    Image.new("L", (5, 5)).save(tmp_path / "own.png")
    flags, code, words = BAD[case]
    assert call("try", source, "-q", *flags) == code
    error = capsys.readouterr().err.strip()
    assert words in error
    assert len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.png", "own.png"]


def test_a_keyword_of_no_setting_is_refused(source: Path) -> None:
    wrong: dict[str, Any] = {"scael": 2}
    with pytest.raises(UsageError, match=r"try_variants\(\) has no setting 'scael'"):
        bigrestore.try_variants(source, **wrong)
