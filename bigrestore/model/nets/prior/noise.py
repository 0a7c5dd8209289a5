"""Random fields depending on the position of a pixel alone.

Noise from a stream would give every tile, worker and restart another texture. Here a pixel's number is a hash of
(seed, z, layer, y, x) with absolute y and x on the grid of the layer, so a window of a field equals the field to the
last bit.

The hash runs in 32-bit integers: overflow wraps around alike on every processor. Radius and cosine of Box and
Muller's transform come from tables of 65,536 midpoints: a product of two table entries is the same float32 on a CPU
and on a GPU, unlike logarithms and cosines of two libraries.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_MULTIPLIER_A = 0x7FEB352D
_MULTIPLIER_B = 0x846CA68B
_NORMAL_STREAM = 0x6E6F726D
_ROW_SALT = 0x9E3779B9
_COLUMN_SALT = 0x85EBCA6B
_TABLE_BITS = 16


def hashed_normal(
    seed: int,
    z: int,
    layer: int,
    y0: int,
    x0: int,
    height: int,
    width: int,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return a window of an endless field of independent standard normal numbers.

    Parameters
    ----------
    seed : int
        Any integer; its low 64 bits count.
    z, layer : int
        Section in its volume, and number of the field; each pair has a field of its own.
    y0, x0 : int
        First row and column of the window on the grid of the layer, each in -2**31 .. 2**31 - 1.
    height, width : int
        Size of the window in nodes of its grid.
    device : torch.device or str, optional
        Where the field is made; the bytes do not depend on it.

    Returns
    -------
    Tensor, (height, width), float32
        Mean 0, variance 1, white. No value exceeds 4.86, the radius of the last of the 65,536 equal slices of
        probability.

    Notes
    -----
    Box and Muller, "A note on the generation of random normal deviates", Ann. Math. Stat. 29 (1958).
    """
    return hashed_normal_fields(seed, z, [layer], [[y0, x0]], height, width, device)[0]


def hashed_normal_fields(
    seed: int,
    z: int,
    layers: Sequence[int] | Tensor,
    origins: Sequence[Sequence[int]] | Tensor,
    height: int,
    width: int,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return several windows of one size at once: window i is `hashed_normal` of layer i at origin i.

    A batch of tiles, or the channels of a latent field, cost one pass instead of one each.

    Parameters
    ----------
    seed, z : int
        As in `hashed_normal`.
    layers : sequence of int or Tensor, (n,), or of length 1 for one layer at all origins
        Layer of each window.
    origins : sequence of pairs or Tensor, (n, 2), or (1, 2) for one origin in all layers
        First (y, x) of each window on the grid of its layer.
    height, width : int
        Size of every window.
    device : torch.device or str, optional
        Where the fields are made.

    Returns
    -------
    Tensor, (n, height, width), float32
    """
    layer_keys = torch.as_tensor(layers, dtype=torch.int64).to(device, non_blocking=True)
    corners = torch.as_tensor(origins, dtype=torch.int64).to(device, non_blocking=True)
    key = _mix_integer(_mix_integer(_mix_integer(_NORMAL_STREAM, seed), seed >> 32), z)
    field = _avalanche(_to_int32(layer_keys) ^ _as_signed(key))[:, None]
    ys = corners[:, :1] + torch.arange(height, device=corners.device)
    xs = corners[:, 1:] + torch.arange(width, device=corners.device)
    rows = _avalanche(_avalanche(_to_int32(ys) ^ _as_signed(_ROW_SALT)) + field)
    columns = _avalanche(_avalanche(_to_int32(xs) ^ _as_signed(_COLUMN_SALT)) ^ field)
    # Hashed along one axis each, then their sum per node: with exclusive-or equal nodes would always come as two pairs.
    bits = _avalanche(rows[:, :, None] + columns[:, None, :])
    radius, cosine = _box_muller_tables(str(bits.device))
    slot = (1 << _TABLE_BITS) - 1
    normal = radius[(bits >> _TABLE_BITS) & slot]
    return normal.mul_(cosine[bits & slot])


def _avalanche(words: Tensor) -> Tensor:
    """Avalanche int32 words in place: two rounds of xor-shift and multiply, every bit reaches every bit."""
    words ^= (words >> 16) & 0xFFFF
    words *= _as_signed(_MULTIPLIER_A)
    words ^= (words >> 15) & 0x1FFFF
    words *= _as_signed(_MULTIPLIER_B)
    words ^= (words >> 16) & 0xFFFF
    return words


def _mix_integer(key: int, value: int) -> int:
    """Fold a Python integer into a 32-bit key by the same avalanche."""
    word = ((key * _ROW_SALT) ^ value) & _WORD
    word = ((word ^ (word >> 16)) * _MULTIPLIER_A) & _WORD
    word = ((word ^ (word >> 15)) * _MULTIPLIER_B) & _WORD
    return word ^ (word >> 16)


def _to_int32(values: Tensor) -> Tensor:
    """Cut int64 numbers to their low 32 bits, as int32."""
    return (((values + (1 << 31)) & _WORD) - (1 << 31)).to(torch.int32)


def _as_signed(word: int) -> int:
    """Return the signed reading of a 32-bit word, for an int32 tensor."""
    return word - (1 << 32) if word & (1 << 31) else word


@functools.lru_cache(maxsize=16)
def _box_muller_tables(device: str) -> tuple[Tensor, Tensor]:
    """Return radius and cosine of Box and Muller at the midpoints of equal slices of 0..1, float32.

    The radius is scaled to make the variance exactly one despite the cut-off tail.
    """
    size = 1 << _TABLE_BITS
    midpoints = (np.arange(size, dtype=np.float64) + 0.5) / size
    radius = np.sqrt(-2.0 * np.log(midpoints))
    radius *= np.sqrt(2.0 / np.mean(radius**2))
    cosine = np.cos(2.0 * np.pi * midpoints)
    with torch.inference_mode(False):  # cached: must stay usable in training after a first use in inference
        return (
            torch.from_numpy(radius.astype(np.float32)).to(device),
            torch.from_numpy(cosine.astype(np.float32)).to(device),
        )
