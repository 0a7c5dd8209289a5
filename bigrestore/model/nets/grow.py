"""Initialise a model for a larger scale with the weights of a model trained for a smaller one.

**U-Net.** Its feature maps lie on the input grid at every scale. Only the first convolution (stem) and the last one
(head) have channels for output pixels. Where the scale doubles, one output pixel becomes a block of 2 x 2. The stem
averages each block and the head repeats one value over it. The new network therefore gives the old correction,
enlarged, and training continues from there. The kernel codes in psi are fitted to kernels of one scale and are trained
anew.

**Prior.** The levels of the generator are defined in input pixels, and so is the Gaussian that separates detail from
regional grey. The levels of an x1 prior are the coarse levels of an x2 prior: x2 detail, averaged over 2 x 2 pixels, is
x1 detail. An x2 prior has one finer level more. Its head starts at zero, so that the new prior gives the old detail,
enlarged. The last x1 level computed several pixels per node; its head is replaced by the mean of those pixels,
including the coupling. The coupling of the new level starts untrained.
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
    """Return a restorer for a larger scale with the trained estimator and U-Net, without a prior.

    Parameters
    ----------
    trained : Restorer
        A restorer for scale 1 or 2.
    scale : int
        The new scale: 2 or 4, larger than that of `trained`.

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
    # Input channels keep their weights; a weight of a deconvolved pixel is shared by the pixels of its block.
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
    """Enlarge channels of a pixel shuffle, (P * s * s, ...), to (P * S * S, ...) by repeating each value."""
    side, factor = unet.unshuffle * unet.scale, scale // unet.scale
    grid = channels.reshape(-1, side, side, *channels.shape[1:])
    grid = grid.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    repeated: Tensor = grid.flatten(0, 2)
    return repeated


@torch.no_grad()
def take_over(prior: Generator, trained: Generator) -> None:
    """Copy the weights of a trained generator into one for the same or a larger scale.

    Parameters
    ----------
    prior : Generator
        The generator to be changed.
    trained : Generator
        A generator of the same preset.

    Raises
    ------
    UsageError
        The presets differ, or `trained` has the larger scale.
    """
    if trained.scale > prior.scale or _widths(trained) != _widths(prior)[: len(trained.levels)]:
        raise UsageError(
            f"a prior of scale {trained.scale} with {_widths(trained)} channels cannot become one of scale {prior.scale} "
            f"with {_widths(prior)}; take one of the same preset and of no larger scale"
        )
    prior.set_fusion(trained.fusion)
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
            # This head computed several pixels per node; it now computes their mean, including the coupling.
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
