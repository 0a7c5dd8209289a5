"""The bench of the twin: pairs, spectra, residuals and the grid on images whose figures are known beforehand."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from bigrestore.model.method import SectionStatistics
from bigrestore.model.nets.checkpoint import save_model
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.model.nets.restorer import Restorer
from bigrestore.settings.presets import get_preset
from tests.bench.material import ValidationImage
from tests.bench.twin import __main__ as twin
from tests.bench.twin import gains, goals, grid, judge, pairs, pictures, residual, spectra


def noise_image(height: int, width: int, seed: int = 0, sd: float = 20.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(128, sd, (height, width))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def waves(height: int, width: int, period_px: float = 24.0) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    values = 128 + 50 * np.sin(2 * np.pi * x / period_px) * np.sin(2 * np.pi * y / period_px)
    return np.rint(values).astype(np.uint8)


def test_a_pair_is_in_register_and_its_input_is_soft() -> None:
    image = ValidationImage("waves", waves(400, 440))
    for scale in (1, 2):
        pair = pairs.make_pair(image, scale)
        assert pair.low.shape == (200, 220)
        assert pair.target.shape == (200 * scale, 220 * scale)
        apart = gains.fidelity(gains.reference_of(pair), pair)
        displaced = gains.fidelity(np.roll(gains.reference_of(pair), 1, axis=1), pair)
        assert apart > displaced + 6
    sharp = pairs.make_pair(ValidationImage("noise", noise_image(400, 440)), 1)
    assert sharp.low.std() < 0.5 * sharp.target.std(), "without the optics it would be 0.58"


def test_both_scales_have_the_same_input_and_targets_of_the_same_scan() -> None:
    image = ValidationImage("noise", noise_image(300, 260))
    one, two = (pairs.make_pair(image, scale) for scale in (1, 2))
    np.testing.assert_array_equal(one.low, two.low)
    means = pairs.means_of_four(two.target.astype(np.float64))
    assert np.abs(means - one.target).max() <= 1.0
    assert pairs.make_pair(image, 1, seed=2).low.tolist() != one.low.tolist()


def test_a_flat_scan_keeps_less_noise_than_a_grey_level() -> None:
    pair = pairs.make_pair(ValidationImage("flat", np.full((300, 300), 140, np.uint8)), 1)
    assert (pair.target == 140).all()
    assert pair.low.mean() == pytest.approx(140, abs=0.05)
    assert 0.3 < pair.low.std() < 0.7, "noise 1.2 over four pixels, interpolated twice, and rounding"


def test_the_shift_stays_within_two_waves_and_is_smooth() -> None:
    shift = pairs.draw_shift(400, 500, np.random.default_rng(1))
    assert np.abs(shift).max() <= 2 * pairs.SHIFT_PX
    assert np.abs(shift).max() > pairs.SHIFT_PX / 2
    assert np.abs(np.diff(shift, axis=1)).max() < 2 * pairs.SHIFT_PX * 2 * np.pi / pairs.PERIODS_PX[0]


def test_the_middle_of_a_pair_compares_as_many_pixels_as_are_asked_for() -> None:
    pair = pairs.make_pair(ValidationImage("noise", noise_image(400, 440)), 2).middle(64)
    assert pair.inside(pair.low).shape == (64, 64)
    assert pair.inside(pair.target).shape == (128, 128)


@pytest.mark.parametrize("scale", [1, 2])
def test_the_best_kernel_is_the_one_that_made_the_input(scale: int) -> None:
    side = residual.KERNEL_SIDE[scale]
    rng = np.random.default_rng(3)
    kernel = rng.random((side, side)) ** 4
    kernel /= kernel.sum()
    target = rng.integers(0, 256, (120, 140), np.uint8)
    offset = -3  # three output pixels before the only, or the first, one of the input pixel
    taps = np.pad(target.astype(np.float64), side, mode="edge")
    height, width = 120 // scale, 140 // scale
    low = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            top, left = scale * y + offset + side, scale * x + offset + side
            low[y, x] = (taps[top : top + side, left : left + side] * kernel).sum()
    rounded = np.rint(low).astype(np.uint8)
    np.testing.assert_allclose(residual.best_kernel(target, rounded, scale), kernel, atol=2e-3)
    assert residual.residual_rms(target, rounded, kernel, scale) == pytest.approx(12**-0.5, rel=0.05), (
        "rounding"
    )


def test_the_residual_of_the_target_is_one_and_that_of_a_shifted_one_is_more() -> None:
    for scale in (1, 2):
        pair = pairs.make_pair(ValidationImage("waves", waves(400, 440, 9.0)), scale)
        assert residual.residual_ratio(pair.target, pair) == pytest.approx(1.0)
        assert residual.residual_ratio(np.roll(pair.target, 1, axis=0), pair) > 3


def test_lines_at_nyquist_are_told_apart() -> None:
    image = noise_image(400, 500, sd=10.0).astype(np.float64)
    y, x = np.mgrid[:400, :500]

    def lines(pattern: np.ndarray | float) -> dict[str, float]:
        return spectra.nyquist_lines(np.rint(image + pattern).astype(np.uint8))

    plain = lines(0.0)
    assert all(0.5 < ratio < 2 for ratio in plain.values())
    checkerboard = lines(1.0 - 2.0 * ((y + x) % 2))
    assert 10 * np.log10(checkerboard["checkerboard"]) > 15
    assert checkerboard["columns"] < 2 * plain["columns"]
    columns = lines((1.0 - 2.0 * (x % 2)) * image.mean(axis=1, keepdims=True) / 128 * np.cos(y / 9))
    assert columns["columns"] > 3
    assert columns["rows"] == pytest.approx(plain["rows"], rel=0.2)
    rows = lines((1.0 - 2.0 * (y % 2)) * np.cos(x / 9))
    assert rows["rows"] > 3
    assert rows["columns"] == pytest.approx(plain["columns"], rel=0.2)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0])
def test_the_fall_of_a_power_law_is_the_one_of_its_formula(exponent: float) -> None:
    side = 512
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)).clip(1 / side)
    white = np.random.default_rng(5).normal(size=(side, side))
    field = np.fft.irfft2(np.fft.rfft2(white) * frequency ** (-exponent / 2), (side, side))
    image = np.clip(np.rint(128 + 25 * field / field.std()), 0, 255).astype(np.uint8)
    formula = 10 * exponent * np.log10(0.484 / 0.141)
    assert spectra.spectral_fall_db(image) == pytest.approx(formula, abs=0.6)


def test_a_wave_lies_in_the_ring_of_its_frequency() -> None:
    y, x = np.mgrid[: spectra.WINDOW_PX, : spectra.WINDOW_PX]
    wave = 128 + 50 * np.cos(2 * np.pi * (25 * y + 25 * x) / spectra.WINDOW_PX)
    power = spectra.radial_power([wave.astype(np.uint8)])
    assert int(np.argmax(power)) == 18, "25 sqrt(2) / 128 is 17.7 / 64 cycles/px"


def test_glass_does_not_count_as_tissue() -> None:
    image = np.full((384, 384), 250, np.uint8)
    image[:, :192] = noise_image(384, 192)
    windows = spectra.tissue_windows(image)
    assert len(windows) == 15, "five rows of three places that are tissue by half at least"
    assert np.isnan(spectra.spectral_fall_db(image[:100, :100]))


def test_a_blurred_wave_loses_what_the_transfer_function_says() -> None:
    x = np.arange(256)
    for period_px in (2, 4, 8):
        wave = np.tile(100 * np.cos(2 * np.pi * x / period_px), (256, 1))
        for sigma in (0.0, 0.4, 1.0):
            blurred = grid.gaussian_blurred(wave, sigma)[64:-64, 64:-64]
            expected = np.exp(-2 * np.pi**2 * sigma**2 / period_px**2)
            assert blurred[0, 0] == pytest.approx(100 * expected, abs=0.5)


def test_a_cell_has_the_noise_it_is_named_after_and_never_changes() -> None:
    image = ValidationImage("flat", np.full((200, 200), 100, np.uint8))
    noisy = grid.degraded(image, 1.0, 3.0)
    assert noisy.shape == (152, 152)
    assert noisy.std() == pytest.approx(3.0, rel=0.05)
    np.testing.assert_array_equal(noisy, grid.degraded(image, 1.0, 3.0))
    assert (grid.degraded(image, 1.0, 0.0) == 100).all()


@pytest.mark.parametrize("scale", [1, 2])
def test_a_kernel_that_is_told_is_read_back_and_centred_on_input_pixels(scale: int) -> None:
    kernel = gains.told_kernel(0.8, scale).astype(np.float32)
    statistics = SectionStatistics(kernel, np.zeros(24, np.float32), 0.0, 0.0)
    assert gains.read_sigma(statistics, scale) == pytest.approx(0.8, abs=0.01)
    ramp = torch.arange(64 * scale, dtype=torch.float32).expand(1, 1, 64 * scale, -1)
    again = redegrade(ramp, torch.from_numpy(kernel), scale)[0, 0, 32]
    middles = torch.arange(64) * scale + (scale - 1) / 2
    torch.testing.assert_close(again[10:-10], middles[10:-10], atol=1e-3, rtol=0)


def cell(sigma: float, noise: float, read: float, stated: float | None = None) -> dict[str, float | None]:
    return {"sigma": sigma, "noise": noise, "read": read, "stated_error": stated}


def test_errors_of_the_grid() -> None:
    cells = [cell(0.4, 0, 0.45, 0.1), cell(2.0, 1, 2.23, 0.2), cell(1.0, 0.3, 0.6), cell(1.0, 3, 1.5, 0.6)]
    measured = grid.errors([*cells, cell(2.0, 8, 1.0, 0.3)])
    assert measured["error_median"] == pytest.approx(0.23)
    assert measured["error_worst"] == pytest.approx(0.4)
    assert measured["within"] == pytest.approx(2 / 3), "0.23 of 2 px is within 12 %"
    assert measured["too_wide"] == pytest.approx(0.5)
    assert measured["covered"] == pytest.approx(0.5)
    assert grid.errors([cell(1, 0, 1), cell(1, 3, 1)])["covered"] is None
    assert set(grid.errors([]).values()) == {None}


def test_an_interval_meets_a_target_by_its_upper_end() -> None:
    goal = goals.GOALS["x1 niqe"]
    assert [goal.figure(value).met for value in ([-1.0, -2.0, -0.1], [-1.0, -2.0, 0.1], [-1.0])] == [
        True,
        False,
        None,
    ]
    assert goal.figure([-1.0, -2.0, -0.1]).measured == "-1.00 (-2.00 to -0.10)"


def test_what_cannot_be_measured_is_said() -> None:
    assert goals.GOALS["x1 residual"].figure(None).measured == goals.NEVER
    assert goals.GOALS["x1 residual"].figure(None).met is None
    covered = goals.GOALS["sigma covered"].figure(None)
    assert (covered.measured, covered.met) == (goals.UNSTATED, False)


def test_the_history_keeps_a_column_a_label(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    goals.add_history("old", {"x1 blind": 0.01, "x1 residual": None}, path=path)
    goals.add_history("new", {"x1 blind": 2.2}, path=path)
    goals.add_history("old", {"x2 blind": 1.0}, {"gains x2": {"one": 1.0}}, path)
    columns = goals.read_history(path)
    assert [column["label"] for column in columns] == ["old", "new"]
    assert columns[0]["gains x2"] == {"one": 1.0}
    rows = goals.markdown(columns).splitlines()
    assert rows[0] == "| figure | target | old | new |"
    assert rows[2].endswith("| >= +2.1 dB | +0.01 dB | +2.20 dB |")
    assert rows[4].endswith("| +1.00 dB |  |")
    assert len(rows) == 5


def test_the_history_in_the_repository_knows_every_figure_it_names() -> None:
    columns = goals.read_history()
    assert columns
    for column in columns:
        assert set(column["figures"]) <= set(goals.GOALS)


def test_a_picture_shows_the_place_with_most_detail() -> None:
    target = np.full((400, 440), 100, np.uint8)
    target[200:300, 240:340] = noise_image(100, 100)
    target[:, 120:] += 60  # an edge is no detail to prefer
    low = target[::2, ::2]
    pair = pairs.TwinPair("one", 2, low, target)
    y, x = pictures.structured_place(pair)
    assert 190 < y < 215
    assert 230 < x < 255
    assert y % 2 == x % 2 == 0
    drawn = pictures.sheet(pair, target)
    assert drawn.shape == (4 * 96, 4 * 4 * 96 + 3 * pictures.GAP_PX)
    np.testing.assert_array_equal(drawn[::4, -384::4], target[y : y + 96, x : x + 96])


@pytest.fixture
def tissue_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    grey = (data.immunohistochemistry() @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    (tmp_path / "data/val/twin").mkdir(parents=True)
    Image.fromarray(grey[:300, :300]).save(tmp_path / "data/val/human_cortex_one__a.png")
    Image.fromarray(grey[:470, :470]).save(tmp_path / "data/val/twin/brain_section_dab_mouse__1_s7.png")
    monkeypatch.setenv("BIGRESTORE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("tests.bench.metrics.RESULTS", tmp_path / "results")
    monkeypatch.setattr(grid, "SIGMAS", (0.0, 1.0))
    monkeypatch.setattr(grid, "NOISES", (0.0, 3.0))
    monkeypatch.setattr(gains, "TOLD_SIGMAS", (0.6,))
    return tmp_path


def toy(folder: Path, scale: int) -> str:
    torch.manual_seed(0)
    restorer = Restorer(get_preset("nano"), scale, with_prior=True).eval()
    path = folder / f"toy-x{scale}.safetensors"
    save_model(path, restorer, {"halo_px": 64, "halo_prior_px": 64, "training": "none"})
    return str(path)


def options_of(*words: str) -> argparse.Namespace:
    return twin.arguments(words)


def test_two_models_are_judged_from_the_command_line(
    tissue_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [toy(tissue_folder, scale) for scale in (1, 2)]
    folder = tissue_folder / "pictures"
    twin.judge_all(options_of("--model", *models, "--pictures", str(folder)))
    shown = capsys.readouterr().out
    for row in ("mouse s7", "human cortex", "NIQE", "realness 1", "stated error covers the true sigma in"):
        assert row in shown
    assert "\ntoy-x2 x2 | " in shown
    assert len(list(folder.glob("*.png"))) == 4
    assert (tissue_folder / "results/twin.json").is_file()


def test_only_gains_are_measured_where_only_they_are_asked_for(tissue_folder: Path) -> None:
    model = gains.Model(toy(tissue_folder, 1), 1)
    results = twin.measure_model(model, options_of("--gain-only").parts, 96)
    assert set(results) >= {"gains", "gains_default"}
    assert not {"scores", "residuals", "lines", "grid"} & set(results)
    assert set(goals.summary(results)) == {key for key in goals.GOALS if key.startswith("x1 ")} - {
        "x1 niqe",
        "x1 brisque",
        "x1 piqe",
        "x1 residual",
        "x1 lines",
        "x1 lines, realness 0",
    }


def test_only_images_with_a_clear_gain_are_asked_for_their_residual(
    tissue_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = judge.Restorations(gains.Model(toy(tissue_folder, 1), 1), pairs.twin_pairs(1, crop_px=96))
    monkeypatch.setattr(made, "gains", lambda realness: [1.0, 0.99])
    first, second = judge.judge_residuals(made)
    assert first["ratio"] > 0
    assert second["ratio"] is None


def test_bad_options_are_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--only", "gains,beauty"], ["--history", "x", "--crop", "256"], ["--crop", "50"]):
        with pytest.raises(SystemExit):
            options_of(*words)
    said = capsys.readouterr().err
    for sentence in ("no part beauty", "leave --crop and --seed out", "--crop is 50"):
        assert sentence in said
