"""Channel-split SFT: an untrained bridge changes nothing, a trained one half of the channels."""

import pytest
import torch
import torch.nn.functional as F

from bigrestore.model.nets.prior.cs_sft import ChannelSplitSFT


def trained(channels: int, guide_channels: int) -> ChannelSplitSFT:
    torch.manual_seed(0)
    bridge = ChannelSplitSFT(channels, guide_channels)
    for parameter in bridge.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return bridge


@pytest.mark.parametrize("channels", [8, 7])
def test_an_untrained_bridge_is_the_identity(channels: int) -> None:
    features = torch.randn(2, channels, 9, 10)
    assert torch.equal(ChannelSplitSFT(channels, 5)(features, torch.randn(2, 5, 9, 10)), features)


def test_half_of_the_channels_pass_untouched() -> None:
    features = torch.randn(2, 8, 9, 10)
    out = trained(8, 5)(features, torch.randn(2, 5, 9, 10))
    assert torch.equal(out[:, :4], features[:, :4])
    assert ((out[:, 4:] - features[:, 4:]).abs().amax(dim=(0, 2, 3)) > 0.01).all()


def test_the_other_half_is_scaled_and_shifted() -> None:
    bridge = trained(8, 5)
    features, guide = torch.randn(2, 8, 9, 10), torch.randn(2, 5, 9, 10)
    alpha, beta = bridge.second(F.leaky_relu(bridge.first(guide), 0.2)).split(4, dim=1)
    torch.testing.assert_close(bridge(features, guide)[:, 4:], features[:, 4:] * (1 + alpha) + beta)
    assert alpha.std() > 0.1
    assert beta.std() > 0.1


def test_the_larger_half_of_an_odd_number_is_transformed() -> None:
    features = torch.randn(1, 7, 5, 5)
    out = trained(7, 5)(features, torch.randn(1, 5, 5, 5))
    assert torch.equal(out[:, :3], features[:, :3])
    assert not torch.equal(out[:, 3], features[:, 3])


def test_an_untrained_bridge_can_learn() -> None:
    bridge = ChannelSplitSFT(8, 5)
    features, guide = torch.randn(1, 8, 6, 6, requires_grad=True), torch.randn(1, 5, 6, 6)
    bridge(features, guide).square().sum().backward()
    assert bridge.second.weight.grad is not None
    assert bridge.second.weight.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert features.grad is not None
    torch.testing.assert_close(features.grad, 2 * features.detach())


def test_features_keep_their_precision_under_autocast() -> None:
    features, guide = torch.randn(1, 8, 6, 6), torch.randn(1, 5, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        out = ChannelSplitSFT(8, 5)(features, guide.bfloat16())
    assert out.dtype == torch.float32
    assert torch.equal(out, features)
