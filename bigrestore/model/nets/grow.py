"""Start a U-Net of a larger scale from a trained one of a smaller.

The U-Net works on the input grid; the scale shows only in its first and last convolution, one channel per output
pixel. At the larger scale each such pixel becomes a block of pixels: the stem averages the block, the head repeats
its value. The grown network adds the same as the trained one, in coarser steps, and training continues. The kernel
part of psi depends on the scale and is learned anew.
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
        2 or 4, larger than the scale of `trained`.

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
    # The stem's weights of the input stay; those of deconvolved pixels are divided among their blocks.
    stem, first = state["stem.weight"], 2 * trained.unet.unshuffle**2
    shared = _repeated(stem[:, first:].transpose(0, 1), trained.unet, scale).transpose(0, 1)
    state["stem.weight"] = torch.cat([stem[:, :first], shared / (scale // trained.scale) ** 2], dim=1)
    for name in ("head.weight", "head.bias"):
        parts = state[name].split(trained.unet.heads)
        shape = (
            parts[3] if trained.scale > 1 else parts[0].new_zeros(grown.unet.heads[3], *parts[0].shape[1:])
        )
        state[name] = torch.cat([*(_repeated(part, trained.unet, scale) for part in parts[:3]), shape])
    grown.unet.load_state_dict(state)
    return grown


def _repeated(channels: Tensor, unet: UNet, scale: int) -> Tensor:
    """Return (P * s * s, ...) channels in the order of a pixel shuffle as (P * S * S, ...), each value repeated."""
    side, factor = unet.unshuffle * unet.scale, scale // unet.scale
    grid = channels.reshape(-1, side, side, *channels.shape[1:])
    grid = grid.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    repeated: Tensor = grid.flatten(0, 2)
    return repeated
