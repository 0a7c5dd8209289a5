"""Attention within square windows of a feature map, and what blocks of it are made of.

Pixels of a window attend to each other: softmax(B + Q K^T / sqrt d) V, with a learned bias B of their offset (Liu et al.,
"Swin Transformer", ICCV 2021). Every other block rolls the map by half a window first, and pixels that the roll brought
together ignore each other. Keys and values may come from larger windows about those of the queries: overlapping
cross-attention (Chen et al., "Activating More Pixels in Image Super-Resolution Transformer", CVPR 2023).

Feature maps are (N, H, W, C) here: linear layers and norms work on the last axis.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BIAS_STD = 0.02


class WindowAttention(nn.Module):
    """Attention of several heads within windows, the first and last linear layer included.

    Parameters
    ----------
    channels, heads : int
        The second divides the first.
    side : int
        Side of a window of queries; it divides H and W.
    shift : int
        By how much the map is rolled before; 0 for overlapping windows.
    key_side : int, optional
        Side of the windows of keys and values, about those of the queries, zeros beyond the map; None: `side`.
    modulated : bool
        Whether a learned offset per pixel of a window is added first (the modulators of Uformer).
    """

    index: Tensor

    def __init__(
        self,
        channels: int,
        heads: int,
        side: int,
        *,
        shift: int = 0,
        key_side: int | None = None,
        modulated: bool = False,
    ) -> None:
        super().__init__()
        self.heads, self.side, self.shift, self.key_side = heads, side, shift, key_side or side
        self.first = nn.Linear(channels, 3 * channels)
        self.last = nn.Linear(channels, channels)
        span = self.side + self.key_side - 1
        self.bias = nn.Parameter(torch.empty(span * span, heads))
        nn.init.trunc_normal_(self.bias, std=BIAS_STD)
        self.register_buffer("index", bias_index(self.side, self.key_side), persistent=False)
        self.modulator = nn.Parameter(torch.zeros(side, side, channels)) if modulated else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        count, height, width, channels = x.shape
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        if self.modulator is not None:
            x = x + self.modulator.repeat(height // self.side, width // self.side, 1)
        queries, *others = self.first(x).chunk(3, dim=3)
        q = self._heads(split_windows(queries, self.side))
        k, v = (self._heads(overlapping_windows(one, self.side, self.key_side)) for one in others)
        scores = q @ k.transpose(2, 3) * (channels // self.heads) ** -0.5
        scores = scores + self.bias[self.index].permute(2, 0, 1)
        if self.shift:
            apart = parted_by_roll(height, width, self.side, self.shift, str(x.device))
            shape = count, len(apart), *scores.shape[1:]
            scores = scores.view(shape).masked_fill(apart[:, None], -torch.inf).view_as(scores)
        weighted = (scores.softmax(dim=3) @ v).transpose(1, 2).flatten(2)
        made: Tensor = self.last(join_windows(weighted, self.side, height, width))
        return made.roll((self.shift, self.shift), (1, 2)) if self.shift else made

    def _heads(self, windows: Tensor) -> Tensor:
        """Return (n, pixels, C) as (n, heads, pixels, C / heads)."""
        count, pixels, channels = windows.shape
        return windows.view(count, pixels, self.heads, channels // self.heads).transpose(1, 2)


class Perceptron(nn.Module):
    """Two linear layers with a GELU between them, on every pixel alone."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(channels, ratio * channels), nn.Linear(ratio * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to the same shape."""
        made: Tensor = self.last(F.gelu(self.first(x)))
        return made


def split_windows(x: Tensor, side: int) -> Tensor:
    """Cut (N, H, W, C) into windows side by side, (N * H / side * W / side, side * side, C), row by row."""
    count, height, width, channels = x.shape
    cut = x.view(count, height // side, side, width // side, side, channels)
    return cut.transpose(2, 3).reshape(-1, side * side, channels)


def join_windows(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """Undo `split_windows`."""
    cut = windows.view(-1, height // side, width // side, side, side, windows.shape[2])
    return cut.transpose(2, 3).reshape(-1, height, width, windows.shape[2])


def overlapping_windows(x: Tensor, side: int, key_side: int) -> Tensor:
    """Return windows of `key_side` about those of `side`, (n, key_side * key_side, C); zeros beyond the map."""
    if key_side == side:
        return split_windows(x, side)
    margin = (key_side - side) // 2
    padded = F.pad(x, (0, 0, margin, margin, margin, margin))
    windows = padded.unfold(1, key_side, side).unfold(2, key_side, side)
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, key_side * key_side, x.shape[3])


def bias_index(side: int, key_side: int) -> Tensor:
    """Return the number of the offset between each query and each key, (side^2, key_side^2)."""
    margin, span = (key_side - side) // 2, side + key_side - 1
    offsets = torch.arange(side)[:, None] - (torch.arange(key_side)[None] - margin) + key_side - 1 - margin
    rows = offsets[:, None, :, None].expand(side, side, key_side, key_side)
    return (rows * span + offsets[None, :, None, :]).reshape(side * side, key_side * key_side)


@lru_cache(maxsize=16)
def parted_by_roll(height: int, width: int, side: int, shift: int, device: str) -> Tensor:
    """Return which pixels of each window were apart before the roll, (windows, side^2, side^2), bool."""
    with torch.inference_mode(False):  # cached: must stay usable in training after a first use in inference
        rows, columns = (
            (torch.arange(size) >= size - side).int() + (torch.arange(size) >= size - shift).int()
            for size in (height, width)
        )
        regions = split_windows((3 * rows[:, None] + columns)[None, :, :, None], side)[..., 0]
        return (regions[:, :, None] != regions[:, None, :]).to(device)
