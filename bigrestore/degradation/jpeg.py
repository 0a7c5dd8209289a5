"""What baseline JPEG does to a grey image, without a file: transform, quantise, transform back.

The entropy coding of JPEG is lossless, so all damage is the quantised cosine transform of each 8 x 8 block: a batched
matrix product on the device of the pixels. Tables and `quality` are those of the Independent JPEG Group's encoder
(Annex K of ITU-T T.81, scaled), so a quality means the same as in a file.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bigrestore.core.host.waiting import sent

JPEG_BLOCK_PX = 8

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)

_TIE = 1e-6
"""Added before rounding: exact halves occur (means of integers) and must not hang on the last bit."""

_ROOT8 = math.sqrt(8.0)


def quantisation_table(quality: int) -> Tensor:
    """Return the luminance table of a quality 1..100, (8, 8), float32."""
    scaling = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = (torch.tensor(_LUMINANCE, dtype=torch.int64) * scaling + 50) // 100
    return table.clamp(1, 255).to(torch.float32)


@functools.lru_cache(maxsize=8)
def _cosines(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the orthonormal cosine transform of type II, (frequency, sample)."""
    rows = [
        [math.sqrt((1 if u == 0 else 2) / 8) * math.cos((2 * x + 1) * u * math.pi / 16) for x in range(8)]
        for u in range(8)
    ]
    with torch.inference_mode(False):  # cached: must stay usable in training after a first use in inference
        return torch.tensor(rows, dtype=torch.float64).to(dtype).to(device)


def jpeg_round_trip(images: Tensor, qualities: Sequence[int]) -> Tensor:
    """Encode and decode images.

    Parameters
    ----------
    images : Tensor, (N, H, W)
        Grey values 0..1, H and W multiples of 8; rounded to 8 bits first. With float64 the result does not
        depend on how the blocks are grouped.
    qualities : sequence of int, (N,)
        Quality 1..100 of each.

    Returns
    -------
    Tensor, (N, H, W)
        Multiples of 1/255 in 0..1.

    Notes
    -----
    The encoder's integer transform rounds after the rows (to quarters, scaled by the root of 8) and after the
    columns (to eighths), and rounds halves away from zero when it divides by the table. Without these
    roundings six blocks in a hundred fall into another bin.
    """
    n, height, width = images.shape
    cosines = _cosines(images.dtype, images.device)
    tables = torch.stack([quantisation_table(quality) for quality in qualities])
    tables = sent(tables, images.device, images.dtype)[:, None, None]
    levels = torch.round(images.clamp(0.0, 1.0) * 255.0) - 128.0
    blocks = levels.reshape(n, height // 8, 8, width // 8, 8).transpose(2, 3)
    rows = torch.floor(blocks @ cosines.T * (4.0 * _ROOT8) + 0.5 + _TIE)
    eighths = torch.floor(cosines @ rows * (_ROOT8 / 4.0) + 0.5 + _TIE)
    magnitude = torch.floor((eighths.abs() + 4.0 * tables) / (8.0 * tables))
    quantised = magnitude * torch.sign(eighths) * tables
    decoded = cosines.T @ quantised @ cosines + 128.0
    pixels = torch.round(decoded + _TIE).clamp(0.0, 255.0) / 255.0
    return pixels.transpose(2, 3).reshape(n, height, width)
