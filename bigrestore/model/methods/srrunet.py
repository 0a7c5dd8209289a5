"""A denoiser taught to raise the resolution of an image whose size stays: for sections that were enlarged before."""

from __future__ import annotations

import torch
from torch import Tensor

from bigrestore.model.knowledge import Knowledge
from bigrestore.model.methods.told import PartMethod
from bigrestore.model.nets.guards import Seen
from bigrestore.model.nets.parts.drunet import factor_map
from bigrestore.model.nets.parts.part import TrainedPart


class SRRUNetMethod(PartMethod):
    """A resolver, at scale 1.

    Parameters
    ----------
    part : TrainedPart
        The resolver.
    knowledge : Knowledge
        Of the noise, which is only written down: the report compares residuals with it.
    factor : float
        By how much the section was enlarged, 1 to 4.
    lock : bool
        Whether the guards that compare with the input act.
    device : torch.device, optional
        Where it computes; None: the CPU.
    """

    readings = ("noise",)
    bytes_per_px = 700
    px_per_second = 0.4e6

    def __init__(
        self,
        part: TrainedPart,
        knowledge: Knowledge,
        *,
        factor: float,
        lock: bool = True,
        device: torch.device | None = None,
    ) -> None:
        super().__init__("srrunet", part, knowledge, lock=lock, device=device, options={"factor": factor})
        self._factor = factor

    def solve(self, seen: Seen) -> Tensor:
        """Raise the resolution of tiles."""
        resolved: Tensor = self._net(seen.x, factor_map(seen.x, self._factor))
        return resolved
