"""A registration leaves tissue in place, and softens it by its interpolations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bigrestore.core.kernels import delta, equivalent_sigma, fold_downsampling, kernel_size
from bigrestore.degradation import steps
from bigrestore.degradation.degradation import Degradation, Noise, Resampling, Wave
from bigrestore.degradation.interpolators import ORDERS, PHASES, mean_kernel, mean_transfer, tap_table
from bigrestore.degradation.recipe import draw_degradations
from bigrestore.degradation.scanner import degrade_batch, margin_px
from bigrestore.degradation.schema import Recipe

SIDE = 96
STEEP = Resampling(
    ("linear", "linear"),
    (0.5, -0.6),
    (Wave(1.2, 300.0, 0.4, 0.3), Wave(1.2, 340.0, 2.0, 1.7)),
    (Wave(1.2, 310.0, 4.4, 2.3), Wave(1.2, 420.0, 1.0, 5.7)),
)


def smooth_patch(scale: int) -> Tensor:
    """Return waves of some ten output pixels with the margin of a patch."""
    side = SIDE * scale + 2 * margin_px(scale)
    at = torch.arange(side, dtype=torch.float32) / scale
    return (0.5 + 0.2 * torch.sin(at[:, None] * 0.6) + 0.2 * torch.sin(at[None] * 0.5 + 1.0))[None, None]


def plain(scale: int, resampling: Resampling | None, **more: object) -> Degradation:
    kernel = delta(kernel_size(scale))
    if scale > 1:
        kernel = fold_downsampling(kernel, "area", scale)
    return Degradation(scale=scale, kernel=kernel, resampling=resampling, **more)  # type: ignore[arg-type]


def degraded(scale: int, resampling: Resampling | None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return degrade_batch(smooth_patch(scale), [plain(scale, resampling)], scale, generator)[0][0, 0]


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_tissue_stays_in_register(scale: int, passes: int) -> None:
    """The mean displacement, by least squares on the gradient, is below two hundredths of a pixel everywhere."""
    resampling = Resampling(("cubic",) * passes, STEEP.offset_px, STEEP.along_y, STEEP.along_x)
    still, made = degraded(scale, None).numpy(), degraded(scale, resampling).numpy()
    rows, columns = np.gradient(still)
    for y in range(0, SIDE, 32):
        for x in range(0, SIDE, 32):
            part = slice(y, y + 32), slice(x, x + 32)
            slopes = np.stack([rows[part].ravel(), columns[part].ravel()], 1)
            shift, *_ = np.linalg.lstsq(slopes, (made - still)[part].ravel(), rcond=None)
            assert np.abs(shift).max() < 0.02


def test_the_shift_is_as_large_as_it_says() -> None:
    at = torch.arange(400, dtype=torch.float64)
    (along_y, along_x), (back_y, back_x) = steps.registration_shifts(STEEP, at, at)
    for part in (along_y, along_x, back_y, back_x):
        assert 1.0 < float(part.abs().max()) < 3.0
    assert float((along_y + back_y).abs().max()) < 0.2, (
        "to first order the tissue is displaced by minus the shift"
    )


def test_taps_sum_to_one_and_move_a_line_exactly() -> None:
    at = torch.arange(40, dtype=torch.float32)
    ramp = 0.01 * at[None].expand(40, -1).contiguous()
    for name in (*ORDERS, "lanczos"):
        np.testing.assert_allclose(tap_table(name).sum(0), 1.0, atol=1e-6)
        shift = torch.full((40, 40), 0.25), torch.full((40, 40), -1.375)
        result = steps.moved(ramp, shift, name)[8:-8, 8:-8]
        tolerance = 1e-4 if name == "lanczos" else 1e-6  # a windowed sinc reproduces a line only nearly
        torch.testing.assert_close(result, (ramp - 0.01375)[8:-8, 8:-8], atol=tolerance, rtol=0)


def test_moving_by_whole_pixels_changes_nothing_else() -> None:
    image = torch.rand(30, 30, generator=torch.Generator().manual_seed(1))
    shift = torch.full((30, 30), 2.0), torch.full((30, 30), -3.0)
    assert torch.equal(steps.moved(image, shift, "cubic")[4:-4, 4:-4], image[6:-2, 1:-7])
    assert torch.equal(steps.displaced(image, shift)[4:-4, 4:-4], image[6:-2, 1:-7])


def test_the_mean_transfer_of_the_linear_interpolation_is_sinc_squared() -> None:
    frequency = np.linspace(0, 0.5, 65)
    np.testing.assert_allclose(mean_transfer("linear"), np.sinc(frequency) ** 2, atol=1e-5)
    assert mean_transfer("cubic")[32] > mean_transfer("linear")[32]


def test_the_mean_kernel_blurs_noise_as_the_interpolation_does() -> None:
    """The remaining power of white noise, at a quarter of a cycle, under all phases and under the mean kernel."""
    transfer = mean_transfer("linear")[32] ** 2
    kernel = mean_kernel(("linear", "linear"))
    line = kernel.sum(0)
    response = float((line * np.cos(2 * math.pi * 0.25 * (np.arange(7) - 3))).sum())
    assert response == pytest.approx(transfer, abs=0.05)
    assert equivalent_sigma(kernel) == pytest.approx(0.6, abs=0.05)
    assert (kernel >= 0).all()


def test_scanning_on_a_finer_grid_divides_the_noise() -> None:
    fine = plain(1, None, noise=Noise(4e-4, 4 / 255), scan_factor=4)
    assert fine.scan_noise == Noise(4e-4 / 16, 1 / 255)
    flat = torch.full((1, 1, SIDE + 2 * margin_px(1), SIDE + 2 * margin_px(1)), 0.5)
    made = degrade_batch(flat, [fine], 1, torch.Generator().manual_seed(0))[0]
    assert float(made.std()) == pytest.approx(math.sqrt(0.5 * 4e-4 / 16 + 1 / 255**2), rel=0.03)


def test_noise_that_is_resampled_is_said_to_be_less() -> None:
    noisy = plain(1, STEEP, noise=Noise(0.0, 4 / 255))
    flat = torch.full((1, 1, SIDE + 2 * margin_px(1), SIDE + 2 * margin_px(1)), 0.5)
    made = degrade_batch(flat, [noisy], 1, torch.Generator().manual_seed(0))[0]
    assert noisy.effective_noise[1] == pytest.approx(float(made.std()), rel=0.25)


def test_shifts_are_drawn_smooth_and_below_their_amplitude() -> None:
    recipe = Recipe.load("bigbrain")
    at = torch.arange(0, 1000, 10, dtype=torch.float64)
    for degradation in draw_degradations(recipe, 1, 40, np.random.default_rng(0)):
        assert degradation.resampling is not None
        (along_y, along_x), _ = steps.registration_shifts(degradation.resampling, at, at)
        for part in (along_y, along_x):
            assert float(part.abs().max()) <= 3.0
            assert float((part.diff(dim=0) / 10).abs().max()) < 0.08
    assert PHASES == 1024
