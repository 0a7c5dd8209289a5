"""Backbones as a method: blind networks, in windows of the size of their training, held to the input by the guards."""

from __future__ import annotations

import torch
from torch import Tensor

from bigrestore.model.knowledge import Knowledge
from bigrestore.model.methods.windows import WindowedMethod, WindowLattice
from bigrestore.model.nets.guards import Seen
from bigrestore.model.nets.parts.part import TrainedPart

COSTS = {
    "uformer": (60e6, 7e4),
    "rft": (30e6, 1.2e5),
    "hat": (300e6, 1e4),
    "unet": (20e6, 2e5),
}
"""Bytes of a window at work, and input pixels a second of one core, of the sizes of `settings.presets.BACKBONES`."""
GPU_FACTOR = 100
"""A GPU over one core of a CPU, roughly."""


class BackboneMethod(WindowedMethod):
    """A trained backbone; blur and noise are told to the guards alone.

    Parameters
    ----------
    part : TrainedPart
        The network; its file states the windows.
    knowledge : Knowledge
        Of blur and noise; its scale is the part's.
    lock : bool
        Whether the guards that compare with the input act.
    device : torch.device, optional
        Where it computes; None: the CPU.
    """

    def __init__(
        self,
        part: TrainedPart,
        knowledge: Knowledge,
        *,
        lock: bool = True,
        device: torch.device | None = None,
    ) -> None:
        arch = str(part.info["sizes"]["arch"])
        lattice = WindowLattice(int(part.info["window_px"]), int(part.info["alignment_px"]))
        options = part.identity | {"architecture": arch}
        super().__init__(
            "backbone", knowledge.scale, knowledge, lattice, lock=lock, device=device, options=options
        )
        self._net = part.network.to(self.device)
        window_bytes, speed = COSTS[arch]
        # One window at work in tiles of four steps a side or more, beside the images of the whole tile.
        self.bytes_per_px = int(window_bytes) // (4 * lattice.step_px) ** 2 + 48 * self.scale**2
        self.px_per_second = speed * (1 if self.device.type == "cpu" else GPU_FACTOR)

    def solve(self, seen: Seen) -> Tensor:
        """Restore one window."""
        restored: Tensor = self._net(seen.x)
        return restored
