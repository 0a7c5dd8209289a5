"""What `bigrestore train degradation` leaves of pairs: fitted kernels, and two networks where they were trained.

`CodeNet` reads a code of 64 numbers off a pair: what was done to the clean side, whatever it shows. `SynNet` does it to
another clean image: it adds to the fitted blur what no kernel does, and corrects the fitted noise. Both see the grid of
degraded pixels, the clean ones folded into channels.

The idea of a code that is carried from a real pair to clean images: Li et al., "From Face to Natural Image: Learning Real
Degradation for Blind Image Super-Resolution", ECCV 2022 (ReDegNet). All else is this program's own.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.model.nets.unet import EMBEDDING, ResidualBlock, zero_init

CODE_CHANNELS = (16, 24, 32, 32, 48, 48)
CODE_STRIDES = (2, 1, 2, 1, 2, 1)
CROSS_RINGS = 12
HQ_DIFFERENCE_GAIN = 8.0
"""What a degradation changes is a few hundredths of the range; `CodeNet` sees it enlarged."""

SYN_CHANNELS, SYN_BLOCKS = 16, 3
SYN_REACH_PX = 2 * SYN_BLOCKS + 1
"""Degraded pixels around one that its value depends on."""

NOISE_NUMBERS = 3
MOST_FACTOR = math.log(4.0)
"""Of the fitted variances and the log-odds of the correlated share, either way."""

CROSS_POWER_FLOOR = 1e-8


class CodeNet(nn.Module):
    """Reads a code off a pair of any size.

    Parameters
    ----------
    scale : int
        Clean pixels along a degraded one.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        channels = (scale**2 + 2, *CODE_CHANNELS)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=stride, padding=1)
            for (a, b), stride in zip(itertools.pairwise(channels), CODE_STRIDES, strict=True)
        )
        self.hidden = nn.Linear(2 * CODE_CHANNELS[-1] + 2 * CROSS_RINGS, 128)
        self.head = nn.Linear(128, EMBEDDING)

    def forward(self, degraded: Tensor, clean: Tensor) -> Tensor:
        """Return codes of unit norm.

        Parameters
        ----------
        degraded, clean : Tensor, (N, 1, h, w) and (N, 1, scale * h, scale * w)
            Grey values 0..1.

        Returns
        -------
        Tensor, (N, 64)
        """
        means = F.avg_pool2d(clean, self.scale) if self.scale > 1 else clean
        difference = HQ_DIFFERENCE_GAIN * (degraded - means)
        h = torch.cat([F.pixel_unshuffle(clean - 0.5, self.scale), degraded - 0.5, difference], dim=1)
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
        spread = torch.log(h.var(dim=(2, 3)) + 1e-4)
        seen = torch.cat([h.mean(dim=(2, 3)), spread, cross_spectrum(degraded, means)], dim=1)
        return F.normalize(self.head(F.leaky_relu(self.hidden(seen), 0.2)), dim=1)


def cross_spectrum(degraded: Tensor, means: Tensor) -> Tensor:
    """Return how much of each frequency a degradation passes, and what it adds.

    Parameters
    ----------
    degraded, means : Tensor, (N, 1, h, w)
        The degraded image, and the clean one on its grid.

    Returns
    -------
    Tensor, (N, 24)
        For 12 rings up to 0.5 cycles/px: |S_xy| / S_xx, then log10 of the incoherent power, plus 3.
    """
    height, width = degraded.shape[-2:]
    taper, rings = _taper_and_rings(height, width)
    taper, rings = taper.to(degraded.device), rings.to(degraded.device)
    spectra = [
        torch.fft.rfft2((image[:, 0] - image.mean((1, 2, 3))[:, None, None]) * taper)
        for image in (means, degraded)
    ]
    scale = taper.square().sum()
    own, other = ((s.abs().square() / scale).flatten(1) @ rings for s in spectra)
    cross = (spectra[1] * spectra[0].conj() / scale).flatten(1)
    both = (cross.real @ rings).square() + (cross.imag @ rings).square()
    passed = both.sqrt() / (own + CROSS_POWER_FLOOR)
    added = (other - both / (own + CROSS_POWER_FLOOR)).clamp_min(CROSS_POWER_FLOOR)
    return torch.cat([passed, torch.log10(added) + 3], dim=1)


@functools.lru_cache(maxsize=8)
def _taper_and_rings(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return Hann's window and the weights of the coefficients of `rfft2` in each ring, which sum to one."""
    with torch.inference_mode(False):  # cached: must stay usable in training after a first use in inference
        taper = torch.outer(torch.hann_window(height), torch.hann_window(width))
        radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]).flatten()
        ring = (radius * 2 * CROSS_RINGS).long()
        member = F.one_hot(ring.clamp_max(CROSS_RINGS), CROSS_RINGS + 1)[:, :CROSS_RINGS].float()
        return taper, member / member.sum(0).clamp_min(1)


class SynNet(nn.Module):
    """Degrades a clean image as a code says, beyond its fitted blur.

    Parameters
    ----------
    scale : int
        Clean pixels along a degraded one.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.stem = nn.Conv2d(scale**2, SYN_CHANNELS, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(SYN_CHANNELS) for _ in range(SYN_BLOCKS))
        self.head = zero_init(nn.Conv2d(SYN_CHANNELS, 1, 1))
        self.noise = zero_init(nn.Linear(EMBEDDING, NOISE_NUMBERS))

    def forward(self, clean: Tensor, codes: Tensor) -> Tensor:
        """Return what is added to the blurred image.

        Parameters
        ----------
        clean : Tensor, (N, 1, scale * h, scale * w)
            Grey values 0..1; beyond the edge the last pixel repeats.
        codes : Tensor, (N, 64)

        Returns
        -------
        Tensor, (N, 1, h, w)
        """
        side = SYN_REACH_PX * self.scale
        padded = F.pad(clean - 0.5, (side,) * 4, mode="replicate")
        embedding = math.sqrt(EMBEDDING) * codes
        h = self.stem(F.pixel_unshuffle(padded, self.scale))
        for block in self.blocks:
            h = block(h, embedding)
        inner = slice(SYN_REACH_PX, -SYN_REACH_PX)
        added: Tensor = self.head(h)[..., inner, inner]
        return added

    def noise_change(self, codes: Tensor) -> Tensor:
        """Return logarithms of the factors on both fitted variances, and the change of the share's log-odds, (N, 3)."""
        return MOST_FACTOR * torch.tanh(self.noise(codes))


class LearnedDegradation(nn.Module):
    """The fitted kernels and codes of the windows, and the networks.

    Parameters
    ----------
    windows : int
        How many.
    kernel_px : int
        Side of each kernel, output pixels.
    scale : int
        Clean pixels along a degraded one.
    network : bool
        Whether there are networks.
    """

    kernels: Tensor
    codes: Tensor

    def __init__(self, windows: int, kernel_px: int, scale: int, network: bool = False) -> None:
        super().__init__()
        self.register_buffer("kernels", torch.zeros(windows, kernel_px, kernel_px))
        self.code_net = CodeNet(scale) if network else None
        self.syn_net = SynNet(scale) if network else None
        if network:
            self.register_buffer("codes", torch.zeros(windows, EMBEDDING))
