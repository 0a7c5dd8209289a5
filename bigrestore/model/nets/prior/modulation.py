"""Style modulation by a map instead of by one vector per image.

StyleGAN2 scales the input channels of each convolution by a style and divides by the norm of the scaled kernel. With
one style per image, neighbouring tiles would disagree. Here the style is a field over the bottleneck grid, and both
factors leave the convolution:

    y(p) = d(p) * conv(x * s, W)(p),      d(p) = rsqrt(sum_i s_i(p)^2 sum_k W_oik^2 + eps)

The demodulation d is a 1x1 convolution of s^2. s and d are computed on the coarse grid and interpolated to the grid
of x. This is exact for a constant map (StyleGAN2's modulated convolution) and cheap: no squared map on a fine grid.
Both factors and both products are float32 whatever the convolution's dtype: a rounded norm is an error of contrast.

Weights have an equalised learning rate (stored with unit variance, divided by sqrt(fan-in) when used) for StyleGAN2's
rate of 2e-3.

StyleGAN2: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020. Equalised
learning rate: Karras et al., "Progressive Growing of GANs", ICLR 2018.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DEMODULATION_EPS = 1e-8
ACTIVATION_GAIN = math.sqrt(2.0)
"""Restores the second moment after the halving by a leaky ReLU."""


class EqualisedConv2d(nn.Module):
    """A convolution with an equalised learning rate, zero padding and stride 1.

    Parameters
    ----------
    channels_in, channels_out : int
        Channels.
    kernel_size : int
        Side of the kernel, odd.
    rate : float
        Multiplier of the learning rate of weight and bias against the rest of the network.
    bias_init : float
        Initial bias, as it acts on the output.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel_size: int = 1,
        rate: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel_size, kernel_size) / rate)
        self.bias = nn.Parameter(torch.full((channels_out,), bias_init / rate))
        self.weight_gain = rate / math.sqrt(channels_in * kernel_size**2)
        self.bias_gain = rate

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W)."""
        weight, bias = self.weight * self.weight_gain, self.bias * self.bias_gain
        return F.conv2d(x, weight, bias, padding=self.weight.shape[-1] // 2)


class MapModulatedConv2d(nn.Module):
    """A convolution with a style map.

    Parameters
    ----------
    channels_in, channels_out : int
        Channels of the features.
    latent : int
        Channels of the latent field.
    kernel_size : int
        Side of the kernel, odd.
    demodulate : bool
        Divide by the norm of the scaled kernel; False for heads, where the amplitude is the message.
    """

    def __init__(
        self, channels_in: int, channels_out: int, latent: int, kernel_size: int = 3, demodulate: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel_size, kernel_size))
        self.weight_gain = 1.0 / math.sqrt(channels_in * kernel_size**2)
        self.style = EqualisedConv2d(latent, channels_in, bias_init=1.0)
        self.demodulate = demodulate

    def forward(self, x: Tensor, w_field: Tensor, gain: float = 1.0) -> Tensor:
        """Convolve under a map of styles.

        Parameters
        ----------
        x : Tensor, (N, C, H, W)
            Features.
        w_field : Tensor, (N, L, h, w), float32
            Latent field of the same area on the same or a coarser grid.
        gain : float
            What a demodulated result is multiplied with.

        Returns
        -------
        Tensor, (N, C', H, W), float32
            Without bias.
        """
        weight = self.weight * self.weight_gain
        size = (x.shape[2], x.shape[3])
        with torch.autocast(x.device.type, enabled=False):
            style = self.style(w_field.float())
            scaled = x * to_grid(style, size)
        y = F.conv2d(scaled, weight, padding=self.weight.shape[-1] // 2)
        if not self.demodulate:
            return y.float()
        with torch.autocast(x.device.type, enabled=False):
            return y * to_grid(gain * demodulation(style, weight), size)


def demodulation(style: Tensor, weight: Tensor) -> Tensor:
    """Return d of the module's docstring on the grid of the styles.

    Parameters
    ----------
    style : Tensor, (N, C, h, w), float32
        Scale of each input channel.
    weight : Tensor, (C', C, k, k), float32
        Kernel as it is applied.

    Returns
    -------
    Tensor, (N, C', h, w), float32
    """
    power = weight.square().sum(dim=(2, 3), keepdim=True)
    return torch.rsqrt(F.conv2d(style.square(), power) + DEMODULATION_EPS)


def to_grid(field: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate a field to a grid of the same area, bilinear, pixel centres aligned."""
    if (field.shape[2], field.shape[3]) == size:
        return field
    return F.interpolate(field, size=size, mode="bilinear", align_corners=False)


def activate(x: Tensor) -> Tensor:
    """Apply the leaky ReLU of slope 0.2, restoring the second moment, in the memory of x.

    The gain comes first (the two commute): backpropagation reads the result of the ReLU.
    """
    return bend(x.mul_(ACTIVATION_GAIN))


def bend(x: Tensor) -> Tensor:
    """Apply the leaky ReLU of slope 0.2 in the memory of x."""
    return F.leaky_relu(x, 0.2, inplace=True)
