"""The critics: they notice copies, and judge a patch by itself and its group."""

from __future__ import annotations

import pytest
import torch

from bigrestore.errors import UsageError
from bigrestore.model.nets.prior.discriminator import PatchDiscriminator, group_deviation
from bigrestore.settings.presets import PRESETS


@pytest.mark.parametrize("preset", ["nano", "tiny", "base"])
def test_a_patch_critic_fits_every_preset(preset: str) -> None:
    sizes = PRESETS[preset]
    critic = PatchDiscriminator(sizes.channels, sizes.unshuffle, 64)
    assert critic(0.05 * torch.randn(4, 1, 64, 64)).shape == (4,)


def test_a_patch_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(UsageError, match="power of two"):
        PatchDiscriminator((8, 8), 2, 72)


def test_equal_patches_have_no_deviation_and_different_ones_have() -> None:
    one = torch.randn(1, 6, 4, 4).expand(8, -1, -1, -1)
    assert float(group_deviation(one).max()) < 1e-3
    mixed = torch.randn(8, 6, 4, 4)
    assert float(group_deviation(mixed).min()) > 0.3
    assert group_deviation(mixed).shape == (8, 1, 4, 4)
    assert torch.equal(group_deviation(mixed)[0], group_deviation(mixed)[2]), (
        "one number per group of i, i + N/4, ..."
    )


def test_a_repeated_patch_is_judged_otherwise_than_varied_ones() -> None:
    torch.manual_seed(0)
    critic = PatchDiscriminator((8, 8, 8, 8), 2, 64)
    varied = 0.5 * torch.randn(4, 1, 64, 64)
    repeated = varied[:1].expand(4, -1, -1, -1)
    with torch.no_grad():
        assert abs(float(critic(varied)[0] - critic(repeated)[0])) > 1e-3
