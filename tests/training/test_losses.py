"""Guards the formulas of the losses: a wrong one trains without complaint."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bigrestore.errors import UsageError
from bigrestore.training.stages.losses import (
    charbonnier,
    fft_amplitude_l1,
    kernel_l1,
    nyquist_db,
    nyquist_lines,
    nyquist_penalty,
    pyramid_l1,
)

IMAGE_LOSSES = [charbonnier, pyramid_l1, fft_amplitude_l1]


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("loss", IMAGE_LOSSES)
def test_equal_images_cost_nothing_and_give_a_finite_gradient(loss) -> None:  # noqa: ANN001
    image = torch.zeros(2, 1, 16, 24, requires_grad=True)
    value = loss(image, torch.zeros(2, 1, 16, 24))
    value.backward()
    assert value.dtype == torch.float32
    assert float(value.detach()) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(image.grad).all()


@pytest.mark.parametrize("loss", IMAGE_LOSSES)
def test_losses_are_float32_for_bfloat16_input(loss) -> None:  # noqa: ANN001
    a, b = noise(0, 2, 1, 16, 16), noise(1, 2, 1, 16, 16)
    assert loss(a.bfloat16(), b).dtype == torch.float32
    assert float(loss(a.bfloat16(), b)) == pytest.approx(float(loss(a, b)), rel=0.02)


@given(st.floats(-1, 1), st.floats(1e-4, 1e-1))
def test_charbonnier_of_a_constant_error(error: float, epsilon: float) -> None:
    zero = torch.zeros(1, 1, 4, 4, dtype=torch.float32)
    value = float(charbonnier(zero + error, zero, epsilon=epsilon))
    assert value == pytest.approx(math.sqrt(error**2 + epsilon**2) - epsilon, abs=1e-6)


def test_pyramid_sees_regional_grey_and_not_texture() -> None:
    target = torch.full((1, 1, 32, 32), 0.5)
    checker = torch.from_numpy((np.indices((32, 32)).sum(0) % 2 - 0.5).astype(np.float32))[None, None]
    assert float(pyramid_l1(target + 0.2 * checker, target)) == pytest.approx(0, abs=1e-6)
    assert float(pyramid_l1(target + 0.1, target)) == pytest.approx(0.1, rel=1e-5)
    stripes = torch.zeros(1, 1, 32, 32)
    stripes[..., ::4] = stripes[..., 1::4] = 0.1
    stripes[..., 2::4] = stripes[..., 3::4] = -0.1
    # Stripes two pixels wide survive the first averaging only: a third of 0.1.
    assert float(pyramid_l1(target + stripes, target)) == pytest.approx(0.1 / 3, rel=1e-4)


def test_pyramid_of_a_small_patch_is_a_sentence() -> None:
    with pytest.raises(UsageError, match="larger patch"):
        pyramid_l1(torch.zeros(1, 1, 7, 64), torch.zeros(1, 1, 7, 64))


def test_fft_loss_ignores_place_and_sees_amplitude() -> None:
    image = noise(2, 1, 1, 32, 32)
    moved = torch.roll(image, (5, 3), (2, 3))
    assert float(fft_amplitude_l1(moved, image)) == pytest.approx(0, abs=1e-5)
    amplitude = torch.fft.rfft2(image, norm="ortho").abs().mean()
    assert float(fft_amplitude_l1(1.1 * image, image)) == pytest.approx(0.1 * float(amplitude), rel=1e-3)


def test_kernel_loss_does_not_depend_on_kernel_size() -> None:
    for size in (21, 41):
        one, other = torch.zeros(3, size, size), torch.zeros(3, size, size)
        one[:, size // 2, size // 2] = 1
        other[:, size // 2, 0] = 1
        assert float(kernel_l1(one, other)) == pytest.approx(0.2, rel=1e-5)
        assert float(kernel_l1(one, one)) == 0


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def every_second(side: int) -> torch.Tensor:
    """Return +1 and -1 in turn."""
    return 1.0 - 2.0 * (torch.arange(side) % 2)


@pytest.mark.parametrize(("count", "side"), [(16, 64), (4, 160), (8, 81)])
def test_white_noise_has_no_lines_at_nyquist(count: int, side: int) -> None:
    made, real = (0.03 * normal(seed, count, 1, side, side) for seed in (0, 1))
    assert 10 * nyquist_lines(made).abs().max() < 2
    assert float(nyquist_penalty(made, real)) < 0.06


@pytest.mark.parametrize("kind", ["columns", "rows", "checkerboard"])
def test_each_line_is_seen_where_it_is_and_goes_down_its_gradient(kind: str) -> None:
    real, waves, stripes = 0.03 * normal(0, 8, 1, 64, 64), torch.sin(torch.arange(64) / 3.0), every_second(64)
    pattern = {
        "columns": torch.outer(waves, stripes),
        "rows": torch.outer(stripes, waves),
        "checkerboard": torch.outer(stripes, stripes),
    }[kind]
    strength = torch.tensor(0.02, requires_grad=True)
    made = 0.03 * normal(1, 8, 1, 64, 64) + strength * pattern
    loss = nyquist_penalty(made, real)
    loss.backward()
    assert float(loss.detach()) > 0.15
    assert strength.grad is not None
    assert float(strength.grad) > 0, "a weaker pattern costs less"
    above = nyquist_lines(made.detach()) - nyquist_lines(real)
    assert ["columns", "rows", "checkerboard"][int(above.argmax())] == kind
    turned = nyquist_lines(made.detach().mT)[[1, 0, 2]]
    torch.testing.assert_close(turned, nyquist_lines(made.detach()), rtol=0, atol=0.1)


def test_a_faint_pattern_in_step_with_the_grid_is_seen_in_the_mean_of_the_patches() -> None:
    real, texture = (0.03 * normal(seed, 64, 1, 64, 64) for seed in (0, 1))
    pattern = 0.5 / 255 * torch.outer(every_second(64), every_second(64))
    wanted = nyquist_lines(real)
    assert nyquist_db(texture + pattern, wanted, 1) < 4
    assert nyquist_db(texture + pattern, wanted, 16) > 10
    assert nyquist_db(texture, wanted, 16) < 3
    assert float(nyquist_penalty(texture + pattern, real)) > 0.2
    assert float(nyquist_penalty((texture + pattern)[:1], real)) < 0.1


def test_patches_that_are_flat_or_too_small_for_lines() -> None:
    flat = torch.full((2, 1, 64, 64), 0.5, requires_grad=True)
    loss = nyquist_penalty(flat, flat.detach())
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()
    with pytest.raises(UsageError, match="at least 50 pixels, not 48 x 64"):
        nyquist_lines(torch.zeros(1, 1, 48, 64))
