"""`profile` of a volume: a line for each section, with the gain that crops of it promise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from prior_toys import model_file
from scipy.ndimage import gaussian_filter

from bigrestore.io.open_section import open_section
from bigrestore.model.method import SectionStatistics, TileBatch, TileResult
from bigrestore.model.registry import create_method
from bigrestore.run.profile import expected
from bigrestore.run.profile.expected import (
    Signs,
    band_powers,
    expected_gain,
    read_gains,
    section_gain,
    signs_of,
)
from bigrestore.run.profile.section_profile import sample_section
from bigrestore.run.profile.triage import HEADER
from bigrestore.settings import RunSettings

FITTED = {"foretold_db": [0.5, 4.0], "weights": [-1.0, 0.5, -0.1], "spread_db": 0.7}


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory, tissue: np.ndarray) -> Path:
    """Return five sections: as they are, blurred, noisy, without tissue, and one whose chunk is damaged."""
    sharp = np.ascontiguousarray(tissue[:300, :300]).astype(float)
    chance = np.random.default_rng(0)
    sections = [
        sharp,
        gaussian_filter(sharp, 1.5),
        sharp + chance.normal(0, 9, sharp.shape),
        0 * sharp + 240,
        sharp,
    ]
    path = tmp_path_factory.mktemp("volume") / "in.zarr"
    pixels = np.clip(np.rint(sections), 0, 255).astype(np.uint8)
    zarr.create_array(path, data=pixels, chunks=(1, 300, 300))
    (path / "c" / "4" / "0" / "0").write_bytes(b"no chunk")
    return path


def test_every_section_has_a_line(
    volume: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("profile", volume, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["z"] for line in lines] == [0, 1, 2, 3, 4]
    assert lines[1]["sigma_px"] > lines[0]["sigma_px"] + 0.5
    assert lines[2]["noise"] > lines[0]["noise"] + 4
    assert lines[3]["sigma_px"] is None
    assert "no tissue" in lines[3]["says"]
    assert lines[4]["says"].startswith("cannot be read")
    assert [line["gain_db"] is not None for line in lines[1:]] == [True, True, False, False]
    assert lines[1]["gain_spread_db"] == (read_gains("tiny-x1") or {})["spread_db"]


def test_people_get_columns_and_every_so_many(
    volume: Path, tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("profile", volume, "--every", 2, "--model", model_file(tmp_path, with_prior=False)) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header == HEADER
    assert [line.split()[0] for line in lines] == ["0", "2", "4"]
    assert lines[0].index("sharp" if "sharp" in lines[0] else "blurred") == HEADER.index("in words")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("-o", "lines.json"), "takes the profile of one section"),
        (("--every", 2, "--z", 1), "leave it out here"),
        (("--every", 0), "whole number"),
        (("--every", 2, "--neighbours"), "leave it out here"),
        (("--no-gain", "--z", 1), "leave it out here"),
        (("--no-gain", "--harmonise"), "leave it out here"),
    ],
)
def test_what_goes_with_one_section_only_is_refused(
    volume: Path,
    flags: tuple[object, ...],
    says: str,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("profile", volume, *flags) == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_without_gain_no_crop_is_restored(
    volume: Path,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(expected, "signs_of", lambda *_: pytest.fail("a crop was restored"))
    assert call("profile", volume, "--json", "--no-gain") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["gain_db"] for line in lines] == [None] * 5


@pytest.mark.parametrize(
    ("foretold", "fall", "wanted"), [(2.0, -10.0, 1.0), (0.0, 0.0, -0.75), (9.0, -20.0, 3.0), (4.0, 5.0, 0.5)]
)
def test_the_gain_follows_signs_within_the_limits_of_the_fit(
    foretold: float, fall: float, wanted: float
) -> None:
    assert expected_gain(FITTED, Signs(foretold, fall)) == (pytest.approx(wanted), 0.7)


class Halving:
    """A method that takes half of a crop's distance from 0.5 and states an error of 0.1 everywhere."""

    name, scale, halo_px, alignment_px, exact, map_names = "halving", 1, 0, 16, True, ("uncertainty",)

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        assert batch.realness is not None
        assert not batch.realness.any()
        pixels = 0.5 + (batch.pixels - 0.5) / 2
        return TileResult(pixels, None, {"uncertainty": np.full_like(pixels, 0.1)})


@pytest.mark.parametrize("sides", [(64, 64), (100, 70), (256, 256)])
def test_signs_are_the_change_against_the_stated_error(sides: tuple[int, int]) -> None:
    crop = np.full(sides, 0.9, np.float32)
    signs = signs_of(Halving(), [crop, crop], None)  # type: ignore[arg-type]
    assert signs is not None
    assert signs.foretold_db == pytest.approx(10 * np.log10(1 + 0.2**2 / 0.02), abs=1e-4)
    assert signs.fall_db == 0


@pytest.mark.parametrize("sides", [(63, 400), (16, 16), (1, 1)])
def test_a_crop_that_is_too_small_says_nothing(sides: tuple[int, int]) -> None:
    assert signs_of(Halving(), [np.zeros(sides, np.float32)], None) is None  # type: ignore[arg-type]


def test_white_noise_has_the_power_of_its_variance_in_both_bands() -> None:
    noise = np.random.default_rng(0).normal(0.5, 3 / 255, (256, 256)).astype(np.float32)
    assert band_powers(noise) == pytest.approx((9, 9), rel=0.1)


def test_a_sharper_section_falls_by_less(tissue: np.ndarray) -> None:
    sharp = tissue[:256, :256].astype(np.float32) / 255
    falls = [np.divide(*band_powers(gaussian_filter(sharp, sigma))) for sigma in (0.5, 1.0, 1.5)]
    assert falls == sorted(falls)


def test_a_crop_that_cannot_be_read_is_left_out(tmp_path: Path, tissue: np.ndarray) -> None:
    side = 1024
    soft = gaussian_filter(np.resize(tissue, (side, side)).astype(float), 1.5)
    path = tmp_path / "in.zarr"
    zarr.create_array(path, data=soft.astype(np.uint8)[None], chunks=(1, 256, 256))
    section = open_section(path)
    sample = sample_section(section, 0)
    (path / "c" / "0" / "0" / "0").write_bytes(b"torn")
    method = create_method(RunSettings(realness=0.0))
    known = section_gain(open_section(path), 0, sample, method, method.analyse(sample.windows))
    assert known is not None
    assert np.isfinite(known[0])


@pytest.mark.parametrize("method", ["rational", "wiener"])
def test_methods_that_state_no_error_expect_nothing(method: str, tmp_path: Path, tissue: np.ndarray) -> None:
    zarr.save_array(tmp_path / "in.zarr", tissue[:128, :128])
    section = open_section(tmp_path / "in.zarr")
    made = create_method(RunSettings(method=method))
    sample = sample_section(section, 0)
    assert section_gain(section, 0, sample, made, made.analyse(sample.windows)) is None


def test_models_without_fitted_numbers_expect_nothing() -> None:
    assert read_gains("../nothing") is None
