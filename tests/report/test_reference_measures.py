"""PSNR, SSIM and MS-SSIM are the published ones: held against another's, and against what is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage import data
from skimage.metrics import structural_similarity

from bigrestore.report.metrics.columns import reference_measures
from bigrestore.report.metrics.reference import (
    LARGEST_PSNR,
    MS_SSIM_WEIGHTS,
    SMALLEST_MS_SSIM_PX,
    ms_ssim,
    psnr,
    ssim,
    ssim_maps,
)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return np.asarray(data.immunohistochemistry()[:480, :480] @ np.array([0.299, 0.587, 0.114]) / 255)


def spoilt(clean: np.ndarray, kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "noise":
        return np.clip(clean + rng.normal(0, 0.05, clean.shape), 0, 1)
    if kind == "blur":
        return gaussian_filter(clean, 1.7)
    return np.clip(0.7 * clean + 0.2, 0, 1)


@pytest.mark.parametrize("kind", ["noise", "blur", "contrast"])
def test_ssim_is_that_of_scikit_image(clean: np.ndarray, kind: str) -> None:
    image = spoilt(clean, kind)
    expected, picture = structural_similarity(
        image, clean, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert ssim(image, clean) == pytest.approx(expected, abs=1e-9)
    np.testing.assert_allclose(ssim_maps(image, clean)[0], picture[5:-5, 5:-5], atol=1e-9)


@pytest.mark.parametrize("kind", ["noise", "blur", "contrast"])
def test_ms_ssim_is_the_product_of_its_scales(clean: np.ndarray, kind: str) -> None:
    image, truth, found = spoilt(clean, kind), clean, 1.0
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        whole, contrast = (part.mean() for part in ssim_maps(image, truth))
        found *= (whole if scale == 4 else contrast) ** weight
        image, truth = (
            (a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2]) / 4 for a in (image, truth)
        )
    assert ms_ssim(spoilt(clean, kind), clean) == pytest.approx(found, abs=1e-12)
    assert sum(MS_SSIM_WEIGHTS) == pytest.approx(1.0, abs=2e-4), "as published"


def test_psnr_of_a_known_error(clean: np.ndarray) -> None:
    assert psnr(clean, clean + 0.01) == pytest.approx(40.0)
    assert psnr(clean, clean) == LARGEST_PSNR, "infinity would spoil every mean"


def test_identical_tiles_are_alike_and_opposites_are_not(clean: np.ndarray) -> None:
    assert ssim(clean, clean) == ms_ssim(clean, clean) == pytest.approx(1.0)
    assert ms_ssim(1 - clean, clean) == 0.0, "a negative contrast has no root and counts as nothing alike"


def test_the_order_of_damage_is_kept(clean: np.ndarray) -> None:
    mild, strong = (clean + np.random.default_rng(1).normal(0, s, clean.shape) for s in (0.02, 0.1))
    for figure in (psnr, ssim, ms_ssim):
        assert figure(mild, clean) > figure(strong, clean)


def test_tiles_too_small_for_a_figure_have_none(clean: np.ndarray) -> None:
    side = SMALLEST_MS_SSIM_PX
    assert math.isfinite(ms_ssim(clean[:side, :side], clean[:side, :side]))
    small = clean[: side - 1, : side - 1].astype(np.float32)
    found = reference_measures(small, small)
    assert math.isnan(found["ms_ssim"])
    assert found["ssim"] == pytest.approx(1.0)
    assert math.isnan(ssim(clean[:10, :10], clean[:10, :10]))
