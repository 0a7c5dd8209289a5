"""What restoring computes in one pass, or in blocks, equals what the plain operations give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.model.nets import convolution
from bigrestore.model.nets.convolution import added, bent, is_fused
from bigrestore.model.nets.parts.drunet import DenoisingBlock
from bigrestore.model.nets.prior.cs_sft import ChannelSplitSFT
from bigrestore.model.nets.redegrade import strided_correlation
from bigrestore.model.nets.unet import BlurDown, ResidualBlock, UNet
from bigrestore.model.nets.wiener import FFT_BLOCK_PX, FILTER_REACH_PX, deconvolve
from bigrestore.settings.presets import PRESETS

PRECISIONS = [(torch.float32, 1e-5), (torch.bfloat16, 0.03)]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def awake(module: nn.Module) -> nn.Module:
    """Give every parameter, also those that start at zero, a value."""
    for number, parameter in enumerate(module.parameters()):
        with torch.no_grad():
            parameter.copy_(0.15 * drawn(*parameter.shape, seed=number))
    return module


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_fused_convolutions_are_the_convolution_and_what_follows(
    dtype: torch.dtype, tolerance: float, bias: bool
) -> None:
    x, to = drawn(2, 5, 17, 23), drawn(2, 7, 17, 23, seed=1)
    weight, shift = 0.2 * drawn(7, 5, 3, 3, seed=2), drawn(7, seed=3) if bias else None
    plain = F.conv2d(x, weight, shift, padding=1)
    with torch.no_grad():
        assert is_fused(x.to(dtype))
        for slope in (0.0, 0.2):
            torch.testing.assert_close(
                bent(x.to(dtype), weight, shift, slope).float(),
                F.leaky_relu(plain, slope),
                atol=tolerance,
                rtol=0.02,
            )
        sums = added(x.to(dtype), weight, shift, to.to(dtype))
    torch.testing.assert_close(sums.float(), plain + to, atol=tolerance, rtol=0.02)


def test_only_images_on_a_processor_without_gradients_are_fused() -> None:
    x = drawn(1, 2, 8, 8)
    assert not is_fused(x)
    with torch.inference_mode():
        assert is_fused(x)
        assert not is_fused(x.double())
        assert not is_fused(x.to("meta"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ResidualBlock(12),
        lambda: BlurDown(12, 20),
        lambda: DenoisingBlock(12),
        lambda: ChannelSplitSFT(9, 12),
    ],
)
def test_a_fused_block_gives_what_training_gives(make: Callable[[], nn.Module]) -> None:
    block = awake(make())
    x = drawn(2, 12, 24, 20)
    arguments = {
        ResidualBlock: (x, drawn(1, 64, seed=4)),
        BlurDown: (x,),
        DenoisingBlock: (x,),
        ChannelSplitSFT: (drawn(2, 9, 24, 20, seed=5), x),
    }[type(block)]
    plain = block(*arguments)
    with torch.inference_mode():
        fused = block(*(a.clone() for a in arguments))
    torch.testing.assert_close(fused, plain.detach(), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_fused_network_gives_what_training_gives(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net = awake(UNet(PRESETS["nano"], scale))
    x = drawn(2, 1, 32, 48).sigmoid()
    arguments = (
        x,
        torch.ones_like(x),
        drawn(1, 24, seed=6),
        0.01 * drawn(2, 3, 32 * scale, 48 * scale, seed=7),
    )
    calls = []
    monkeypatch.setattr(convolution, "_filters", lambda *given: calls.append(0) or _filters(*given))
    plain = net(*arguments)
    assert not calls
    with torch.inference_mode():
        fused = net(*arguments)
    assert calls
    for made, wanted in ((fused.residual, plain.residual), (fused.log_scale, plain.log_scale)):
        assert float((made - wanted.detach()).abs().max()) < 1e-5 * float(wanted.detach().abs().max())


_filters = convolution._filters


@pytest.mark.parametrize("shape", [(16, 16), (FFT_BLOCK_PX, 40), (200, 333), (2 * FFT_BLOCK_PX + 1, 169)])
@pytest.mark.parametrize(("scale", "count"), [(1, 1), (2, 2)])
def test_blocks_are_deconvolved_as_the_whole_image(shape: tuple[int, int], scale: int, count: int) -> None:
    x = drawn(2, 1, *shape).sigmoid()
    filters = drawn(count, 3 * scale**2, 25, 25, seed=8) / 625
    padded = F.pad(x, [FILTER_REACH_PX] * 4, mode="replicate").transpose(0, 1)
    grouped = F.conv2d(
        padded.expand(1, -1, -1, -1), filters.expand(2, -1, -1, -1).flatten(0, 1)[:, None], groups=2
    )
    expected = F.pixel_shuffle(grouped.unflatten(1, (2, -1))[0], scale)
    torch.testing.assert_close(deconvolve(x, torch.ones_like(x), filters, scale), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("scale", "step"), [(1, 1), (1, 4), (1, 8), (1, 16), (2, 1), (2, 4), (4, 1), (4, 3)])
@pytest.mark.parametrize("shape", [(64, 64), (43, 58), (7, 5)])
def test_pixels_computed_in_blocks_are_those_computed_one_by_one(
    scale: int, step: int, shape: tuple[int, int]
) -> None:
    y, kernel, offset = drawn(2, 1, *shape), drawn(21, 21, seed=9).abs() / 350, -9
    made = strided_correlation(y, kernel, scale, step, offset)
    each = strided_correlation(y, kernel.expand(2, 21, 21), scale, step, offset)
    assert made.shape == each.shape
    torch.testing.assert_close(made, each, atol=1e-6, rtol=0)
