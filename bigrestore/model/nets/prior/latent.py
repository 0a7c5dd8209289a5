"""From the U-Net's bottleneck to the styles of the prior, as a field and not as one code.

GFP-GAN flattens its bottleneck into one vector: this fixes the image size and takes half of its weights. Here every
bottleneck cell has a latent code of its own, made by 1x1 convolutions: any size, and a tile's codes are the section's
codes. One mapping network serves codes from the bottleneck (`LatentHead`) and, for training the prior alone, random
codes (`sample_z_field`). All of this is a few numbers per cell and stays in float32.

The head does not start at zero like others: its pixel norm has a slope of 10,000 at zero.

StyleGAN2: Karras et al., CVPR 2020. GFP-GAN: Wang et al., "Towards Real-World Blind Face Restoration with
Generative Facial Prior", CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bigrestore.model.nets.prior.modulation import EqualisedConv2d, activate
from bigrestore.model.nets.prior.noise import hashed_normal_fields

MAPPING_LAYERS = 4
MAPPING_RATE = 0.01
"""Learning rate of the mapping network against the rest of the prior (StyleGAN's value)."""
DELTA_SHARE = 0.1
PIXEL_NORM_EPS = 1e-8
LATENT_LAYER = 1 << 16
"""First hash layer of the latent channels; the noise of the generator uses the layers below."""


class LatentHead(nn.Module):
    """Read a latent code off every bottleneck cell: 1x1, leaky ReLU, 1x1.

    Parameters
    ----------
    channels : int
        Channels of the bottleneck.
    latent : int
        Length of a latent code.
    """

    def __init__(self, channels: int, latent: int) -> None:
        super().__init__()
        self.first = EqualisedConv2d(channels, latent)
        self.second = EqualisedConv2d(latent, latent)

    def forward(self, bottleneck: Tensor) -> Tensor:
        """Map bottleneck features (N, C, h, w) to a z-field (N, L, h, w), float32."""
        with torch.autocast(bottleneck.device.type, enabled=False):
            z_field: Tensor = self.second(activate(self.first(bottleneck.float())))
            return z_field


class MappingNetwork(nn.Module):
    """Turn z into w, a space of almost linear styles: four 1x1 layers, then the pixel norm.

    Parameters
    ----------
    latent : int
        Length of a latent code.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.layers = nn.ModuleList(
            EqualisedConv2d(latent, latent, rate=MAPPING_RATE) for _ in range(MAPPING_LAYERS)
        )

    def forward(self, z_field: Tensor) -> Tensor:
        """Map a z-field (N, L, h, w) to a pixel-normalised w-field of the same shape, float32."""
        with torch.autocast(z_field.device.type, enabled=False):
            field = z_field.float()
            for layer in self.layers:
                field = activate(layer(field))
            return pixel_norm(field)


class LayerDeltas(nn.Module):
    """Let each layer of the generator lean a little its own way: w_l = w + 0.1 D_l(w).

    The D_l are 1x1 convolutions starting at zero, so all layers start from the same w.

    Parameters
    ----------
    latent : int
        Length of a latent code.
    layers : int
        Layers taking a code.
    """

    def __init__(self, latent: int, layers: int) -> None:
        super().__init__()
        self.deltas = nn.ModuleList(EqualisedConv2d(latent, latent) for _ in range(layers))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, w_field: Tensor) -> list[Tensor]:
        """Map a w-field (N, L, h, w) to one of the same shape per layer, float32."""
        return self.of_layers([w_field] * len(self.deltas))

    def of_layers(self, w_fields: Sequence[Tensor]) -> list[Tensor]:
        """Map one w-field per layer, (N, L, h, w) each, to as many of the same shape, float32."""
        with torch.autocast(w_fields[0].device.type, enabled=False):
            fields = [field.float() for field in w_fields]
            pairs = zip(fields, self.deltas, strict=True)
            return [torch.add(field, delta(field), alpha=DELTA_SHARE) for field, delta in pairs]


def pixel_norm(field: Tensor) -> Tensor:
    """Scale the code of every cell of (N, L, h, w) to a mean square of one over its channels."""
    return field * torch.rsqrt(field.square().mean(dim=1, keepdim=True) + PIXEL_NORM_EPS)


def sample_z_field(
    latent: int,
    height: int,
    width: int,
    seed: int,
    z: int,
    origin: Tensor,
    device: torch.device | str | None = None,
) -> Tensor:
    """Draw latent codes for the prior alone: windows of an endless random field.

    Unit normal on the bottleneck lattice, smoothed by one node (1/4, 1/2, 1/4 along each axis) and scaled back to
    unit variance. Neighbours are then as alike as codes read off an image.

    Parameters
    ----------
    latent : int
        Length of a latent code.
    height, width : int
        Size of each window in nodes.
    seed, z : int
        Name of the field, as in `noise.hashed_normal`.
    origin : Tensor, (N, 2), int64, on the CPU
        First node (y, x) of each window, absolute: input pixels divided by the alignment.
    device : torch.device or str, optional
        Where the field is made.

    Returns
    -------
    Tensor, (N, latent, height, width), float32
        Each equals its window of the field to the bit. Normalised smoothing correlates nodes by 2/3 with the next and
        by 1/6 with the next but one.
    """
    count = origin.shape[0]
    layers = torch.arange(LATENT_LAYER, LATENT_LAYER + latent).repeat(count)
    corners = (origin - 1).repeat_interleave(latent, dim=0)
    white = hashed_normal_fields(seed, z, layers, corners, height + 2, width + 2, device)
    field = _smooth_nodes(_smooth_nodes(white, 1), 2)
    return field.reshape(count, latent, height, width)


def _smooth_nodes(field: Tensor, axis: int) -> Tensor:
    """Weigh three neighbours by 1, 2, 1, keeping a variance of one; the axis loses its two outer nodes."""
    size = field.shape[axis]
    before, here, after = (field.narrow(axis, start, size - 2) for start in range(3))
    smoothed: Tensor = (before + 2.0 * here + after) / 6.0**0.5
    return smoothed
