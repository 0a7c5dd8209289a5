"""Denoisers as methods: `drunet` takes noise away and leaves the blur, `srrunet` raises the resolution of what was enlarged.

The second is the same network, taught something else: it is told a factor in place of the noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bigrestore.model.knowledge import Knowledge
from bigrestore.model.methods.told import PartMethod
from bigrestore.model.nets.guards import Seen
from bigrestore.model.nets.parts.drunet import factor_map, noise_map
from bigrestore.model.nets.parts.part import TrainedPart


class DRUNetMethod(PartMethod):
    """A denoiser told the noise at every pixel, at scale 1; its parameters are those of `PartMethod`."""

    name = "drunet"
    readings = ("noise",)
    bytes_per_px = 700
    px_per_second = 0.4e6

    def solve(self, seen: Seen) -> Tensor:
        """Take the noise out of tiles."""
        denoised: Tensor = self._net(seen.x, noise_map(seen.x, seen.noise_gain, seen.read_noise))
        return denoised


class SRRUNetMethod(DRUNetMethod):
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

    name = "srrunet"

    def __init__(
        self,
        part: TrainedPart,
        knowledge: Knowledge,
        *,
        factor: float,
        lock: bool = True,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(part, knowledge, lock=lock, device=device, options={"factor": factor})
        self._factor = factor

    def solve(self, seen: Seen) -> Tensor:
        """Raise the resolution of tiles."""
        resolved: Tensor = self._net(seen.x, factor_map(seen.x, self._factor))
        return resolved
