"""Unrolled restoration as methods: `usrnet`, trained as a whole, and `dpir`, of a denoiser alone."""

from __future__ import annotations

import torch
from torch import Tensor

from bigrestore.model.knowledge import Knowledge
from bigrestore.model.methods.told import PartMethod
from bigrestore.model.methods.windows import WindowedMethod, WindowLattice
from bigrestore.model.nets.guards import Seen
from bigrestore.model.nets.parts.part import TrainedPart
from bigrestore.model.nets.parts.unrolled import balance, falling_sigmas, unroll
from bigrestore.model.nets.wiener import section_sigma

DPIR_LATTICE = WindowLattice(256, 192)


class USRNetMethod(PartMethod):
    """A trained network of rounds, told blur and noise; its parameters are those of `PartMethod`."""

    name = "usrnet"
    bytes_per_px = 1200
    px_per_second = 1e5

    def solve(self, seen: Seen) -> Tensor:
        """Restore tiles."""
        count = len(seen.x)
        restored: Tensor = self._net(
            seen.x,
            seen.valid,
            seen.kernel.expand(count, -1, -1),
            section_sigma(seen).to(seen.x.device).expand(count),
        )
        return restored


class DPIRMethod(WindowedMethod):
    """A denoiser in rounds with data steps, told blur and noise; nothing but the denoiser is trained.

    Parameters
    ----------
    part : TrainedPart
        The denoiser.
    knowledge : Knowledge
        What it is told.
    rounds : int
        Rounds of data step and denoiser.
    lock : bool
        Whether the guards that compare with the input act.
    device : torch.device, optional
        Where it computes; None: the CPU.
    """

    bytes_per_px = 1200
    px_per_second = 3e4

    def __init__(
        self,
        part: TrainedPart,
        knowledge: Knowledge,
        *,
        rounds: int,
        lock: bool = True,
        device: torch.device | None = None,
    ) -> None:
        options = {"rounds": rounds} | part.identity
        super().__init__(
            "dpir", knowledge.scale, knowledge, DPIR_LATTICE, lock=lock, device=device, options=options
        )
        self._denoiser, self._rounds = part.network.to(self.device), rounds

    def solve(self, seen: Seen) -> Tensor:
        """Restore one window."""
        sigma = section_sigma(seen).to(seen.x.device)
        sigmas = falling_sigmas(sigma, self._rounds)
        return unroll(
            self._denoiser,
            seen.x,
            seen.valid,
            seen.kernel[None],
            sigmas,
            balance(sigma, sigmas),
            self.scale,
        )
