"""Growing a U-Net to a larger scale: it adds the same as the trained one."""

from __future__ import annotations

import pytest
import torch

from bigrestore.errors import UsageError
from bigrestore.model.method import PSI_SIZE
from bigrestore.model.nets.grow import grow_restorer
from bigrestore.model.nets.restorer import Restorer
from bigrestore.settings.presets import get_preset


def trained(scale: int) -> Restorer:
    """Return a restorer with random weights everywhere; its coarse grey heads stay zero."""
    torch.manual_seed(scale)
    model = Restorer(get_preset("nano"), scale).eval()
    with torch.no_grad():
        for name, parameter in model.unet.named_parameters():
            if not name.startswith("grey"):
                parameter.copy_(0.1 * torch.randn_like(parameter))
    return model


def blocks(image: torch.Tensor, factor: int) -> torch.Tensor:
    return image.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


@pytest.mark.parametrize(("scale", "larger"), [(1, 2), (1, 4), (2, 4)])
def test_a_grown_network_adds_what_the_trained_one_did(scale: int, larger: int) -> None:
    model = trained(scale)
    grown = grow_restorer(model, larger).eval()
    x, psi = torch.rand(1, 1, 32, 32), torch.zeros(1, PSI_SIZE)
    linear = 0.1 * torch.randn(1, 3, 32 * scale, 32 * scale)
    with torch.no_grad():
        before = model.unet(x, torch.ones_like(x), psi, linear)
        after = grown.unet(x, torch.ones_like(x), psi, blocks(linear, larger // scale))
    for name in ("residual", "mix", "log_scale"):
        expected = blocks(getattr(before, name), larger // scale)
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(getattr(after, name), expected, rtol=1e-4, atol=1e-4)
    if scale > 1:
        torch.testing.assert_close(after.shape_maps, before.shape_maps, rtol=1e-4, atol=1e-4)
    else:
        assert not after.shape_maps.any()


def test_the_estimator_goes_along_and_smaller_scales_are_refused() -> None:
    model = trained(2)
    grown = grow_restorer(model, 4)
    for name, value in model.estimator.state_dict().items():
        torch.testing.assert_close(grown.estimator.state_dict()[name], value)
    with pytest.raises(UsageError, match="cannot be grown to scale 2"):
        grow_restorer(model, 2)
