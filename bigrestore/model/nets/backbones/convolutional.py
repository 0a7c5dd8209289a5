"""Convolutional bodies: a plain U-Net of residual blocks, and the same with a Fourier branch in every block.

The second is the residual FFT-convolution block of Mao et al., "Intriguing Findings of Frequency Selection for Image
Deblurring" (AAAI 2023; DeepRFT), in the U-Net of Cho et al. (MIMO-UNet, ICCV 2021): beside two convolutions of 3 x 3, a
block mixes real and imaginary parts of its whole input's Fourier transform by convolutions of 1 x 1. So every pixel sees the
window. The published network also has inputs and outputs at three scales, and convolutions over-parameterised in training
(DO-Conv), which fold into plain ones; both are left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FourierBranch(nn.Module):
    """irfft2(conv(relu(conv([Re, Im] of rfft2(x)))), of orthonormal transforms, in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = (nn.Conv2d(2 * channels, 2 * channels, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        with torch.autocast(x.device.type, enabled=False):  # transforms know no bfloat16
            spectrum = torch.fft.rfft2(x.float(), norm="ortho")
            mixed = self.last(F.relu(self.first(torch.cat([spectrum.real, spectrum.imag], dim=1))))
            real, imaginary = mixed.chunk(2, dim=1)
            made = torch.complex(real.contiguous(), imaginary.contiguous())
            branch: Tensor = torch.fft.irfft2(made, s=x.shape[-2:], norm="ortho")
            return branch


class ConvolutionalBlock(nn.Module):
    """x + conv(relu(conv(x))), and a Fourier branch if asked for."""

    def __init__(self, channels: int, fourier: bool) -> None:
        super().__init__()
        self.first, self.last = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.fourier = FourierBranch(channels) if fourier else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        made: Tensor = x + self.last(F.relu(self.first(x)))
        return made if self.fourier is None else made + self.fourier(x)


class ConvolutionalU(nn.Module):
    """The body.

    Parameters
    ----------
    channels : sequence of int
        Per level, the first grid first.
    blocks : int
        Per level, on the way down and again on the way up.
    fourier : bool
        Whether blocks have a Fourier branch.
    """

    def __init__(
        self, channels: Sequence[int] = (16, 32, 64), blocks: int = 3, fourier: bool = False
    ) -> None:
        super().__init__()
        self.channels_out = channels[0]
        pairs = list(itertools.pairwise(channels))

        def level(width: int) -> nn.Sequential:
            return nn.Sequential(*(ConvolutionalBlock(width, fourier) for _ in range(blocks)))

        self.head = nn.Conv2d(1, channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(level(width) for width in channels)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 4, 2, 1) for a, b in pairs)
        self.join = nn.ModuleList(nn.Conv2d(2 * a, a, 1) for a, _ in pairs)
        self.decoder = nn.ModuleList(level(width) for width in channels[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, H, W) to features (N, `channels_out`, H, W)."""
        h = F.relu(self.head(x))
        skips: list[Tensor] = []
        for index, blocks in enumerate(self.encoder):
            h = blocks(F.relu(self.down[index - 1](h)) if index else h)
            skips.append(h)
        for index in reversed(range(len(self.decoder))):
            raised = F.relu(self.up[index](h))
            h = self.decoder[index](self.join[index](torch.cat([raised, skips[index]], dim=1)))
        return h
