"""Loads what the bench judges: a checkpoint by file or shipped name, or a method that needs no weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bigrestore.methods.base import Method

if TYPE_CHECKING:
    from bigrestore.nn.checkpoint import Model


def load_method(
    name: str,
    *,
    scale: int | None = None,
    realness: float = 0.0,
    device: str = "cpu",
    precision: str = "fp32",
) -> Method:
    """Return a method ready to run.

    Parameters
    ----------
    name : str
        A checkpoint file, the name of a shipped model, or `untrained:PRESET` for fresh weights of a preset.
    scale : int, optional
        Needed by names that do not say it.
    realness : float
        Share of the prior's detail, 0..1.
    device, precision : str
        As on the command line of `bigrestore run`.
    """
    from bigrestore.methods.network import NetworkMethod, load_network

    if name.startswith("untrained:"):
        return NetworkMethod(
            untrained(name.partition(":")[2], scale or 1), device=device, precision=precision
        )
    return load_network(
        name,
        scale=scale,
        realness=realness,
        device=device,
        precision=precision,
        seed=0,
        lock=True,
        kernel=None,
    )


def untrained(preset: str, scale: int) -> Model:
    """Return a model of a preset with its initial weights, which restores by Catmull-Rom."""
    import torch

    from bigrestore.nn.checkpoint import Model
    from bigrestore.nn.presets import get_preset
    from bigrestore.nn.restorer import Restorer

    torch.manual_seed(0)
    restorer = Restorer(get_preset(preset), scale).eval()
    info = {"preset": preset, "scale": scale, "halo_px": 128, "sha256": "untrained"}
    return Model(restorer, f"untrained-{preset}-x{scale}", info)
