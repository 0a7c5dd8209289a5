"""Blur and noise by hand: a kernel of another width than was stated restores wrongly, one beside its place moves tissue."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from scipy.ndimage import shift

from bigrestore.core.kernels import (
    defocus,
    delta,
    equivalent_sigma,
    fold_downsampling,
    gaussian,
    kernel_size,
    matched_gaussian,
    motion,
)
from bigrestore.core.stated_blur import SMALLEST_SHIFT_PX, averaging_sigma_px, blur_kernel, placed_kernel
from bigrestore.degradation.api import degrade
from bigrestore.degradation.degradation import nothing
from bigrestore.degradation.given import Given
from bigrestore.degradation.recipe import draw_degradations
from bigrestore.degradation.schema import Recipe
from bigrestore.errors import OutputExistsError, UsageError
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.settings.values import StatedBlur


def made(blur: StatedBlur | float, scale: int) -> np.ndarray:
    full = blur if isinstance(blur, tuple) else (blur, blur, 0.0)
    return blur_kernel(full, scale, kernel_size(scale) / 6, "the kernel holds at most")


def moments(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centre of mass and covariance, both (y, x)."""
    weights, at = kernel.astype(np.float64).ravel(), np.indices(kernel.shape).reshape(2, -1)
    return at @ weights, np.cov(at, aweights=weights, bias=True)


@pytest.mark.parametrize(
    ("scale", "sigmas"),
    [
        (1, [0.01, 0.1, *np.arange(0.2, 2.55, 0.1)]),
        (2, [0.25, 0.26, *np.arange(0.3, 1.75, 0.1), 1.75]),
        (4, [0.2796, 0.3, 0.5, 0.8, 1.125]),
    ],
)
def test_a_kernel_has_the_stated_sigma(scale: int, sigmas: list[float]) -> None:
    for sigma in sigmas:
        kernel = made(sigma, scale)
        assert equivalent_sigma(kernel) / scale == pytest.approx(sigma, abs=0.01, rel=0.01), sigma
        assert kernel.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
        middle = kernel_size(scale) // 2 + (0.5 if scale > 1 else 0)
        assert moments(kernel)[0] == pytest.approx([middle] * 2, abs=SMALLEST_SHIFT_PX)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0])
def test_sigma_is_along_the_angle_from_x_towards_y(scale: int, angle: float) -> None:
    covariance = moments(made((1.1, 0.6, angle), scale))[1] / scale**2
    turn = math.radians(angle)
    along, across = np.array([math.sin(turn), math.cos(turn)]), np.array([math.cos(turn), -math.sin(turn)])
    assert math.sqrt(along @ covariance @ along) == pytest.approx(1.1, abs=0.01)
    assert math.sqrt(across @ covariance @ across) == pytest.approx(0.6, abs=0.01)
    assert along @ covariance @ across == pytest.approx(0, abs=0.01)


def test_no_blur_is_the_averaging_alone() -> None:
    assert np.array_equal(made(0.0, 1), delta(21))
    for scale in (2, 4):
        area = fold_downsampling(delta(kernel_size(scale)), "area", scale)
        assert np.array_equal(made(0.0, scale), area)
        assert equivalent_sigma(area) / scale == pytest.approx(averaging_sigma_px(scale))


@pytest.mark.parametrize(
    ("scale", "blur", "words"),
    [
        (2, 0.1, "averaging 2 x 2 output pixels alone is 0.25; give 0.25 or more, or 0"),
        (4, 0.27, "alone is 0.2795; give 0.28 or more, or 0"),
        (2, (0.6, 0.2, 10.0), "--blur is 0.6,0.2,10 in input pixels"),
        (1, 3.6, "holds at most 3.5; give 3.5 or less"),
        (2, (0.5, 1.8, 0.0), "at most 1.75"),
    ],
)
def test_a_blur_that_cannot_be_is_a_sentence(scale: int, blur: Any, words: str) -> None:
    with pytest.raises(UsageError, match=r"--blur") as info:
        made(blur, scale)
    assert words in str(info.value)
    assert str(info.value).endswith(".")


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize(
    "kernel", [gaussian(21, 1.2), gaussian(9, 0.4), defocus(15, 3.0), motion(21, 8.0, 0.5)]
)
@pytest.mark.parametrize("move", [(0.3, -0.45), (-2.6, 1.2)])
def test_a_kernel_beside_its_place_is_moved_there_and_warned_of(
    scale: int, kernel: np.ndarray, move: tuple[float, float], caplog: pytest.LogCaptureFixture
) -> None:
    beside = np.clip(shift(np.pad(kernel, 4), move, order=1), 0, None)
    moved = placed_kernel(beside / beside.sum(), scale, 41)
    middle = moved.shape[0] // 2 + (0.5 if scale > 1 else 0)
    assert moments(moved)[0] == pytest.approx([middle] * 2, abs=0.005)
    assert moved.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    assert moved.shape[0] % 2 == 1
    assert moved.min() >= 0
    place = 0.5 if scale > 1 else 0.0
    assert f"{move[0] - place:+.2f} rows and {move[1] - place:+.2f} columns" in caplog.text


