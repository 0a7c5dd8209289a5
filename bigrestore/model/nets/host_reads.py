"""Reads of tensors by the host. On a GPU each one waits until all work before it is done, so a tile does without.

What the host knows of a tile, it says: no damage, no realness. Where only the pixels tell, a device takes both branches,
and the host looks.
"""

from __future__ import annotations

from torch import Tensor


def readable(tensor: Tensor) -> bool:
    """Return whether the host reads a tensor without waiting for a device."""
    return tensor.device.type == "cpu"


def is_whole(valid: Tensor, known: bool | None) -> bool:
    """Return whether all pixels are valid: as known, else by a look at them."""
    return bool((valid == 1).all()) if known is None else known
