"""Unrolled restoration: rounds of a data step and of a denoiser.

The data step knows the blur, the denoiser knows tissue; neither has to learn what the other knows, so any kernel can be
told. Two networks are made of the same rounds:

- `dpir` takes a denoiser trained on noise alone, and a schedule of noise levels that falls from more to that of the
  section (Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser Prior", IEEE TPAMI 2022);
- `Unrolled` is trained as a whole, denoiser and schedule (Zhang, Van Gool and Timofte, "Deep Unfolding Network for Image
  Super-Resolution", CVPR 2020: USRNet), from that schedule on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bigrestore.core.interpolation import catmull_rom
from bigrestore.model.nets.parts.datastep import LEAST_ALPHA, data_step, inverse_filters
from bigrestore.model.nets.parts.drunet import DRUNet
from bigrestore.model.nets.unet import zero_init

FIRST_SIGMA, FIRST_SHARE = 3 / 255, 1.5
"""Noise that the denoiser is told in the first round: the larger of 3 grey levels and 1.5 times that of the section. The
published 49 levels are for photographs; tissue has a fraction of their contrast and loses 4 to 40 dB with them."""
ALPHA_SHARE = 0.3
"""In the weight of the guess: alpha = 0.3 sigma^2 / sigma_i^2. DPIR has 0.23, worse without noise."""
SCHEDULE_WIDTH = 32
LEAST_SIGMA = 0.3 / 255
"""Rounding to 8 bits alone is noise of as much."""


def falling_sigmas(sigma: Tensor, rounds: int) -> Tensor:
    """Return the noise levels of the rounds, (N, rounds), equal in ratio, down to those of the images, (N,)."""
    last = sigma.clamp_min(LEAST_SIGMA)[:, None]
    first = (FIRST_SHARE * last).clamp_min(FIRST_SIGMA)
    share = torch.linspace(0, 1, rounds, device=sigma.device)
    return torch.exp((1 - share) * first.log() + share * last.log())


def balance(sigma: Tensor, sigmas: Tensor) -> Tensor:
    """Return the weight of the guess in the data step of every round, (N, rounds)."""
    noise = sigma.clamp_min(LEAST_SIGMA)[:, None]
    return (ALPHA_SHARE * noise**2 / sigmas**2).clamp_min(LEAST_ALPHA)


def unroll(
    denoiser: nn.Module,
    x: Tensor,
    valid: Tensor,
    kernel: Tensor,
    sigmas: Tensor,
    alphas: Tensor,
    scale: int,
) -> Tensor:
    """Restore images by rounds of data step and denoiser.

    Parameters
    ----------
    denoiser : nn.Module
        Called with images and noise maps, as a `DRUNet`.
    x, valid : Tensor, (N, 1, H, W)
        Input and its validity.
    kernel : Tensor, (N, k, k)
        Blur kernels on the output grid.
    sigmas, alphas : Tensor, (N, K)
        Noise told to the denoiser and weight of the guess, in K rounds.
    scale : int
        Output pixels per input pixel.

    Returns
    -------
    Tensor, (N, 1, H * scale, W * scale)
        The interpolation for K = 0.
    """
    z = x if scale == 1 else catmull_rom(x, scale)
    if not alphas.numel():
        return z
    inverses = inverse_filters(kernel, alphas, scale)
    for index in range(alphas.shape[1]):
        with torch.autocast(x.device.type, enabled=False):
            nearer = data_step(z, x, valid, kernel, inverses[:, index], scale)
        noise = sigmas[:, index, None, None, None].expand(-1, 1, *nearer.shape[-2:])
        z = denoiser(nearer, noise).float()
    return z


class Unrolled(nn.Module):
    """Denoiser and schedule of an unrolled restoration.

    Parameters
    ----------
    channels : sequence of int
        Of the denoiser, shared by the rounds.
    blocks : int
        Residual blocks per level of the denoiser.
    rounds : int
        Rounds of data step and denoiser.
    scale : int
        Output pixels per input pixel.
    """

    def __init__(
        self, channels: Sequence[int] = (16, 32, 48), blocks: int = 1, rounds: int = 6, scale: int = 1
    ) -> None:
        super().__init__()
        self.scale, self.rounds = scale, rounds
        self.denoiser = DRUNet(channels, blocks)
        self.alignment_px = max(8, self.denoiser.alignment_px)
        self.schedule = nn.Sequential(
            nn.Linear(1, SCHEDULE_WIDTH), nn.ReLU(), zero_init(nn.Linear(SCHEDULE_WIDTH, 2 * rounds))
        )

    def forward(self, x: Tensor, valid: Tensor, kernel: Tensor, sigma: Tensor) -> Tensor:
        """Restore images.

        Parameters
        ----------
        x, valid : Tensor, (N, 1, H, W)
            Input and its validity; H and W multiples of `alignment_px`.
        kernel : Tensor, (N, k, k)
            Blur kernels on the output grid.
        sigma : Tensor, (N,)
            Noise standard deviation in tissue.

        Returns
        -------
        Tensor, (N, 1, H * scale, W * scale)
        """
        told = sigma.clamp_min(LEAST_SIGMA).log()[:, None] + 5
        change, weight = self.schedule(told).chunk(2, dim=1)
        sigmas = falling_sigmas(sigma, self.rounds)
        alphas = (balance(sigma, sigmas) * weight.exp()).clamp_min(LEAST_ALPHA)
        return unroll(self.denoiser, x, valid, kernel, sigmas * change.exp(), alphas, self.scale)
