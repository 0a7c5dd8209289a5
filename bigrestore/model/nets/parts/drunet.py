"""A denoiser that is told the noise at every pixel: DRUNet in small.

A U-Net of residual blocks without any bias: net(c x, c sigma) = c net(x, sigma), so it knows noise levels beyond those of
its training. Convolutions of stride 2 go down, transposed ones up, skips add.

Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", IEEE TPAMI 2022. There the first grid has 64
channels and four blocks a level, and the network makes the image; here it makes the noise, starting from none.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.model.nets.convolution import added, bent, is_fused
from bigrestore.model.nets.unet import zero_init

MEAN_PX = 5
"""Side of the square whose mean stands for the grey level of a pixel in the law of the noise."""
SIGMA_GAIN = 8.0
"""Noise is a few hundredths of the range; the network sees its map enlarged."""
FACTOR_RANGE = 16
REPEATED_PX = 8
"""Pixels repeated around an image, so that convolutions meet no black at its border."""


class DenoisingBlock(nn.Module):
    """x + conv(relu(conv(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        if is_fused(x):
            return added(bent(x, self.first.weight, None, 0.0), self.second.weight, None, x)
        correction: Tensor = self.second(F.relu(self.first(x), inplace=True))
        return x + correction


class DRUNet(nn.Module):
    """The denoiser.

    Parameters
    ----------
    channels : sequence of int
        Per level, the first grid first.
    blocks : int
        Residual blocks per level, on the way down and again on the way up.
    """

    def __init__(self, channels: Sequence[int] = (16, 32, 64, 64), blocks: int = 2) -> None:
        super().__init__()
        self.alignment_px = 2 ** (len(channels) - 1)
        pairs = list(itertools.pairwise(channels))
        self.head = nn.Conv2d(2, channels[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(_level(c, blocks) for c in channels)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2, bias=False) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2, bias=False) for a, b in pairs)
        self.decoder = nn.ModuleList(_level(c, blocks) for c in channels[:-1])
        self.tail = zero_init(nn.Conv2d(channels[0], 1, 3, padding=1, bias=False))

    def features(self, x: Tensor, sigma: Tensor) -> list[Tensor]:
        """Return what the encoder makes of images, fine to coarse; arguments as in `forward`."""
        h, levels = self.head(torch.cat([x, SIGMA_GAIN * sigma], dim=1)), []
        for index, blocks in enumerate(self.encoder):
            h = blocks(self.down[index - 1](h) if index else h)
            levels.append(h)
        return levels

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Take the noise out of images.

        Parameters
        ----------
        x : Tensor, (N, 1, H, W)
            Grey values; H and W are multiples of `alignment_px`.
        sigma : Tensor, (N, 1, H, W)
            Standard deviation of the noise at every pixel.

        Returns
        -------
        Tensor, (N, 1, H, W)
        """
        rim = REPEATED_PX
        framed, noise = (F.pad(image, (rim, rim, rim, rim), mode="replicate") for image in (x, sigma))
        *skips, h = self.features(framed.contiguous(memory_format=torch.channels_last), noise)
        for index in reversed(range(len(skips))):
            h = self.decoder[index](self.up[index](h) + skips[index])
        noise_made: Tensor = self.tail(h).float()
        return x - noise_made[..., rim:-rim, rim:-rim]


def noise_map(x: Tensor, noise_gain: Tensor | float, read_noise: Tensor | float) -> Tensor:
    """Return the standard deviation sqrt(gain * mean + read^2) of the noise at every pixel, (N, 1, H, W).

    Parameters
    ----------
    x : Tensor, (N, 1, H, W)
        Noisy image; the mean is that of 5 x 5 pixels.
    noise_gain, read_noise : float or Tensor, (N, 1, 1, 1)
        The law of the noise.
    """
    side = MEAN_PX // 2
    framed = F.pad(x, (side, side, side, side), mode="replicate")
    return torch.sqrt(noise_gain * F.avg_pool2d(framed, MEAN_PX, 1).clamp_min(0) + read_noise**2)


def factor_map(x: Tensor, factor: float | Tensor) -> Tensor:
    """Return what a resolver is told in place of the noise: (factor - 1) / 16 at every pixel, (N, 1, H, W).

    A factor, or one per image, (N, 1, 1, 1), is by how much an image was enlarged before.
    """
    return torch.zeros_like(x) + (factor - 1) / FACTOR_RANGE


def _level(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(DenoisingBlock(channels) for _ in range(count)))
