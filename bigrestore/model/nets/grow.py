"""Start a U-Net of a larger scale from a trained one of a smaller.

The U-Net works on the input grid; the scale shows only in its first and its last convolution, whose channels are the
output pixels under an input pixel. Going to the larger scale, each such pixel becomes a block of pixels: the stem
averages the block, the head repeats its value. The grown network adds what the trained one added, in coarser
steps, and training goes on from there. What the code psi says of a kernel depends on the scale and is learned anew.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bigrestore.errors import UsageError
from bigrestore.model.nets.restorer import Restorer
from bigrestore.model.nets.unet import UNet


@torch.no_grad()
def grow_restorer(trained: Restorer, scale: int) -> Restorer:
    """Return a restorer of a larger scale with the estimator and the U-Net of a trained one, without a prior.

    Parameters
    ----------
    trained : Restorer
        Of scale 1 or 2.
    scale : int
        2 or 4, larger than that of `trained`.

    Raises
    ------
    UsageError
        The scale is not larger.
    """
    if scale <= trained.scale:
        raise UsageError(
            f"a model for scale {trained.scale} cannot be grown to scale {scale}; give a larger --scale"
        )
    grown = Restorer(trained.preset, scale)
    grown.estimator.load_state_dict(trained.estimator.state_dict())
    state = trained.unet.state_dict()
    state["stem.weight"] = _stem(state["stem.weight"], trained.unet, scale)
    for name in ("head.weight", "head.bias"):
        parts = state[name].split(trained.unet.heads)
        shape = (
            parts[3] if trained.scale > 1 else parts[0].new_zeros(grown.unet.heads[3], *parts[0].shape[1:])
        )
        state[name] = torch.cat([*(_repeated(part, trained.unet, scale) for part in parts[:3]), shape])
    grown.unet.load_state_dict(state)
    return grown


def _stem(weight: Tensor, unet: UNet, scale: int) -> Tensor:
    """Return the stem's weights: those of the input as they are, those of deconvolved pixels shared out to blocks."""
    first = 2 * unet.unshuffle**2
    factor = scale // unet.scale
    shared = _repeated(weight[:, first:].transpose(0, 1), unet, scale).transpose(0, 1) / factor**2
    return torch.cat([weight[:, :first], shared], dim=1)


def _repeated(channels: Tensor, unet: UNet, scale: int) -> Tensor:
    """Return (P * s * s, ...) channels in the order of a pixel shuffle as (P * S * S, ...), each value repeated."""
    side, factor = unet.unshuffle * unet.scale, scale // unet.scale
    grid = channels.unflatten(0, (-1, side, side))
    grid = grid.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    repeated: Tensor = grid.flatten(0, 2)
    return repeated
