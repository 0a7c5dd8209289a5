"""How far images look from a clean one, place by place: what an objective is chosen by.

An error of single pixels asks for the mean of all that the tissue may have been, which is smooth. What people see is
whether a place has the grain of tissue, and whether its edges lie where they should. `TextureDistance` asks for both, in six
bands: derivatives of Gaussians of sigma 1 and 2 px along both axes, which steer to any direction (Freeman and Adelson,
IEEE PAMI 13, 1991), what lies between the two Gaussians, and what lies above the finer one. In a window of about the size
of a cell a band has an energy E_a, the clean image's has E_b, and their product has a mean E_ab:

    texture = (2 sqrt(E_a E_b) + c) / (E_a + E_b + c),  structure = (2 E_ab + c) / (E_a + E_b + c)

The distance is 1 less the mean over the bands, of both terms alike, and of texture alone in the finest: how strong grain is
can be seen, not which of its specks is which. The form is that of DISTS (Ding, Ma, Wang and Simoncelli, IEEE PAMI 44,
2022), on linear bands in the place of a network for photographs. It was chosen for three reasons. No network that was
trained here judges another: features of the denoiser or of the critic come from the same images and losses. The energies of
a line of images y0 + t (y1 - y0) are squares in t, so twenty-one distances cost little more than two. And it needs no file.
With a backbone of the user's, `LpipsDistance` is LPIPS itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.report.metrics.judges.lpips import Backbone, distance_maps

SIGMAS_PX = (1.0, 2.0)
BAND_REACH_PX = 7
"""Of the filters, to each side."""

ENERGY_WINDOW_PX = 12
"""Side of the windows of energies, output pixels."""

FINEST = 2
"""Of the bands, the one whose structure is not looked at."""

FAINT = (1.0 / 255) ** 2
"""The constant c: energies far below that of one grey level of noise are alike."""


class LineDistance(Protocol):
    """A distance to a clean image, of all images on the line from one to another."""

    name: str
    reach_px: int

    def __call__(self, y0: Tensor, change: Tensor, clean: Tensor, shares: Tensor, step: int) -> Tensor:
        """Return the distances of y0 + t * change at every node.

        Parameters
        ----------
        y0, change, clean : Tensor, (N, 1, H, W)
            Start of the line, its length, and the clean image.
        shares : Tensor, (T,)
            The t.
        step : int
            Output pixels to a side of a node.

        Returns
        -------
        Tensor, (N, T, H / step, W / step)
        """
        ...


class TextureDistance:
    """Texture and structure in six bands, 0 for equal images, at most about 1."""

    name = "texture"
    reach_px = BAND_REACH_PX + ENERGY_WINDOW_PX // 2

    def __call__(self, y0: Tensor, change: Tensor, clean: Tensor, shares: Tensor, step: int) -> Tensor:
        """As `LineDistance`."""
        start, along, wanted = (_bands(image) for image in (y0, change, clean))
        moments = (
            start * start,
            start * along,
            along * along,
            start * wanted,
            along * wanted,
            wanted * wanted,
        )
        at_0, mixed, at_1, with_0, with_1, own = (_means_around(moment, step)[:, None] for moment in moments)
        t = shares[None, :, None, None, None]
        energy = (at_0 + 2 * t * mixed + t * t * at_1).clamp_min(0)
        total = energy + own + FAINT
        texture = (2 * (energy * own).clamp_min(1e-20).sqrt() + FAINT) / total
        structure = (2 * (with_0 + t * with_1) + FAINT) / total
        alike = 0.5 * (texture + structure)
        alike[:, :, FINEST] = texture[:, :, FINEST]
        return 1 - alike.mean(dim=2)


class LpipsDistance:
    """LPIPS by a backbone of the user's, unaveraged, summed over depths."""

    name = "lpips"
    reach_px = 0

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def __call__(self, y0: Tensor, change: Tensor, clean: Tensor, shares: Tensor, step: int) -> Tensor:
        """As `LineDistance`."""
        size = [side // step for side in clean.shape[-2:]]
        distances = []
        for share in shares:
            maps = distance_maps(self.backbone, (y0 + share * change).clamp(0, 1), clean)
            raised = [F.interpolate(one, size, mode="bilinear", align_corners=False) for one in maps]
            distances.append(torch.stack(raised).sum(0))
        return torch.cat(distances, dim=1)


def texture_distance(image: Tensor, clean: Tensor, step: int = 1) -> Tensor:
    """Return the `TextureDistance` of images, (N, 1, H, W), to clean ones at every node, (N, 1, H / step, W / step)."""
    return TextureDistance()(image, torch.zeros_like(image), clean, image.new_zeros(1), step)


def _bands(images: Tensor) -> Tensor:
    """Return the bands of images, (N, 6, H, W)."""
    padded = F.pad(images, (BAND_REACH_PX,) * 4, mode="replicate")
    return F.conv2d(padded, _band_filters().to(images))


def _means_around(maps: Tensor, step: int) -> Tensor:
    """Return the means of maps, (N, B, H, W), in the window around each node, (N, B, H / step, W / step)."""
    side = ENERGY_WINDOW_PX + (ENERGY_WINDOW_PX - step) % 2
    reach = (side - step) // 2
    return F.avg_pool2d(F.pad(maps, (reach,) * 4, mode="replicate"), side, step)


@lru_cache(maxsize=1)
def _band_filters() -> Tensor:
    """Return the filters, (6, 1, 15, 15), each of energy 1."""
    at = torch.arange(-BAND_REACH_PX, BAND_REACH_PX + 1, dtype=torch.float64)
    centre = torch.zeros(2 * BAND_REACH_PX + 1, 2 * BAND_REACH_PX + 1, dtype=torch.float64)
    centre[BAND_REACH_PX, BAND_REACH_PX] = 1
    filters, finer = [], centre
    for sigma in SIGMAS_PX:
        bell = torch.exp(-(at**2) / (2 * sigma**2))
        smooth = torch.outer(bell / bell.sum(), bell / bell.sum())
        slope = -at[None] * smooth
        filters += [slope, slope.T, finer - smooth]
        finer = smooth
    stacked = torch.stack(filters)[:, None]
    return (stacked / stacked.square().sum((1, 2, 3), keepdim=True).sqrt()).float()
