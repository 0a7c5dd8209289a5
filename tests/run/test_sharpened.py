"""An unsharp mask that is stated is undone before a section is read and restored: exactly, without a seam, and said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_toys import level0, save_zarr
from scipy.ndimage import gaussian_filter

import bigrestore
from bigrestore.errors import OutputExistsError, UsageError
from bigrestore.model.registry import create_method
from bigrestore.model.sharpening import UnsharpMask, without_sharpening
from bigrestore.settings import RunSettings

MASKS = [(0.3, 0.5), (0.8, 2.0), (1.5, 1.0), (3.0, 2.5), (0.5, 6.0)]
QUIET: dict[str, Any] = {"progress": "none", "threads": 1, "mask": "none", "method": "wiener"}


def grey(tissue: np.ndarray) -> np.ndarray:
    """Return tissue as float32 with room for overshoot."""
    return (0.25 + 0.5 * tissue[:256, :260].astype(np.float32) / 255).astype(np.float32)


def sharpened(image: np.ndarray, amount: float, radius_px: float) -> np.ndarray:
    wide = image.astype(np.float64)
    made = wide + amount * (wide - gaussian_filter(wide, radius_px, truncate=3, mode="nearest"))
    return made.astype(np.float32)


@pytest.mark.parametrize(("amount", "radius_px"), MASKS)
def test_the_inverse_gives_back_what_was_sharpened(
    tissue: np.ndarray, amount: float, radius_px: float
) -> None:
    image, mask = grey(tissue), UnsharpMask(amount, radius_px)
    made = mask.undone(sharpened(image, amount, radius_px)[None])[0]
    inner = (slice(mask.reach_px, -mask.reach_px),) * 2
    assert np.abs(made - image)[inner].max() < 2e-4
    assert np.abs(sharpened(image, amount, radius_px) - image)[inner].max() > 0.005


@pytest.mark.parametrize(("amount", "radius_px"), MASKS)
def test_beyond_its_reach_nothing_counts(tissue: np.ndarray, amount: float, radius_px: float) -> None:
    image, mask = sharpened(grey(tissue), amount, radius_px)[None], UnsharpMask(amount, radius_px)
    part = mask.undone(image[:, 21:233, 30:251])
    reach = mask.reach_px
    inner = (slice(None), slice(reach, -reach), slice(reach, -reach))
    apart = np.abs(part - mask.undone(image)[:, 21:233, 30:251])
    assert part[inner].size > 0
    assert apart[inner].max() < 1 / 2550


def test_noise_is_not_amplified() -> None:
    noise = 0.5 + 0.02 * np.random.default_rng(0).standard_normal((1, 96, 96)).astype(np.float32)
    assert UnsharpMask(1.0, 2.0).undone(noise).std() < noise.std()


@pytest.mark.parametrize("scale", [1, 2])
def test_a_run_restores_what_the_mask_was_applied_to(tmp_path: Path, tissue: np.ndarray, scale: int) -> None:
    image = grey(tissue)
    masked = save_zarr(tmp_path / "masked.zarr", sharpened(image, 0.8, 2.0))
    bigrestore.restore(masked, tmp_path / "out.zarr", sharpened=(0.8, 2), scale=scale, **QUIET)
    wanted = bigrestore.restore(image, scale=scale, **QUIET)
    inner = (slice(32, -32),) * 2
    assert np.abs(level0(tmp_path / "out.zarr") - wanted)[inner].max() < 2e-3
    kept = bigrestore.restore(sharpened(image, 0.8, 2.0), scale=scale, **QUIET)
    assert np.abs(kept - wanted)[inner].max() > 0.02


@pytest.mark.parametrize("cut", [{"tile_size": 96}, {"tile_size": 160}, {"roi": "40:200,61:222"}])
def test_tiles_equal_the_whole(tmp_path: Path, tissue: np.ndarray, cut: dict[str, Any]) -> None:
    masked = save_zarr(tmp_path / "masked.zarr", sharpened(grey(tissue), 1.2, 1.5))
    stated = {**QUIET, "sharpened": "1.2,1.5", "blur": 0.8, "noise": 1.0, "report": False}
    bigrestore.restore(masked, tmp_path / "whole.zarr", **stated)
    bigrestore.restore(masked, tmp_path / "cut.zarr", **stated, **cut)
    whole = level0(tmp_path / "whole.zarr")
    if "roi" in cut:
        whole = whole[40:200, 61:222]
    np.testing.assert_allclose(level0(tmp_path / "cut.zarr"), whole, atol=1 / 1000)


def test_it_stands_in_plan_and_provenance_and_a_resumed_run_keeps_it(
    tmp_path: Path, tissue: np.ndarray
) -> None:
    source, out = save_zarr(tmp_path / "in.zarr", tissue[:128, :128]), tmp_path / "out.zarr"
    bigrestore.restore(source, out, sharpened=(0.5, 1), report=False, **QUIET)
    plan = json.loads((tmp_path / "out.zarr.bigrestore" / "plan.json").read_text())["fingerprint"]
    assert plan["settings.sharpened"] == [0.5, 1.0]
    profile = json.loads((tmp_path / "out.zarr.bigrestore" / "profiles" / "z00000.json").read_text())
    assert profile["details"]["sharpened"] == [0.5, 1.0]
    provenance = json.loads((out / "zarr.json").read_text())["attributes"]["bigrestore"]
    assert provenance["method"]["sharpened"] == {"amount": 0.5, "radius_px": 1.0}
    for other in ((0.6, 1), None):
        with pytest.raises(OutputExistsError, match="sharpened"):
            bigrestore.restore(source, out, sharpened=other, resume=True, report=False, **QUIET)


def test_the_reading_says_what_was_stated(tissue: np.ndarray) -> None:
    result = bigrestore.restore(tissue[:160, :160], sharpened=(0.5, 1), details=True, **QUIET)
    assert ", sharpened by 0.5 of 1 px as told" in result.read


def test_an_amount_of_0_is_no_mask(tissue: np.ndarray) -> None:
    method = create_method(RunSettings(method="wiener"))
    assert without_sharpening(method, (0.0, 2.0)) is without_sharpening(method, None) is method
    image = tissue[:96, :96]
    plain, nothing = (bigrestore.restore(image, **QUIET, **more) for more in ({}, {"sharpened": (0, 2)}))
    assert np.array_equal(plain, nothing)


def test_it_is_undone_for_a_method_that_is_handed_in(tissue: np.ndarray) -> None:
    method = create_method(RunSettings(method="rational"))
    image = grey(tissue)
    masked = sharpened(image, 0.8, 2.0)
    made = bigrestore.restore(
        masked, method=method, sharpened=(0.8, 2), mask="none", threads=1, progress="none"
    )
    assert np.abs(made - image)[16:-16, 16:-16].max() < 2e-4


def test_variants_compare_masks(tissue: np.ndarray) -> None:
    made = bigrestore.try_variants(
        tissue[:192, :192], method="rational", sharpened=["0,1", "0.5,1", "1,2"], threads=1
    )
    assert [one.name for one in made.variants] == [
        f"method rational, sharpened {value}" for value in ("0,1", "0.5,1", "1,2")
    ]
    spread = [float(one.image.std()) for one in made.variants]
    assert spread == sorted(spread, reverse=True)
    assert spread[0] > spread[1] > spread[2]


@pytest.mark.parametrize("value", ["0.8", "a,b", "-1,2", "4,2", "0.8,0.1", "0.8,20", (1, 2, 3), 0.8, "nan,1"])
def test_what_is_no_mask_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match=r"it takes AMOUNT,RADIUS: 0 to 3 .* 0.3 to 10 input pixels"):
        RunSettings(sharpened=value)
