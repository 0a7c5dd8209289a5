"""Windows that lie partly out of focus: one side of a line is smooth, the other and the other windows stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bigrestore.training.data.focus import partly_unfocused

COUNT, SIDE = 24, 96


@pytest.fixture(scope="module")
def clean() -> Tensor:
    return torch.rand(COUNT, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def unfocused(clean: Tensor, share: float, scale: int = 1, seed: int = 3) -> Tensor:
    return partly_unfocused(clean, np.random.default_rng(seed), share, scale)


def test_a_share_of_the_windows_is_changed_and_the_rest_to_the_bit_as_it_was(clean: Tensor) -> None:
    changed = (unfocused(clean, 0.5) != clean).flatten(1).any(1)
    assert 0.25 * COUNT < int(changed.sum()) < 0.75 * COUNT
    assert torch.equal(unfocused(clean, 0.0), clean)


@pytest.mark.parametrize("scale", [1, 2])
def test_one_side_is_smooth_and_the_other_stays(clean: Tensor, scale: int) -> None:
    """Of white noise little is left on the smooth side; grey is the same on both."""
    out = unfocused(clean, 1.0, scale)
    kept = torch.nn.functional.avg_pool2d((out - 0.5).square(), 16).flatten(1) * 12
    assert float(kept.amin(1).median()) < 0.05
    assert float(kept.amax(1).median()) > 0.5
    assert out.mean((1, 2, 3)) == pytest.approx(clean.mean((1, 2, 3)), abs=0.02)


def test_the_seed_decides(clean: Tensor) -> None:
    assert torch.equal(unfocused(clean, 0.5), unfocused(clean, 0.5))
    assert not torch.equal(unfocused(clean, 0.5), unfocused(clean, 0.5, seed=4))
