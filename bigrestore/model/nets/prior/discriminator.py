"""The critics of a prior; they exist during training only and never enter a model.

`PatchDiscriminator` judges patches of detail and mirrors the generator: same folding, channels and grids, down to 4 x
4 nodes. Residual blocks as in StyleGAN2 with an equalised learning rate. The standard deviation over small groups of
the batch is one more channel; it exposes a generator repeating one patch.

`ConditionalDiscriminator` judges restored images pixel by pixel beside the interpolation of the same input: not only
"is this tissue" but "does it fit this input". A U-Net under spectral norm, as in Real-ESRGAN (Wang et al., ICCVW
2021); Schoenfeld et al., "A U-Net Based Discriminator for Generative Adversarial Networks", CVPR 2020. Spectral norm:
Miyato et al., ICLR 2018.

StyleGAN2: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020. Minibatch
standard deviation: Karras et al., "Progressive Growing of GANs", ICLR 2018.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from bigrestore.errors import UsageError
from bigrestore.model.nets.prior.modulation import EqualisedConv2d, activate

STDDEV_GROUP = 4
FINAL_GRID = 4
CRITIC_GRIDS = 4
CONDITIONAL_CONTRAST = 5.0
"""What an image adds to the interpolation is a few hundredths of the range; the critic sees it enlarged."""
DETAIL_CONTRAST = 10.0
"""Detail has a standard deviation of a few hundredths of the range; the critic sees it enlarged to about a half."""


class CriticBlock(nn.Module):
    """Halve the grid: two 3x3 convolutions and a 1x1 shortcut, both of box-averaged features."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = EqualisedConv2d(channels_in, channels_in, 3)
        self.second = EqualisedConv2d(channels_in, channels_out, 3)
        self.shortcut = EqualisedConv2d(channels_in, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / 2, W / 2)."""
        passed = self.shortcut(F.avg_pool2d(x, 2))
        h = F.avg_pool2d(activate(self.first(x)), 2)
        halved: Tensor = (passed + activate(self.second(h))) * math.sqrt(0.5)
        return halved


class PatchDiscriminator(nn.Module):
    """Tell patches of real detail from made ones.

    Parameters
    ----------
    channels : sequence of int
        Channels per grid, as the generator's: first grid to bottleneck.
    unshuffle : int
        Pixels per node of the first grid.
    patch_px : int
        Side of a patch.
    """

    def __init__(self, channels: Sequence[int], unshuffle: int, patch_px: int) -> None:
        super().__init__()
        grid = unshuffle * FINAL_GRID
        while grid << (len(channels) - 1) > patch_px and len(channels) > 1:
            channels = channels[:-1]
        while grid << (len(channels) - 1) < patch_px:
            channels = [*channels, channels[-1]]
        if grid << (len(channels) - 1) != patch_px:
            raise UsageError(
                f"a patch of {patch_px} px cannot be halved down to {FINAL_GRID} nodes; take {grid} times a power of two"
            )
        self.unshuffle = unshuffle
        self.stem = EqualisedConv2d(unshuffle**2, channels[0], 3)
        self.blocks = nn.ModuleList(CriticBlock(a, b) for a, b in itertools.pairwise(channels))
        last = channels[-1]
        self.last = EqualisedConv2d(last + 1, last, 3)
        self.dense = EqualisedConv2d(last * FINAL_GRID**2, last)
        self.verdict = EqualisedConv2d(last, 1)

    def forward(self, detail: Tensor) -> Tensor:
        """Judge patches.

        Parameters
        ----------
        detail : Tensor, (N, 1, patch_px, patch_px), float32
            Detail in grey values of 0..1. The spread of each group of up to 4 enters the judgement; the group is the
            largest divisor of N up to 4.

        Returns
        -------
        Tensor, (N,), float32
            Above 0: real.
        """
        h = F.pixel_unshuffle(DETAIL_CONTRAST * detail, self.unshuffle)
        h = activate(self.stem(h.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            h = block(h)
        h = torch.cat([h, group_deviation(h)], dim=1)
        h = activate(self.last(h))
        h = activate(self.dense(h.flatten(1)[:, :, None, None]))
        judged: Tensor = self.verdict(h)
        return judged.flatten().float()


def group_deviation(features: Tensor) -> Tensor:
    """Return, as a map of one channel, the mean standard deviation of the features over groups of the batch.

    Patch i is grouped with i + N / g, i + 2 N / g, ... as in StyleGAN2; with a batch of one it is zero.
    """
    count = len(features)
    group = max(size for size in range(1, min(STDDEV_GROUP, count) + 1) if count % size == 0)
    grouped = features.float().reshape(group, -1, *features.shape[1:])
    deviation = torch.sqrt(grouped.var(dim=0, unbiased=False) + 1e-8).mean(dim=(1, 2, 3))
    return deviation.repeat(group)[:, None, None, None].expand(-1, 1, *features.shape[2:])


class ConditionalDiscriminator(nn.Module):
    """Tell restored pixels from real ones, given the input.

    Parameters
    ----------
    features : int
        Channels of the first grid; the three coarser ones have twice as many each.
    unshuffle : int
        Pixels per node of the first grid.
    """

    def __init__(self, features: int, unshuffle: int) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        widths = [features << power for power in range(CRITIC_GRIDS)]
        self.stem = spectral_norm(nn.Conv2d(2 * unshuffle**2, features, 3, padding=1))
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False))
            for a, b in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            spectral_norm(nn.Conv2d(b, a, 3, padding=1, bias=False)) for a, b in itertools.pairwise(widths)
        )
        self.last = spectral_norm(nn.Conv2d(features, features, 3, padding=1, bias=False))
        self.verdict = nn.Conv2d(features, unshuffle**2, 3, padding=1)

    def forward(self, image: Tensor, base: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Judge every pixel.

        Parameters
        ----------
        image : Tensor, (N, 1, H, W), 0..1
            Restored or real; sides are multiples of eight times `unshuffle`.
        base : Tensor, (N, 1, H, W), 0..1
            The input, interpolated.

        Returns
        -------
        judged : Tensor, (N, 1, H, W), float32
            Above 0: real.
        features : list of Tensor
            What each layer saw, for feature matching.
        """
        shown = torch.cat([base - 0.5, CONDITIONAL_CONTRAST * (image - base)], dim=1)
        folded = F.pixel_unshuffle(shown, self.unshuffle).contiguous(memory_format=torch.channels_last)
        h = F.leaky_relu(self.stem(folded), 0.2)
        skips = [h]
        for layer in self.down:
            h = F.leaky_relu(layer(h), 0.2)
            skips.append(h)
        seen = list(skips)
        for index in range(len(self.up) - 1, -1, -1):
            raised = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
            h = F.leaky_relu(self.up[index](raised), 0.2) + skips[index]
            seen.append(h)
        h = F.leaky_relu(self.last(h), 0.2)
        judged = F.pixel_shuffle(self.verdict(h).float(), self.unshuffle)
        return judged, [*seen, h]
