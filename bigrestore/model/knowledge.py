"""What a method is told of a section: the blur kernel and the noise, read by the estimator or stated by the user.

Every method that undoes a known blur asks here, so `--kernel`, `--blur`, `--noise` and the reading mean the same to all
of them. A kernel wider than those of the training is narrowed to them: such a section is sharpened less than it could be.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from bigrestore.core.kernels import equivalent_sigma, narrowed
from bigrestore.core.stated_blur import blur_kernel, placed_kernel, read_kernel
from bigrestore.model.nets import prior_gate
from bigrestore.model.nets.code import Degradations
from bigrestore.model.nets.reading.estimator import (
    DegradationEstimator,
    cautious,
    degradations_of,
    estimate_section,
    see_section,
)
from bigrestore.model.nets.redegrade import KERNEL_PX
from bigrestore.settings.values import StatedBlur


@attrs.frozen(eq=False)
class SectionReading:
    """What is known of one section.

    Attributes
    ----------
    known : Degradations
        Of one sample; its kernel is the one to undo.
    sigma_px : float
        Equivalent sigma of the whole blur as read or stated, output pixels, before it is narrowed.
    likeness : float
        0..1: 0 for a blur unlike those of the training.
    details : dict
        JSON-able facts for the log, the plan and the provenance.
    """

    known: Degradations
    sigma_px: float
    likeness: float
    details: dict[str, Any]


class Knowledge:
    """Reads sections, and puts what the user stated in the place of what was read.

    Parameters
    ----------
    estimator : DegradationEstimator
        On the device of the method.
    scale : int
        Output pixels per input pixel.
    kernel : ndarray, (k, k), optional
        Blur kernel on the output grid, odd k, in place of the estimated one; it is moved to where kernels stand.
    read_noise : float, optional
        Standard deviation of the noise, 0..1, in place of the estimated one.
    """

    def __init__(
        self,
        estimator: DegradationEstimator,
        scale: int,
        kernel: NDArray[np.float32] | None = None,
        read_noise: float | None = None,
    ) -> None:
        self.estimator, self.scale, self.read_noise = estimator, scale, read_noise
        self.kernel = None if kernel is None else placed_kernel(kernel, scale, KERNEL_PX[scale])

    def describe(self) -> dict[str, Any]:
        """Return what was stated, for plans, fingerprints and provenance."""
        kernel = "estimated" if self.kernel is None else f"given, sha256 {_digest(self.kernel)}"
        noise = {} if self.read_noise is None else {"noise": f"given, {255 * self.read_noise:g} of 255"}
        return {"kernel": kernel} | noise

    @property
    def given(self) -> dict[str, str]:
        """The detail `given`, the names of the stated blur and noise; empty without any."""
        names = {"blur": self.kernel, "noise": self.read_noise}
        given = ", ".join(name for name, value in names.items() if value is not None)
        return {"given": given} if given else {}

    @torch.inference_mode()
    def read(self, windows: NDArray[np.float32]) -> SectionReading:
        """Read a section from its sampled windows, (n, 128, 128), 0..1, n at least 1."""
        device = next(self.estimator.parameters()).device
        estimate = estimate_section(self.estimator, see_section(windows, device))
        known = self._told(degradations_of(cautious(estimate), self.scale))
        stated = estimate.kernel(self.scale)[0].cpu().numpy() if self.kernel is None else self.kernel
        sigma = float(equivalent_sigma(stated))
        kernel = narrowed(known.kernel[0].cpu().numpy(), prior_gate.SEEN_SIGMA_PX[self.scale])
        known = attrs.evolve(known, kernel=torch.from_numpy(kernel)[None].to(device))
        likeness = round(prior_gate.likeness(sigma, self.scale), 4)
        details: dict[str, Any] = {
            "windows": len(windows),
            "sigma_px": round(sigma, 4),
            "likeness": likeness,
            "noise_gain": float(known.noise_gain[0]),
            "read_noise": float(known.read_noise[0]),
            "jpeg_quality": round(float(known.jpeg_quality[0]), 1),
            "banding": round(float(known.banding[0]), 4),
        } | self.given
        if self.kernel is None:
            # A change of the blur changes the whole kernel's width by its share of it.
            share = self.scale * float(estimate.sigma[0]) / max(sigma, 1e-3)
            error = self.scale * min(share, 1.0) * float(estimate.sigma_error[0])
            details["sigma_error_px"] = round(error, 4)
        return SectionReading(known, sigma, likeness, details)

    def _told(self, read: Degradations) -> Degradations:
        """Return what was read of one section with the given kernel and noise in place of the estimated ones."""
        if self.kernel is not None:
            kernel = torch.from_numpy(self.kernel)[None].to(read.kernel.device)
            read = attrs.evolve(read, kernel=kernel)
        if self.read_noise is not None:
            given = torch.full_like(read.read_noise, self.read_noise)
            read = attrs.evolve(read, noise_gain=torch.zeros_like(read.noise_gain), read_noise=given)
        return read


def stated_kernel(kernel: Path | None, blur: StatedBlur | None, scale: int) -> NDArray[np.float32] | None:
    """Return the kernel on the output grid that a user states by a file or by a blur; None for neither.

    Raises
    ------
    InputMissingError, InputError
        There is no such file, or it holds no kernel.
    UsageError
        The blur is wider than those of the training.
    """
    if blur is not None:
        reason = f"models for x{scale} are trained on at most"
        return blur_kernel(blur, scale, prior_gate.SEEN_SIGMA_PX[scale], reason)
    return None if kernel is None else read_kernel(kernel)


def _digest(kernel: NDArray[np.float32]) -> str:
    """Return the first twelve hexadecimals of a kernel's sha256: a run must not go on with another one."""
    return hashlib.sha256(np.ascontiguousarray(kernel, np.float32).tobytes()).hexdigest()[:12]
