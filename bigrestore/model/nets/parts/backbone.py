"""Backbones: networks of the field that restore blind, each around a body of its own.

All of them are fed alike: features of the grey values, enlarged by a pixel shuffle at x2, become a correction to the
interpolation. The last layer starts at zero, so an untrained backbone is the interpolation. A backbone sees windows of
one size, in training and ever after: bodies pool over their input, or transform it as a whole.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from bigrestore.core.interpolation import catmull_rom
from bigrestore.errors import ModelError
from bigrestore.model.nets.unet import zero_init

BODIES = {
    "uformer": "uformer:Uformer",
    "rft": "convolutional:ConvolutionalU",
    "hat": "hat:HAT",
    "unet": "convolutional:ConvolutionalU",
}
"""`module:class` of each architecture, in `bigrestore.model.nets.backbones`; see `settings.presets.BACKBONES`."""

BACKBONE_SIDE_PX, BACKBONE_STEP_PX = 128, 96
"""Side of a window, input pixels, and step from one to the next."""
GREY_MIDDLE = 0.5


class BackboneNet(nn.Module):
    """A network from degraded to restored grey values.

    Parameters
    ----------
    arch : str
        Of `BODIES`.
    scale : int
        Output pixels per input pixel.
    sizes
        Arguments of the body.

    Raises
    ------
    ModelError
        The architecture is unknown.
    """

    def __init__(self, arch: str, scale: int, **sizes: Any) -> None:
        super().__init__()
        module, _, name = BODIES.get(arch, "").partition(":")
        if not module:
            raise ModelError(
                f"This version knows no backbone of the architecture {arch!r}; update bigrestore."
            )
        self.arch, self.scale = arch, scale
        self.body: nn.Module = getattr(import_module(f"bigrestore.model.nets.backbones.{module}"), name)(
            **sizes
        )
        width = int(self.body.channels_out)
        self.enlarge = nn.Conv2d(width, width * scale * scale, 3, padding=1) if scale > 1 else None
        self.tail = zero_init(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Restore windows.

        Parameters
        ----------
        x : Tensor, (N, 1, H, W), 0..1
            H and W as in training.

        Returns
        -------
        Tensor, (N, 1, H * scale, W * scale)
        """
        h = self.body(x - GREY_MIDDLE)
        if self.enlarge is not None:
            h = F.leaky_relu(F.pixel_shuffle(self.enlarge(h), self.scale), 0.2)
        correction: Tensor = self.tail(h).float()
        return (x if self.scale == 1 else catmull_rom(x, self.scale)) + correction
