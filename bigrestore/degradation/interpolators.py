"""The interpolations of a registration, as tables of taps and as mean blurs.

An interpolation weighs its neighbours by taps of the sub-pixel phase t. The taps are tabulated over 1024 phases: a
look-up is exact arithmetic, so a tile gets the same taps as the whole section; a vectorised sine would not promise
this. Over all phases an interpolation blurs, on average, by the Fourier transform of its continuous impulse response;
`mean_kernel` is the nearest non-negative kernel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from bigrestore.core.kernels import Kernel, normalised_kernel

PHASES = 1024
"""Sub-pixel phases of the tables: a shift is rounded to 1/1024 px."""

ORDERS = ("linear", "cubic", "quintic")
"""Interpolations of a recipe."""

KERNEL_REACH_PX = 3
"""Half side of the mean kernels, input pixels."""

ZERO_WEIGHT = 100.0
"""Weight of the frequency zero in a fit of taps: their sum is one."""

_Taps = NDArray[np.float64]


def _linear(t: _Taps) -> list[_Taps]:
    return [1.0 - t, t]


def _keys(t: _Taps) -> list[_Taps]:
    """Return Keys' taps with a = -1/2 (Keys 1981)."""
    return [
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]


def _lagrange(points: int, t: _Taps) -> list[_Taps]:
    """Return the taps of the polynomial through `points` samples, t in the middle interval."""
    nodes = range(1 - points // 2, points // 2 + 1)
    taps = []
    for k in nodes:
        tap = np.ones_like(t)
        for other in nodes:
            if other != k:
                tap = tap * (t - other) / (k - other)
        taps.append(tap)
    return taps


def _lanczos(lobes: int, t: _Taps) -> list[_Taps]:
    """Return Lanczos' windowed sinc, taps scaled to sum to one."""
    distances = [k - t for k in range(1 - lobes, lobes + 1)]
    taps = [np.sinc(d) * np.sinc(d / lobes) for d in distances]
    total = np.sum(taps, axis=0)
    return [tap / total for tap in taps]


_TAPS: dict[str, Callable[[_Taps], list[_Taps]]] = {
    "linear": _linear,
    "cubic": _keys,
    "quintic": lambda t: _lagrange(6, t),
    "lanczos": lambda t: _lanczos(4, t),
}


@functools.cache
def tap_table(name: str) -> NDArray[np.float32]:
    """Return the taps of an interpolation at every phase.

    Parameters
    ----------
    name : str
        One of `ORDERS`, or `lanczos`: eight taps, for moving an image without blurring it.

    Returns
    -------
    ndarray, (n, PHASES), float32
        Tap j weighs the pixel at floor(position) + 1 - n / 2 + j; each column sums to one.
    """
    phases = np.arange(PHASES) / PHASES
    return np.stack(_TAPS[name](phases)).astype(np.float32)


@functools.cache
def mean_transfer(name: str, count: int = 65) -> NDArray[np.float64]:
    """Return the mean transfer of an interpolation over all phases, at `count` frequencies from 0 to 0.5.

    A tap at distance d from the wanted position counts with cos(2 pi f d); averaging over the phases samples the
    Fourier transform of the continuous impulse response: sinc(f)^2 for the linear one.
    """
    table = tap_table(name).astype(np.float64)
    phases = (np.arange(PHASES) / PHASES)[None]
    distance = (np.arange(len(table)) + 1 - len(table) // 2)[:, None] - phases
    frequency = np.linspace(0.0, 0.5, count)
    return np.array([float((table * np.cos(2 * np.pi * f * distance)).sum(0).mean()) for f in frequency])


@functools.cache
def mean_kernel(names: tuple[str, ...]) -> Kernel:
    """Return the kernel (7, 7), non-negative and symmetric, nearest to the mean transfer of several passes.

    Non-negative least squares on the transfer along one axis, 1 at zero; two linear passes are met within 0.09 of 1.
    """
    transfer = np.prod([mean_transfer(name) for name in names], axis=0)
    frequency = np.linspace(0.0, 0.5, len(transfer))
    columns = [np.ones_like(frequency)]
    columns += [2.0 * np.cos(2 * np.pi * frequency * k) for k in range(1, KERNEL_REACH_PX + 1)]
    matrix = np.stack(columns, axis=1)
    matrix[0] *= ZERO_WEIGHT
    taps, _ = nnls(matrix, np.concatenate([[ZERO_WEIGHT], transfer[1:]]))
    line = np.concatenate([taps[:0:-1], taps])
    return normalised_kernel(np.outer(line, line))
