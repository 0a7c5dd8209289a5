"""A tile that cannot be scored has a reason and never a number."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import data

from bigrestore.report.metrics.validity import flat_share, tissue_share, why_invalid


@pytest.fixture(scope="module")
def tile() -> np.ndarray:
    grey = data.immunohistochemistry()[:480, :480] @ np.array([0.299, 0.587, 0.114])
    return (grey / 255).astype(np.float32)


def test_tissue_is_valid(tile: np.ndarray) -> None:
    assert why_invalid(tile, tissue_share(tile, None, 0.0)) == ""
    assert why_invalid(tile, tissue_share(tile, 0.98, 0.004)) == ""


def test_a_tile_cut_by_the_border_is_small(tile: np.ndarray) -> None:
    assert why_invalid(tile[:479], 1.0) == "small"
    assert why_invalid(tile[:96, :96], 1.0) == "small"
    assert why_invalid(np.ascontiguousarray(tile[:96, :96]), 1.0, 96) == ""


@pytest.mark.parametrize("value", [0.0, 0.37, 1.0])
def test_a_constant_tile_is_blank(value: float) -> None:
    assert why_invalid(np.full((480, 480), value, np.float32), 1.0) == "blank"


def test_a_saturated_tile_with_a_speck_is_blank(tile: np.ndarray) -> None:
    white = np.ones((480, 480), np.float32)
    white[:40, :40] = tile[:40, :40]
    assert why_invalid(white, 1.0) == "blank"


def test_half_a_tile_of_glass_is_background(tile: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    half = tile.copy()
    half[:240] = (0.98 + rng.normal(0, 0.004, (240, 480))).astype(np.float32)
    share = tissue_share(half, 0.98, 0.004)
    assert share == pytest.approx(0.5, abs=0.05)
    assert why_invalid(half, share) == "background"


def test_black_fill_is_no_tissue_even_without_a_background(tile: np.ndarray) -> None:
    filled = tile.copy()
    filled[:, :240] = 0.0
    assert tissue_share(filled, None, 0.0) == pytest.approx(0.5)


def test_without_contrast_the_scores_are_round_off(tile: np.ndarray) -> None:
    flat = tile.copy()
    flat[:160] = np.float32(0.7)
    assert flat_share(flat) == pytest.approx(1 / 3, abs=0.01)
    assert why_invalid(flat, 1.0) == "flat"
    faint = (0.5 + 0.001 * tile).astype(np.float32)
    assert why_invalid(faint, 1.0) == "flat", "a tenth of a grey level of 8 bits is no contrast"
