"""Is the prior copying its training data? Compares each sample with its nearest training window.

Patches are compared like copies by eye: in coarse form, averaged over 4 x 4 pixels, of zero mean and unit length, by
correlation over all eight symmetries of the square. Nearness is relative: the mean best correlation of the samples
stands beside that of held-out patches, which cannot be copies. Samples nearer to the training windows than held-out
tissue are a sign of copying.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bigrestore.training.loop.sheet import compose_sheet

COARSE_PX = 4
SHOWN_GREY = 0.7
"""Grey background of shown detail, in its true contrast."""


class WindowIndex:
    """Finds the nearest of a set of windows.

    Parameters
    ----------
    windows : Tensor, (N, 1, H, H)
        Detail of training windows; kept in half precision.
    """

    def __init__(self, windows: Tensor) -> None:
        self._windows = windows.half().cpu()
        self._forms = coarse_form(windows.cpu())

    def nearest(self, detail: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each patch the nearest window in any of the eight symmetries.

        Parameters
        ----------
        detail : Tensor, (n, 1, H, H)

        Returns
        -------
        correlation : Tensor, (n,)
            Of the coarse forms, at most 1.
        windows : Tensor, (n, 1, H, H), float32
            Turned as the patch is.
        """
        turned = torch.stack([turn(detail.cpu(), index) for index in range(8)])
        likeness = coarse_form(turned.flatten(0, 1)) @ self._forms.T
        likeness = likeness.view(8, len(detail), -1)
        best, which = likeness.transpose(0, 1).flatten(1).max(dim=1)
        count = len(self._windows)
        windows = [
            turn_back(self._windows[int(i) % count][None].float(), int(i) // count)[0] for i in which.tolist()
        ]
        return best, torch.stack(windows)


def coarse_form(detail: Tensor) -> Tensor:
    """Return (N, d): patches averaged over cells of 4 x 4 pixels, less their mean, of unit length."""
    form = F.avg_pool2d(detail.float(), COARSE_PX).flatten(1)
    form = form - form.mean(1, keepdim=True)
    return F.normalize(form, dim=1)


def turn(patches: Tensor, index: int) -> Tensor:
    """Return patches under one of the eight symmetries of the square."""
    turned = patches.mT if index & 1 else patches
    return turned.flip([axis for axis, bit in ((-2, 2), (-1, 4)) if index & bit])


def turn_back(patches: Tensor, index: int) -> Tensor:
    """Undo `turn`."""
    turned = patches.flip([axis for axis, bit in ((-2, 2), (-1, 4)) if index & bit])
    return turned.mT if index & 1 else turned


def nearest_sheet(samples: Tensor, neighbours: Tensor, columns: int = 4) -> NDArray[np.uint8]:
    """Return a picture of samples, each with its nearest window on its right, `columns` pairs in a row."""
    images = [
        (SHOWN_GREY + detail[0]).numpy(force=True)
        for pair in zip(samples.cpu(), neighbours, strict=True)
        for detail in pair
    ]
    width = 2 * columns
    return compose_sheet([images[start : start + width] for start in range(0, len(images), width)])
