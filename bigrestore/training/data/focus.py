"""Clean windows that lie partly out of focus: in a thick section no plane is sharp everywhere.

What such a place held is not known, so nothing is to be added to it: the target of a training keeps the blur.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bigrestore.core.host.waiting import sent

UNFOCUSED_SHARE = 0.4
"""Share of the windows of a training that has such."""

UNFOCUSED_SIGMA_PX = (1.5, 6.0)
"""Standard deviation of the further Gaussian, input pixels; drawn evenly in its logarithm."""

UNFOCUSED_EDGE_PX = (4.0, 24.0)
"""How softly a place in focus ends, input pixels."""


def partly_unfocused(clean: Tensor, rng: np.random.Generator, share: float, scale: int) -> Tensor:
    """Blur one side of a line in a share of the windows.

    Parameters
    ----------
    clean : Tensor, (N, 1, H, W)
        Windows on the output grid.
    rng : numpy.random.Generator
        Draws the windows, their lines and their blur.
    share : float
        Share of the windows, 0..1.
    scale : int
        Output pixels per input pixel.

    Returns
    -------
    Tensor, (N, 1, H, W)
        clean + w * (clean * g - clean), with a Gaussian g and w = 1 / (1 + exp(-d / e)) of the distance d from the line. The
        window is taken to repeat beyond its border, which is cut off with the margin of a pair.
    """
    count, (height, width) = len(clean), clean.shape[-2:]
    chosen = rng.random(count) < share
    least, most = (math.log(sigma) for sigma in UNFOCUSED_SIGMA_PX)
    sigma = scale * np.exp(rng.uniform(least, most, count)) * chosen
    angle, edge = rng.uniform(0, 2 * np.pi, count), scale * rng.uniform(*UNFOCUSED_EDGE_PX, count)
    offset = rng.uniform(-0.5, 0.5, (2, count)) * np.array([[height], [width]])
    drawn = np.stack([sigma, np.sin(angle), np.cos(angle), offset[0], offset[1], edge, chosen])
    sigmas, *line, edges, chosens = sent(drawn, clean.device, clean.dtype)[:, :, None, None, None]
    fy = torch.fft.fftfreq(height, device=clean.device)[:, None]
    fx = torch.fft.rfftfreq(width, device=clean.device)[None]
    gain = torch.exp(-2 * math.pi**2 * sigmas**2 * (fy.square() + fx.square()))
    blurred = torch.fft.irfft2(torch.fft.rfft2(clean) * gain, s=(height, width))
    y = torch.arange(height, device=clean.device)[:, None] - height / 2
    x = torch.arange(width, device=clean.device)[None] - width / 2
    sine, cosine, middle_y, middle_x = line
    weight = chosens * torch.sigmoid(((y - middle_y) * sine + (x - middle_x) * cosine) / edges)
    mixed: Tensor = clean + weight * (blurred - clean)
    return mixed
