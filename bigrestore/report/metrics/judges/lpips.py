"""LPIPS against a clean reference: column `lpips`.

Features of two images at several depths of a network for photographs, each scaled to unit length over the channels; their
squared differences, weighted by channel as people's judgements were learned, averaged over the image and summed (Zhang,
Isola, Efros, Shechtman and Wang, CVPR 2018). The weights ship with their notice (BSD-2-Clause). The network does not: it
is the user's file, torchvision's own state dict of AlexNet, VGG16 or SqueezeNet 1.1, read without running code.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor, nn

from bigrestore.core.pixels import Floats
from bigrestore.core.regular import is_regular
from bigrestore.errors import InputMissingError, ModelError, UsageError
from bigrestore.report.metrics.judges.engine import JUDGES, JudgeSettings

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of red, green and blue in -1..1, before the network."""

LEAST_LENGTH = 1e-10

KNOWN = "AlexNet, VGG16 or SqueezeNet 1.1"


class Fire(nn.Module):
    """A block of SqueezeNet: narrow, then 1 x 1 and 3 x 3 side by side."""

    def __init__(self, inputs: int, narrow: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, narrow, 1)
        self.expand1x1 = nn.Conv2d(narrow, outputs // 2, 1)
        self.expand3x3 = nn.Conv2d(narrow, outputs // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        h = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat([self.expand1x1(h), self.expand3x3(h)], dim=1))


@attrs.frozen
class Backbone:
    """The features of a network.

    Attributes
    ----------
    name : str
        As in `lpips.npz`.
    layers : nn.Sequential
        Numbered as in torchvision.
    taps : tuple of int
        Layers after which features are compared.
    """

    name: str
    layers: nn.Sequential
    taps: tuple[int, ...]

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the features of images, (N, 3, H, W)."""
        made, h = [], images
        for index, layer in enumerate(self.layers):
            h = layer(h)
            if index in self.taps:
                made.append(h)
        return made


def alexnet() -> Backbone:
    """Return an AlexNet."""
    conv, pool = nn.Conv2d, functools.partial(nn.MaxPool2d, 3, 2)
    layers = nn.Sequential(
        *(conv(3, 64, 11, 4, 2), nn.ReLU(), pool()),
        *(conv(64, 192, 5, 1, 2), nn.ReLU(), pool()),
        *(conv(192, 384, 3, 1, 1), nn.ReLU()),
        *(conv(384, 256, 3, 1, 1), nn.ReLU()),
        *(conv(256, 256, 3, 1, 1), nn.ReLU()),
    )
    return Backbone("alexnet", layers, (1, 4, 7, 9, 11))


def vgg16() -> Backbone:
    """Return a VGG16."""
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        if layers:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU()]
            channels = width
    return Backbone("vgg16", nn.Sequential(*layers), (3, 8, 15, 22, 29))


def squeezenet() -> Backbone:
    """Return a SqueezeNet 1.1."""
    pool = functools.partial(nn.MaxPool2d, 3, 2, ceil_mode=True)
    layers = nn.Sequential(
        *(nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool()),
        *(Fire(64, 16, 128), Fire(128, 16, 128), pool()),
        *(Fire(128, 32, 256), Fire(256, 32, 256), pool()),
        *(Fire(256, 48, 384), Fire(384, 48, 384), Fire(384, 64, 512), Fire(512, 64, 512)),
    )
    return Backbone("squeezenet1_1", layers, (1, 4, 7, 9, 10, 11, 12))


class LpipsJudge:
    """Measures the distance to a reference.

    Parameters
    ----------
    backbone : Backbone
        With its weights.
    sha256 : str
        Of its file.
    """

    columns = ("lpips",)

    def __init__(self, backbone: Backbone, sha256: str) -> None:
        self.backbone, self.sha256 = backbone, sha256
        backbone.layers.eval().requires_grad_(False)

    @classmethod
    def create(cls, settings: JudgeSettings) -> LpipsJudge:
        """Load the backbone of the settings.

        Raises
        ------
        UsageError
            None is named.
        InputMissingError, ModelError
            The file is missing, or no state dict of one that is known.
        """
        if settings.lpips_backbone is None:
            raise UsageError(JUDGES["lpips"].needs)
        path = Path(settings.lpips_backbone)
        return cls(load_backbone(path), hashlib.sha256(path.read_bytes()).hexdigest())

    def describe(self) -> dict[str, Any]:
        """Name and hash of the backbone."""
        return {"backbone": self.backbone.name, "sha256": self.sha256, "weights": "lpips 0.1"}

    @torch.inference_mode()
    def score(self, tile: Floats, other: Floats) -> dict[str, float]:
        """Return the distance of a tile, (h, w) in 0..1, to that of the reference."""
        mine, true = (
            torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None] for image in (tile, other)
        )
        maps = distance_maps(self.backbone, mine, true)
        return {"lpips": sum(float(one.mean(dtype=torch.float64)) for one in maps)}


def distance_maps(backbone: Backbone, images: Tensor, others: Tensor) -> list[Tensor]:
    """Return the distances of grey images, (N, 1, H, W) in 0..1, to others, at each depth: (N, 1, h, w), unaveraged."""
    mine, true = (backbone.features(_scaled(each)) for each in (images, others))
    return [
        ((_unit(a) - _unit(b)).square() * weights.to(a)[None, :, None, None]).sum(dim=1, keepdim=True)
        for a, b, weights in zip(mine, true, channel_weights(backbone.name), strict=True)
    ]


def load_backbone(path: Path) -> Backbone:
    """Load a backbone; which one it is the shapes of its weights say.

    Raises
    ------
    InputMissingError, ModelError
        The file is missing, or no state dict of one that is known.
    """
    if not is_regular(path):
        raise InputMissingError(f"There is no file {path}; name torchvision's state dict of {KNOWN}.")
    refusal = ModelError(
        f"{path} is no state dict of torchvision's {KNOWN}; give one of them, such as alexnet-owt-7be5be79.pth."
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a TorchScript archive, which is refused
            stored = torch.load(path, map_location="cpu", weights_only=True)
        weights = {
            name.removeprefix("features."): tensor
            for name, tensor in stored.items()
            if name.startswith("features.")
        }
    except Exception as error:  # what a foreign file makes of torch's reader is not of one kind
        raise refusal from error
    for make in (alexnet, vgg16, squeezenet):
        backbone = make()
        wanted = {name: tensor.shape for name, tensor in backbone.layers.state_dict().items()}
        if wanted == {name: getattr(tensor, "shape", None) for name, tensor in weights.items()}:
            backbone.layers.load_state_dict(weights)
            return backbone
    raise refusal


@functools.cache
def channel_weights(name: str) -> list[Tensor]:
    """Return the learned weights of the channels at each depth of a backbone."""
    with (
        resources.files("bigrestore.report.metrics").joinpath("data", "lpips.npz").open("rb") as stream,
        np.load(stream, allow_pickle=False) as stored,
    ):
        count = sum(key.rpartition("_")[0] == name for key in stored.files)
        return [torch.from_numpy(stored[f"{name}_{index}"]) for index in range(count)]


def _scaled(images: Tensor) -> Tensor:
    """Return grey images, (N, 1, h, w), as three colours, scaled as the network wants them."""
    shift, scale = (torch.tensor(part).to(images)[None, :, None, None] for part in (SHIFT, SCALE))
    return (2 * images - 1 - shift) / scale


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + LEAST_LENGTH)
