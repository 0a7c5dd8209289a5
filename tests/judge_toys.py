"""Judges without a training: they do what they are for, coarsely."""

from __future__ import annotations

from pathlib import Path

import torch

from bigrestore.model.nets.parts.part import save_part
from bigrestore.model.nets.parts.pixelcnn import PixelCNN


def likelihood_file(folder: Path, scale: int = 1, seed: int = 0) -> Path:
    """Write a likelihood that takes an input for its restoration and noise."""
    torch.manual_seed(seed)
    sizes = {"channels": 4, "blocks": 1, "logistics": 3, "condition_channels": 4, "scale": scale}
    net, path = PixelCNN(**sizes), folder / f"likelihood-x{scale}-{seed}.safetensors"
    torch.nn.init.normal_(net.head.weight, std=0.02)
    save_part(path, net, "likelihood", scale, {"sizes": sizes, "halo_px": net.reach_px, "alignment_px": 1})
    return path
