"""The protocol of a scoring engine."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class ScoreEngine(Protocol):
    """Scores tiles; may be called from several threads at once."""

    @property
    def name(self) -> str:
        """`native` or `pyiqa`."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the columns, in order."""

    def score(self, tile: NDArray[np.float32]) -> dict[str, float]:
        """Score one tile.

        Parameters
        ----------
        tile : ndarray of float32, (height, width)
            Grey values, 0..1 of the value range.

        Returns
        -------
        dict of str to float
            One value per metric, or NaN. Never raises for bad pixels.
        """

    def describe(self) -> dict[str, Any]:
        """Name, versions and hashes of parameters, JSON-able: equal for comparable scores."""
