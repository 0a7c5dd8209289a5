"""What the stages of parts share: one trained network, and no state beside it."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from torch import nn

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
