"""Start a model of a larger scale from a trained one of a smaller.

**U-Net.** It works on the input grid; the scale shows only in its first and last convolution, one channel per output
pixel. At the larger scale each such pixel becomes a block of pixels: the stem averages the block, the head repeats
its value. The grown network adds the same as the trained one, in coarser steps, and training continues. The kernel
part of psi depends on the scale and is learned anew.

**Prior.** All grids of the generator but the extra ones are counted in input pixels, and so is the Gaussian between
detail and regional grey. So the prior of x1 is, level by level, the coarse part of the prior of x2: detail of x2
averaged over 2 x 2 pixels is detail of x1. Only the extra level is new at x2. Its head starts at zero, so the grown
prior makes the same as before, enlarged. The former last head made several pixels per node; it now makes their mean,
the coupling included. The coupling of the new level starts fresh.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bigrestore.errors import UsageError
from bigrestore.model.nets.prior.generator import CODES_PER_LEVEL, Generator, SynthesisLevel
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


@torch.no_grad()
def take_over(prior: Generator, trained: Generator) -> None:
    """Copy the weights of a trained generator into one of the same or a larger scale.

    Parameters
    ----------
    prior : Generator
        Takes the weights.
    trained : Generator
        Of the same preset.

    Raises
    ------
    UsageError
        The trained one is of another preset, or of a larger scale.
    """
    if trained.scale > prior.scale or _widths(trained) != _widths(prior)[: len(trained.levels)]:
        raise UsageError(
            f"a prior of scale {trained.scale} with {_widths(trained)} channels cannot become one of scale {prior.scale} "
            f"with {_widths(prior)}; take one of the same preset and of no larger scale"
        )
    if trained.scale == prior.scale:
        prior.load_state_dict(trained.state_dict())
        return
    prior.mapping.load_state_dict(trained.mapping.state_dict())
    prior.vector.copy_(trained.vector)
    for mine, theirs in zip(prior.deltas.deltas, trained.deltas.deltas, strict=False):
        mine.load_state_dict(theirs.state_dict())
    last = len(trained.levels) - 1
    for index, theirs in enumerate(trained.levels):
        mine = prior.levels[index]
        state = theirs.state_dict()
        if index == last and trained.coupling is not None:
            # The head of several pixels per node now makes their mean, the coupling included.
            shares = trained.coupling.shares_of_mean()
            for name in ("grey.weight", "grey_bias"):
                state[name] = torch.einsum("p,p...->...", shares, state[name])[None]
        mine.load_state_dict(state)
    for level in prior.levels[last + 1 :]:
        assert isinstance(level, SynthesisLevel)
        nn.init.zeros_(level.grey.weight)
        nn.init.zeros_(level.grey_bias)
    for delta in prior.deltas.deltas[CODES_PER_LEVEL * (last + 1) :]:
        for parameter in delta.parameters():
            nn.init.zeros_(parameter)


def _widths(prior: Generator) -> list[int]:
    """Return the channels of every level."""
    return [int(level.second.weight.shape[0]) for level in prior.levels]  # type: ignore[union-attr, index]
