"""Taking the prior of one scale over into another: it is trained once.

All grids of the generator but the extra ones are counted in input pixels, and so is the Gaussian between detail and
regional grey. So the prior of x1 is, level by level, the coarse part of the prior of x2: detail of x2 averaged over 2
x 2 pixels is detail of x1. Only the extra level is new at x2. Its head starts at zero, so the grown prior makes the
same as before, enlarged. The former last head made several pixels per node; it now makes their mean, the coupling
included. The coupling of the new level starts fresh.
"""

from __future__ import annotations

import torch
from torch import nn

from bigrestore.errors import UsageError
from bigrestore.model.nets.prior.generator import CODES_PER_LEVEL, Generator, SynthesisLevel


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
