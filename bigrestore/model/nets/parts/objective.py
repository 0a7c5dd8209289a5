"""The head of objectives: how much of the prior's detail each place bears.

It sees what the network knows anyway: the U-Net's finest features, the size of the detail that the prior would add,
|y1 - y0|, and the trust of the prior's gate. It says, for every node of the U-Net's finest grid, the share t of the detail,
0..1. Three convolutions of 3 x 3: a node asks for 3 nodes around it.

After the map of objectives of SROOE (Park, Moon and Cho, "Perception-oriented single image super-resolution using
optimal objective estimation", CVPR 2023), with realness in the place of its line of objectives.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.core.interpolation import enlarge_maps
from bigrestore.model.nets.convolution import SLOPE

HEAD_GAIN = 30.0
"""The detail has a few hundredths of the range; the head sees it enlarged."""

REACH_NODES = 4
"""Nodes that a share looks at to each side, and the interpolation between nodes, in input pixels of a node each."""

SHARE_START = 0.5
"""Share of an untrained head, everywhere."""


class ObjectiveHead(nn.Module):
    """Three convolutions on the finest grid of a U-Net.

    Parameters
    ----------
    features : int
        Channels of the U-Net's finest features.
    unshuffle : int
        Input pixels to a side of their nodes.
    scale : int
        Output pixels per input pixel.
    hidden : int
        Channels between.
    """

    def __init__(self, features: int, unshuffle: int, scale: int, hidden: int = 32) -> None:
        super().__init__()
        self.scale, self.node_px = scale, unshuffle * scale
        self.reach_px = REACH_NODES * unshuffle
        self.first = nn.Conv2d(features + 2, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.last = nn.Conv2d(hidden, 1, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, SHARE_START)

    def forward(self, features: Tensor, detail: Tensor, trust: Tensor) -> Tensor:
        """Return the share of every node before it is held to 0..1, (N, 1, h, w).

        Parameters
        ----------
        features : Tensor, (N, features, h, w)
            The finest of the U-Net.
        detail : Tensor, (N, 1, h * node, w * node)
            What the prior adds at realness 1, y1 - y0.
        trust : Tensor, (N, 1, h * node, w * node), 0..1
            From `bigrestore.model.nets.prior_gate.prior_gate`.
        """
        size, known = (F.avg_pool2d(part, self.node_px) for part in (HEAD_GAIN * detail.abs(), trust))
        h = F.leaky_relu(self.first(torch.cat([features.float(), size, known], dim=1)), SLOPE)
        h = F.leaky_relu(self.second(h), SLOPE)
        raw: Tensor = self.last(h)
        return raw

    def shares(self, features: Tensor, detail: Tensor, trust: Tensor) -> Tensor:
        """Return the share of every output pixel, 0..1, (N, 1, h * node, w * node); arguments as of `forward`."""
        return enlarge_maps(self(features, detail, trust).clamp(0, 1), self.node_px)
