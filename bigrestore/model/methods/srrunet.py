"""A denoiser taught to raise the resolution of an image whose size stays: for sections that were enlarged before."""

from __future__ import annotations

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.kernels import sharpest
from bigrestore.model.knowledge import Knowledge
from bigrestore.model.method import SectionStatistics
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
        Of the section; it is only written down.
    factor : float
        By how much the section was enlarged, 1 to 4.
    lock : bool
        Whether the guards that compare with the input act.
    device : torch.device, optional
        Where it computes; None: the CPU.
    """

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

    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Read a section; what it is compared with is the input itself."""
        return attrs.evolve(super().analyse(windows), kernel=sharpest(1))

    def solve(self, seen: Seen) -> Tensor:
        """Raise the resolution of tiles."""
        resolved: Tensor = self._net(seen.x, factor_map(seen.x, self._factor))
        return resolved
