"""Images of other tissue are not compared: whatever was done to an image it is known again, and another one is refused.

The same tissue at another place is refused as well, and its shift named.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import gaussian_filter, shift
from skimage import data

import bigrestore
from bigrestore.errors import UsageError
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section
from bigrestore.report.metrics.same_tissue import LEAST_CORRELATION, compare_structure, require_same_tissue

Pixels = np.ndarray

SHARED = Path(os.environ.get("BIGRESTORE_DATA", "")) / "train"
SERIES = "brain_section_dab_mouse__641_2002_2568_NM01_s*.png"


@pytest.fixture(scope="module")
def tissue() -> Pixels:
    """Return real tissue, 512 x 512, 0..1."""
    grey: Pixels = np.asarray(data.immunohistochemistry()).mean(axis=2) / 255
    return grey


def saved(path: Path, pixels: Pixels) -> Section:
    tifffile.imwrite(path, np.rint(pixels.clip(0, 1) * 255).astype(np.uint8), photometric="minisblack")
    return open_section(path)


def noisy(pixels: Pixels, sigma: float) -> Pixels:
    return pixels + np.random.default_rng(0).normal(0, sigma / 255, pixels.shape)


def smaller(pixels: Pixels, scale: int) -> Pixels:
    height, width = pixels.shape
    return pixels.reshape(height // scale, scale, width // scale, scale).mean(axis=(1, 3))


DEGRADED: dict[str, Callable[[Pixels], Pixels]] = {
    "as it is": lambda image: image,
    "blurred": lambda image: gaussian_filter(image, 2.5),
    "very blurred": lambda image: gaussian_filter(image, 5.0),
    "noisy": lambda image: noisy(gaussian_filter(image, 1.5), 25),
    "very noisy": lambda image: noisy(image, 50),
    "x2": lambda image: smaller(image, 2),
    "x4": lambda image: noisy(smaller(gaussian_filter(image, 3.0), 4), 4),
    "of another gamma": lambda image: gaussian_filter(image**0.5, 1.0),
    "faint": lambda image: noisy(0.7 + 0.1 * image, 2),
    "moved by a pixel": lambda image: np.roll(image, (1, -1), (0, 1)),
    "with a fold": lambda image: np.where(np.arange(512)[:, None] // 80 == 3, 0.1, image),
}

OTHER: dict[str, Callable[[Pixels], Pixels]] = {
    "another place": lambda image: np.roll(image, (200, 150), (0, 1)),
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned": lambda image: image.T,
    "moved": lambda image: np.roll(image, 12, 0),
    "noise": lambda image: noisy(np.full_like(image, 0.5), 60),
    "another place, noisy": lambda image: noisy(np.roll(image, (200, 150), (0, 1)), 25),
    "another place, x2": lambda image: smaller(np.roll(image, (200, 150), (0, 1)), 2),
}


def structure_correlation(image: Section, other: Section, scale: int) -> float | None:
    compared = compare_structure(image, other, scale)
    return None if compared is None else compared.correlation


@pytest.mark.parametrize("how", list(DEGRADED))
def test_the_same_tissue_is_known_again(tmp_path: Path, tissue: Pixels, how: str) -> None:
    other = DEGRADED[how](tissue)
    correlation = structure_correlation(
        saved(tmp_path / "a.tif", tissue), saved(tmp_path / "b.tif", other), 512 // other.shape[0]
    )
    assert correlation is not None
    assert correlation > LEAST_CORRELATION + 0.1


@pytest.mark.parametrize("how", list(OTHER))
def test_other_tissue_is_told_apart(tmp_path: Path, tissue: Pixels, how: str) -> None:
    other = OTHER[how](tissue)
    correlation = structure_correlation(
        saved(tmp_path / "a.tif", tissue), saved(tmp_path / "b.tif", other), 512 // other.shape[0]
    )
    assert correlation is not None
    assert abs(correlation) < LEAST_CORRELATION - 0.1


@pytest.mark.parametrize("how", list(DEGRADED))
def test_what_stayed_in_its_place_is_not_taken_for_shifted(tmp_path: Path, tissue: Pixels, how: str) -> None:
    other = DEGRADED[how](tissue)
    part = 256 * len(other) // 512
    compared = compare_structure(
        saved(tmp_path / "a.tif", tissue[:256, :256]),
        saved(tmp_path / "b.tif", other[:part, :part]),
        256 // part,
    )
    assert compared is not None
    assert not compared.shifted
    wanted = (1, -1) if how == "moved by a pixel" else (0, 0)
    np.testing.assert_allclose(compared.shift_px, wanted, atol=0.35)


@pytest.mark.parametrize(
    ("move", "scale", "said"),
    [
        ((2, 0), 1, "2 px down"),
        ((6, 0), 1, "6 px down"),
        ((0, -3), 1, "3 px left"),
        ((-5, 7), 1, "5 px up and 7 px right"),
        ((20, -14), 1, "20 px down and 14 px left"),
        ((8, 0), 2, "4 px down"),
    ],
)
@pytest.mark.parametrize(("blur", "noise"), [(0.0, 0.0), (2.5, 10.0)])
def test_a_shift_is_refused_and_named(
    tmp_path: Path,
    tissue: Pixels,
    move: tuple[int, int],
    scale: int,
    said: str,
    blur: float,
    noise: float,
) -> None:
    tissue = tissue[:256, :256]
    moved = noisy(gaussian_filter(shift(tissue, move, order=1, mode="nearest"), blur), noise)
    image, other = saved(tmp_path / "a.tif", tissue), saved(tmp_path / "b.tif", smaller(moved, scale))
    with pytest.raises(UsageError, match=rf"--before .*b\.tif is shifted by {said} against .*a\.tif"):
        require_same_tissue(image, other, scale, "--before")


@pytest.mark.parametrize("flag", ["before", "reference"])
def test_a_score_of_shifted_images_is_refused_unless_it_is_forced(
    tmp_path: Path, tissue: Pixels, flag: str
) -> None:
    saved(tmp_path / "a.tif", tissue)
    saved(tmp_path / "b.tif", shift(tissue, (0, 6), order=1, mode="nearest"))
    files: dict[str, Any] = {flag: tmp_path / "b.tif"}
    with pytest.raises(UsageError, match=r"6 px right against .*register the two images first"):
        bigrestore.score(tmp_path / "a.tif", progress="none", **files)
    assert bigrestore.score(tmp_path / "a.tif", progress="none", force=True, **files).folder is None


def test_exchanged_black_and_white_is_named(tmp_path: Path, tissue: Pixels) -> None:
    saved(tmp_path / "a.tif", tissue)
    saved(tmp_path / "b.tif", 1 - gaussian_filter(tissue, 1.0))
    with pytest.raises(UsageError, match=r"correlation .* is -(0\.9|1\.0).*has to be inverted"):
        bigrestore.score(tmp_path / "a.tif", before=tmp_path / "b.tif", progress="none")


def test_images_without_structure_are_not_judged(tmp_path: Path, tissue: Pixels) -> None:
    blank = saved(tmp_path / "b.tif", noisy(np.full_like(tissue, 0.9), 1))
    assert structure_correlation(saved(tmp_path / "a.tif", tissue), blank, 1) is None


def test_tissue_between_the_windows_of_a_large_slide_is_met(tmp_path: Path, tissue: Pixels) -> None:
    slide = np.full((2600, 2600), 0.95)
    slide[140:300, 140:300] = tissue[:160, :160]
    one = saved(tmp_path / "a.tif", slide)
    same = structure_correlation(one, saved(tmp_path / "b.tif", noisy(slide, 2)), 1)
    slide[140:300, 140:300] = tissue[300:460, 300:460]
    other = structure_correlation(one, saved(tmp_path / "c.tif", slide), 1)
    assert same is not None
    assert other is not None
    assert same > 0.9
    assert other < LEAST_CORRELATION


def test_a_volume_out_of_order_is_told_apart(tmp_path: Path, tissue: Pixels) -> None:
    volume = np.stack([np.roll(tissue, 97 * z, (0, 1)) for z in range(4)])
    one, same = (saved(tmp_path / f"{name}.tif", volume) for name in "ab")
    shuffled = saved(tmp_path / "c.tif", volume[[1, 2, 3, 0]])
    assert structure_correlation(one, same, 1) == pytest.approx(1, abs=1e-6)
    correlation = structure_correlation(one, shuffled, 1)
    assert correlation is not None
    assert correlation < LEAST_CORRELATION


def test_colour_is_compared_by_its_luma(tmp_path: Path, tissue: Pixels) -> None:
    colour = np.asarray(data.immunohistochemistry())
    Image.fromarray(colour).save(tmp_path / "a.png")
    correlation = structure_correlation(
        open_section(tmp_path / "a.png"), saved(tmp_path / "b.tif", tissue), 1
    )
    assert correlation is not None
    assert correlation > 0.95


@pytest.mark.parametrize("flag", ["--before", "--reference"])
def test_the_command_refuses_another_section_unless_it_is_forced(
    tmp_path: Path,
    tissue: Pixels,
    flag: str,
    call: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    saved(tmp_path / "a.tif", tissue)
    saved(tmp_path / "b.tif", tissue[::-1])
    words = ("score", tmp_path / "a.tif", flag, tmp_path / "b.tif", "-o", tmp_path / "scores", "-q")
    assert call(*words) == 2
    said = capsys.readouterr().err
    assert f"{flag} {tmp_path / 'b.tif'} does not show what {tmp_path / 'a.tif'} shows" in said
    assert said.endswith("compare all the same by --force.\n")
    assert not (tmp_path / "scores").exists()
    assert call(*words, "--force") == 0
    saved(tmp_path / "b.tif", noisy(gaussian_filter(tissue, 1.0), 3))
    assert call(*words, "--overwrite") == 0


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real images are not at hand")
def test_neighbouring_sections_are_told_apart() -> None:
    sections = [open_section(path) for path in sorted(SHARED.glob(SERIES))[:8]]
    assert len(sections) == 8
    for one, other in itertools.pairwise(sections):
        correlation = structure_correlation(one, other, 1)
        assert correlation is not None
        assert correlation < LEAST_CORRELATION - 0.2
