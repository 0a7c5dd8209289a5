"""What was read of a section must be said alike by profile, log and report, and be true of the numbers behind it."""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_toys import Fir, go, save_zarr
from prior_toys import model_file

from bigrestore.api import restore
from bigrestore.core.kernels import gaussian, matched_gaussian, narrowed
from bigrestore.model.method import SectionStatistics
from bigrestore.run.profile.words import of_sections, reading, sentence


def statistics(
    sigma_px: float, noise: float = 0.4, jpeg: float = 0.0, kernel: np.ndarray | None = None, **details: Any
) -> SectionStatistics:
    known = {"windows": 9, "sigma_px": sigma_px, "jpeg_quality": jpeg} | details
    found = matched_gaussian(21, sigma_px, sigma_px, 0.0) if kernel is None else kernel
    return SectionStatistics(found, np.zeros(24, np.float32), 0.0, noise / 255, known)


@pytest.mark.parametrize(
    ("read", "scale", "said"),
    [
        (
            statistics(0.58, sigma_error_px=0.08),
            1,
            "blurred by 0.58 +- 0.08 px (input pixels), noise 0.4 of 255, no JPEG: a run restores it",
        ),
        (
            statistics(1.16, sigma_error_px=0.16),
            2,
            "blurred by 0.58 +- 0.08 px (input pixels, averaging of the pixel included), noise 0.4 of 255, no JPEG: "
            "a run restores and enlarges it",
        ),
        (
            statistics(0.58),
            1,
            "blurred by 0.58 px (input pixels), noise 0.4 of 255, no JPEG: a run restores it",
        ),
        (
            statistics(0.36, sigma_error_px=0.08),
            1,
            "sharp for its pixel grid, noise 0.4 of 255, no JPEG: a run hardly changes it",
        ),
        (statistics(0.02, 0.0), 1, "sharp for its pixel grid, no noise, no JPEG: a run hardly changes it"),
        (
            statistics(0.5, 0.0),
            2,
            "sharp for its pixel grid, no noise, no JPEG: a run enlarges it and undoes no blur but the averaging of the "
            "pixel",
        ),
        (
            statistics(0.1, 3.0, 85.0),
            1,
            "sharp for its pixel grid, noise 3.0 of 255, JPEG of quality 85: a run takes the noise and the JPEG's blocks "
            "out",
        ),
        (
            statistics(0.5, 3.0),
            2,
            "sharp for its pixel grid, noise 3.0 of 255, no JPEG: a run enlarges it and takes the noise out",
        ),
        (
            statistics(0.6, given="blur"),
            1,
            "blurred by 0.6 px as told, noise 0.4 of 255, no JPEG: a run restores it",
        ),
        (
            statistics(0.2, 2.5, given="blur, noise"),
            1,
            "blurred by 0.2 px as told, noise 2.5 of 255 as told, no JPEG: a run restores it",
        ),
        (
            statistics(0.5, 0.0, given="blur, noise"),
            2,
            "soft by nature as told, noise 0 of 255 as told, no JPEG: a run enlarges it and undoes no blur but the "
            "averaging of the pixel",
        ),
        (
            statistics(3.1, kernel=narrowed(gaussian(21, 3.1), 2.5)),
            1,
            "blurred by 3.10 px (input pixels), noise 0.4 of 255, no JPEG: a run undoes 2.52 px of it",
        ),
    ],
)
def test_the_sentence_is_that_of_the_numbers(read: SectionStatistics, scale: int, said: str) -> None:
    assert sentence(read, scale) == said


def test_what_reads_nothing_says_nothing() -> None:
    plain = np.ones((1, 1), np.float32), np.zeros(24, np.float32)
    assert sentence(SectionStatistics(*plain, 0.0, 0.0), 1) == ""
    assert of_sections([{"z": 0, "says": ""}]) == ""
    empty = sentence(SectionStatistics(*plain, 0.0, 0.0, {"windows": 0, "likeness": 0.0}), 1)
    assert empty == "no tissue, so that nothing was read: a run takes blur and noise for unknown"
    noisy = SectionStatistics(*plain, 0.0, 1.5 / 255, {"windows": 4, "noise_sigma": 1.5 / 255})
    assert sentence(noisy, 2) == "noise 1.5 of 255: the method reads no blur and takes none out"


