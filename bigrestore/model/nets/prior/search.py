"""Search in the latent space of the prior: codes whose image, degraded, is the input.

The image is L(x) + G(w), the smoothed input and the generator's detail. The codes are a field, nodes x layers, and Adam
moves them all. Three things keep them where the generator knows tissue: after each step every code is put back on its
starting radius, the layers of a node may not drift apart, and the maximum mean discrepancy (MMD) of the codes from
samples of the mapping network enters the loss:

    d^2 = mean k(w_i, w_j) + mean k(v_i, v_j) - 2 mean k(w_i, v_j),   k(a, b) = exp(-|a - b| / g),   g = 512.

The norm is not squared. Distances of codes are far below g, so that 512 d^2 is the energy distance of the two sets, and its
weight does not depend on g.

All numbers are hashed from absolute places and the step: a window has the same result whoever computes it.

PULSE: Menon et al., "PULSE: Self-Supervised Photo Upsampling via Latent Space Exploration of Generative Models", CVPR 2020.
MMD: Gretton et al., "A kernel two-sample test", JMLR 13, 2012.
"""

from __future__ import annotations

from typing import Literal

import attrs
import torch
import torch.nn.functional as F
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom
from bigrestore.model.nets.guards import Seen, pixel_noise_sigma
from bigrestore.model.nets.parts.pixelcnn import PixelCNN, to_levels
from bigrestore.model.nets.prior.generator import Generator
from bigrestore.model.nets.prior.latent import sample_z_field
from bigrestore.model.nets.prior.noise import hashed_normal_fields
from bigrestore.model.nets.prior.smooth import DETAIL_SIGMA_PX, low_pass
from bigrestore.model.nets.redegrade import redegrade

KERNEL_WIDTH = 512.0
"""g of the kernel."""
CODE_SAMPLES = 1000
"""Samples of the mapping network that codes are compared with."""
DRAWN_CODES = 256
"""Codes drawn at each step for the comparison."""
MEAN_SAMPLES = 8192
"""Samples whose mean is the start `mean`."""
CROSS_SCALE = 512 / 8
"""Factor on the mean squared angle between the layers of a node."""
DOWNSCALE_WEIGHT = 100.0
"""Factor on the mean squared difference of reduced images, of grey values 0..1."""
LEAST_NOISE = 1 / 255
"""Less noise does not count more: the prior does not come nearer to any input."""
SAMPLE_LAYER, DRAW_LAYER = 1 << 20, 1 << 21
"""First hash layers of the samples and of the draws of codes; the codes of a start have those below."""

Start = Literal["mean", "random", "read"]
Space = Literal["w", "z"]


@attrs.frozen
class Search:
    """How the codes are searched.

    Attributes
    ----------
    steps : int
        Steps of Adam.
    rate : float
        Its rate at its highest.
    start : str
        `mean` of the codes that the mapping network makes, `random` ones, or `read` off the input by the network.
    mmd, cross, likelihood : float
        Weights of 512 d^2, of the angles between layers, and of the bits of the input given the image.
    spherical : bool
        Whether codes stay on their starting radius.
    downscale : int
        0: images are compared pixel by pixel, in deviations of the noise; else after averaging cells of so many pixels.
    space : str
        Whether the codes are of `w`, or of `z` before the mapping network.
    noise : bool
        Whether the generator's hashed noise is on.
    """

    steps: int = 100
    rate: float = 0.4
    start: Start = "mean"
    mmd: float = 3.0
    cross: float = 0.05
    spherical: bool = True
    likelihood: float = 0.0
    downscale: int = 0
    space: Space = "w"
    noise: bool = False

    def rate_at(self, step: int) -> float:
        """Return the rate of a step: it rises tenfold to 45 % of the steps, falls until 90 %, and fades out."""
        long = 0.9 * self.steps
        if step < long:
            return self.rate * (9 * (1 - 2 * abs(step / long - 0.5)) + 1) / 10
        return self.rate * (0.1 - (step - long) / (0.1 * self.steps) * 0.099)


