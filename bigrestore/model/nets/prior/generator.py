"""The generator: detail of tissue learned from clean sections, without knowledge of this one.

StyleGAN2's synthesis in a form for tiles: a learned vector, broadcast over the bottleneck grid, replaces the 4x4
constant; styles come from a field of latent codes; noise is hashed from absolute positions. Each level doubles the
grid, so a tile's detail is the section's detail. The U-Net's features enter through the channel-split bridge; without
them the generator makes tissue alone, as in its first training.

With features it makes only the detail missing from the fidelity output. A map read off the U-Net's features, the
level's share, weighs every level's grey: near zero on coarse grids, more on fine ones. (A generator of all detail was
3.4 dB below the interpolation after 700 steps of training, and its texture followed its own grid.)
Features may also take the place of the noise (`NoiseFusion`).

It has the U-Net's levels, bottleneck to first grid, one more for x2 and two more for x4; the last level's head
shuffles unshuffle x unshuffle pixels out of every node. All grids of a preset folding by 2 are therefore twice as
coarse as their output: x1 ends at half the input's resolution, x2 at the input's, x4 at twice the input's; the finest
and slowest level costs a quarter. A 1x1 head makes each pixel of a node on its own; misfits show as a pattern of
period 2 px over the whole image. Two small convolutions fit the pixels to each other (`PhaseCoupling`).

StyleGAN2: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.errors import UsageError
from bigrestore.model.nets.prior.cs_sft import FUSIONS, ChannelSplitSFT, NoiseFusion
from bigrestore.model.nets.prior.latent import LayerDeltas, MappingNetwork
from bigrestore.model.nets.prior.modulation import ACTIVATION_GAIN, MapModulatedConv2d, bend, to_grid
from bigrestore.model.nets.prior.noise import hashed_normal_fields

DETAIL_GAIN = 0.05
"""Fixed factor of the output: brings the untrained generator to the amplitude of detail in tissue."""
EXTRA_CHANNELS_MIN = 16
CODES_PER_LEVEL = 2
COUPLING_TAPS = 3
"""Side of the coupling's two kernels: they reach one node and one output pixel further."""
FIRST_SHARE = 0.1
"""Share of every level before training of the bridge: small, so training starts near the fidelity output."""


class SynthesisLevel(nn.Module):
    """One grid of the generator: modulated conv, noise, bridge, modulated conv, grey head.

    Parameters
    ----------
    channels_in, channels_out : int
        Channels of the level below and of this one.
    latent : int
        Channels of the latent field.
    guide_channels : int
        Channels of the U-Net's features on this grid; 0 for none.
    heads : int
        Grey pixels per node of the head.
    fusion : str
        How those features enter, of `cs_sft.FUSIONS`.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        latent: int,
        guide_channels: int,
        heads: int,
        fusion: str = "sft",
    ) -> None:
        super().__init__()
        self.first = MapModulatedConv2d(channels_in, channels_out, latent)
        self.first_bias = nn.Parameter(torch.zeros(channels_out, 1, 1))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bridge = FUSIONS[fusion](channels_out, guide_channels) if guide_channels else None
        self.second = MapModulatedConv2d(channels_out, channels_out, latent)
        self.second_bias = nn.Parameter(torch.zeros(channels_out, 1, 1))
        self.grey = MapModulatedConv2d(channels_out, heads, latent, kernel_size=1, demodulate=False)
        self.grey_bias = nn.Parameter(torch.zeros(heads, 1, 1))

    def forward(
        self, x: Tensor, codes: Sequence[Tensor], guide: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Run the level.

        Parameters
        ----------
        x : Tensor, (N, C, H, W), float32
            Features on this grid.
        codes : two Tensors, (N, L, h, w)
            Latent fields of the two convolutions; the head shares the second.
        guide : Tensor, (N, G, H, W), or None
            U-Net features on this grid.
        noise : Tensor, (N, 1, H, W), or None
            Unit normal noise.

        Returns
        -------
        features : Tensor, (N, C', H, W), float32
        grey : Tensor, (N, heads, H, W), float32
        """
        # The gain of the activations is in what comes before: one pass over the pixels less for each.
        h = self.first(x, codes[0], ACTIVATION_GAIN).add_(ACTIVATION_GAIN * self.first_bias)
        if noise is not None:
            h = h.add_(ACTIVATION_GAIN * self.noise_strength * noise)
        fused = self.bridge if guide is not None and isinstance(self.bridge, NoiseFusion) else None
        h = bend(h if fused is None else h + ACTIVATION_GAIN * fused.first(guide))
        if guide is not None and isinstance(self.bridge, ChannelSplitSFT):
            h = self.bridge(h, guide)
        h = self.second(h, codes[1], ACTIVATION_GAIN).add_(ACTIVATION_GAIN * self.second_bias)
        h = bend(h if fused is None else h + ACTIVATION_GAIN * fused.second(guide))
        return h, self.grey(h, codes[1]) + self.grey_bias


