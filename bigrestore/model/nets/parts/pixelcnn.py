"""How likely an input is, given its restoration: a conditional PixelCNN++.

p(x | y) is a product over the pixels of x in raster order, each given those before it and the whole of y. Two streams of
shifted convolutions see no pixel at or after their own: `down` the rows above, `right` those and the pixels to the left.
The condition enters every gate. Each pixel has a mixture of logistics over 256 grey levels, open at both ends. There is
no down- or upsampling: what an input says of its restoration lies within some pixels.

Salimans et al., "PixelCNN++", ICLR 2017; van den Oord et al., "Conditional Image Generation with PixelCNN Decoders",
NeurIPS 2016. Whatever was restored too softly stays likely: the network adds the missing blur itself.
"""

from __future__ import annotations

import math

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.model.nets.unet import zero_init

LEVELS = 256
"""Grey levels that inputs are counted in, whatever their type."""

CONDITION_REACH_PX = 5
"""Reach of the condition in each direction before it enters a gate: two kernels of 5 and one of 3."""

LEAST_LOG_SCALE = -7.0
"""Of a logistic, on grey values of -1 to 1."""

LEAST_MASS = 1e-5
"""Probability of a level below which it is taken from the density, which has a gradient there."""

FIRST_LOG_SCALES = (-5.5, -2.5)
"""Before training, of the narrowest and the widest logistic of a mixture."""

MEAN_GAIN = 0.1
DIFFERENCE_GAIN = 10.0
"""On the network's means and on the difference of input and restoration: grey levels are 1/127."""


PIXELS_AT_ONCE = 2048
"""Pixels whose 256 levels lie in the processor's cache together."""


