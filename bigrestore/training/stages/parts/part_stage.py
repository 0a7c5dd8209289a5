"""What the stages of parts share: one trained network, no state beside it, and in most of them pairs."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import torch
from torch import nn

from bigrestore.training.data.pairs import PairSource

Net = TypeVar("Net", bound=nn.Module)


class PartStage(Generic[Net]):
    """The part of `bigrestore.training.loop.loop.TrainingStage` that is the same for all.

    Attributes
    ----------
    net : Net
        The trained network.
    """

    net: Net

    def modules(self) -> nn.Module:
        """Return the trained module."""
        return self.net

    def state(self) -> dict[str, Any]:
        """Return no state beside the trained module."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the result of `state`."""


class PairsPartStage(PartStage[Net]):
    """What the training loop asks for, of a part that learns from pairs.

    Parameters
    ----------
    net : Net
        The network.
    sizes : dict
        Its arguments, for its file.
    pairs : PairSource
        Degraded and clean patches.
    seed, batch : int
        Seed, and pairs per step.
    dtype : torch.dtype
        What the network computes in.
    """

    def __init__(
        self,
        net: Net,
        sizes: dict[str, Any],
        pairs: PairSource,
        *,
        seed: int,
        batch: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.net, self.sizes, self.pairs = net, sizes, pairs
        self.seed, self.batch, self.dtype = seed, batch, dtype
