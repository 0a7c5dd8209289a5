"""Measuring the halo of a freshly trained model, under the degradations of farthest reach.

The network's reach depends on its code: under a wide blur it deconvolves over a wider neighbourhood than under noise
alone, and one piece of tissue shows less than another. The checkpoint gets the largest halo of several conditions and
places, and likewise each error.
"""

from __future__ import annotations

import copy
import logging
from functools import partial

import attrs
import torch
from torch import Tensor

from bigrestore.core.interpolation import catmull_rom
from bigrestore.core.kernels import defocus, fold_downsampling, gaussian
from bigrestore.model.method import PSI_SIZE
from bigrestore.model.methods.told import ToldMethod
from bigrestore.model.nets.code import Degradations, compose_psi
from bigrestore.model.nets.guards import Seen
from bigrestore.model.nets.halo import LIMIT_PX, probe_halo
from bigrestore.model.nets.parts.objective import ObjectiveHead
from bigrestore.model.nets.redegrade import KERNEL_PX
from bigrestore.model.nets.restorer import Conditions, Restorer
from bigrestore.settings.checks import LARGEST_NOISE

log = logging.getLogger(__name__)

MOSAIC = 5
FIRST_WINDOWS = (0, 11, 22)
"""First windows of the mosaics; the mosaic around a scene begins 7 later."""
PRIOR_LIMIT_PX = 256
PROBED_NOISES = (0, 8, LARGEST_NOISE)
"""Standard deviations of the noise, of 255, that are stated to a method told noise."""


def measure_halo(
    model: Restorer,
    windows: Tensor,
    *,
    realness: float = 0.0,
    from_px: int = 0,
    objective: ObjectiveHead | None = None,
) -> tuple[int, dict[str, float]]:
    """Measure the halo of a model on held-out tissue.

    Parameters
    ----------
    model : Restorer
        The network, on any device.
    windows : Tensor, (N, 1, h, w)
        Degraded windows, h and w at least 84 pixels; 109 with the prior.
    realness : float
        Share of the prior's detail; the prior reaches further than the U-Net.
    from_px : int
        Smallest halo to try.
    objective : ObjectiveHead, optional
        What lowers realness place by place.

    Returns
    -------
    halo_px : int
        The largest halo found, a multiple of the alignment.
    errors : dict of str to float
        Largest core error found for each halo tried.
    """
    model = copy.deepcopy(model).cpu().eval()
    windows = windows.cpu()
    largest, worst = 0, dict[int, float]()
    limit_px = PRIOR_LIMIT_PX if realness else LIMIT_PX
    for first in FIRST_WINDOWS:
        tissue = torch.stack([mosaic(windows, first), mosaic(windows, first + 7)])
        for conditions in _probe_conditions(model):
            conditions = attrs.evolve(conditions, realness=realness, objective=objective)
            halo_px, errors = probe_halo(
                partial(_restored, model, conditions),
                tissue,
                model.alignment_px,
                model.scale,
                limit_px=limit_px,
                from_px=from_px,
            )
            log.info("halo probe: %d px", halo_px)
            largest = max(largest, halo_px)
            for px, error in errors.items():
                worst[px] = max(error, worst.get(px, 0.0))
    return max(largest, from_px), {str(px): float(worst[px]) for px in sorted(worst)}


def measure_method_halo(method: ToldMethod, windows: Tensor) -> int:
    """Measure the halo of a method told blur and noise, on the CPU, guards included, on degraded windows of tissue.

    What a user may state is probed to its ends: a denoiser told much noise looks further than one told little.
    """
    windows, largest, scale = windows.cpu(), 0, method.scale
    kernels = [kernel for kernel, _ in _probed_degradations(scale)]
    stated = [(kernel, noise / 255) for noise in PROBED_NOISES for kernel in kernels]
    for first in FIRST_WINDOWS:
        tissue = torch.stack([mosaic(windows, first), mosaic(windows, first + 7)])
        for kernel, read_noise in [*_probed_degradations(scale), *stated]:
            restore = partial(_restored_by, method, kernel, read_noise)
            # A smaller halo than the largest so far is of no interest.
            halo_px, _ = probe_halo(
                restore, tissue, method.alignment_px, scale, limit_px=LIMIT_PX, from_px=largest
            )
            log.info("halo probe: %d px", halo_px)
            largest = max(largest, halo_px)
    return largest


def _restored_by(method: ToldMethod, kernel: Tensor, read_noise: float, image: Tensor) -> Tensor:
    scale = method.scale
    base = image if scale == 1 else catmull_rom(image, scale).clamp(0, 1)
    return method.restored(Seen(image, torch.ones_like(image), base, kernel, 0.0, read_noise, scale))


def _restored(model: Restorer, conditions: Conditions, image: Tensor) -> Tensor:
    restored: Tensor = model(image, torch.ones_like(image), conditions, torch.zeros(1, 2, dtype=torch.int64))
    return restored


def mosaic(windows: Tensor, first: int) -> Tensor:
    """Lay windows (N, 1, h, w) side by side, (1, 5 h, 5 w), beginning with number `first`."""
    order = [(first + i) % len(windows) for i in range(MOSAIC * MOSAIC)]
    rows = [
        torch.cat([windows[i] for i in order[r * MOSAIC : (r + 1) * MOSAIC]], dim=2) for r in range(MOSAIC)
    ]
    return torch.cat(rows, dim=1)


def _probed_degradations(scale: int) -> list[tuple[Tensor, float]]:
    """Return kernels on the output grid, (k, k), and read noises of far reach."""
    size = KERNEL_PX[scale]
    blurs = ((gaussian(size, 1.3), 2 / 255), (gaussian(size, 2.2), 1 / 255), (defocus(size, 3.0), 1 / 255))
    return [
        (torch.from_numpy(kernel if scale == 1 else fold_downsampling(kernel, "area", scale)), read_noise)
        for kernel, read_noise in blurs
    ]


def _probe_conditions(model: Restorer) -> list[Conditions]:
    conditions = []
    for kernel, read in _probed_degradations(model.scale):
        one = torch.zeros(1)
        known = Degradations(kernel[None], one, one + read, one, one, one, one, one, one)
        psi = compose_psi(model.basis, known, model.scale)[0]
        conditions.append(Conditions(known.kernel[0], psi, 0.0, read))
    conditions.append(Conditions(conditions[0].kernel, torch.zeros(PSI_SIZE), 0.0, 0.0))
    return conditions
