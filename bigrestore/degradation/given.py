"""Blur and noise that the user states, in place of those drawn for a pair."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import attrs

from bigrestore.core.kernels import Kernel, delta, kernel_size
from bigrestore.core.stated_blur import blur_kernel
from bigrestore.degradation.degradation import Degradation, Noise, SecondPass, Storage
from bigrestore.degradation.recipe import SECOND_KERNEL_SIZE
from bigrestore.settings.checks import check_blur, check_noise
from bigrestore.settings.values import StatedBlur, to_blur, to_plain


@lru_cache(maxsize=4)
def _widest_kernel(blur: StatedBlur, scale: int) -> Kernel:
    """Return the kernel of a blur, refusing one too wide for the kernel's square."""
    side = kernel_size(scale)
    reason = f"the kernel of {side} x {side} output pixels holds at most"
    return blur_kernel(blur, scale, side / 6, reason)


@attrs.frozen(kw_only=True)
class Given:
    """Stated blur and noise of every pair; the others are drawn.

    Attributes
    ----------
    blur : tuple of 3, optional
        As in `blur_kernel`; also one sigma, or as text with commas. None: drawn.
    noise : float, optional
        Standard deviation of the noise, of 255. None: drawn.

    Raises
    ------
    UsageError
        One sentence with the flag, its value and what it takes.
    """

    blur: StatedBlur | None = attrs.field(default=None, converter=to_blur, validator=check_blur)
    noise: float | None = attrs.field(default=None, converter=to_plain, validator=check_noise)

    def kernel(self, scale: int) -> Kernel | None:
        """Return the kernel of the blur on the output grid; None if it is drawn.

        Raises
        ------
        UsageError
            Where the blur is too wide for the kernel's square, or narrower than the averaging alone.
        """
        return None if self.blur is None else _widest_kernel(self.blur, scale).copy()

    def facts(self) -> dict[str, Any]:
        """Return the stated values, JSON-able; empty without any."""
        asked = {"blur": None if self.blur is None else list(self.blur), "noise": self.noise}
        return {name: value for name, value in asked.items() if value is not None}

    def replace(self, drawn: Degradation) -> Degradation:
        """Return a degradation with the given blur and noise in place of the drawn ones.

        The kernel belongs to the first pass; neither a registration nor a second pass adds blur. The noise comes last,
        so that nothing averages it.
        """
        made = self._noisy(self._blurred(drawn))
        return attrs.evolve(made, identity=drawn.identity and not self.facts())

    def _blurred(self, drawn: Degradation) -> Degradation:
        """Put the stated blur in place of all blur."""
        kernel, second = self.kernel(drawn.scale), drawn.second
        if kernel is None or self.blur is None:
            return drawn
        if second is not None:
            second = attrs.evolve(second, kernel=delta(second.kernel.shape[0]))
        names = ("sigma_along_input_px", "sigma_across_input_px", "angle_deg")
        return attrs.evolve(
            drawn,
            kernel=kernel,
            kind="gaussian" if any(self.blur[:2]) else "none",
            blur=dict(zip(names, self.blur, strict=True)),
            downsampling="none" if drawn.scale == 1 else "area",
            thickness_px=0.0,
            resampling=None,
            second=second,
            synthesis=None,
        )

    def _noisy(self, drawn: Degradation) -> Degradation:
        """Put the stated noise in place of all noise, after a registration and a second pass."""
        if self.noise is None:
            return drawn
        noise, second = Noise(read=self.noise / 255), drawn.second
        if second is None and drawn.resampling is None:
            return attrs.evolve(drawn, noise=noise, scan_factor=1)
        if second is None:
            kernel = delta(SECOND_KERNEL_SIZE)
            second = SecondPass(kernel, noise, Storage(bit_depth=drawn.storage.bit_depth))
        return attrs.evolve(drawn, noise=Noise(), second=attrs.evolve(second, noise=noise))
