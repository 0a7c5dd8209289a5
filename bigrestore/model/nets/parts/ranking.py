"""A network that orders distortions: six convolutions and a mean over the image.

It is taught nothing but which of two versions of a patch is worse (Liu, van de Weijer and Bagdanov, "RankIQA", ICCV 2017).
Here it is small and grey, and sees tissue; the published one is a VGG-16 for photographs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

GREY_GAIN = 4.0
"""On the differences from the mean grey: tissue has a fraction of the contrast of photographs."""


class RankingNet(nn.Module):
    """Maps an image to one number, larger for a worse one.

    Parameters
    ----------
    channels : sequence of int
        Of the convolutions; the size is halved after the second and the fourth, and before the last.
    hidden : int
        Units after the mean.
    """

    def __init__(self, channels: Sequence[int] = (16, 16, 32, 32, 64, 96), hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise((1, *channels))
        )
        self.hidden = nn.Linear(channels[-1], hidden)
        self.head = nn.Linear(hidden, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the numbers, (N,), of grey images, (N, 1, H, W), in 0..1."""
        x = GREY_GAIN * (images - images.mean(dim=(-2, -1), keepdim=True))
        for index, layer in enumerate(self.layers):
            x = F.relu(layer(x))
            if index in (1, 3, 4):
                x = F.max_pool2d(x, 2)
        ranked: Tensor = self.head(F.relu(self.hidden(x.mean(dim=(-2, -1)))))[:, 0]
        return ranked.float()
