"""Between host and device without a wait: on a GPU each read, and each plain copy, waits until all work before is done.

What the host knows of a tile, it says: no damage, no realness. Where only the pixels tell, a device takes both branches,
and the host looks. What the host draws is sent, and not waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def readable(tensor: Tensor) -> bool:
    """Return whether the host reads a tensor without waiting for a device."""
    return tensor.device.type == "cpu"


def all_valid(valid: Tensor, known: bool | None) -> bool:
    """Return whether all pixels are known to be valid; the host looks only where it need not wait."""
    return readable(valid) and bool((valid == 1).all()) if known is None else known


def sent(
    values: Tensor | NDArray[Any] | Sequence[float], device: torch.device, dtype: torch.dtype | None = None
) -> Tensor:
    """Return values of the host as a tensor on a device."""
    held = torch.as_tensor(values, dtype=None if isinstance(values, (Tensor, np.ndarray)) else dtype)
    # CUDA takes a copy of the host's memory before it returns; elsewhere that is not promised.
    return held.to(device, dtype, non_blocking=device.type != "mps")