def test_moving_a_smooth_kernel_does_not_widen_it() -> None:
    kernel = gaussian(25, 1.2)
    again = placed_kernel(shift(kernel, (0.5, 0.5), order=5), 1, 29)
    assert equivalent_sigma(again) == pytest.approx(1.2, abs=0.01)
    assert np.abs(again - np.pad(kernel, (again.shape[0] - 25) // 2)).max() < 1e-3


def test_a_kernel_in_its_place_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    for scale, kernel in ((1, gaussian(21, 0.7)), (2, fold_downsampling(gaussian(21, 1.0), "area", 2))):
        assert np.array_equal(placed_kernel(kernel, scale, 21), kernel)
    near = np.clip(shift(gaussian(21, 1.0), (0.04, 0), order=3), 0, None)
    assert moments(near / near.sum())[0] == pytest.approx([10.04, 10], abs=2e-3)
    assert moments(placed_kernel(near, 1, 25))[0] == pytest.approx([12, 12], abs=2e-3)
    assert not caplog.text, "four hundredths of a pixel are nothing to speak of"


RECIPE = {
    "name": "much",
    "identity_probability": 0.3,
    "blur": {"probability": 1.0},
    "noise": {"probability": 1.0},
    "second_pass": {"probability": 0.7, "noise": {"probability": 1.0}},
    "scanning": {"factors": {"1": 0.5, "2": 0.5}},
    "resampling": {"probability": 0.5},
}


@pytest.mark.parametrize("scale", [1, 2])
def test_what_is_given_holds_for_every_draw_and_nothing_else_changes(scale: int) -> None:
    drawn = draw_degradations(Recipe.from_dict(RECIPE), scale, 60, np.random.default_rng(0))
    assert {each.identity for each in drawn} == {True, False}
    assert {(each.second is None, each.resampling is None) for each in drawn} == {
        *((True, True), (True, False), (False, True), (False, False)),
    }
    given = Given(blur="0.6,0.4,30", noise=3)
    for before, after in ((each, given.replace(each)) for each in drawn):
        assert np.allclose(after.effective_kernel, given.kernel(scale), atol=1e-6)
        assert after.effective_noise == pytest.approx((0.0, 3 / 255))
        assert not after.identity
        assert (after.stain, after.damage, after.lines, after.storage) == (
            before.stain,
            before.damage,
            before.lines,
            before.storage,
        )
        blurred = Given(blur=0.6).replace(before)
        assert blurred.scan_noise == before.scan_noise
        noisy = Given(noise=3).replace(before)
        assert np.allclose(noisy.effective_kernel, before.effective_kernel, atol=1e-6)
        assert noisy.resampling == before.resampling
        assert noisy.effective_noise == pytest.approx((0.0, 3 / 255))
        assert Given().replace(before).to_dict() == before.to_dict()


def test_no_blur_and_no_noise_leave_a_section_as_it_is() -> None:
    made = Given(blur=0, noise=0).replace(nothing(2))
    assert np.array_equal(made.effective_kernel, nothing(2).kernel)
    assert (made.kind, made.effective_noise) == ("none", (0.0, 0.0))


@pytest.fixture
def section(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    image = np.kron(rng.standard_normal((50, 50)), np.ones((6, 6))) * 30 + 128
    path = tmp_path / "clean.png"
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path)
    return path


PLAIN = {"name": "plain", "identity_probability": 1.0}


@pytest.mark.parametrize("whole", [False, True])
def test_degrade_does_what_was_given(section: Path, tmp_path: Path, whole: bool) -> None:
    size: dict[str, Any] = {"whole": True} if whole else {"count": 2, "patch_px": 64}
    options: dict[str, Any] = {"scale": 2, "recipe": Recipe.from_dict(PLAIN), "progress": "none", **size}
    table = degrade(section, tmp_path / "out", blur=0.6, noise=4, **options)
    rows = pq.read_table(table).to_pylist()
    assert {row["kind"] for row in rows} == {"gaussian"}
    assert rows[0]["sigma_px"] / 2 == pytest.approx(0.6, abs=0.005)
    facts = json.loads(pq.read_table(table).schema.metadata[b"bigrestore"])
    assert (facts["blur"], facts["noise"]) == ([0.6, 0.6, 0.0], 4)
    if not whole:
        lq, hq = (np.asarray(Image.open(table.parent / rows[0][side]), np.float32) for side in ("lq", "hq"))
        again = redegrade(torch.from_numpy(hq)[None, None], torch.tensor(rows[0]["kernel"]), 2)[0, 0].numpy()
        assert (lq - again)[8:-8, 8:-8].std() == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize("blur", [None, 0.7])
def test_a_whole_section_resumes_only_with_the_same_blur(
    section: Path, tmp_path: Path, blur: float | None
) -> None:
    options: dict[str, Any] = {"whole": True, "recipe": Recipe.from_dict(PLAIN), "progress": "none"}
    degrade(section, tmp_path / "out", blur=0.6, **options)
    degrade(section, tmp_path / "out", blur="0.6", resume=True, **options)
    with pytest.raises(OutputExistsError, match=r"blur was \[0.6, 0.6, 0.0\], now"):
        degrade(section, tmp_path / "out", blur=blur, resume=True, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"blur": -1}, "--blur is -1"),
        ({"blur": "wide"}, "--blur is 'wide'"),
        (
            {"blur": 4},
            "--blur is 4 in input pixels, but the kernel of 21 x 21 output pixels holds at most 3.5",
        ),
        ({"noise": -0.5}, "--noise is -0.5"),
        ({"noise": 65}, "from 0 to 64"),
    ],
)
def test_degrade_refuses_what_cannot_be_and_leaves_nothing(
    section: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as info:
        degrade(section, tmp_path / "out", count=1, **options)
    assert words in str(info.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("sigmas", [(0.3, 0.3), (1.4, 0.7), (0.0, 2.5), (4.0, 4.0)])
def test_an_upright_gaussian_is_that_of_a_hair_beside(sigmas: tuple[float, float]) -> None:
    upright, slanted = (matched_gaussian(21, *sigmas, angle) for angle in (0.0, 1e-9))
    np.testing.assert_allclose(upright, slanted, atol=1e-7)
