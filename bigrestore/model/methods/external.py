"""A network of another project as a method: tile-exact by windows, held to the input by the guards.

Foreign networks pool over what they are given, know one size, or look further than anyone measured. In windows on an
absolute lattice all of them give the same pixels however a section is cut. Grey goes in as equal channels and comes
back as their luma; by how much the channels of a section's windows differ then is kept with what is read of it.
"""

from __future__ import annotations

import logging
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.kernels import sharpest
from bigrestore.core.pixels import LUMA
from bigrestore.core.sizes import BLOCK_PX
from bigrestore.errors import ModelError, one_line, out_of_memory
from bigrestore.model.knowledge import Knowledge
from bigrestore.model.method import SectionStatistics
from bigrestore.model.methods.windows import WindowedMethod, WindowLattice
from bigrestore.model.nets.foreign.network import ForeignNetwork
from bigrestore.model.nets.guards import LOCK_CELL_PX, Seen
from bigrestore.model.nets.parts.drunet import noise_map

log = logging.getLogger(__name__)

TRIED_WINDOWS = 2
"""Windows of a section that its channels are compared on."""
NOTICED_TINT = 4.0
"""Difference of channels, of 255, from which on a warning is given."""
FLOPS_PER_SECOND = 3e10
"""Of one core, roughly; a convolution takes two a weight and pixel."""


def lattice_for(side_px: int, scale: int) -> WindowLattice:
    """Return the lattice for windows of a side: about three quarters of it a step, and whole steps in a block."""
    block_px = BLOCK_PX // scale
    steps = range(LOCK_CELL_PX, side_px * 3 // 4 + 1, LOCK_CELL_PX)
    return WindowLattice(side_px, max(step for step in steps if block_px % step == 0))


class ExternalMethod(WindowedMethod):
    """A foreign network behind the engine's protocol.

    Parameters
    ----------
    network : ForeignNetwork
        On the device.
    knowledge : Knowledge
        Blur and noise of a section, for the guards; its scale is the network's.
    lock : bool
        Whether the guards that compare with the input act.
    device : torch.device, optional
        Where it computes; None: the CPU.
    """

    def __init__(
        self,
        network: ForeignNetwork,
        knowledge: Knowledge,
        *,
        lock: bool = True,
        device: torch.device | None = None,
    ) -> None:
        options: dict[str, Any] = {
            "model": network.name,
            "sha256": network.sha256,
            "architecture": network.architecture,
            "precision": network.precision,
        }
        if network.licence:
            options["licence"] = network.licence
        lattice, scale = lattice_for(network.side_px, network.scale), network.scale
        super().__init__("external", scale, knowledge, lattice, lock=lock, device=device, options=options)
        self._network = network
        # Some feature maps of a window at once, the last ones on the output grid, in tiles of four steps a side or more.
        window_bytes = network.side_px**2 * (6000 + 400 * scale**2)
        self.bytes_per_px = window_bytes // (4 * lattice.step_px) ** 2 + 48 * scale**2
        share = (lattice.step_px / network.side_px) ** 2
        speed = FLOPS_PER_SECOND * (1 if self.device.type == "cpu" else 100)
        self.px_per_second = speed * share / (2 * max(network.weights, 10_000))

    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Read blur and noise of a section, and by how much the network tints it."""
        statistics = super().analyse(windows)
        if self._network.told_noise:
            statistics = attrs.evolve(statistics, kernel=sharpest(1))
        if self._network.channels == 1 or len(windows) == 0:
            return statistics
        apart = max(self._tint(window, statistics) for window in windows[:TRIED_WINDOWS])
        if apart >= NOTICED_TINT:
            log.warning(
                "The network %s tints grey: its channels differ by up to %.1f of 255, and their luma is kept.",
                self._network.name,
                apart,
            )
        return attrs.evolve(statistics, details={**statistics.details, "channels_apart": round(apart, 2)})

    def solve(self, seen: Seen) -> Tensor:
        """Restore one window."""
        made = self._made(seen.x, seen.noise_gain, seen.read_noise)
        if made.shape[1] == 1:
            return made
        luma = torch.from_numpy(LUMA).to(made)
        return (made * luma[:, None, None]).sum(dim=1, keepdim=True)

    def _tint(self, window: NDArray[np.float32], statistics: SectionStatistics) -> float:
        """Return the largest difference of the channels made of a window, of 255."""
        side = self._network.side_px
        fitted = window[:side, :side]
        fitted = np.pad(fitted, [(0, side - size) for size in fitted.shape], mode="edge")
        with torch.inference_mode():
            x = torch.from_numpy(fitted).to(self.device)[None, None]
            made = self._made(x, statistics.noise_gain, statistics.read_noise)
        return 255 * float((made.amax(dim=1) - made.amin(dim=1)).max())

    def _made(self, x: Tensor, noise_gain: float, read_noise: float) -> Tensor:
        """Return the image that the network makes of a window, (1, 1 or 3, side * scale, side * scale)."""
        network, side = self._network, self._network.side_px * self.scale
        image = x.repeat(1, network.channels, 1, 1)
        try:
            made = network.run(image, noise_map(x, noise_gain, read_noise))
        except Exception as error:
            if isinstance(error, ModelError) or out_of_memory(error):
                raise
            raise ModelError(
                f"The network {network.name} ({network.architecture}) fails on a window of {x.shape[-2]} x {x.shape[-1]} "
                f"pixels ({one_line(error)[:200]}); export it to ONNX, or choose another."
            ) from error
        if made.shape[-2:] != (side, side):
            raise ModelError(
                f"The network {network.name} ({network.architecture}) makes {tuple(made.shape[-2:])} pixels of a window of "
                f"{network.side_px}, and not {side}; choose another."
            )
        return made