class PhaseCoupling(nn.Module):
    """Shuffle out the pixels of a node, each made with a look at its neighbours.

    Before the shuffle a convolution over the nodes fits the pixels of a node to each other and to their neighbours.
    After it a filter over the pixels, the same for all, can remove the rest at Nyquist. Both add to their input and
    start at zero: a model without them equals one with zero weights, to the bit.

    Detail that the U-Net's features guide has other neighbours than the prior's own. So `bridge` trains changes of both
    kernels, and of the pixels' biases, which act where features are given: the prior alone stays as it was.

    Parameters
    ----------
    unshuffle : int
        Pixels of a node along each axis.
    """

    def __init__(self, unshuffle: int) -> None:
        super().__init__()
        phases = unshuffle**2
        self.unshuffle = unshuffle
        self.nodes = nn.Parameter(torch.zeros(phases, phases, COUPLING_TAPS, COUPLING_TAPS))
        self.pixels = nn.Parameter(torch.zeros(1, 1, COUPLING_TAPS, COUPLING_TAPS))
        self.bridge_nodes = nn.Parameter(torch.zeros_like(self.nodes))
        self.bridge_pixels = nn.Parameter(torch.zeros_like(self.pixels))
        self.bridge_bias = nn.Parameter(torch.zeros(phases, 1, 1))

    def forward(self, grey: Tensor, guided: bool) -> Tensor:
        """Map (N, unshuffle^2, H, W) to (N, 1, H * unshuffle, W * unshuffle), float32."""
        nodes = self.nodes + self.bridge_nodes if guided else self.nodes
        pixels = self.pixels + self.bridge_pixels if guided else self.pixels
        with torch.autocast(grey.device.type, enabled=False):
            coupled = _added_convolution(grey.float(), nodes)
            return _added_convolution(F.pixel_shuffle(coupled, self.unshuffle), pixels)

    @torch.no_grad()
    def silence_checkerboard(self) -> None:
        """Let no checkerboard, the pattern of period 2 px along both axes, through where features guide.

        What a filter [-1, 2, -1] / 4 along both axes lets through is taken from the filter over the pixels, by its gain
        there: other patterns of that period, along one axis, and the mean stay as they were.
        """
        wave = torch.tensor([-1.0, 2.0, -1.0], device=self.pixels.device) / 4
        signs = torch.tensor([-1.0, 1.0, -1.0], device=self.pixels.device)
        weight = (self.pixels + self.bridge_pixels)[0, 0] * _gain(self.pixels)
        gain = 1 + (weight * torch.outer(signs, signs)).sum()
        self.bridge_pixels[0, 0] -= gain * torch.outer(wave, wave) / _gain(self.pixels)

    def shares_of_mean(self) -> Tensor:
        """Return the part of each pixel of a node in the mean of the output, (unshuffle^2,), for constant pixels."""
        nodes, pixels = (weight * _gain(weight) for weight in (self.nodes, self.pixels))
        return (1 + pixels.sum()) * (1 + nodes.sum((0, 2, 3))) / len(nodes)