def test_noise_that_grows_with_the_grey_counts_as_in_tissue() -> None:
    shot = SectionStatistics(
        gaussian(21, 1.0), np.zeros(24, np.float32), 2e-4, 0.0, {"windows": 1, "sigma_px": 1.0}
    )
    assert "noise 3.0 of 255" in sentence(shot, 1)


def test_many_sections_are_summed_up() -> None:
    empty = SectionStatistics(gaussian(21, 1.0), np.zeros(24, np.float32), 0.0, 0.0, {"windows": 0})
    read = [statistics(sigma) for sigma in (0.55, 0.1, 0.7)]
    readings = [reading(each, z, 1) for z, each in enumerate([*read, empty])]
    assert readings[0]["says"] == sentence(read[0], 1)
    assert [each.get("sharp") for each in readings] == [False, True, False, None]
    assert of_sections(readings) == (
        "of 4 sections 2 blurred by 0.55 to 0.70 px (input pixels), 1 sharp for the pixel grid, 1 without a reading of "
        "blur"
    )
    assert of_sections(readings[:1]) == sentence(read[0], 1)
    assert json.loads(json.dumps(readings)) == readings


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_file(tmp_path_factory.mktemp("model"), with_prior=False)


def test_profile_log_and_report_say_the_same(
    tmp_path: Path,
    tissue: np.ndarray,
    model: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:480, :480]))
    flags = ("--model", model, "--blur", "0.8", "--noise", "2.5")
    assert call("profile", source, *flags) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("in words "))
    said = line.removeprefix("in words ").strip()
    assert said.startswith("blurred by 0.8 px as told, noise 2.5 of 255 as told, ")
    assert call("profile", source, *flags, "--json") == 0
    assert json.loads(capsys.readouterr().out)["says"] == said
    out = tmp_path / "out.zarr"
    with caplog.at_level(logging.INFO, "bigrestore"):
        summary = restore(source, out, model=model, blur=0.8, noise=2.5, progress="none", precision="fp32")
        told = [record.getMessage() for record in caplog.records if said in record.getMessage()]
        assert len(told) == 1
        assert told[0] == f"Section 0: {said}"
        restore(source, out, model=model, blur=0.8, noise=2.5, progress="none", precision="fp32", resume=True)
        assert sum(said in record.getMessage() for record in caplog.records) == 1
    folder = Path(summary.report.folder)
    (read,) = json.loads((folder / "summary.json").read_text())["facts"]["read"]
    assert read == {"z": 0, "says": said, "sigma_input_px": 0.8, "sharp": False}
    assert f"What was read of the input: {said}." in (folder / "report.html").read_text()
    assert ("read", said) in summary.rows()


def test_a_volume_has_the_sentence_of_each_section_in_its_table(
    tmp_path: Path, tissue: np.ndarray, model: Path
) -> None:
    volume = np.stack([tissue[:480, :480], tissue[200:680, :480]])
    source = save_zarr(tmp_path / "in.zarr", volume)
    summary = restore(source, tmp_path / "out.zarr", model=model, blur=0.8, progress="none", precision="fp32")
    folder = Path(summary.report.folder)
    read = json.loads((folder / "summary.json").read_text())["facts"]["read"]
    assert [each["z"] for each in read] == [0, 1]
    page = (folder / "report.html").read_text()
    assert "of 2 sections 2 blurred by 0.80 px (input pixels)" in page
    assert all(html.escape(each["says"]) in page for each in read)


def test_a_method_that_reads_nothing_adds_nothing_to_log_or_report(
    tmp_path: Path, tissue: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    source = save_zarr(tmp_path / "in.zarr", np.ascontiguousarray(tissue[:480, :480]))
    with caplog.at_level(logging.INFO, "bigrestore"):
        summary = go(source, tmp_path / "out.zarr", Fir(), report=True)
    assert "read" not in json.loads((Path(summary.report.folder) / "summary.json").read_text())["facts"]
    assert "Section 0: tissue" in caplog.text
    assert not [row for row in summary.rows() if row[0] == "read"]
