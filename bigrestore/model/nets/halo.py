"""The halo probe: the context that a restoration needs for tiles equal to the whole section.

The halo is measured. Everything beyond h pixels of a core is replaced by black, by white and by other tissue; the
smallest multiple of the alignment with an error in the core below half a step of 16 bits is the halo. One bright
pixel would underestimate it, because zero padding and saturation are large disturbances. The probe runs the whole
restoration with its guards, so the figure includes their reach.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TOLERANCE = 0.5 / 65535
CORE_PX = 32
LIMIT_PX = 192


@torch.inference_mode()
def probe_halo(
    restore: Callable[[Tensor], Tensor],
    tissue: Tensor,
    alignment_px: int,
    scale: int,
    *,
    limit_px: int = LIMIT_PX,
    from_px: int = 0,
) -> tuple[int, dict[int, float]]:
    """Measure the halo of a restoration.

    Parameters
    ----------
    restore : callable
        Maps degraded tissue, (1, 1, H, W), to (1, 1, H * scale, W * scale).
    tissue : Tensor, (2, 1, S, S), 0..1
        Two different pieces of degraded tissue, S at least 2 * limit_px + 2 * 32, cropped to it.
    alignment_px : int
        H and W are multiples of it, and so is the halo.
    scale : int
        Output pixels per input pixel.
    limit_px : int
        Largest halo to try, input pixels.
    from_px : int
        Smallest halo to try.

    Returns
    -------
    halo_px : int
        Smallest multiple of the alignment below tolerance, else `limit_px`.
    errors : dict of int to float
        Largest core error per halo tried.
    """
    step = max(alignment_px, 8)
    limit_px -= limit_px % step
    core = -(-CORE_PX // step) * step
    side = 2 * limit_px + core
    scene, other = tissue[:1, :, :side, :side], tissue[1:, :, :side, :side]

    def core_of(image: Tensor) -> Tensor:
        window = slice(limit_px * scale, (limit_px + core) * scale)
        return restore(image)[..., window, window]

    reference = core_of(scene)
    errors: dict[int, float] = {}
    for halo in range(from_px - from_px % step, limit_px, step):
        worst = 0.0
        for fill in (torch.zeros_like(scene), torch.ones_like(scene), other):
            altered = fill.clone()
            window = slice(limit_px - halo, limit_px + core + halo)
            altered[..., window, window] = scene[..., window, window]
            worst = max(worst, float((core_of(altered) - reference).abs().max()))
        errors[halo] = worst
        if worst < TOLERANCE:
            return max(halo, step), errors
    return limit_px, errors
