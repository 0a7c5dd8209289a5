"""JPEG blocking: grey steps at the borders of 8 x 8 blocks, measured for each phase of the block lattice.

JPEG codes each block of 8 x 8 pixels alone, so that steps across block borders are larger than steps inside a block.
Windows begin at multiples of eight pixels and share one lattice; their profiles are averaged before use.
"""

from __future__ import annotations

import torch
from torch import Tensor

PERIOD = 8
STEP_FEATURES = 2 * PERIOD


def step_profile(windows: Tensor, valid: Tensor) -> Tensor:
    """Return the mean grey step at each of the eight phases of the block lattice, along both axes.

    Parameters
    ----------
    windows, valid : Tensor, (N, 1, h, w)
        Grey values 0..1, and 1 for valid pixels.

    Returns
    -------
    Tensor, (N, 16), float32
        log10 of the mean step between rows y - 1 and y for y mod 8 = 0 .. 7, minus the mean of the eight; then the
        same for columns.
    """
    profiles = []
    for axis in (2, 3):
        side = windows.shape[axis]
        first, last = windows.narrow(axis, 0, side - 1), windows.narrow(axis, 1, side - 1)
        held = valid.narrow(axis, 0, side - 1) * valid.narrow(axis, 1, side - 1)
        other = 3 if axis == 2 else 2
        steps = ((last - first).abs() * held).sum((1, other))
        count = held.sum((1, other))
        phase = torch.arange(1, side, device=windows.device) % PERIOD
        total = torch.zeros(len(windows), PERIOD, device=windows.device).index_add_(1, phase, steps)
        counts = torch.zeros_like(total).index_add_(1, phase, count)
        level = torch.log10(total / counts.clamp_min(1) + 1e-4)
        profiles.append(level - level.mean(1, keepdim=True))
    return torch.cat(profiles, dim=1)


def aligned(profile: Tensor) -> Tensor:
    """Rotate both halves of profiles, (N, 16), so that the largest step comes first."""
    turned = []
    for part in torch.split(profile, PERIOD, dim=1):
        order = (part.argmax(1, keepdim=True) + torch.arange(PERIOD, device=profile.device)) % PERIOD
        turned.append(part.gather(1, order))
    return torch.cat(turned, dim=1)
