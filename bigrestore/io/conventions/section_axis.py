"""Find the axis along which a volume was cut into sections, where a format does not say it.

MINC and NIfTI store boxes of voxels: a single coronal section is a box of length 1 along its second axis. Taken by
the file's last axis it would become hundreds of sections of one row each.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

log = logging.getLogger(__name__)

THIN_PX = 32
"""No section is narrower than this where another axis could be that of the sections."""

THIN_PART = 4
"""The axis of few sections is shorter by at least this factor than the others."""


def section_axis(lengths: Sequence[int], usual: int, source: str) -> int:
    """Return the axis of the sections of a volume.

    Parameters
    ----------
    lengths : sequence of int
        Voxels along the three axes.
    usual : int
        The axis of the sections by the format's convention.
    source : str
        The file, for the log.

    Returns
    -------
    int
        An axis of length 1; else one so short that sections along another would be strips; else `usual`.
    """
    single = [axis for axis, length in enumerate(lengths) if length == 1]
    if single:
        return usual if usual in single else single[0]
    shortest = min(range(3), key=lambda axis: (lengths[axis], axis != usual))
    others = [length for axis, length in enumerate(lengths) if axis != shortest]
    if shortest != usual and lengths[shortest] < THIN_PX and min(others) >= THIN_PART * lengths[shortest]:
        log.warning(
            "%s has %d voxels along one axis and %d and %d along the others; it is read as %d sections along that axis.",
            *(source, lengths[shortest], *others, lengths[shortest]),
        )
        return shortest
    return usual
