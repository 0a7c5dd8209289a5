"""A method with a step before or after it, as one method."""

from __future__ import annotations

from typing import Any

from numpy import float32
from numpy.typing import NDArray

from bigrestore.model.method import Method, SectionStatistics, StatesCost


class WrappedMethod:
    """The base of such methods: tiles are larger by the reach of the step, so that they equal the whole as before.

    Parameters
    ----------
    method : Method
    reach_px : int
        Of the step, input pixels.
    bytes_per_px : int
        Memory of the step; the two compute one after the other.
    px_per_second : float
        Speed of the step.
    """

    def __init__(self, method: Method, reach_px: int, bytes_per_px: int, px_per_second: float) -> None:
        self.method = method
        self.name, self.scale, self.exact = method.name, method.scale, method.exact
        self.alignment_px = method.alignment_px
        self.halo_px = method.halo_px + -(-reach_px // self.alignment_px) * self.alignment_px
        own = method if isinstance(method, StatesCost) else None
        self.bytes_per_px = max(0 if own is None else own.bytes_per_px, bytes_per_px)
        self.px_per_second = 1 / ((0 if own is None else 1 / own.px_per_second) + 1 / px_per_second)

    @property
    def map_names(self) -> tuple[str, ...]:
        """The maps of the method."""
        return getattr(self.method, "map_names", ())

    def describe(self) -> dict[str, Any]:
        """Return the identity of the method."""
        return {**self.method.describe(), "halo_px": self.halo_px}

    def analyse(self, windows: NDArray[float32]) -> SectionStatistics:
        """Return what the method reads of a section."""
        return self.method.analyse(windows)
