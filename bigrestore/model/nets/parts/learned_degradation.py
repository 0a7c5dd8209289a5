"""What `bigrestore train degradation` leaves of pairs: the kernels that were fitted to their windows.

Noise and compression of each window stand in the metadata of the file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FitBank(nn.Module):
    """The fitted kernels.

    Parameters
    ----------
    windows : int
        How many.
    kernel_px : int
        Side of each, output pixels.
    """

    kernels: Tensor

    def __init__(self, windows: int, kernel_px: int) -> None:
        super().__init__()
        self.register_buffer("kernels", torch.zeros(windows, kernel_px, kernel_px))