@attrs.frozen(eq=False)
class Searched:
    """The result of a search.

    Attributes
    ----------
    image : Tensor, (1, 1, H * scale, W * scale)
        Not yet clipped.
    residual : Tensor, (1, 1, H, W)
        (D(image) - x) / sigma.
    codes : Tensor, (layers, L, h, w)
        Codes of `w`.
    """

    image: Tensor
    residual: Tensor
    codes: Tensor


class PriorSearch:
    """A search with a prior.

    Parameters
    ----------
    prior : Generator
        Its weights are left as they are; none may ask for a gradient.
    search : Search
        How.
    seed : int
        Key of all random numbers.
    likelihood : PixelCNN, optional
        Needed where its weight is above 0.
    """

    def __init__(
        self, prior: Generator, search: Search, seed: int, likelihood: PixelCNN | None = None
    ) -> None:
        self.prior, self.search, self.seed, self._likelihood = prior, search, seed, likelihood
        with torch.inference_mode(False), torch.no_grad():
            drawn = self._mapped_samples(MEAN_SAMPLES)
            self.samples = drawn[:CODE_SAMPLES].contiguous()
            self.mean: Tensor = F.normalize(drawn.mean(dim=0), dim=0) * drawn.norm(dim=1).mean()
            self._within = mean_similarity(self.samples, self.samples)

    def _mapped_samples(self, count: int) -> Tensor:
        """Return samples of the mapping network, (count, L)."""
        mapping, device = self.prior.mapping, self.prior.vector.device
        layers = torch.arange(SAMPLE_LAYER, SAMPLE_LAYER + mapping.latent)
        white = hashed_normal_fields(self.seed, 0, layers, [[0, 0]], 1, count, device)
        mapped: Tensor = mapping(white[None])
        return mapped[0, :, 0].T.contiguous()

    def discrepancy(self, codes: Tensor) -> Tensor:
        """Return d^2 of codes of `w`, (n, L), from the samples."""
        return mean_similarity(codes, codes) + self._within - 2 * mean_similarity(codes, self.samples)

    def run(self, seen: Seen, read: Tensor | None = None) -> Searched:
        """Search for one window.

        Parameters
        ----------
        seen : Seen
            One image, with its origin.
        read : Tensor, (1, L, h, w), optional
            What the network reads off the input, of z; for the start `read`.
        """
        with torch.inference_mode(False), torch.enable_grad():
            return self._run(_usable(seen), None if read is None else read.clone())

    def _run(self, seen: Seen, read: Tensor | None) -> Searched:
        search = self.search
        smooth = low_pass(
            seen.x if seen.scale == 1 else catmull_rom(seen.x, seen.scale), DETAIL_SIGMA_PX * seen.scale
        )
        sigma = pixel_noise_sigma(seen.x, seen.noise_gain, seen.read_noise).clamp_min(LEAST_NOISE)
        codes = self._start(seen, read).contiguous().requires_grad_(True)
        radii = codes.detach().norm(dim=1, keepdim=True)
        optimiser = torch.optim.Adam([codes], lr=search.rate, foreach=False)
        for step in range(search.steps):
            w_fields = self._w_fields(codes)
            image = smooth + self._detail(w_fields, seen)
            loss = self._misfit(image, seen, sigma) + self._strangeness(w_fields, seen, step)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.param_groups[0]["lr"] = search.rate_at(step)
            optimiser.step()
            if search.spherical:
                with torch.no_grad():
                    codes *= radii / codes.norm(dim=1, keepdim=True).clamp_min(1e-9)
        with torch.no_grad():
            w_fields = self._w_fields(codes)
            image = smooth + self._detail(w_fields, seen)
            residual = (redegrade(image, seen.kernel, seen.scale) - seen.x) / sigma * seen.valid
            return Searched(image, residual, w_fields.detach())

    def _start(self, seen: Seen, read: Tensor | None) -> Tensor:
        """Return the first codes, (layers, L, h, w)."""
        layers, latent = len(self.prior.deltas.deltas), self.prior.mapping.latent
        height, width = (length // self.prior.alignment_px for length in seen.x.shape[2:])
        if self.search.start == "mean":
            return self.mean[:, None, None].expand(layers, latent, height, width).clone()
        if self.search.start == "read":
            assert read is not None
            z_fields = read.expand(layers, -1, -1, -1).clone()
        else:
            nodes = torch.tensor(seen.origins) // self.prior.alignment_px
            seeds = [self.seed + 1 + layer for layer in range(layers)]
            device = self.prior.vector.device
            fields = [sample_z_field(latent, height, width, seed, seen.z, nodes, device) for seed in seeds]
            z_fields = torch.cat(fields)
        with torch.no_grad():
            mapped: Tensor = z_fields if self.search.space == "z" else self.prior.mapping(z_fields)
            return mapped

    def _w_fields(self, codes: Tensor) -> Tensor:
        mapped: Tensor = codes if self.search.space == "w" else self.prior.mapping(codes)
        return mapped

    def _detail(self, w_fields: Tensor, seen: Seen) -> Tensor:
        """Return the generator's part of the image."""
        codes = self.prior.deltas.of_layers(w_fields.chunk(len(w_fields)))
        origin = torch.tensor(seen.origins)
        return self.prior.synthesise(codes, None, self.seed, seen.z, origin, self.search.noise)

    def _misfit(self, image: Tensor, seen: Seen, sigma: Tensor) -> Tensor:
        """Return how far the degraded image is from the input, with its likelihood where asked for."""
        apart, share = (redegrade(image, seen.kernel, seen.scale) - seen.x) * seen.valid, seen.valid.mean()
        if self.search.downscale:
            means = F.avg_pool2d(apart, self.search.downscale)
            misfit = DOWNSCALE_WEIGHT * means.square().mean() / share.clamp_min(1e-3)
        else:
            misfit = (apart / sigma).square().mean() / share.clamp_min(1e-3)
        if self.search.likelihood > 0 and self._likelihood is not None:
            levels = to_levels(seen.x)
            bits = self._likelihood(levels, image).bits(levels) * seen.valid
            misfit = misfit + self.search.likelihood * bits.mean() / share.clamp_min(1e-3)
        return misfit

    def _strangeness(self, w_fields: Tensor, seen: Seen, step: int) -> Tensor:
        """Return how unlike those of the mapping network the codes are, and how unlike each other those of a node."""
        loss = self.search.cross * geocross(w_fields) if self.search.cross > 0 else w_fields.new_zeros(())
        if self.search.mmd > 0:
            drawn = self._drawn(w_fields, seen, step)
            loss = loss + self.search.mmd * KERNEL_WIDTH * self.discrepancy(drawn)
        return loss

    def _drawn(self, w_fields: Tensor, seen: Seen, step: int) -> Tensor:
        """Return the codes of a step that are compared with samples, at most `DRAWN_CODES`, (n, L)."""
        layers, latent, height, width = w_fields.shape
        node = torch.tensor(seen.origins) // self.prior.alignment_px
        fields = torch.arange(layers) + DRAW_LAYER + step * layers
        chance = hashed_normal_fields(self.seed, seen.z, fields, node, height, width, w_fields.device)
        places = chance.flatten().topk(min(DRAWN_CODES, chance.numel())).indices
        return w_fields.permute(0, 2, 3, 1).reshape(-1, latent)[places]


def mean_similarity(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean of exp(-|a_i - b_j| / 512) over all pairs of two sets of codes, (n, L) and (m, L)."""
    return torch.exp(-torch.cdist(a, b) / KERNEL_WIDTH).mean()


def geocross(w_fields: Tensor) -> Tensor:
    """Return the mean squared angle between the layers of a node, times 64, over all pairs of layers.

    Parameters
    ----------
    w_fields : Tensor, (layers, L, h, w)
        Codes.
    """
    layers = len(w_fields)
    first, second = torch.triu_indices(layers, layers, 1, device=w_fields.device)
    a, b = w_fields[first], w_fields[second]
    apart, along = ((part.square().sum(dim=1) + 1e-9).sqrt() for part in (a - b, a + b))
    squared = (2 * torch.atan2(apart, along)).square().sum(dim=0)
    return CROSS_SCALE * 2 * squared.mean() / layers**2


def _usable(seen: Seen) -> Seen:
    """Return copies of tensors made in inference mode, which no gradient may pass."""
    copies = {name: getattr(seen, name).clone() for name in ("x", "valid", "kernel")}
    return attrs.evolve(seen, **copies)
