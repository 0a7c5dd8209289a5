"""The degradation-aware U-Net: recovers detail from the data alone.

It sees the input and three linear deconvolutions of it by the section's kernel (`bigrestore.model.nets.wiener`); it
mixes these pixel by pixel and adds the rest.

Residual blocks on every level, each modulated by the degradation code psi (FiLM). Blur-strided downsampling with the
binomial filter 1, 3, 3, 1: a shift of the input by the alignment shifts the output. Additive skips; a grey head per
level, summed coarse to fine, so every level answers for its own frequencies. No norm layers and no global pooling: a
pixel must not know the size of its tile. The last convolution of every branch and head starts at zero, so the
untrained network adds nothing to the interpolation.

FiLM: Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018.
"""

from __future__ import annotations

import itertools
import math
from typing import TypeVar

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.core.interpolation import catmull_rom
from bigrestore.model.method import PSI_SIZE
from bigrestore.model.nets.convolution import SLOPE, added, bent, is_fused
from bigrestore.model.nets.wiener import BOLDNESS
from bigrestore.settings.presets import Preset

EMBEDDING = 64
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)
LINEAR_GUESSES = len(BOLDNESS)
LINEAR_GAIN = 4.0
"""What a deconvolution adds is a few hundredths of the range; the stem sees it enlarged."""
LOG_SCALE_START = -4.0
"""Initial log of the predicted Laplace scale: exp(-4) = 0.018, about the error of an untrained network."""


@attrs.frozen(eq=False)
class UNetOutput:
    """What the U-Net makes of a batch.

    Attributes
    ----------
    residual : Tensor, (N, 1, H * scale, W * scale)
        Correction to the interpolation, the mixed deconvolutions included.
    mix : Tensor, (N, 3, H * scale, W * scale)
        Share of each linear deconvolution in the residual.
    log_scales : Tensor, (N, f^2, H * scale / f, W * scale / f)
        Log of the Laplace scale of the remaining error; its f^2 channels are pixels of a node.
    shape_maps : Tensor, (N, 4, H, W), or None
        rho x, rho y, kappa x, kappa y of the rational interpolation on the input grid; None at scale 1.
    greys : list of Tensor
        The partial sums of the grey heads, coarse to fine, for deep supervision.
    features : list of Tensor
        Decoder features, coarse to fine; the first is the bottleneck.
    """

    residual: Tensor
    mix: Tensor
    log_scales: Tensor
    shape_maps: Tensor | None
    greys: list[Tensor]
    features: list[Tensor]

    @property
    def log_scale(self) -> Tensor:
        """Log of the Laplace scale of the remaining error, (N, 1, H * scale, W * scale)."""
        return F.pixel_shuffle(self.log_scales, math.isqrt(self.log_scales.shape[1]))


