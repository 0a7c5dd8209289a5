"""Where a sampled curve has its maximum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def between_samples(values: NDArray[np.float64], at: int) -> float:
    """Return by how many samples the maximum lies beside the largest sample `at`: a parabola through three; 0 at an end."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, top, behind = values[at - 1 : at + 2]
    bend = before - 2 * top + behind
    return float(0.5 * (before - behind) / bend) if bend < 0 else 0.0