def _added_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """Return x plus its convolution by a kernel of an equalised learning rate."""
    return x + F.conv2d(x, weight * _gain(weight), padding=weight.shape[-1] // 2)


def _gain(weight: Tensor) -> float:
    """Return the factor on weights of an equalised learning rate: 1 / sqrt(fan-in)."""
    return 1.0 / math.sqrt(weight[0].numel())


class Generator(nn.Module):
    """The prior.

    Parameters
    ----------
    channels : sequence of int
        Channels per level, first grid to bottleneck, as the U-Net's.
    latent : int
        Length of a latent code.
    scale : int
        Output pixels per input pixel: 1, 2 or 4. Levels above the first grid halve its channels each time,
        down to 16.
    unshuffle : int
        Input pixels per node of the first grid.
    fusion : str
        How the U-Net's features enter: "sft", or "noise" in the place of noise, of which there is none then.

    Attributes
    ----------
    mapping : MappingNetwork
        Makes the w-field for `forward` from a z-field.
    scale : int
        As given.
    alignment_px : int
        Input pixels per bottleneck node; origins and sizes are multiples of it.
    """

    def __init__(
        self, channels: Sequence[int], latent: int, scale: int, unshuffle: int, fusion: str = "sft"
    ) -> None:
        super().__init__()
        self.fusion = fusion
        if scale not in (1, 2, 4):
            raise UsageError(f"the generator works at scale 1, 2 or 4, not {scale}")
        self.unshuffle, self.scale = unshuffle, scale
        self.alignment_px = unshuffle * 2 ** (len(channels) - 1)
        extra = [max(EXTRA_CHANNELS_MIN, channels[0] >> power) for power in range(1, scale.bit_length())]
        widths = [*reversed(channels), *extra]
        guides = [*reversed(channels), *(0 for _ in extra)]
        heads = [1] * (len(widths) - 1) + [unshuffle**2]
        self.mapping = MappingNetwork(latent)
        self.deltas = LayerDeltas(latent, CODES_PER_LEVEL * len(widths))
        self.vector = nn.Parameter(torch.randn(widths[0], 1, 1))
        finest = len(channels) - 1
        self.shares = nn.ModuleList(_share_head(guides[min(index, finest)]) for index in range(len(widths)))
        self.levels = nn.ModuleList(
            SynthesisLevel(below, width, latent, guide, head, fusion)
            for below, width, guide, head in zip([widths[0], *widths], widths, guides, heads, strict=False)
        )
        self.coupling = PhaseCoupling(unshuffle) if unshuffle > 1 else None

    def set_fusion(self, fusion: str) -> None:
        """Let features enter in another way, untrained; in the same way as before nothing changes."""
        if fusion == self.fusion:
            return
        self.fusion = fusion
        for level in self.levels:
            assert isinstance(level, SynthesisLevel)
            if level.bridge is not None:
                first: nn.Conv2d = level.bridge.first
                joined = FUSIONS[fusion](len(level.first_bias), first.weight.shape[1])
                level.bridge = joined.to(first.weight.device)

    def forward(
        self,
        w_field: Tensor,
        features: Sequence[Tensor] | None,
        seed: int,
        z: int,
        origin: Tensor,
        realise_noise: bool = True,
    ) -> Tensor:
        """Make detail.

        Parameters
        ----------
        w_field : Tensor, (N, L, h, w)
            Latent codes on the bottleneck grid, out of `mapping`.
        features : sequence of Tensor, or None
            Decoder features of the U-Net, coarse to fine, the bottleneck first; None: the prior alone, all of it.
        seed, z : int
            Name of the noise, as in `noise.hashed_normal`; the layer is the level, 0 at the bottleneck.
        origin : Tensor, (N, 2), integer
            Absolute input (y, x) of each tile's first pixel, multiples of `alignment_px`. Best on the CPU:
            they are checked there.
        realise_noise : bool
            Whether to add the noise; there is none where features take its place.

        Returns
        -------
        Tensor, (N, 1, H * scale, W * scale), float32
            Detail in grey values of 0..1, to be added to a smoothed image; H = h * `alignment_px`.

        Raises
        ------
        UsageError
            Where an origin is off the alignment: tiles would not agree about the noise then.
        """
        codes = self.deltas(w_field.contiguous(memory_format=torch.channels_last))
        return self.synthesise(codes, features, seed, z, origin, realise_noise)

    def synthesise(
        self,
        codes: Sequence[Tensor],
        features: Sequence[Tensor] | None,
        seed: int,
        z: int,
        origin: Tensor,
        realise_noise: bool = True,
    ) -> Tensor:
        """Make detail from a field of codes for each layer, (N, L, h, w) each; the rest as in `forward`."""
        nodes = self._nodes(origin)
        height, width = codes[0].shape[2:]
        x = self.vector.expand(len(codes[0]), -1, height, width)
        grey: Tensor | None = None
        for index, level in enumerate(self.levels):
            size = (height << index, width << index)
            noise = None
            if realise_noise and (features is None or self.fusion != "noise"):
                noise = hashed_normal_fields(seed, z, [index], nodes << index, *size, x.device)[:, None]
            guide = features[index] if features is not None and index < len(features) else None
            code = codes[CODES_PER_LEVEL * index : CODES_PER_LEVEL * (index + 1)]
            x, fresh = level(to_grid(x, size), code, guide, noise)
            several = self.coupling if fresh.shape[1] > 1 else None
            if features is not None:
                finest = features[min(index, len(features) - 1)]
                fresh = fresh if several is None else fresh + several.bridge_bias
                fresh = fresh * torch.sigmoid(to_grid(self.shares[index](finest).float(), size))
            # Only the last level's head has several pixels per node: they are coupled and shuffled out.
            own = fresh if several is None else several(fresh, guided=features is not None)
            grey = own if grey is None else own + to_grid(grey, (own.shape[2], own.shape[3]))
        assert grey is not None
        return grey * DETAIL_GAIN

    def _nodes(self, origin: Tensor) -> Tensor:
        """Return origins in bottleneck nodes, (N, 2), int64, on the CPU."""
        corners = origin.to("cpu", torch.int64)
        if (corners.numpy() % self.alignment_px).any():
            raise UsageError(
                f"tile origins {corners.tolist()} are off the grid; make them multiples of the alignment of "
                f"{self.alignment_px} px"
            )
        return torch.div(corners, self.alignment_px, rounding_mode="floor")


def _share_head(guide_channels: int) -> nn.Conv2d:
    """Return the head of a share, uniform before training."""
    head = nn.Conv2d(guide_channels, 1, 1)
    nn.init.zeros_(head.weight)
    assert head.bias is not None
    nn.init.constant_(head.bias, math.log(FIRST_SHARE / (1 - FIRST_SHARE)))
    return head
