"""The guards hold the output to the input: regional grey, saturated background, the re-degraded image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter, uniform_filter
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom
from bigrestore.model.nets import guards
from bigrestore.model.nets.redegrade import redegrade, strided_correlation

TAPS = torch.exp(-0.5 * (torch.arange(-10, 11) / 1.5) ** 2)
KERNEL = torch.outer(TAPS, TAPS) / TAPS.sum() ** 2


def area(scale: int) -> Tensor:
    kernel = torch.zeros(21, 21)
    kernel[10 : 10 + scale, 10 : 10 + scale] = 1 / scale**2
    return kernel


def textured(scale: int, seed: int = 0) -> Tensor:
    return 0.3 + 0.4 * torch.rand(
        1, 1, 256 * scale, 192 * scale, generator=torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize("scale", [1, 2])
def test_redegrading_follows_its_formula(scale: int) -> None:
    kernel = torch.rand(21, 21, generator=torch.Generator().manual_seed(1))
    kernel = kernel / kernel.sum()
    y = torch.rand(1, 1, 40 * scale, 32 * scale, generator=torch.Generator().manual_seed(2))
    x = redegrade(y, kernel, scale)
    assert x.shape == (1, 1, 40, 32)
    for i, j in ((15, 14), (16, 20)):
        top, left = scale * i + (scale - 1) // 2 - 10, scale * j + (scale - 1) // 2 - 10
        expected = (y[0, 0, top : top + 21, left : left + 21] * kernel).sum()
        assert float(x[0, 0, i, j]) == pytest.approx(float(expected), abs=1e-6)
    sampled = redegrade(y, kernel, scale, step=4)
    torch.testing.assert_close(sampled, x[..., ::4, ::4])


def test_redegrading_each_image_by_its_own_kernel() -> None:
    y = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    both = redegrade(y, torch.stack([KERNEL, area(1)]), 1)
    torch.testing.assert_close(both[:1], redegrade(y[:1], KERNEL, 1))
    torch.testing.assert_close(both[1:], y[1:])


def test_area_kernel_averages_the_pixels_under_an_input_pixel() -> None:
    y = torch.rand(1, 1, 32, 48, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(redegrade(y, area(2), 2), torch.nn.functional.avg_pool2d(y, 2))


@pytest.mark.parametrize("scale", [1, 2])
def test_the_lock_brings_regional_grey_back(scale: int) -> None:
    kernel = KERNEL if scale == 1 else area(2)
    y = textured(scale)
    x = redegrade(y, kernel, scale)
    ramp = torch.linspace(-4, 4, y.shape[-1]).expand_as(y) / 255
    held = guards.low_frequency_lock(y + ramp, x, torch.ones_like(x), kernel, scale)
    drift = torch.nn.functional.avg_pool2d(redegrade(held, kernel, scale) - x, 64)
    assert float(drift.abs().max()) < 0.5 / 255


def test_the_lock_leaves_what_agrees_alone() -> None:
    y = textured(1)
    x = redegrade(y, KERNEL, 1)
    held = guards.low_frequency_lock(y, x, torch.ones_like(x), KERNEL, 1)
    torch.testing.assert_close(held, y, atol=2e-6, rtol=0)


def test_the_lock_does_not_learn_from_damage() -> None:
    y = textured(1)
    x = redegrade(y, KERNEL, 1)
    valid = torch.ones_like(x)
    valid[..., 64:128, 64:128] = 0
    spoilt = torch.where(valid == 1, x, torch.zeros_like(x))
    held = guards.low_frequency_lock(y, spoilt, valid, KERNEL, 1)
    assert float((held - y).abs().max()) < 0.2 / 255
    believed = guards.low_frequency_lock(y, spoilt, torch.ones_like(x), KERNEL, 1)
    assert float((believed - y).abs().max()) > 0.1


def drift_of(y: Tensor, x: Tensor, scale: int) -> float:
    """Return the largest drift of a 64-px block, in grey levels of 8 bits."""
    apart = redegrade(y, KERNEL if scale == 1 else area(2), scale) - x
    return 255 * float(torch.nn.functional.avg_pool2d(apart, 64).abs().max())


@pytest.mark.parametrize("scale", [1, 2])
def test_the_lock_holds_what_clipping_takes_away(scale: int) -> None:
    """Light tissue, sharpened until much of it leaves 0..1."""
    truth = textured(scale) + 0.3
    x = redegrade(truth, KERNEL if scale == 1 else area(2), scale)
    sharpened = truth + 0.35 * torch.sign(truth - truth.mean())
    arguments = x, torch.ones_like(x), KERNEL if scale == 1 else area(2), scale
    assert drift_of(guards.low_frequency_lock(sharpened, *arguments).clamp(0, 1), x, scale) > 2
    held = guards.lock_and_clip(sharpened, *arguments)
    assert drift_of(held, x, scale) < 0.5 * drift_of(sharpened.clamp(0, 1), x, scale)
    assert 0 <= float(held.min()) <= float(held.max()) <= 1


@pytest.mark.parametrize("scale", [1, 2])
def test_an_image_falls_back_only_at_wrong_grey_levels(scale: int) -> None:
    truth = textured(scale)
    kernel = KERNEL if scale == 1 else area(2)
    x = redegrade(truth, kernel, scale)
    valid, base = torch.ones_like(x), catmull_rom(x, scale)
    assert torch.equal(
        guards.fall_back(truth, lambda: pytest.fail("not needed"), x, valid, kernel, scale), truth
    )
    for levels, left in ((0.2, 0.2), (0.75, 0.4), (3.0, 0.1)):
        off = truth.clone()
        off[..., : 96 * scale, :] += levels / 255
        blended = guards.fall_back(off, lambda: base, x, valid, kernel, scale)
        assert drift_of(blended[..., : 64 * scale, :], x[..., :64, :], scale) < left + 0.05
        assert torch.equal(blended[..., 160 * scale :, :], truth[..., 160 * scale :, :])
    assert torch.equal(blended[..., : 48 * scale, :], base[..., : 48 * scale, :])


def test_an_image_does_not_fall_back_to_a_worse_one() -> None:
    truth, base = textured(1), textured(1)
    x, valid = redegrade(truth, KERNEL, 1), torch.ones(1, 1, 256, 192)
    off = truth + 2 / 255
    for levels, taken in ((-3, 0.0), (-1.5, 0.5), (-1, 1.0), (1, 1.0)):
        blended = guards.fall_back(off, lambda at=levels: base + at / 255, x, valid, KERNEL, 1)
        assert float((blended - off).mean()) == pytest.approx(taken * (levels - 2) / 255, abs=0.02 / 255)


def test_damage_says_nothing_of_the_grey_level() -> None:
    truth = textured(1)
    x, valid = redegrade(truth, KERNEL, 1), torch.ones(1, 1, 256, 192)
    valid[..., 64:192, 32:160] = 0
    spoilt = x * valid
    off = truth + (1 - valid) * 0.3
    held = guards.fall_back(off, lambda: torch.zeros_like(off), spoilt, valid, torch.ones(1, 1), 1)
    assert torch.equal(held, off)
    off = truth + 3 / 255
    held = guards.fall_back(off, lambda: truth, spoilt, valid, torch.ones(1, 1), 1)
    torch.testing.assert_close(held[..., :48, :], truth[..., :48, :])


def test_both_ways_to_the_cell_means_agree() -> None:
    """The strided correlation of the undamaged case is the average pooling of the damaged one."""
    y = textured(2)
    x = redegrade(y, area(2), 2)
    nearly = torch.ones_like(x)
    nearly[..., 0, 0] = 1 - 1e-6
    one = guards.low_frequency_lock(y + 0.01, x, torch.ones_like(x), area(2), 2)
    two = guards.low_frequency_lock(y + 0.01, x, nearly, area(2), 2)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_back_projection_reduces_the_residual_and_spares_noise() -> None:
    truth = textured(2)
    x = redegrade(truth, area(2), 2)
    start = catmull_rom(x, 2)
    none, some = torch.zeros_like(x), torch.full_like(x, 0.5)
    before = (x - redegrade(start, area(2), 2)).square().mean()
    after = (
        (x - redegrade(guards.back_project(start, x, none + 1, area(2), none, 2), area(2), 2)).square().mean()
    )
    assert after < 0.5 * before
    assert torch.equal(guards.back_project(start, x, none + 1, area(2), some, 2), start)


def test_saturated_background_is_put_back_and_lone_white_pixels_are_not() -> None:
    x = torch.full((1, 1, 32, 32), 0.5)
    x[..., :16] = 1.0
    x[..., 20, 24] = 1.0
    y = torch.full((1, 1, 64, 64), 0.7)
    base = catmull_rom(x, 2).clamp(0, 1)
    kept = guards.keep_saturated(y, base, x, 2)
    assert bool((kept[..., :26] == base[..., :26]).all())
    assert bool((kept[..., 36:] == 0.7).all())


def test_strided_correlation_reaches_over_the_border_by_repeating() -> None:
    y = torch.ones(1, 1, 24, 24)
    torch.testing.assert_close(strided_correlation(y, KERNEL, 1, 8, -10), torch.ones(1, 1, 3, 3))


def test_windows_by_doubling_are_windows() -> None:
    maps = torch.rand(1, 1, 40, 51)
    for reach in (1, 2, 4):
        side = 2 * reach + 1
        largest = guards.slid(maps, reach, torch.maximum)[0, 0].numpy()
        np.testing.assert_array_equal(largest, maximum_filter(maps[0, 0].numpy(), side, mode="nearest"))
        mean = guards.slid(maps, reach, torch.add)[0, 0].numpy() / side**2
        np.testing.assert_allclose(mean, uniform_filter(maps[0, 0].numpy(), side, mode="nearest"), atol=1e-6)
