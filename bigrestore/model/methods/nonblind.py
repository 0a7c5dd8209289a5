"""A chain of the others: denoise, enlarge, deconvolve by gradient descent, smooth within edges, raise the resolution.

Each step can be left out. The descent stops at the noise that the denoiser leaves, read from the denoised windows of
the section. All of it works in windows, guards around the whole.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom
from bigrestore.model.knowledge import Knowledge
from bigrestore.model.method import SectionStatistics
from bigrestore.model.methods.gddec import AUTO_STEPS, AUTO_WINDOWS, GDDEC_LATTICE, Descent, descend, smoothed
from bigrestore.model.methods.windows import WindowedMethod
from bigrestore.model.nets.guards import Seen
from bigrestore.model.nets.parts.drunet import factor_map, noise_map
from bigrestore.model.nets.parts.part import TrainedPart
from bigrestore.model.nets.wiener import section_sigma, tissue_sigma

LARGEST_FACTOR = 4.0
"""Of the training of resolvers."""


class NonBlindMethod(WindowedMethod):
    """The chain.

    Parameters
    ----------
    scale : int
        Output pixels per input pixel.
    knowledge : Knowledge
        What it is told.
    denoiser, resolver : TrainedPart, optional
        The networks of the first and the last step; None leaves the step out.
    factor : float
        By how much the section was enlarged before, for the resolver.
    deconvolve : bool
        Whether the descent is made.
    smoothing : (float, float), "auto" or None
        As in `Descent`.
    lock : bool
        Whether the guards that compare with the input act.
    device : torch.device, optional
        Where it computes; None: the CPU.
    """

    bytes_per_px = 900
    px_per_second = 1.5e4

    def __init__(
        self,
        scale: int,
        knowledge: Knowledge,
        *,
        denoiser: TrainedPart | None,
        resolver: TrainedPart | None = None,
        factor: float = 2.0,
        deconvolve: bool = True,
        smoothing: tuple[float, float] | Literal["auto"] | None = "auto",
        lock: bool = True,
        device: torch.device | None = None,
    ) -> None:
        parts = {"denoise": denoiser, "resolve": resolver}
        options = {
            **{name: None if part is None else part.identity for name, part in parts.items()},
            "factor": factor,
            "deconvolve": deconvolve,
            "filter": smoothing,
        }
        super().__init__(
            "nonblind", scale, knowledge, GDDEC_LATTICE, lock=lock, device=device, options=options
        )
        self._descent, self._deconvolve, self._factor = Descent(smoothing=smoothing), deconvolve, factor
        self._denoiser, self._resolver = (
            None if part is None else part.network.to(self.device) for part in parts.values()
        )

    def describe(self) -> dict[str, Any]:
        """Return what identifies the chain; the estimator reads the noise that the denoiser leaves."""
        facts = super().describe()
        asked = self._denoiser is not None or None
        return facts | self.knowledge.describe(self.readings, estimator=asked)

    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Read blur and noise of a section, the noise that the denoiser leaves, and the number of steps for it."""
        statistics = super().analyse(windows)
        if len(windows) == 0:
            return attrs.evolve(statistics, details={**statistics.details, "steps": 0, "noise_left": 0.0})
        with torch.inference_mode():
            given = torch.from_numpy(windows).to(self.device)[:, None]
            cleaned = self._denoised(given, statistics.noise_gain, statistics.read_noise)
        left = self._noise_left(cleaned[:, 0].cpu().numpy(), statistics)
        details = {**statistics.details, "noise_left": left}
        steps = []
        for window in cleaned[:AUTO_WINDOWS] if self._deconvolve else ():
            kernel, x = torch.from_numpy(statistics.kernel).to(self.device), window[None]
            taken = descend(x, torch.ones_like(x), kernel, self.scale, self._descent, AUTO_STEPS, left)[1]
            steps.append(taken)
        return attrs.evolve(statistics, details={**details, "steps": int(np.median(steps)) if steps else 0})

    def solve(self, seen: Seen) -> Tensor:
        """Restore one window."""
        x = self._denoised(seen.x, seen.noise_gain, seen.read_noise)
        steps = int(seen.details["steps"])
        if steps:
            y, _ = descend(x, seen.valid, seen.kernel, self.scale, self._descent, steps)
        else:
            y = x if self.scale == 1 else catmull_rom(x, self.scale)
        y = smoothed(y, self._descent, float(seen.details["noise_left"]))
        if self._resolver is not None:
            y = self._resolver(y, factor_map(y, min(self._factor * self.scale, LARGEST_FACTOR)))
        return y

    def _denoised(self, x: Tensor, noise_gain: float, read_noise: float) -> Tensor:
        if self._denoiser is None:
            return x
        denoised: Tensor = self._denoiser(x, noise_map(x, noise_gain, read_noise))
        return denoised

    def _noise_left(self, cleaned: NDArray[np.float32], statistics: SectionStatistics) -> float:
        """Return the noise in tissue that is left of a section's, as the estimator reads it."""
        before = float(section_sigma(statistics))
        if self._denoiser is None:
            return before
        known = Knowledge(self.knowledge.estimator, self.scale).read(cleaned.clip(0, 1)).known
        return min(before, float(tissue_sigma(known.noise_gain, known.read_noise)[0]))
