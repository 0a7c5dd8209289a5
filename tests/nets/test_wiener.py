"""The linear deconvolutions: right for a known kernel, harmless without one, exact in tiles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom
from bigrestore.core.kernels import defocus, fold_downsampling, gaussian, motion
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.model.nets.wiener import (
    FILTER_REACH_PX,
    _covariances,
    deconvolve,
    tissue_sigma,
    wiener_filters,
)


def texture(height: int, width: int) -> Tensor:
    """Return noise with about the falling power of tissue."""
    fy, fx = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    shape = (fy**2 + fx**2 + 0.02**2) ** -0.65
    white = torch.randn(height, width, generator=torch.Generator().manual_seed(0))
    field = torch.fft.irfft2(torch.fft.rfft2(white) * shape, s=(height, width))
    return 0.6 + 0.1 * (field / field.std())[None, None]


def error(a: Tensor, b: Tensor) -> float:
    return float((a - b)[..., 32:-32, 32:-32].square().mean())


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_filters_keep_constants(scale: int) -> None:
    kernel = torch.from_numpy(gaussian(41 if scale == 4 else 21, 1.5))[None]
    filters = wiener_filters(kernel, torch.tensor([0.01]), scale)
    torch.testing.assert_close(filters.sum((-2, -1)), torch.ones(1, 3 * scale**2))
    flat = torch.full((1, 1, 32, 48), 0.7)
    torch.testing.assert_close(
        deconvolve(flat, torch.ones_like(flat), filters, scale),
        torch.full((1, 3, 32 * scale, 48 * scale), 0.7),
    )


@pytest.mark.parametrize(
    ("kernel", "left"),
    [(gaussian(21, 1.5), 0.6), (gaussian(21, 2.0, 0.8, 0.7), 0.6), (motion(21, 6, 0.4), 0.75)],
)
def test_a_known_blur_is_mostly_undone(kernel: object, left: float) -> None:
    clean = texture(256, 320)
    tensor = torch.as_tensor(kernel)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    x = redegrade(clean, tensor, 1) + 0.004 * noise
    sharp = deconvolve(x, torch.ones_like(x), wiener_filters(tensor[None], torch.tensor([0.004]), 1), 1)
    assert min(error(sharp[:, i : i + 1], clean) for i in range(3)) < left * error(x, clean)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_known_downsampling_is_undone_better_than_by_interpolation(scale: int) -> None:
    clean = texture(512, 512)
    size = 41 if scale == 4 else 21
    kernel = torch.from_numpy(fold_downsampling(gaussian(size, 0.6 * scale), "area", scale))
    x = redegrade(clean, kernel, scale)
    sharp = deconvolve(
        x, torch.ones_like(x), wiener_filters(kernel[None], torch.tensor([0.002]), scale), scale
    )
    assert error(sharp[:, 1:2], clean) < 0.8 * error(catmull_rom(x, scale), clean)


def test_without_blur_and_noise_the_input_stays() -> None:
    delta = torch.zeros(1, 21, 21)
    delta[:, 10, 10] = 1
    x = texture(96, 96)
    sharp = deconvolve(x, torch.ones_like(x), wiener_filters(delta, torch.tensor([0.0]), 1), 1)
    assert float((sharp[:, :2] - x).abs().max()) < 2 / 255
    assert float((sharp[:, 2:] - x).abs().max()) < 3 / 255  # the cautious one assumes some noise nevertheless


@pytest.mark.parametrize("scale", [1, 2])
def test_a_window_gets_what_the_whole_gets(scale: int) -> None:
    kernel = torch.from_numpy(
        fold_downsampling(gaussian(21, 1.2), "area", scale) if scale > 1 else gaussian(21, 1.2)
    )
    filters = wiener_filters(kernel[None], torch.tensor([0.01]), scale)
    x = texture(160, 160)
    whole = deconvolve(x, torch.ones_like(x), filters, scale)
    window = x[..., 40:120, 24:136]
    part = deconvolve(window, torch.ones_like(window), filters, scale)
    cut = FILTER_REACH_PX * scale
    expected = whole[
        ...,
        (40 + FILTER_REACH_PX) * scale : (120 - FILTER_REACH_PX) * scale,
        (24 + FILTER_REACH_PX) * scale : (136 - FILTER_REACH_PX) * scale,
    ]
    torch.testing.assert_close(part[..., cut:-cut, cut:-cut], expected, atol=2e-6, rtol=0)


def test_damage_does_not_ring() -> None:
    filters = wiener_filters(torch.from_numpy(gaussian(21, 1.5))[None], torch.tensor([0.01]), 1)
    x = torch.full((1, 1, 96, 96), 0.6)
    valid = torch.ones_like(x)
    valid[..., 40:50, 40:50] = 0
    spoilt = torch.where(valid == 1, x, torch.zeros_like(x))
    sharp = deconvolve(spoilt, valid, filters, 1)
    assert float((sharp - 0.6).abs().max()) < 1e-3


def test_each_image_gets_its_own_filters() -> None:
    kernels = torch.stack([torch.from_numpy(gaussian(21, s)) for s in (0.5, 2.0)])
    filters = wiener_filters(kernels, tissue_sigma(torch.tensor([0.0, 1e-4]), torch.tensor([0.01, 0.0])), 1)
    x = texture(64, 64).expand(2, -1, -1, -1)
    both = deconvolve(x, torch.ones_like(x), filters, 1)
    torch.testing.assert_close(both[1:], deconvolve(x[1:], torch.ones_like(x[1:]), filters[1:], 1))
    assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize("noise", [0.001, 0.004])
@pytest.mark.parametrize(
    "kernel",
    [gaussian(21, 2.5), gaussian(21, 2.0, 0.8, 1.7), defocus(21, 4.0), motion(21, 11.4, 1.65)],
    ids=["gaussian", "anisotropic", "defocus", "motion"],
)
def test_a_wide_blur_with_little_noise_is_undone_by_all_filters(kernel: object, noise: float) -> None:
    clean, tensor = texture(256, 320), torch.as_tensor(kernel)
    white = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    x = redegrade(clean, tensor, 1) + noise * white
    filters = wiener_filters(tensor[None], torch.tensor([noise]), 1)
    assert float(filters.abs().sum((-2, -1)).max()) < 300
    sharp = deconvolve(x, torch.ones_like(x), filters, 1)
    errors = [error(sharp[:, i : i + 1], clean) / error(x, clean) for i in range(3)]
    assert min(errors) < 0.7
    assert max(errors) < 2


def test_filters_are_those_of_least_mean_square_error() -> None:
    # A filter of 25 x 25 taps that is a little different expects a larger error, in any direction.
    kernel = torch.from_numpy(gaussian(21, 1.5, 0.9, 0.4))
    (w,) = wiener_filters(kernel[None], torch.tensor([0.01]), 1)[0, 1:2].double().flatten(1)
    covariance, cross = (part[0] for part in _covariances(kernel[None], 1))
    m = torch.cartesian_prod(torch.arange(-12, 13), torch.arange(-12, 13))
    y, x = torch.remainder(m[:, None] - m[None], 96).unbind(-1)
    full = covariance[96 * y + x] + 0.01**2 * torch.eye(625)

    def expected(taps: Tensor) -> float:
        return float(taps @ full @ taps - 2 * taps @ cross[0])

    drawn = torch.randn(20, 625, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for step in drawn - drawn.mean(1, keepdim=True):  # the sum stays one
        assert expected(w) < min(expected(w + 1e-3 * step), expected(w - 1e-3 * step))
