"""The sizes of the network, the values of `--preset`, and those of backbones, of `--arch`. Nothing else changes by them."""

from __future__ import annotations

from typing import Any

import attrs

from bigrestore.core.words import either
from bigrestore.errors import UsageError


@attrs.frozen
class Preset:
    """One size of the network.

    Attributes
    ----------
    unshuffle : int
        Input pixels per side folded into channels by the stem: 2 is four times faster on a CPU.
    channels : tuple of int
        Channels per level, first grid to bottleneck; each level halves the grid.
    blocks : int
        Residual blocks per level.
    latent : int
        Length of a latent code of the prior.
    """

    unshuffle: int
    channels: tuple[int, ...]
    blocks: int
    latent: int

    @property
    def alignment_px(self) -> int:
        """Product of all strides, in input pixels: tile origins and sizes are multiples of it."""
        return self.unshuffle << (len(self.channels) - 1)


PRESETS = {
    "nano": Preset(2, (16, 24, 32, 48), 1, 48),
    "tiny": Preset(2, (32, 48, 96, 128), 2, 96),
    "small": Preset(2, (48, 64, 96, 128), 2, 128),
    "base": Preset(1, (48, 96, 160, 224, 256), 2, 256),
    "large": Preset(1, (64, 128, 256, 384, 512), 3, 512),
}


FUSIONS_OF_FEATURES = ("sft", "noise")
"""How the U-Net's features enter the prior: by channel-split transforms (GFP-GAN), or in the place of noise (GPEN)."""


def get_preset(name: str) -> Preset:
    """Return a preset by name; UsageError names the ones there are."""
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}; choose {either(PRESETS)}")
    return PRESETS[name]


@attrs.frozen
class Architecture:
    """A body of `train backbone`, the value of `--arch`.

    Attributes
    ----------
    sizes : dict
        Its arguments (`bigrestore.model.nets.parts.backbone`).
    scales : tuple of int
        Its scales.
    """

    sizes: dict[str, Any]
    scales: tuple[int, ...] = (1, 2)


BACKBONES = {
    "uformer": Architecture(
        {"channels": 16, "depths": [1, 1, 1, 2], "head_channels": 16, "side": 8, "modulators": False}
    ),
    "rft": Architecture({"channels": [16, 32, 64], "blocks": 3, "fourier": True}),
    "hat": Architecture({"channels": 48, "heads": 6, "groups": 2, "depth": 4, "side": 8}, scales=(2,)),
    "unet": Architecture({"channels": [16, 32, 64], "blocks": 4, "fourier": False}),
}