class ResidualBlock(nn.Module):
    """x + conv(lrelu(film(conv(x)))), the second convolution starting at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(EMBEDDING, 2 * channels)
        self.second = zero_init(nn.Conv2d(channels, channels, 3, padding=1))
        zero_init(self.film)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the block to (N, C, H, W) under an embedding, (1 or N, 64)."""
        if len(embedding) == 1 and is_fused(x):
            return self._fused(x, embedding)
        gain, bias = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(bias, self.first(x), 1 + gain)
        correction: Tensor = self.second(F.leaky_relu(h, SLOPE, inplace=True))
        return x + correction

    def _fused(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the block with the modulation, one for all pixels, inside the first convolution."""
        with torch.autocast(x.device.type, enabled=False):
            gain, bias = self.film(embedding.float())[0].chunk(2)
        assert self.first.bias is not None
        weight = self.first.weight * (1 + gain)[:, None, None, None]
        h = bent(x, weight, torch.addcmul(bias, self.first.bias, 1 + gain), SLOPE)
        return added(h, self.second.weight, self.second.bias, x)


class BlurDown(nn.Module):
    """Halve the grid: binomial blur of stride 2, then a 3x3 convolution to the next level's channels."""

    fir: Tensor

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer(
            "fir", torch.outer(taps, taps).expand(channels_in, 1, 4, 4).clone(), persistent=False
        )
        self.conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / 2, W / 2)."""
        halved = F.conv2d(x, self.fir.to(x.dtype), stride=2, padding=1, groups=x.shape[1])
        if is_fused(halved):
            return bent(halved, self.conv.weight, self.conv.bias, SLOPE)
        return F.leaky_relu(self.conv(halved), SLOPE, inplace=True)


class UNet(nn.Module):
    """The U-Net of a preset.

    Parameters
    ----------
    preset : Preset
        Sizes.
    scale : int
        Output pixels per input pixel: 1, 2 or 4.
    """

    def __init__(self, preset: Preset, scale: int) -> None:
        super().__init__()
        channels, fold = preset.channels, preset.unshuffle
        self.scale, self.unshuffle = scale, fold
        self.embed = nn.Sequential(
            nn.Linear(PSI_SIZE, EMBEDDING), nn.LeakyReLU(SLOPE), nn.Linear(EMBEDDING, EMBEDDING)
        )
        shuffled = (fold * scale) ** 2
        self.stem = nn.Conv2d(2 * fold * fold + LINEAR_GUESSES * shuffled, channels[0], 3, padding=1)
        self.encoder = nn.ModuleList(_residual_blocks(c, preset.blocks) for c in channels)
        self.down = nn.ModuleList(BlurDown(a, b) for a, b in itertools.pairwise(channels))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(channels))
        self.decoder = nn.ModuleList(_residual_blocks(c, preset.blocks) for c in channels[:-1])
        self.grey = nn.ModuleList(zero_init(nn.Conv2d(c, 1, 3, padding=1)) for c in channels[1:])
        self.heads = [shuffled, shuffled, LINEAR_GUESSES * shuffled] + (
            [4 * fold * fold] if scale > 1 else []
        )
        self.head = zero_init(nn.Conv2d(channels[0], sum(self.heads), 3, padding=1))
        with torch.no_grad():
            assert self.head.bias is not None
            self.head.bias[shuffled : 2 * shuffled] = LOG_SCALE_START

    def forward(self, x: Tensor, valid: Tensor, psi: Tensor, linear: Tensor) -> UNetOutput:
        """Correct a batch.

        Parameters
        ----------
        x : Tensor, (N, 1, H, W), 0..1
            Degraded grey values; H and W are multiples of the preset's alignment.
        valid : Tensor, (N, 1, H, W)
            1 for valid pixels, 0 for damage.
        psi : Tensor, (1 or N, 24)
            Degradation codes.
        linear : Tensor, (N, 3, H * scale, W * scale)
            Difference of the three linear deconvolutions to the interpolation; zero without a kernel.

        Returns
        -------
        UNetOutput
        """
        embedding = F.leaky_relu(self.embed(psi), SLOPE)
        stacked = torch.cat([(x - 0.5) * valid, valid], dim=1)
        folded = [
            F.pixel_unshuffle(stacked, self.unshuffle),
            LINEAR_GAIN * F.pixel_unshuffle(linear, self.unshuffle * self.scale),
        ]
        h = self.stem(torch.cat(folded, dim=1).contiguous(memory_format=torch.channels_last))
        skips: list[Tensor] = []
        for index, blocks in enumerate(self.encoder):
            if index:
                h = self.down[index - 1](h)
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, embedding)
            skips.append(h)
        return self._decode(skips, embedding, linear)

    def _decode(self, skips: list[Tensor], embedding: Tensor, linear: Tensor) -> UNetOutput:
        """Go up again, summing the grey heads."""
        h = skips[-1]
        features, greys = [h], [self.grey[-1](h).float()]
        for index in range(len(self.decoder) - 1, -1, -1):
            raised = F.interpolate(self.up[index](h), scale_factor=2, mode="bilinear", align_corners=False)
            h = raised + skips[index]
            for block in self.decoder[index]:  # type: ignore[attr-defined]
                h = block(h, embedding)
            features.append(h)
            if index:
                greys.append(catmull_rom(greys[-1], 2) + self.grey[index - 1](h).float())
        parts = self.head(h).float().split(self.heads, dim=1)
        finest = self.unshuffle * self.scale
        residual = catmull_rom(greys[-1], 2 * finest) + F.pixel_shuffle(parts[0], finest)
        mix = F.pixel_shuffle(parts[2], finest)
        for k in range(LINEAR_GUESSES):
            residual = torch.addcmul(residual, mix[:, k : k + 1], linear[:, k : k + 1])
        shape_maps = F.pixel_shuffle(parts[3], self.unshuffle) if self.scale > 1 else None
        return UNetOutput(residual, mix, parts[1], shape_maps, [*greys, residual], features)


def zero_init(layer: Layer) -> Layer:
    """Set a layer's weight and bias to zero and return it."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _residual_blocks(channels: int, blocks: int) -> nn.ModuleList:
    return nn.ModuleList(ResidualBlock(channels) for _ in range(blocks))
