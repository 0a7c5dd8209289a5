"""Judges without a training: they do what they are for, coarsely."""

from __future__ import annotations

from pathlib import Path

import torch

from bigrestore.model.nets.parts.part import save_part
from bigrestore.model.nets.parts.pixelcnn import PixelCNN
from bigrestore.model.nets.parts.ranking import RankingNet


def likelihood_file(folder: Path, scale: int = 1, seed: int = 0) -> Path:
    """Write a likelihood that takes an input for its restoration and noise."""
    torch.manual_seed(seed)
    sizes = {"channels": 4, "blocks": 1, "logistics": 3, "condition_channels": 4, "scale": scale}
    net, path = PixelCNN(**sizes), folder / f"likelihood-x{scale}-{seed}.safetensors"
    torch.nn.init.normal_(net.head.weight, std=0.02)
    save_part(path, net, "likelihood", scale, {"sizes": sizes, "halo_px": net.reach_px, "alignment_px": 1})
    return path


def ranking_file(folder: Path, seed: int = 0) -> Path:
    """Write a ranking by the mean contrast of neighbouring pixels: an image with less has a larger number."""
    torch.manual_seed(seed)
    sizes = {"channels": [2, 2, 2, 2, 2, 2], "hidden": 2}
    net, path = RankingNet(**sizes), folder / f"ranking-{seed}.safetensors"
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.layers[0].weight[:, 0, 1, 1:] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        for layer in net.layers[1:]:
            layer.weight[0, 0, 1, 1] = layer.weight[1, 1, 1, 1] = 1.0
        net.hidden.weight[0] = 1.0
        net.head.weight[0, 0] = -1.0
    fit = {"from": [-4.0, 0.0], "to": [0.0, 100.0]}
    save_part(path, net, "ranking", 1, {"sizes": sizes, "halo_px": 0, "alignment_px": 1, "fit": fit})
    return path
