"""The polar spectrum shows strength, blur and direction of a window's texture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bigrestore.core.kernels import gaussian
from bigrestore.model.nets.reading.spectrum import (
    DIRECTIONS,
    SPECTRUM_FEATURES,
    SPECTRUM_RINGS,
    polar_spectrum,
)
from bigrestore.model.nets.redegrade import redegrade


def white(side: int, sigma: float = 0.1, count: int = 8) -> Tensor:
    return 0.5 + sigma * torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(0))


def decades(windows: Tensor) -> Tensor:
    """Return log10 of the binned power, mean over windows, (rings, directions)."""
    features = polar_spectrum(windows, torch.ones_like(windows))
    assert features.shape == (len(windows), SPECTRUM_FEATURES)
    return (2 * features - 4).mean(0).view(SPECTRUM_RINGS, DIRECTIONS)


@pytest.mark.parametrize("side", [64, 96, 128])
@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_white_noise_is_flat_at_its_variance_for_any_window(side: int, sigma: float) -> None:
    rings = decades(white(side, sigma))
    expected = 2 * torch.log10(torch.tensor(sigma))
    assert float((rings.mean() - expected).abs()) < 0.08
    assert float((rings[6:] - expected).abs().max()) < 0.25


def test_a_gaussian_blur_falls_by_its_transfer_function() -> None:
    windows = white(128, 0.15, 24)
    blurred = redegrade(windows, torch.from_numpy(gaussian(21, 1.2)), 1)
    fall = (decades(blurred) - decades(windows))[4]
    radius = 0.03 + 4 * 0.57 / 23
    expected = -2 * (torch.pi * radius * 1.2) ** 2 * 2 / torch.log(torch.tensor(10.0))
    assert float((fall.mean() - expected).abs()) < 0.1


def test_direction_is_told() -> None:
    windows = white(128, 0.15, 8)
    along_x = redegrade(windows, torch.from_numpy(gaussian(21, 0.3, 2.5)), 1)
    rings = decades(along_x)[8]
    assert float(rings[DIRECTIONS // 2] - rings[0]) > 1.0


def test_masked_pixels_do_not_count() -> None:
    windows, valid = white(96), torch.ones(8, 1, 96, 96)
    valid[..., 30:50, :] = 0
    spoilt = torch.where(valid == 1, windows, torch.ones_like(windows))
    torch.testing.assert_close(polar_spectrum(windows, valid), polar_spectrum(spoilt, valid))


def test_a_flat_window_is_no_error() -> None:
    flat = torch.ones(1, 1, 96, 96)
    assert bool(torch.isfinite(polar_spectrum(flat, torch.ones_like(flat))).all())
    assert bool(torch.isfinite(polar_spectrum(flat, torch.zeros_like(flat))).all())
