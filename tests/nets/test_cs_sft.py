"""Channel-split SFT: an untrained bridge changes nothing, a trained one half of the channels. Noise fusion: all of them."""

import pytest
import torch
import torch.nn.functional as F

from bigrestore.model.nets.prior.cs_sft import FUSIONS, ChannelSplitSFT, NoiseFusion
from bigrestore.model.nets.prior.generator import Generator, SynthesisLevel
from bigrestore.settings.presets import FUSIONS_OF_FEATURES


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


def fused(*, learned: bool) -> SynthesisLevel:
    torch.manual_seed(0)
    level = SynthesisLevel(6, 8, 4, 5, 1, "noise")
    with torch.no_grad():
        level.noise_strength.fill_(0.5)
        if learned:
            for projection in (level.bridge.first, level.bridge.second):  # type: ignore[union-attr]
                projection.weight.normal_()
    return level


def test_every_fusion_has_a_name() -> None:
    assert tuple(FUSIONS) == FUSIONS_OF_FEATURES


def test_untrained_noise_fusion_is_the_level_without_noise() -> None:
    x, codes, guide = torch.randn(1, 6, 9, 10), [torch.randn(1, 4, 9, 10)] * 2, torch.randn(1, 5, 9, 10)
    level = fused(learned=False)
    for one, other in zip(level(x, codes, guide, None), level(x, codes, None, None), strict=True):
        assert torch.equal(one, other)


def test_projections_are_added_behind_both_convolutions() -> None:
    x, codes, guide = torch.randn(1, 6, 9, 10), [torch.randn(1, 4, 9, 10)] * 2, torch.randn(1, 5, 9, 10)
    level = fused(learned=True)
    features, _ = level(x, codes, guide, None)
    bridge = level.bridge
    assert isinstance(bridge, NoiseFusion)
    h = (
        level.first(x, codes[0])
        + level.first_bias
        + torch.einsum("oi,nihw->nohw", bridge.first.weight[..., 0, 0], guide)
    )
    from bigrestore.model.nets.prior.modulation import activate

    h = level.second(activate(h), codes[1]) + level.second_bias
    h = h + torch.einsum("oi,nihw->nohw", bridge.second.weight[..., 0, 0], guide)
    torch.testing.assert_close(features, activate(h), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_features_in_the_place_of_noise_leave_none(scale: int) -> None:
    torch.manual_seed(0)
    generator = Generator((8, 12, 16), 12, scale, 2, "noise")
    with torch.no_grad():
        for level in generator.levels:
            level.noise_strength.fill_(0.5)  # type: ignore[union-attr, operator]
            if level.bridge is not None:
                level.bridge.first.weight.normal_()  # type: ignore[union-attr]
    w_field, origin = torch.randn(1, 12, 4, 4), torch.zeros(1, 2, dtype=torch.int64)
    features = [torch.randn(1, c, 4 << i, 4 << i) for i, c in enumerate((16, 12, 8))]
    with torch.no_grad():
        guided = [generator(w_field, features, seed, 0, origin) for seed in (0, 1)]
        alone = [generator(w_field, None, seed, 0, origin) for seed in (0, 1)]
    assert torch.equal(*guided)
    assert not torch.equal(*alone), "without features it is the prior that was trained, with noise"


def test_another_fusion_starts_untrained_and_leaves_the_rest() -> None:
    torch.manual_seed(0)
    generator = Generator((8, 12), 12, 2, 2)
    before = {name: p.clone() for name, p in generator.state_dict().items() if ".bridge." not in name}
    generator.set_fusion("noise")
    after = generator.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    own = {name: weight for name, weight in after.items() if ".bridge." in name}
    assert len(own) == 4
    assert not any(weight.any() for weight in own.values())
    kept = generator.levels[0].bridge
    generator.set_fusion("noise")
    assert generator.levels[0].bridge is kept
