"""Deconvolution by gradient descent: the sharp image itself is what is optimised.

The image y starts as the interpolated input and follows Adam's steps towards an image whose degraded form is the input:
the smallest distance of D(y) to x. Nothing but the stop keeps it from undoing noise, too. So by default the steps are
small, the distance is absolute, and they end where the residual has reached the noise, at one number of steps for the
section. A recursive filter then smooths what is left within edges.

The published setting (structural similarity, ten times the rate, a fixed number of steps, a wide filter) is a preset: it
is made for photographs without noise, and loses 14 dB on tissue with noise of two grey levels.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom
from bigrestore.model.knowledge import Knowledge
from bigrestore.model.method import SectionStatistics
from bigrestore.model.methods.recursive import recursive_filter
from bigrestore.model.methods.windows import WindowedMethod, WindowLattice
from bigrestore.model.nets.guards import Seen
from bigrestore.model.nets.redegrade import redegrade
from bigrestore.model.nets.wiener import section_sigma

GDDEC_LATTICE = WindowLattice(256, 192)
AUTO_STEPS = 60
"""Length of the schedule where the residual decides on the last step."""
AUTO_WINDOWS = 16
"""Windows of a section on which the last step is found."""
FILTER_PX, FILTER_SIGMAS = 1.5, 3.0
"""The filter's width, and the change of grey that is an edge to it, in deviations of the noise. On tissue with noise of 2,
4 and 8 grey levels it gains 0.25, 1.1 and 2.3 dB; 3 px lose 0.1 dB at the first."""
FILTERED_FROM = 1.5 / 255
"""Less noise is left alone: smoothing it loses 0.1 dB of texture."""
SSIM_SIGMA_PX, SSIM_TAPS = 1.5, 11
SSIM_CONSTANTS = 0.01**2, 0.03**2

Distance = Literal["l1", "l2", "ssim"]


@attrs.frozen
class Descent:
    """How the image is optimised, and how it is smoothed then.

    Attributes
    ----------
    distance : str
        Of D(y) to x: `l1`, `l2`, or `ssim`, one minus the mean structural similarity.
    rate : float
        Adam's, at its highest, in grey values 0..1 a step.
    steps : int or None
        Their number; None: until the residual has reached the noise, `AUTO_STEPS` at most.
    smoothing : (float, float), "auto" or None
        Width in pixels and change of grey of the filter; "auto": by the noise; None: no filter.
    """

    distance: Distance = "l1"
    rate: float = 0.005
    steps: int | None = None
    smoothing: tuple[float, float] | Literal["auto"] | None = "auto"

    @property
    def schedule(self) -> int:
        """Length of the schedule, steps."""
        return AUTO_STEPS if self.steps is None else self.steps

    def rate_at(self, step: int) -> float:
        """Return the rate of a step: it rises from a tenth to the full one at half of the schedule, and falls again."""
        return self.rate * (9 * (1 - 2 * abs(step / self.schedule - 0.5)) + 1) / 10


PUBLISHED = Descent("ssim", 0.05, 200, (60.0, 0.5))


class GDDecMethod(WindowedMethod):
    """Deconvolution by gradient descent.

    Parameters
    ----------
    scale : int
        Output pixels per input pixel.
    knowledge : Knowledge
        What it is told.
    descent : Descent
        How it goes.
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
        descent: Descent,
        *,
        lock: bool = True,
        device: torch.device | None = None,
    ) -> None:
        options = {"descent": attrs.asdict(descent)}
        super().__init__("gddec", scale, knowledge, GDDEC_LATTICE, lock=lock, device=device, options=options)
        self.descent = descent

    def analyse(self, windows: NDArray[np.float32]) -> SectionStatistics:
        """Read blur and noise of a section, and find the number of steps for it."""
        statistics = super().analyse(windows)
        if self.descent.steps is not None:
            return statistics
        taken = [self._steps_for(window, statistics) for window in windows[:AUTO_WINDOWS]]
        steps = int(np.median(taken)) if taken else 0
        return attrs.evolve(statistics, details={**statistics.details, "steps": steps})

    def solve(self, seen: Seen) -> Tensor:
        """Restore one window."""
        steps = self.descent.steps
        if steps is None:
            steps = int(seen.details["steps"])
        y, _ = descend(seen.x, seen.valid, seen.kernel, self.scale, self.descent, steps)
        return smoothed(y, self.descent, float(section_sigma(seen)))

    def _steps_for(self, window: NDArray[np.float32], statistics: SectionStatistics) -> int:
        """Return the first step at which the residual in a window has reached the noise."""
        x = torch.from_numpy(window)[None, None].to(self.device)
        kernel = torch.from_numpy(statistics.kernel).to(self.device)
        noise = float(section_sigma(statistics))
        return descend(x, torch.ones_like(x), kernel, self.scale, self.descent, AUTO_STEPS, noise)[1]


