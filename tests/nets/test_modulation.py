"""Map-modulated convolution: StyleGAN2's for a constant map, its definition for any other."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.model.nets.prior.modulation import (
    DEMODULATION_EPS,
    EqualisedConv2d,
    MapModulatedConv2d,
    activate,
    demodulation,
    to_grid,
)


def stylegan2_modulated_conv(x: Tensor, weight: Tensor, styles: Tensor, demodulate: bool) -> Tensor:
    """One sample after the other: scale the kernel, normalise the kernel, convolve."""
    outputs = []
    for sample, style in zip(x, styles, strict=True):
        kernel = weight * style[None, :, None, None]
        if demodulate:
            norms = [1 / math.sqrt(k.square().sum().item() + DEMODULATION_EPS) for k in kernel]
            kernel = kernel * torch.tensor(norms, dtype=x.dtype)[:, None, None, None]
        outputs.append(F.conv2d(sample[None], kernel, padding=weight.shape[-1] // 2)[0])
    return torch.stack(outputs)


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("map_size", [(1, 1), (3, 4), (12, 16)])
def test_a_constant_map_is_stylegan2(demodulate: bool, kernel_size: int, map_size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = MapModulatedConv2d(6, 5, 8, kernel_size, demodulate)
    x, codes = torch.randn(3, 6, 12, 16), torch.randn(3, 8)
    field = codes[:, :, None, None].expand(-1, -1, *map_size)
    styles = F.linear(codes, layer.style.weight[:, :, 0, 0] / math.sqrt(8), layer.style.bias)
    weight = layer.weight / math.sqrt(6 * kernel_size**2)
    expected = stylegan2_modulated_conv(x, weight, styles, demodulate)
    torch.testing.assert_close(layer(x, field), expected, rtol=1e-5, atol=1e-5)


def test_both_factors_are_made_on_the_coarse_grid_and_interpolated() -> None:
    torch.manual_seed(1)
    layer = MapModulatedConv2d(4, 3, 8)
    x, field = torch.randn(2, 4, 16, 24), 2 * torch.randn(2, 8, 4, 6)
    style = layer.style(field)
    weight = layer.weight / math.sqrt(4 * 9)
    norm = torch.einsum("nihw,oikl->nohw", style.square(), weight.square())
    s = F.interpolate(style, scale_factor=4, mode="bilinear", align_corners=False)
    d = F.interpolate((norm + DEMODULATION_EPS).rsqrt(), scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(layer(x, field), d * F.conv2d(s * x, weight, padding=1), rtol=1e-4, atol=1e-5)


def test_demodulation_keeps_the_variance_whatever_the_style() -> None:
    torch.manual_seed(2)
    layer = MapModulatedConv2d(64, 64, 8)
    x = torch.randn(1, 64, 32, 32)
    for size in (0.01, 1.0, 100.0):
        y = layer(x, size * torch.randn(1, 8, 1, 1).expand(-1, -1, 2, 2))
        assert y[..., 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.1)


def test_a_style_of_zero_stays_finite() -> None:
    assert torch.isfinite(demodulation(torch.zeros(1, 3, 2, 2), torch.randn(4, 3, 3, 3))).all()


def test_styles_and_norms_stay_float32_in_mixed_precision() -> None:
    torch.manual_seed(3)
    layer = MapModulatedConv2d(16, 16, 8)
    x, field = torch.randn(1, 16, 16, 16), torch.randn(1, 8, 4, 4)
    seen: list[torch.dtype] = []
    layer.style.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    exact = layer(x, field)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(x, field.bfloat16())
    assert seen == [torch.float32, torch.float32]
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 0.05
    assert (rounded - exact).abs().max() > 0  # the convolution itself did run in bfloat16


def test_the_style_starts_at_one_for_the_mean_code() -> None:
    layer = MapModulatedConv2d(16, 16, 8)
    assert torch.equal(layer.style(torch.zeros(1, 8, 3, 3)), torch.ones(1, 16, 3, 3))


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_equalised_weights_start_alike_and_learn_at_their_rate(rate: float) -> None:
    torch.manual_seed(4)
    layer = EqualisedConv2d(64, 64, 3, rate=rate, bias_init=0.5)
    x = torch.randn(4, 64, 16, 16)
    before = layer(x)
    assert before[..., 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.1)
    assert layer(torch.zeros_like(x)).mean().item() == pytest.approx(0.5)
    optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3)
    effective = (layer.weight * layer.weight_gain).detach().clone()
    before.sum().backward()
    optimiser.step()
    change = (layer.weight * layer.weight_gain - effective).abs().median().item()
    assert change == pytest.approx(1e-3 * rate / math.sqrt(64 * 9), rel=0.02)


def test_spread_keeps_pixel_centres() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    inside = to_grid(ramp, (32, 32))[0, 0, 5, 2:-2]
    torch.testing.assert_close(inside, (torch.arange(32.0)[2:-2] + 0.5) / 4 - 0.5)


def test_activation_backpropagates_and_keeps_the_second_moment() -> None:
    x = torch.randn(100000, requires_grad=True)
    y = activate(x * 1.0)
    assert y.square().mean().item() == pytest.approx(1.04, abs=0.02)
    y.sum().backward()
    assert x.grad is not None
    expected = torch.where(x.detach() > 0, math.sqrt(2), 0.2 * math.sqrt(2))
    torch.testing.assert_close(x.grad, expected)
