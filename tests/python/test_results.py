"""A result shows the same field before and after, the three scores and what was read, and holds no open file."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image

import bigrestore
from bigrestore.io.open_section import open_section
from bigrestore.results import FIELD_PX, Restored, RestoreSummary, ScoreChange, liveliest

QUICK: dict[str, Any] = {"method": "rational", "progress": "none"}


def pictures(html: str) -> list[np.ndarray]:
    coded = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in coded]


def saved(folder: Path, pixels: np.ndarray) -> Path:
    axes = "yx" if pixels.ndim == 2 else "yxc" if pixels.shape[-1] == 3 else "zyx"
    zarr.create_array(
        folder / "in.zarr", data=pixels, chunks=(128,) * pixels.ndim, dimension_names=list(axes)
    )
    return folder / "in.zarr"


def test_a_run_on_files_shows_the_field_and_the_scores_of_its_report(
    tmp_path: Path, grey: np.ndarray
) -> None:
    output = tmp_path / "out.ome.zarr"
    summary = bigrestore.restore(saved(tmp_path, grey), output, scale=2, **QUICK)
    assert isinstance(summary, RestoreSummary)
    metrics = json.loads((Path(summary.report.folder) / "summary.json").read_text())["metrics"]
    assert list(summary.scores) == ["brisque", "niqe", "piqe"]
    for name, score in summary.scores.items():
        change = metrics[name]["change"]
        known = (change["median_before"], change["median_after"], change["median"], 9)
        assert (score.before, score.after, score.change, score.tiles) == known
    html = summary._repr_html_()
    for words in (
        "BRISQUE",
        "NIQE",
        "PIQE",
        "before",
        "after",
        "lower is better",
        str(output),
        "report.html",
    ):
        assert words in html
    before, after = pictures(html)
    assert before.shape == (FIELD_PX // 2, FIELD_PX // 2, 3)
    assert after.shape == (FIELD_PX, FIELD_PX, 3)
    assert f"{summary.scores['niqe'].before:.2f}" in html
    assert "NaN" not in re.sub(r"base64,[^\"]*", "", html)
    again = bigrestore.restore(tmp_path / "in.zarr", output, scale=2, resume=True, **QUICK)
    assert again.scores == summary.scores
    assert again.before is not None
    np.testing.assert_array_equal(again.before, summary.before)
    assert json.loads(json.dumps(summary.to_json()))["scores"]["piqe"]["tiles"] == 9


def test_the_reading_of_a_finished_run_is_that_of_its_report(tmp_path: Path, grey: np.ndarray) -> None:
    source, output = saved(tmp_path, grey), tmp_path / "out.ome.tif"
    first = bigrestore.restore(source, output, progress="none")
    assert first.read.endswith("out")
    assert f"Read: {first.read}." in first._repr_html_().replace("&#x27;", "'")
    assert bigrestore.restore(source, output, progress="none", resume=True).read == first.read


@pytest.mark.parametrize("place", ["yx", "roi", "small roi", "volume", "colour", "twelve bits"])
def test_the_field_after_is_the_output_and_the_field_before_the_input_there(
    tmp_path: Path, grey: np.ndarray, rgb: np.ndarray, place: str
) -> None:
    grey, rgb = grey[100:350, :250], rgb[100:350, :250]
    places: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "yx": (grey, {}),
        "roi": (grey, {"roi": "101:481,53:461"}),
        "small roi": (grey, {"roi": "101:201,53:100"}),
        "volume": (np.stack([grey, grey[::-1], grey.T]), {}),
        "colour": (rgb, {}),
        "twelve bits": (grey.astype(np.uint16) * 16, {"input_range": (0, 4095)}),
    }
    pixels, more = places[place]
    output = tmp_path / "out.ome.zarr"
    summary = bigrestore.restore(saved(tmp_path, pixels), output, scale=2, report=False, **more, **QUICK)
    assert summary.before is not None
    assert summary.after is not None
    section = open_section(output)
    z = section.depth // 2
    whole = section.data[z].compute()
    known = pixels[z] if place == "volume" else pixels
    if place == "twelve bits":
        whole, known = (np.rint(part / 4095 * 255).astype(np.uint8) for part in (whole, known))
    y, x = corner(whole, summary.after)
    if "roi" in more:
        y, x = y + 101, x + 53
    assert (y % 2, x % 2) == (0, 0)
    height, width = summary.before.shape[:2]
    np.testing.assert_array_equal(known[y // 2 : y // 2 + height, x // 2 : x // 2 + width], summary.before)
    assert (2 * height, 2 * width) == summary.after.shape[:2]


def corner(whole: np.ndarray, part: np.ndarray) -> tuple[int, int]:
    """Return where a part was cut out of an image."""
    height, width = part.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(whole, (1, width), axis=(0, 1))
    same = (windows[..., 0, :] == (part[0] if part.ndim == 2 else part[0].T)).all(axis=-1)
    for y, x in np.argwhere(same if part.ndim == 2 else same.all(axis=-1)):
        if np.array_equal(whole[y : y + height, x : x + width], part):
            return int(y), int(x)
    raise AssertionError("the field is no part of the output")


def test_the_field_lies_in_the_tissue_and_not_on_its_border() -> None:
    image = np.full((100, 200), 255, np.uint8)
    image[:, :60] = 0  # a border of full contrast
    image[30:70, 120:160] = np.random.default_rng(0).integers(100, 160, (40, 40))
    y, x = liveliest(image, 30)
    assert 40 < y < 60
    assert 130 < x < 150
    assert liveliest(np.zeros((1, 1), np.uint8), 30) == (0.5, 0.5)


def test_an_array_with_details_shows_the_same_as_files(tmp_path: Path, grey: np.ndarray) -> None:
    of_files = bigrestore.restore(saved(tmp_path, grey), tmp_path / "out.ome.zarr", **QUICK)
    result = bigrestore.restore(grey, details=True, **QUICK)
    assert isinstance(result, Restored)
    assert result.scores == of_files.scores
    assert result.read == of_files.read
    np.testing.assert_array_equal(result.summary.after, of_files.after)
    assert pictures(result._repr_html_())[0].shape == (FIELD_PX, FIELD_PX, 3)
    assert "output:" not in result._repr_html_()
    assert repr(result).startswith(
        "Restored(image=ndarray (512, 512) uint8, maps=[], scores={'brisque': ScoreChange("
    )
    assert not Path(result.summary.report.folder).name


def test_a_result_without_scores_says_why(grey: np.ndarray) -> None:
    small = bigrestore.restore(grey[:100, :90], details=True, **QUICK)
    assert small.scores == {}
    assert "<p>No scores: 0 of 2 tiles scored; left out: 2 small.</p>" in small._repr_html_()
    unscored = bigrestore.restore(grey[:100, :90], details=True, report=False, **QUICK)
    assert "<p>No scores.</p>" in unscored._repr_html_()
    assert pictures(unscored._repr_html_())[0].shape == (100, 90, 3)


def test_a_part_of_a_run_shows_no_field(tmp_path: Path, grey: np.ndarray) -> None:
    summary = bigrestore.restore(saved(tmp_path, grey), tmp_path / "out.ome.zarr", init_only=True, **QUICK)
    assert summary.before is None
    assert "<img" not in summary._repr_html_()
    assert "part: init" in summary._repr_html_()


def test_names_cannot_break_out_of_the_html(tmp_path: Path) -> None:
    summary = RestoreSummary(
        output=tmp_path / "<script>.ome.zarr",
        blocks_done=1,
        blocks_empty=0,
        blocks_restored=1,
        failed={},
        seconds={"blocks": 1.0},
        megapixels=1.0,
        redundancy=1.0,
        tile_px=480,
        threads=1,
        device="cpu",
        precision="fp32",
        read="<b>sharp",
        scores={"niqe": ScoreChange(5.0, 4.0, -1.0, 3)},
    )
    html = summary._repr_html_()
    assert "<script>" not in html
    assert "<b>" not in html
    assert "&lt;b&gt;sharp" in html
