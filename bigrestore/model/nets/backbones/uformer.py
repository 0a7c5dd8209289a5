"""Uformer in small: a U of windows of attention (Wang et al., "Uformer", CVPR 2022).

Each block is a norm, attention within windows of 8 x 8, a norm, and a perceptron with a depthwise convolution between its
layers, where windows exchange what they know. Convolutions of 4 x 4 and stride 2 go down, transposed ones of 2 x 2 up;
skips are concatenated, so the decoder has twice the channels. Uformer-B has 32 channels and 20 blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.model.nets.backbones.attention import WindowAttention

LEFF_RATIO = 4


class LeFF(nn.Module):
    """The locally enhanced perceptron: linear, 3 x 3 depthwise convolution, linear."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = LEFF_RATIO * channels
        self.first, self.last = nn.Linear(channels, inner), nn.Linear(inner, channels)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        h = F.gelu(self.first(x)).permute(0, 3, 1, 2)
        made: Tensor = self.last(F.gelu(self.depthwise(h)).permute(0, 2, 3, 1))
        return made


class LeWinBlock(nn.Module):
    """x + attention(norm(x)), then the same with `LeFF`."""

    def __init__(self, channels: int, heads: int, side: int, shift: int, modulated: bool) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, heads, side, shift=shift, modulated=modulated)
        self.leff = LeFF(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        x = x + self.attention(self.before(x))
        made: Tensor = x + self.leff(self.between(x))
        return made


class Uformer(nn.Module):
    """The body.

    Parameters
    ----------
    channels : int
        At the first level; each level further down has twice as many.
    depths : sequence of int
        Blocks per level on the way down, the last one the bottleneck; the decoder mirrors the others.
    head_channels : int
        Channels of one head of attention.
    side : int
        Side of a window of attention.
    modulators : bool
        Whether the decoder's windows have learned offsets.
    """

    def __init__(
        self,
        channels: int = 16,
        depths: Sequence[int] = (1, 1, 1, 2),
        head_channels: int = 16,
        side: int = 8,
        modulators: bool = False,
    ) -> None:
        super().__init__()
        self.channels_out = 2 * channels
        widths = [channels << level for level in range(len(depths))]

        def level(width: int, depth: int, modulated: bool) -> nn.Sequential:
            heads = max(1, width // head_channels)
            shifts = (side // 2 if index % 2 else 0 for index in range(depth))
            return nn.Sequential(*(LeWinBlock(width, heads, side, shift, modulated) for shift in shifts))

        self.head = nn.Conv2d(1, channels, 3, padding=1)
        self.encoder = nn.ModuleList(level(w, d, False) for w, d in zip(widths, depths, strict=True))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in itertools.pairwise(widths))
        # Into the lowest decoder come the channels of the bottleneck, into the others those of a decoder: as many.
        self.up = nn.ModuleList(nn.ConvTranspose2d(4 * w, w, 2, 2) for w in widths[:-2])
        self.up.append(nn.ConvTranspose2d(widths[-1], widths[-2], 2, 2))
        self.decoder = nn.ModuleList(
            level(2 * w, d, modulators) for w, d in zip(widths[:-1], depths[:-1], strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, H, W) to features (N, `channels_out`, H, W)."""
        h = F.leaky_relu(self.head(x), 0.1).permute(0, 2, 3, 1)
        skips: list[Tensor] = []
        for index, blocks in enumerate(self.encoder):
            h = blocks(self._resampled(self.down[index - 1], h) if index else h)
            skips.append(h)
        for index in reversed(range(len(self.decoder))):
            h = torch.cat([self._resampled(self.up[index], h), skips[index]], dim=3)
            h = self.decoder[index](h)
        return h.permute(0, 3, 1, 2)

    def _resampled(self, convolution: nn.Module, x: Tensor) -> Tensor:
        made: Tensor = convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return made
