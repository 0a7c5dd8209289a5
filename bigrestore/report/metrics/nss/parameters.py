"""The shipped parameters of NIQE and BRISQUE, as published by LIVE, the authors' laboratory.

Other packages ship other, retrained models under the same names, and their scores cannot be compared with these; so
the hash of the numbers goes into every report. Their licence notice lies beside the file.
`tests/report/make_live_parameters.py` made it and can make it again.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from importlib import resources

import numpy as np
from numpy.typing import NDArray


@functools.cache
def live_parameters() -> Mapping[str, NDArray[np.float64]]:
    """Read the shipped parameters.

    Returns
    -------
    mapping of str to ndarray of float64
        `niqe_mean` (36), `niqe_covariance` (36, 36), `brisque_vectors` (774, 36), `brisque_weights` (774),
        `brisque_ranges` (36, 2), `brisque_gamma` () and `brisque_offset` (); not to be written to.
    """
    with (
        resources.files("bigrestore.report.metrics").joinpath("data", "live.npz").open("rb") as stream,
        np.load(stream, allow_pickle=False) as stored,
    ):
        arrays = {name: stored[name] for name in stored.files}
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def sha256_of(*arrays: NDArray[np.float64]) -> str:
    """Hash numbers: their shapes and their bytes as little-endian float64, whatever file they came in.

    Parameters
    ----------
    *arrays : ndarray
        In a fixed order.

    Returns
    -------
    str
        Hexadecimal.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
    return digest.hexdigest()
