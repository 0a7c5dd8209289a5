"""What a method is told of a section: the blur kernel and the noise, read by the estimator or stated by the user.

Every method that undoes a known blur asks here, so `--kernel`, `--blur`, `--noise` and the reading mean the same to all
of them. The widest kernel is the method's own (`KernelLimit`): a wider one is narrowed to it, and such a section is
sharpened less than it could be. The estimator is asked only for what nobody stated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from bigrestore.core.kernels import equivalent_sigma, narrowed, sharpest
from bigrestore.core.stated_blur import blur_kernel, placed_kernel, read_kernel
from bigrestore.model.nets import prior_gate
from bigrestore.model.nets.checkpoint import hash_tensors, load_estimator
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

READINGS = ("blur", "noise")
"""What a method may ask of a section."""

WIDE_KERNEL_PX = {1: 41, 2: 51, 4: 71}
"""Side of a kernel wider than those of the training, output pixels: four sigmas of the widest to each side."""


@attrs.frozen
class KernelLimit:
    """The widest kernel that a method undoes.

    Attributes
    ----------
    sigma_px : float
        Its equivalent sigma, output pixels.
    size_px : int
        Side of the square that holds it, output pixels, odd.
    reason : str
        Why, in words that the limit follows.
    """

    sigma_px: float
    size_px: int
    reason: str


def trained_limit(scale: int) -> KernelLimit:
    """Return the limit of networks: the widest kernel of their training."""
    reason = f"models for x{scale} are trained on at most"
    return KernelLimit(prior_gate.SEEN_SIGMA_PX[scale], KERNEL_PX[scale], reason)


def wide_limit(method: str, scale: int) -> KernelLimit:
    """Return the limit of a method that learned no kernels: twice the widest of the training."""
    reason = f"--method {method} undoes at x{scale} at most"
    return KernelLimit(2 * prior_gate.SEEN_SIGMA_PX[scale], WIDE_KERNEL_PX[scale], reason)


@attrs.frozen(eq=False)
class StoredEstimator:
    """The estimator of a shipped model, read from its file when it is first asked for.

    Attributes
    ----------
    model : str
        Name of the model.
    scale : int
        Of the model.
    """

    model: str
    scale: int

    @cached_property
    def network(self) -> DegradationEstimator:
        """The estimator, on the CPU."""
        return load_estimator(self.model, self.scale)

    @cached_property
    def identity(self) -> str:
        """What identifies it in plans, fingerprints and provenance: the model, and the hash of the estimator alone."""
        return f"{self.model}-x{self.scale}, sha256 {hash_tensors(self.network.state_dict())[:12]}"


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
    estimator : DegradationEstimator or StoredEstimator
        On the device of the method, or not yet loaded.
    scale : int
        Output pixels per input pixel.
    kernel : ndarray, (k, k), optional
        Blur kernel on the output grid, odd k, in place of the estimated one; it is moved to where kernels stand.
    read_noise : float, optional
        Standard deviation of the noise, 0..1, in place of the estimated one.
    limit : KernelLimit, optional
        The widest kernel of the method; None: that of the training.
    """

    def __init__(
        self,
        estimator: DegradationEstimator | StoredEstimator,
        scale: int,
        kernel: NDArray[np.float32] | None = None,
        read_noise: float | None = None,
        limit: KernelLimit | None = None,
    ) -> None:
        self._estimator, self.scale, self.read_noise = estimator, scale, read_noise
        self.limit = limit or trained_limit(scale)
        self.kernel = None if kernel is None else self._placed(kernel)

    @property
    def estimator(self) -> DegradationEstimator:
        """The estimator, loaded at the first use."""
        return self._estimator.network if isinstance(self._estimator, StoredEstimator) else self._estimator

    def describe(
        self, readings: Collection[str] = READINGS, *, estimator: bool | None = None
    ) -> dict[str, Any]:
        """Return what was stated, and what reads the rest, for plans, fingerprints and provenance.

        Parameters
        ----------
        readings : collection of str
            What the method asks for, of `READINGS`.
        estimator : bool, optional
            Whether the estimator is used; None: where one of the readings was not stated.
        """
        facts: dict[str, Any] = {}
        if "blur" in readings:
            facts["kernel"] = "estimated" if self.kernel is None else f"given, sha256 {_digest(self.kernel)}"
        if self.read_noise is not None:
            facts["noise"] = f"given, {255 * self.read_noise:g} of 255"
        used = bool(self._unstated(readings)) if estimator is None else estimator
        if used and isinstance(self._estimator, StoredEstimator):
            facts["estimator"] = self._estimator.identity
        return facts

    @property
    def given(self) -> dict[str, str]:
        """The detail `given`, the names of the stated blur and noise; empty without any."""
        unstated = self._unstated(READINGS)
        given = ", ".join(name for name in READINGS if name not in unstated)
        return {"given": given} if given else {}

    @torch.inference_mode()
    def read(self, windows: NDArray[np.float32], readings: Collection[str] | None = None) -> SectionReading:
        """Read a section from its sampled windows.

        Parameters
        ----------
        windows : ndarray, (n, 128, 128), 0..1
            At least one.
        readings : collection of str, optional
            What the method asks for, and nothing is estimated where all of it was stated; None: all that can be read.
        """
        if readings is not None and not self._unstated(readings):
            return self._stated_reading(len(windows))
        device = next(self.estimator.parameters()).device
        estimate = estimate_section(self.estimator, see_section(windows, device))
        known = self._told(degradations_of(cautious(estimate), self.scale))
        whole = estimate.kernel(self.scale)[0].cpu().numpy() if self.kernel is None else self.kernel
        sigma = float(equivalent_sigma(whole))
        # What is read is sure within the training only, whatever the method can undo.
        widest = prior_gate.SEEN_SIGMA_PX[self.scale] if self.kernel is None else self.limit.sigma_px
        kernel = narrowed(known.kernel[0].cpu().numpy(), widest)
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

    def _stated_reading(self, windows: int) -> SectionReading:
        """Return what was stated of a section, and nothing that would have to be read."""
        kernel = sharpest(self.scale) if self.kernel is None else self.kernel
        sigma, zero = float(equivalent_sigma(kernel)), torch.zeros(1)
        noise = zero + (self.read_noise or 0.0)
        narrow = torch.from_numpy(narrowed(kernel, self.limit.sigma_px))[None]
        known = Degradations(narrow, zero, noise, zero, zero, zero, zero, zero, zero)
        likeness = round(prior_gate.likeness(sigma, self.scale), 4)
        details: dict[str, Any] = {"windows": windows, "sigma_px": round(sigma, 4), "likeness": likeness}
        return SectionReading(
            known, sigma, likeness, details | {"noise_gain": 0.0, "read_noise": float(noise)} | self.given
        )

    def _unstated(self, readings: Collection[str]) -> list[str]:
        """Return what the estimator has to read of the readings."""
        stated = {"blur": self.kernel, "noise": self.read_noise}
        return [name for name in readings if stated[name] is None]

    def _placed(self, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a stated kernel where kernels stand, in the square of the training's unless it is wider than those."""
        wide = equivalent_sigma(kernel) > prior_gate.SEEN_SIGMA_PX[self.scale]
        size = self.limit.size_px if wide else KERNEL_PX[self.scale]
        return placed_kernel(kernel, self.scale, size)

    def _told(self, read: Degradations) -> Degradations:
        """Return what was read of one section with the given kernel and noise in place of the estimated ones."""
        if self.kernel is not None:
            kernel = torch.from_numpy(self.kernel)[None].to(read.kernel.device)
            read = attrs.evolve(read, kernel=kernel)
        if self.read_noise is not None:
            given = torch.full_like(read.read_noise, self.read_noise)
            read = attrs.evolve(read, noise_gain=torch.zeros_like(read.noise_gain), read_noise=given)
        return read


def stated_kernel(
    kernel: Path | None, blur: StatedBlur | None, scale: int, limit: KernelLimit | None = None
) -> NDArray[np.float32] | None:
    """Return the kernel on the output grid that a user states by a file or by a blur; None for neither.

    Parameters
    ----------
    kernel, blur : Path, StatedBlur, optional
        As the user states them.
    scale : int
        Output pixels per input pixel.
    limit : KernelLimit, optional
        Of the method; None: that of the training.

    Raises
    ------
    InputMissingError, InputError
        There is no such file, or it holds no kernel.
    UsageError
        The blur is wider than the limit.
    """
    if blur is not None:
        widest = limit or trained_limit(scale)
        narrow = scale * max(blur[:2]) <= prior_gate.SEEN_SIGMA_PX[scale]
        size = KERNEL_PX[scale] if narrow else widest.size_px
        return blur_kernel(blur, scale, widest.sigma_px, widest.reason, size_px=size)
    return None if kernel is None else read_kernel(kernel)


def _digest(kernel: NDArray[np.float32]) -> str:
    """Return the first twelve hexadecimals of a kernel's sha256: a run must not go on with another one."""
    return hashlib.sha256(np.ascontiguousarray(kernel, np.float32).tobytes()).hexdigest()[:12]
