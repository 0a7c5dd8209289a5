"""Small networks of other projects with random weights, in the layouts of their files."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from bigrestore.core.torchvision import import_torchvision

Weights = dict[str, Tensor]


def built(architecture: str, **sizes: Any) -> Weights:
    """Return random weights of an architecture; they are large, so that the network does something."""
    import_torchvision()
    with warnings.catch_warnings():  # of torch about spandrel
        warnings.simplefilter("ignore")
        network = getattr(importlib.import_module(f"spandrel.architectures.{architecture}"), architecture)(
            **sizes
        )
    return {
        name: tensor * 1.5 if tensor.is_floating_point() and tensor.ndim > 1 else tensor.clone()
        for name, tensor in network.state_dict().items()
    }


def hat(upscale: int = 2) -> Weights:
    torch.manual_seed(1)
    return built(
        "HAT",
        upscale=upscale,
        embed_dim=12,
        depths=(1,),
        num_heads=(2,),
        window_size=8,
        mlp_ratio=2.0,
        squeeze_factor=6,
        upsampler="pixelshuffle",
    )


def uformer() -> Weights:
    torch.manual_seed(2)
    heads = [1, 1, 1, 1, 1, 1, 1, 1, 1]
    return built("Uformer", embed_dim=4, depths=[1] * 9, num_heads=heads, mlp_ratio=1.0)


def drunet(channels: int = 1) -> Weights:
    torch.manual_seed(3)
    return built("DRUNet", in_nc=channels + 1, out_nc=channels, nc=[8, 8, 8, 8], nb=2)


def swinir(upscale: int = 2) -> Weights:
    torch.manual_seed(4)
    return built(
        "SwinIR",
        upscale=upscale,
        embed_dim=12,
        depths=[1],
        num_heads=[2],
        window_size=8,
        mlp_ratio=2.0,
        upsampler="pixelshuffledirect",
    )


def rrdb(shuffled: int = 2, filters: int = 8, upsamplings: int = 2) -> Weights:
    """Return the weights of an RRDB network named as Real-ESRGAN names them, x4 of an input shuffled by a factor."""
    torch.manual_seed(5)
    growth, sizes = 32, {"conv_first": (3 * shuffled**2, filters), "conv_body": (filters, filters)}
    for block in range(1, 4):
        for layer in range(1, 6):
            given, made = filters + (layer - 1) * growth, growth if layer < 5 else filters
            sizes[f"body.0.rdb{block}.conv{layer}"] = (given, made)
    sizes |= {f"conv_up{step + 1}": (filters, filters) for step in range(upsamplings)}
    sizes |= {"conv_hr": (filters, filters), "conv_last": (filters, 3)}
    weights = {}
    for name, (given, made) in sizes.items():
        weights[f"{name}.weight"] = torch.randn(made, given, 3, 3) * 0.7 / (3 * given**0.5)
        weights[f"{name}.bias"] = 0.05 * torch.randn(made)
    return weights


def srooe() -> Weights:
    """Return weights with the names of ESRGAN's and sft layers beside them, as SROOE's generator has."""
    weights = rrdb(shuffled=1)
    for layer in range(5):
        weights[f"body.0.rdb1.sft{layer}.SFT_scale_conv0.weight"] = torch.randn(8, 8, 1, 1)
    return weights


NETWORKS: Mapping[str, tuple[int, Callable[[], Weights]]] = {
    "HAT": (2, hat),
    "Uformer": (1, uformer),
    "DRUNet": (1, drunet),
    "ESRGAN": (2, rrdb),
    "SwinIR": (2, swinir),
}
"""By spandrel's name: scale and weights."""


def save_safetensors(path: Path, weights: Weights) -> None:
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)


def prefixed(weights: Weights) -> Weights:
    return {f"module.{name}": tensor for name, tensor in weights.items()}


WRAPPINGS: Mapping[str, tuple[str, Callable[[Weights], Any]]] = {
    "safetensors": (".safetensors", lambda weights: weights),
    "plain": (".pth", lambda weights: weights),
    "params": (".pth", lambda weights: {"params": weights}),
    "params_ema": (
        ".pth",
        lambda weights: {
            "params": {name: torch.zeros_like(tensor) for name, tensor in weights.items()},
            "params_ema": weights,
        },
    ),
    "state_dict": (".ckpt", lambda weights: {"epoch": 3, "state_dict": weights, "optimizer": {}}),
    "module": (".pt", lambda weights: {"state_dict": prefixed(weights)}),
}
"""How projects keep weights: the ending of the file, and what is in it."""


def save_wrapped(folder: Path, wrapping: str, weights: Weights) -> Path:
    ending, wrap = WRAPPINGS[wrapping]
    path = folder / f"{wrapping}{ending}"
    if ending == ".safetensors":
        save_safetensors(path, weights)
    else:
        torch.save(wrap(weights), path)
    return path
