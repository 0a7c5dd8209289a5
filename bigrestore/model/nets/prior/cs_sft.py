"""How the U-Net's features enter the generator: by a channel-split spatial feature transform, or in the place of noise.

The generator knows tissue, the U-Net knows this place. Transforming all channels of the generator by the U-Net's
features would drown its texture. So half of them pass untouched and keep the texture real; half are scaled and
shifted by maps from the U-Net's features on the same grid and keep the image true. The maps start at zero: an
untrained bridge leaves the generator unchanged.

In the place of noise the features are added behind both convolutions of a level, through projections that start at zero.
That equals concatenating them, as GPEN does, and nothing of the generator passes untouched.

Channel split: GFP-GAN (Wang et al., CVPR 2021). Spatial feature transform: Wang et al., "Recovering Realistic
Texture in Image Super-resolution by Deep Spatial Feature Transform", CVPR 2018. Noise: GPEN (Yang et al., "GAN Prior
Embedded Network for Blind Face Restoration in the Wild", CVPR 2021).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.model.nets.convolution import SLOPE, bent, is_fused


class ChannelSplitSFT(nn.Module):
    """Pass the first half of the channels, transform the second: f * (1 + alpha) + beta.

    alpha and beta come from the guiding features: a 3x3 convolution, a leaky ReLU, a 1x1 convolution starting at
    zero.

    Parameters
    ----------
    channels : int
        Channels of the features to transform; of an odd number the larger half is transformed.
    guide_channels : int
        Channels of the guiding features.
    """

    def __init__(self, channels: int, guide_channels: int) -> None:
        super().__init__()
        self.passed = channels // 2
        changed = channels - self.passed
        self.first = nn.Conv2d(guide_channels, changed, 3, padding=1)
        self.second = nn.Conv2d(changed, 2 * changed, 1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor, guide: Tensor) -> Tensor:
        """Transform features.

        Parameters
        ----------
        features : Tensor, (N, C, H, W)
            Features of the generator.
        guide : Tensor, (N, G, H, W)
            Decoder features of the U-Net on the same grid.

        Returns
        -------
        Tensor, (N, C, H, W)
            In the dtype of `features`; while restoring, in their memory.
        """
        if fused := is_fused(guide):
            hidden = bent(guide, self.first.weight, self.first.bias, SLOPE)
        else:
            hidden = F.leaky_relu(self.first(guide), SLOPE, inplace=True)
        alpha, beta = self.second(hidden).chunk(2, dim=1)
        untouched, changed = features[:, : self.passed], features[:, self.passed :]
        if fused:  # nothing else needs them: no third and fourth copy
            changed.mul_(1 + alpha.to(changed.dtype)).add_(beta)
            return features
        transformed = torch.addcmul(changed + beta, changed, alpha.to(changed.dtype))
        return torch.cat([untouched, transformed.to(features.dtype)], dim=1)


class NoiseFusion(nn.Module):
    """Two projections of the guiding features, one for each convolution of a level: f + P g, from P = 0 on.

    Parameters
    ----------
    channels : int
        Channels of the level.
    guide_channels : int
        Channels of the guiding features.
    """

    def __init__(self, channels: int, guide_channels: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(guide_channels, channels, 1, bias=False) for _ in range(2))
        for projection in (self.first, self.second):
            nn.init.zeros_(projection.weight)


FUSIONS: dict[str, type[ChannelSplitSFT | NoiseFusion]] = {"sft": ChannelSplitSFT, "noise": NoiseFusion}
"""By their names in `settings.presets.FUSIONS_OF_FEATURES`."""
