"""An edge-preserving smoother: the recursive filter on the domain transform.

Along each row and column pixels are as far apart as the image changes between them, and an exponential filter on that
distance smooths within edges and not across. Gastal and Oliveira, "Domain Transform for Edge-Aware Image and Video
Processing", ACM Transactions on Graphics 30 (2011), recursive filtering, with three iterations.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ITERATIONS = 3


def recursive_filter(image: Tensor, sigma_px: float, sigma_grey: float) -> Tensor:
    """Smooth an image within its edges.

    Parameters
    ----------
    image : Tensor, (N, 1, H, W)
        Grey values.
    sigma_px : float
        Width of the smoothing, pixels.
    sigma_grey : float
        Changes of grey far above it are edges.

    Returns
    -------
    Tensor, (N, 1, H, W)
    """
    ratio = sigma_px / sigma_grey
    across = 1 + ratio * image.diff(dim=3).abs()
    down = (1 + ratio * image.diff(dim=2).abs()).transpose(2, 3).contiguous()
    for index in range(ITERATIONS):
        part = math.sqrt(3) * 2 ** (ITERATIONS - index - 1) / math.sqrt(4**ITERATIONS - 1)
        feedback = math.exp(-math.sqrt(2) / (sigma_px * part))
        image = _filtered_rows(image, feedback**across)
        image = (
            _filtered_rows(image.transpose(2, 3).contiguous(), feedback**down).transpose(2, 3).contiguous()
        )
    return image


def _filtered_rows(image: Tensor, share: Tensor) -> Tensor:
    """Filter every row forth and back; `share`, (N, 1, H, W - 1), is what a pixel takes of its neighbour's result."""
    columns, shares = list(image.unbind(3)), share.unbind(3)
    for x in range(1, len(columns)):
        columns[x] = torch.lerp(columns[x], columns[x - 1], shares[x - 1])
    for x in range(len(columns) - 2, -1, -1):
        columns[x] = torch.lerp(columns[x], columns[x + 1], shares[x])
    return torch.stack(columns, dim=3)