@attrs.frozen(eq=False)
class Mixture:
    """Logistics at every pixel of n images, on grey values of -1 to 1.

    Attributes
    ----------
    log_weight, mean, log_scale : Tensor, (N, K, H, W), float32
        K logistics; the weights sum to one.
    """

    log_weight: Tensor
    mean: Tensor
    log_scale: Tensor

    def bits(self, levels: Tensor) -> Tensor:
        """Return -log2 of the probability of grey levels, (N, 1, H, W) in 0..255, of the same shape."""
        x = levels / 127.5 - 1
        away, inverse = x - self.mean, torch.exp(-self.log_scale)
        upper, lower = (away + 1 / 255) * inverse, (away - 1 / 255) * inverse
        mass = torch.sigmoid(upper) - torch.sigmoid(lower)
        middle = away * inverse
        density = middle - self.log_scale - 2 * F.softplus(middle) - math.log(127.5)
        inner = torch.where(mass > LEAST_MASS, mass.clamp_min(1e-12).log(), density)
        darkest, brightest = upper - F.softplus(upper), -F.softplus(lower)
        log_mass = torch.where(levels < 0.5, darkest, torch.where(levels > 254.5, brightest, inner))
        return -torch.logsumexp(log_mass + self.log_weight, dim=1, keepdim=True) / math.log(2)

    def probabilities(self) -> Tensor:
        """Return the probability of every grey level, (N, H, W, 256); the sum is one."""
        weight, mean, log_scale = (
            part.movedim(1, -1) for part in (self.log_weight.exp(), self.mean, self.log_scale)
        )
        return _masses(weight, mean, log_scale)

    def expected_bits(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the bits of a pixel that is drawn from the mixture, (N, 1, H, W) each."""
        parts = [
            part.movedim(1, -1).flatten(0, -2) for part in (self.log_weight.exp(), self.mean, self.log_scale)
        ]
        moments = []
        for start in range(0, len(parts[0]), PIXELS_AT_ONCE):
            weight, mean, log_scale = (part[start : start + PIXELS_AT_ONCE] for part in parts)
            mass = _masses(weight, mean, log_scale)
            bits = mass.clamp_min(1e-9).log2()
            weighted = mass * bits
            moments.append(torch.stack([-weighted.sum(-1), (weighted * bits).sum(-1)]))
        expected, square = torch.cat(moments, dim=1).view(2, -1, 1, *self.mean.shape[-2:])
        return expected, (square - expected**2).clamp_min(0)


def _masses(weight: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Return the probability of every grey level, (..., 256), of mixtures of logistics, (..., K) each."""
    edges = (torch.arange(1, LEVELS, device=mean.device) - 0.5) / 127.5 - 1
    inverse = torch.exp(-log_scale)
    mass = mean.new_zeros((*mean.shape[:-1], LEVELS + 1))
    mass[..., -1] = 1
    below = mass[..., 1:-1]
    for k in range(mean.shape[-1]):
        part = slice(k, k + 1)
        away = torch.addcmul(-mean[..., part] * inverse[..., part], edges, inverse[..., part])
        below += away.sigmoid_().mul_(weight[..., part])
    return mass.diff(dim=-1).clamp_min_(0)


class GatedBlock(nn.Module):
    """x + a * sigmoid(b), where a and b see what lies before a pixel, the other stream and the condition.

    Parameters
    ----------
    channels, condition_channels : int
        Of the stream and of the condition.
    kernel : (int, int)
        Rows and columns; (2, 3) sees the row above, (2, 2) also the pixel to the left.
    beside : bool
        Whether another stream comes in.
    """

    def __init__(
        self, channels: int, condition_channels: int, kernel: tuple[int, int], *, beside: bool
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(2 * channels, channels, kernel, padding=1)
        self.beside = nn.Conv2d(2 * channels, channels, 1) if beside else None
        self.gate = nn.Conv2d(2 * channels + condition_channels, 2 * channels, kernel, padding=1)

    def forward(self, x: Tensor, active: Tensor, condition: Tensor, other: Tensor | None = None) -> Tensor:
        """Map (N, C, H, W) to the same shape.

        `active` is `concat_elu` of x, `other` that of another stream; `condition` is (N, features, H, W).
        """
        h = _cut_to(self.first(active), x)
        if self.beside is not None and other is not None:
            h = h + self.beside(other)
        return x + F.glu(_cut_to(self.gate(concat_elu(h, condition)), x), dim=1)


class PixelCNN(nn.Module):
    """The likelihood of an input given its restoration.

    Parameters
    ----------
    channels : int
        Of each stream.
    blocks : int
        Gated blocks of each stream.
    logistics : int
        In the mixture of a pixel.
    condition_channels : int
        Features of the condition.
    scale : int
        Pixels of the restoration per pixel of the input, along each axis.
    """

    def __init__(
        self,
        channels: int = 32,
        blocks: int = 6,
        logistics: int = 5,
        condition_channels: int = 16,
        scale: int = 1,
    ) -> None:
        super().__init__()
        self.scale, self.blocks, self.logistics = scale, blocks, logistics
        self.above = nn.Conv2d(3, channels, (2, 3), padding=1)
        self.above_too = nn.Conv2d(3, channels, (1, 3), padding=(0, 1))
        self.left = nn.Conv2d(3, channels, (2, 1), padding=(1, 0))
        self.down = nn.ModuleList(
            GatedBlock(channels, condition_channels, (2, 3), beside=False) for _ in range(blocks)
        )
        self.right = nn.ModuleList(
            GatedBlock(channels, condition_channels, (2, 2), beside=True) for _ in range(blocks)
        )
        self.condition = nn.Sequential(
            nn.Conv2d(scale**2 + 1, condition_channels, 5, padding=2),
            nn.ELU(),
            nn.Conv2d(condition_channels, condition_channels, 5, padding=2),
            nn.ELU(),
            nn.Conv2d(condition_channels, condition_channels, 3, padding=1),
        )
        self.head = zero_init(nn.Conv2d(2 * channels, 3 * logistics, 1))

    @property
    def reach_px(self) -> int:
        """Input pixels on each side that the bits of a pixel depend on."""
        return 2 * self.blocks + CONDITION_REACH_PX

    def forward(self, levels: Tensor, restored: Tensor, sees: Tensor | float = 1.0) -> Mixture:
        """Return the mixtures of the pixels of inputs.

        Parameters
        ----------
        levels : Tensor, (N, 1, H, W)
            Inputs, grey levels in 0..255.
        restored : Tensor, (N, 1, H * scale, W * scale)
            What is said to lie behind them, grey values in 0..1.
        sees : float or Tensor, (N, 1, 1, 1)
            1 where the pixels before one are seen, 0 where the restoration is all that is known of it.

        Returns
        -------
        Mixture
            Of a pixel given those before it in raster order.
        """
        seen = F.pixel_unshuffle(2 * restored - 1, self.scale)
        base = seen.mean(dim=1, keepdim=True)
        ones = torch.ones_like(base)
        x = levels / 127.5 - 1
        inputs = torch.cat([x, DIFFERENCE_GAIN * (x - base), ones], dim=1) * sees
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        condition = self.condition(torch.cat([seen, ones], dim=1))
        down = _later_row(self.above(inputs)[..., :-1, :])
        right = _later_row(self.above_too(inputs)) + _later_column(self.left(inputs)[..., :-1, :])
        active_down, active_right = concat_elu(down), concat_elu(right)
        for above, beside in zip(self.down, self.right, strict=True):
            down = above(down, active_down, condition)
            active_down = concat_elu(down)
            right = beside(right, active_right, condition, active_down)
            active_right = concat_elu(right)
        weight, mean, log_scale = self.head(active_right).float().chunk(3, dim=1)
        first = torch.linspace(*FIRST_LOG_SCALES, self.logistics, device=mean.device)[:, None, None]
        return Mixture(
            torch.log_softmax(weight, dim=1),
            base.float() + MEAN_GAIN * mean,
            (log_scale + first).clamp_min(LEAST_LOG_SCALE),
        )


def concat_elu(x: Tensor, *further: Tensor) -> Tensor:
    """Return the ELU of x, of -x and of further channels, side by side."""
    return F.elu(torch.cat([x, -x, *further], dim=1))


def to_levels(grey: Tensor) -> Tensor:
    """Return grey values of 0..1 in whole levels of 0..255, float32."""
    return (grey.float() * 255).round().clamp(0, 255)


def noise_bits(noise_gain: Tensor, read_noise: Tensor, grey: Tensor) -> Tensor:
    """Return the entropy of a pixel's noise after rounding to 256 levels, in bits.

    That of a Gaussian, 0.5 log2(2 pi e (s^2 + 1/12)), with s in grey levels: 3.05 at s = 2, and 0.25 without noise.

    Parameters
    ----------
    noise_gain, read_noise, grey : Tensor
        The law sqrt(noise_gain * grey + read_noise^2), and grey values of 0..1; of one shape, or broadcast.
    """
    variance = 255**2 * (noise_gain * grey.clamp(0, 1) + read_noise**2)
    return 0.5 * torch.log2(2 * math.pi * math.e * (variance + 1 / 12))


def _cut_to(made: Tensor, like: Tensor) -> Tensor:
    """Leave out what a padded convolution made beyond the last row and column: nothing but shifts by its padding."""
    return made[..., : like.shape[-2], : like.shape[-1]]


def _later_row(x: Tensor) -> Tensor:
    """Move an image down by a row."""
    return F.pad(x, (0, 0, 1, 0))[..., :-1, :]


def _later_column(x: Tensor) -> Tensor:
    """Move an image to the right by a column."""
    return F.pad(x, (1, 0, 0, 0))[..., :-1]
