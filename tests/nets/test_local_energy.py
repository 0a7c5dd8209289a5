"""The calmest and the liveliest blocks of a window: white noise, damage, size, degenerate windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from bigrestore.model.nets.reading.local_energy import ENERGY_FEATURES, ENERGY_QUANTILES, energy_quantiles

COUNT = len(ENERGY_QUANTILES)
MEDIAN = ENERGY_QUANTILES.index(0.5)


def noise(sigma: float, side: int = 128) -> torch.Tensor:
    return 0.5 + sigma * torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(3))


def test_white_noise_is_read_as_its_standard_deviation_in_all_octaves() -> None:
    for sigma in (0.005, 0.03):
        window = noise(sigma)
        features = energy_quantiles(window, torch.ones_like(window))
        assert features.shape == (1, ENERGY_FEATURES)
        expected = torch.log10(torch.tensor(sigma)) + 2
        torch.testing.assert_close(features[0, MEDIAN], expected, atol=0.05, rtol=0)
        torch.testing.assert_close(features[0, COUNT + MEDIAN], expected, atol=0.05, rtol=0)
        torch.testing.assert_close(features[0, 2 * COUNT + MEDIAN], expected, atol=0.12, rtol=0)
        for ratio in (3 * COUNT, 4 * COUNT):
            torch.testing.assert_close(features[0, ratio + MEDIAN], torch.tensor(0.0), atol=0.15, rtol=0)


def test_the_calmest_blocks_tell_the_noise_that_lively_texture_hides() -> None:
    """A board of sharp squares on three quarters of a window: its mean energy drowns the noise, the calm blocks do not."""
    window = noise(0.02)
    board = (torch.arange(128)[:, None] // 2 + torch.arange(128)[None] // 2) % 2
    window[..., 32:] += 0.3 * board[:, 32:]
    features = energy_quantiles(window, torch.ones_like(window))[0]
    assert abs(float(features[ENERGY_QUANTILES.index(0.1)]) - 0.301) < 0.08
    assert float(features[MEDIAN]) > 1


def test_a_blur_lowers_the_ratio_of_the_octaves() -> None:
    window = noise(0.1)
    soft = F.avg_pool2d(window, 3, 1, 1)
    valid = torch.ones_like(window)
    ratio = slice(3 * COUNT, 4 * COUNT)
    assert bool((energy_quantiles(soft, valid)[0, ratio] < energy_quantiles(window, valid)[0, ratio]).all())


def test_heaped_energy_is_told_from_spread_energy() -> None:
    """Edges on a calm ground have a higher kurtosis than noise of the same energy."""
    calm, edged = noise(0.05), torch.full((1, 1, 128, 128), 0.5)
    edged[..., 40:60, 30:90] += 0.4
    kurtosis = slice(ENERGY_FEATURES - 3, ENERGY_FEATURES)
    valid = torch.ones_like(calm)
    assert bool(
        (energy_quantiles(edged, valid)[0, kurtosis] > energy_quantiles(calm, valid)[0, kurtosis] + 0.5).all()
    )


def test_what_is_not_valid_does_not_count() -> None:
    window = noise(0.02)
    valid = torch.ones_like(window)
    valid[..., 40:50, 60:90] = 0
    spoilt = torch.where(valid > 0, window, torch.rand_like(window))
    torch.testing.assert_close(energy_quantiles(window, valid), energy_quantiles(spoilt, valid))


def test_degenerate_windows_are_finite() -> None:
    flat = torch.full((2, 1, 96, 96), 0.5)
    assert bool(torch.isfinite(energy_quantiles(flat, torch.ones_like(flat))).all())
    assert not bool(energy_quantiles(flat, torch.zeros_like(flat)).any())
