"""Ladders of distortion: six levels of one patch, each worse than the one before, the same for the same draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data

from bigrestore.training.data.ladders import DISTORTIONS, RUNGS

FAST = [name for name in DISTORTIONS if name != "invented"]


@pytest.fixture(scope="module")
def patch() -> torch.Tensor:
    grey = data.immunohistochemistry()[200:296, 200:296] @ np.array([0.299, 0.587, 0.114])
    return torch.from_numpy(np.rint(grey).astype(np.float32) / 255)


@pytest.mark.parametrize("name", FAST)
def test_every_level_is_further_from_the_clean_patch(patch: torch.Tensor, name: str) -> None:
    for seed in range(3):
        ladder = DISTORTIONS[name].ladder(patch, np.random.default_rng(seed))
        assert ladder.shape == (RUNGS, *patch.shape)
        assert ladder.dtype == torch.float32
        assert 0 <= float(ladder.min()) <= float(ladder.max()) <= 1
        torch.testing.assert_close(ladder[0], patch, atol=1e-6, rtol=0)
        away = (ladder - patch).square().mean(dim=(1, 2)).sqrt() * 255
        assert (away.diff() > 0.1).all(), away


@pytest.mark.parametrize("name", FAST)
def test_a_ladder_depends_on_its_draw_alone(patch: torch.Tensor, name: str) -> None:
    one, same, other = (DISTORTIONS[name].ladder(patch, np.random.default_rng(seed)) for seed in (4, 4, 5))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_invented_detail_is_a_ladder_of_restorations(patch: torch.Tensor) -> None:
    ladder = DISTORTIONS["invented"].ladder(patch, np.random.default_rng(0))
    added = (ladder - ladder[0]).square().mean(dim=(1, 2)).sqrt() * 255
    assert (added.diff() > 0.02).all()
    assert float((ladder[0] - patch).abs().mean()) * 255 < 12, "the first is a restoration of the patch"


def test_smoothing_takes_texture_and_leaves_edges() -> None:
    step = torch.full((64, 64), 0.8)
    step[:, 32:] = 0.3
    texture = 2 / 255 * torch.from_numpy(np.random.default_rng(0).standard_normal((64, 64), np.float32))
    ladder = DISTORTIONS["smoothed"].ladder(step + texture, np.random.default_rng(0))
    assert float(ladder[-1][8:-8, 4:24].std()) < 0.5 * float((step + texture)[8:-8, 4:24].std())
    assert float(ladder[-1][:, 30].mean() - ladder[-1][:, 33].mean()) > 0.25
