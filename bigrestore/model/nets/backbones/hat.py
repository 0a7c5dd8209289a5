"""HAT in small: attention within windows beside channel attention, for super-resolution.

A hybrid block adds attention within (rolled) windows and a hundredth of a convolutional branch weighed channel by channel,
by means over the whole input. A group of such blocks ends in overlapping cross-attention, whose keys come from windows 1.5
times as large, and in a convolution. Everything happens on the input grid; a pixel shuffle enlarges behind.

Chen et al., "Activating More Pixels in Image Super-Resolution Transformer", CVPR 2023: 180 channels, six groups of six
blocks, windows of 16, 20.8 M parameters.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.model.nets.backbones.attention import Perceptron, WindowAttention

BRANCH_SHARE = 0.01
COMPRESSION = 3
"""Channels of a block over those within its convolutional branch."""
SQUEEZE = 16
"""Channels over those between the two layers of channel attention; 30 of 180 in the paper."""
HYBRID_RATIO = 2


class ChannelAttentionBranch(nn.Module):
    """Two convolutions, and a weight for each channel from the means of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // COMPRESSION
        self.first = nn.Conv2d(channels, inner, 3, padding=1)
        self.last = nn.Conv2d(inner, channels, 3, padding=1)
        self.squeeze = nn.Linear(channels, max(1, channels // SQUEEZE))
        self.excite = nn.Linear(max(1, channels // SQUEEZE), channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        h = self.last(F.gelu(self.first(x.permute(0, 3, 1, 2)))).permute(0, 2, 3, 1)
        weights = self.excite(F.relu(self.squeeze(h.mean(dim=(1, 2), keepdim=True)))).sigmoid()
        made: Tensor = h * weights
        return made


class HybridBlock(nn.Module):
    """x + attention(norm(x)) + 0.01 branch(norm(x)), then x + perceptron(norm(x))."""

    def __init__(self, channels: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, side, shift=shift)
        self.branch = ChannelAttentionBranch(channels)
        self.perceptron = Perceptron(channels, HYBRID_RATIO)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        h = self.before(x)
        x = x + self.attention(h) + BRANCH_SHARE * self.branch(h)
        made: Tensor = x + self.perceptron(self.between(x))
        return made


class CrossBlock(nn.Module):
    """x + attention(norm(x)) with keys from overlapping windows, then x + perceptron(norm(x))."""

    def __init__(self, channels: int, heads: int, side: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, side, key_side=side + side // 2)
        self.perceptron = Perceptron(channels, HYBRID_RATIO)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        x = x + self.attention(self.before(x))
        made: Tensor = x + self.perceptron(self.between(x))
        return made


class HybridGroup(nn.Module):
    """x + conv(cross(blocks(x)))."""

    def __init__(self, channels: int, heads: int, side: int, depth: int) -> None:
        super().__init__()
        shifts = (side // 2 if index % 2 else 0 for index in range(depth))
        self.blocks = nn.Sequential(*(HybridBlock(channels, heads, side, shift) for shift in shifts))
        self.cross = CrossBlock(channels, heads, side)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        h = self.cross(self.blocks(x)).permute(0, 3, 1, 2)
        made: Tensor = x + self.last(h).permute(0, 2, 3, 1)
        return made


class HAT(nn.Module):
    """The body.

    Parameters
    ----------
    channels, heads : int
        The second divides the first.
    groups, depth : int
        Groups, and hybrid blocks in each.
    side : int
        Side of a window of attention.
    """

    def __init__(
        self, channels: int = 48, heads: int = 6, groups: int = 2, depth: int = 4, side: int = 8
    ) -> None:
        super().__init__()
        self.channels_out = channels
        self.head = nn.Conv2d(1, channels, 3, padding=1)
        self.groups = nn.Sequential(*(HybridGroup(channels, heads, side, depth) for _ in range(groups)))
        self.norm = nn.LayerNorm(channels)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, H, W) to features (N, `channels_out`, H, W)."""
        shallow = self.head(x)
        deep = self.norm(self.groups(shallow.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        made: Tensor = shallow + self.last(deep)
        return made