def descend(
    x: Tensor,
    valid: Tensor,
    kernel: Tensor,
    scale: int,
    descent: Descent,
    steps: int,
    noise: float | None = None,
) -> tuple[Tensor, int]:
    """Optimise an image.

    Parameters
    ----------
    x, valid : Tensor, (1, 1, H, W)
        Input and its validity.
    kernel : Tensor, (k, k)
        Blur kernel on the output grid.
    scale : int
        Output pixels per input pixel.
    descent : Descent
        Distance, rate and schedule.
    steps : int
        Steps to take, of the schedule.
    noise : float, optional
        Stop where the root mean square of the residual is as small.

    Returns
    -------
    Tensor, (1, 1, H * scale, W * scale)
    int
        Steps taken.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x, valid, kernel = x.clone(), valid.clone(), kernel.clone()
        y = (x if scale == 1 else catmull_rom(x, scale)).clone().requires_grad_(True)
        optimiser = torch.optim.Adam([y], lr=descent.rate, foreach=False)
        for step in range(steps):
            degraded = redegrade(y, kernel, scale)
            residual = (degraded - x) * valid
            if noise is not None and float(residual.detach().square().mean().sqrt()) <= noise:
                return y.detach(), step
            # Sums, not means: Adam's epsilon would make a window's result depend on its size.
            if descent.distance == "ssim":
                loss = (1 - structural_similarity(degraded, x) * valid).sum()
            else:
                loss = residual.abs().sum() if descent.distance == "l1" else residual.square().sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.param_groups[0]["lr"] = descent.rate_at(step)
            optimiser.step()
        return y.detach(), steps


def smoothed(y: Tensor, descent: Descent, noise: float) -> Tensor:
    """Smooth an image within its edges as a descent says, given the noise, 0..1."""
    smoothing = descent.smoothing
    if smoothing == "auto":
        smoothing = (FILTER_PX, FILTER_SIGMAS * noise) if noise >= FILTERED_FROM else None
    return y if smoothing is None else recursive_filter(y, *smoothing)


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the structural similarity of two images, 0..1, at every pixel, (N, 1, H, W).

    Wang et al., IEEE Transactions on Image Processing 13 (2004), with its Gaussian window; the border repeats.
    """
    at = torch.arange(SSIM_TAPS, device=a.device) - SSIM_TAPS // 2
    taps = torch.exp(-0.5 * (at / SSIM_SIGMA_PX) ** 2)
    taps = taps / taps.sum()
    stacked = torch.cat([a, b, a * a, b * b, a * b])
    half = SSIM_TAPS // 2
    padded = F.pad(stacked, (half, half, half, half), mode="replicate")
    smooth = F.conv2d(F.conv2d(padded, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    mean_a, mean_b, square_a, square_b, product = smooth.chunk(5)
    first, second = SSIM_CONSTANTS
    variances = square_a + square_b - mean_a**2 - mean_b**2
    alike = (2 * mean_a * mean_b + first) / (mean_a**2 + mean_b**2 + first)
    similarity: Tensor = alike * (2 * (product - mean_a * mean_b) + second) / (variances + second)
    return similarity


def descent_of(preset: str, distance: str, rate: float, steps: str, smoothing: str) -> Descent:
    """Return a descent from the texts of its options; "preset" leaves a value to the preset."""
    base = PUBLISHED if preset == "thesis" else Descent()
    changes: dict[str, Any] = {}
    if distance != "preset":
        changes["distance"] = distance
    if rate > 0:
        changes["rate"] = rate
    if steps != "preset":
        changes["steps"] = None if steps == "auto" else int(steps)
    if smoothing != "preset":
        changes["smoothing"] = read_smoothing(smoothing)
    return attrs.evolve(base, **changes)


def read_smoothing(text: str) -> tuple[float, float] | Literal["auto"] | None:
    """Return a filter's width and change of grey from `S,R`, "auto", or None from "none"."""
    if text == "auto":
        return "auto"
    if text == "none":
        return None
    width, grey = map(float, text.split(","))
    return width, grey
