"""Methods that are told blur and noise of a section: all of `Method` but the restoration itself.

Tiled equals whole: such a method looks no further than its halo, or it works in windows on an absolute lattice
(`bigrestore.model.methods.windows`). The guards of the network hold every output to its input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom, repeat_pixels
from bigrestore.core.kernels import sharpest
from bigrestore.model.knowledge import READINGS, Knowledge
from bigrestore.model.method import PSI_SIZE, RESIDUAL_STEP_PX, SectionStatistics, TileBatch, TileResult
from bigrestore.model.nets.guards import Seen, guarded
from bigrestore.model.nets.parts.part import TrainedPart
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.model.nets.wiener import fill_damage


class ToldMethod(ABC):
    """A method behind the engine's protocol (`bigrestore.model.method.Method`), but for `solve`.

    Parameters
    ----------
    name : str
        In the registry.
    scale : int
        Output pixels per input pixel.
    knowledge : Knowledge
        What it is told.
    halo_px, alignment_px : int
        Its tiling, input pixels.
    lock : bool
        Whether the guards that compare with the input act.
    device : torch.device
        Where it computes.
    options : dict
        JSON-able: what else identifies it.
    """

    exact = True
    map_names: tuple[str, ...] = ("residual",)
    readings: tuple[str, ...] = READINGS
    """What it asks of a section."""
    bytes_per_px = 256
    px_per_second = 1e6

    def __init__(
        self,
        name: str,
        scale: int,
        knowledge: Knowledge,
        *,
        halo_px: int,
        alignment_px: int = 8,
        lock: bool = True,
        device: torch.device | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.name, self.scale, self.knowledge = name, scale, knowledge
        self.halo_px, self.alignment_px, self.lock = halo_px, alignment_px, lock
        self.device, self.options = device or torch.device("cpu"), options or {}

    @abstractmethod
    def solve(self, seen: Seen) -> Tensor:
        """Restore tiles of one section, (N, 1, H * scale, W * scale), from their filled input, before the guards."""

    def describe(self) -> dict[str, Any]:
        """Return what identifies the method in plans, fingerprints and provenance."""
        facts = {"scale": self.scale, "halo_px": self.halo_px, "alignment_px": self.alignment_px}
        told = {"lock": self.lock, "device": self.device.type} | self.knowledge.describe(self.readings)
        return {"name": self.name} | facts | told | self.options

    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Read blur and noise of a section from its windows; without any it is taken for sharp and free of noise."""
        psi = np.zeros(PSI_SIZE, np.float32)
        heeds_blur = "blur" in self.readings
        if len(windows) == 0:
            told = self.knowledge.kernel if heeds_blur else None
            kernel = sharpest(self.scale) if told is None else told
            unread = {"windows": 0} | self.knowledge.given
            return SectionStatistics(kernel, psi, 0.0, self.knowledge.read_noise or 0.0, unread)
        reading = self.knowledge.read(windows, self.readings)
        unheeded = {"likeness"} if heeds_blur else {"likeness", "sigma_px", "sigma_error_px"}
        details = {name: fact for name, fact in reading.details.items() if name not in unheeded}
        kernel = reading.known.kernel[0].cpu().numpy() if heeds_blur else sharpest(self.scale)
        return SectionStatistics(kernel, psi, details["noise_gain"], details["read_noise"], details)

    def restore(self, batch: TileBatch, statistics: SectionStatistics) -> TileResult:
        """Restore tiles of one section; sizes and origins are multiples of the alignment."""
        with torch.inference_mode():
            seen = self._seen(batch, statistics)
            y = self.restored(seen)
            step = 1 if "residual" in batch.maps else RESIDUAL_STEP_PX
            apart = seen.x[..., ::step, ::step] - redegrade(y, seen.kernel, self.scale, step)
            maps = {}
            if "residual" in batch.maps:
                size = repeat_pixels(apart.abs() * seen.valid, self.scale)
                maps["residual"] = size[:, 0].cpu().numpy()
            stride = RESIDUAL_STEP_PX // step
            return TileResult(y[:, 0].cpu().numpy(), apart[:, 0, ::stride, ::stride].cpu().numpy(), maps)

    def restored(self, seen: Seen) -> Tensor:
        """Return the restored tiles, guards included, 0..1."""
        return guarded(self.solve(seen), lambda: seen.base, seen, lock=self.lock)

    def _seen(self, batch: TileBatch, statistics: SectionStatistics) -> Seen:
        """Return tiles on the device, damage filled from around it."""
        x = torch.from_numpy(np.ascontiguousarray(batch.pixels)).to(self.device)[:, None]
        valid, whole = torch.ones_like(x), batch.valid is None or bool(batch.valid.all())
        if batch.valid is not None:
            valid = torch.from_numpy(batch.valid.astype(np.float32)).to(self.device)[:, None]
        x = fill_damage(x, valid, whole)
        base = x if self.scale == 1 else catmull_rom(x, self.scale).clamp(0, 1)
        kernel = torch.from_numpy(statistics.kernel).to(self.device)
        return Seen(
            x,
            valid,
            base,
            kernel,
            statistics.noise_gain,
            statistics.read_noise,
            self.scale,
            statistics.details,
            whole,
            torch.from_numpy(statistics.psi).to(self.device),
            tuple((int(y), int(x)) for y, x in batch.origins),
            batch.z,
        )


class PartMethod(ToldMethod):
    """A trained part as a method, with the halo and alignment that its file states.

    Parameters
    ----------
    part : TrainedPart
        The network.
    knowledge : Knowledge
        What it is told; its scale is the part's.
    lock, device, options
        As in `ToldMethod`.

    Attributes
    ----------
    name : str
        In the registry, stated by the class.
    """

    def __init__(
        self,
        part: TrainedPart,
        knowledge: Knowledge,
        *,
        lock: bool = True,
        device: torch.device | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            self.name,
            knowledge.scale,
            knowledge,
            halo_px=int(part.info["halo_px"]),
            alignment_px=int(part.info["alignment_px"]),
            lock=lock,
            device=device,
            options=(options or {}) | part.identity,
        )
        self._net = part.network.to(self.device)
