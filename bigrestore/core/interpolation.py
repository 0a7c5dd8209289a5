"""Rational polynomial interpolation: the base corrected by the network, and a method.

Between two samples f0, f1 with slopes d0, d1 and D = f1 - f0, at theta = t in [0, 1], the interpolant is

    R(t) = f0 + t D + t (1 - t) [w0 (d0 - D) - w1 (d1 - D)],   w1 = b t / (a (1 - t) + b t),   w0 = 1 - w1,

with a = 1 - b and b = sigmoid(rho): a rational cubic Hermite interpolant. Its denominator is a positive mean of a
and b, so it has no poles. It is C1, equals Catmull-Rom at rho = 0, and reproduces quadratics for any rho as long
as the slopes are central differences (kappa = 0). `w1` is computed as sigmoid(rho + logit t), the same number in one
operation. rho moves the weight between the two slopes, kappa scales a slope: (1 + tanh kappa)(f[j+1] - f[j-1]) / 2.

Pixel centres are aligned: output pixel u lies at (u + 0.5) / scale - 0.5; samples beyond the border repeat.
Reference for the family: Delbourgo and Gregory, "Shape preserving piecewise rational interpolation",
SIAM J. Sci. Stat. Comput. 6 (1985).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

RHO_LIMIT = 4.0
"""|rho| is limited to this by rho -> 4 tanh(rho / 4), so that sigmoid never saturates."""

CATMULL_ROM_TAPS = 5
"""Samples along an axis that the pixels of one sample are made of."""

AUTO_GAIN = 1.0
"""rho per log-ratio of third differences in `rational_auto`. Measured on tissue halved and enlarged again: the slope on
the rougher side deserves the larger weight (+0.19 dB over Catmull-Rom; the opposite sign loses 0.6 dB)."""


def catmull_rom(x: Tensor, scale: float) -> Tensor:
    """Enlarge by Catmull-Rom interpolation (rho = kappa = 0), in the precision of the samples, under autocast, too.

    Parameters
    ----------
    x : Tensor, (N, C, H, W)
        Samples.
    scale : float
        Output pixels per input pixel, at least 1.

    Returns
    -------
    Tensor, (N, C, floor(H * scale), floor(W * scale))
    """
    if scale == 1:
        return x
    if not float(scale).is_integer():
        return _along(_along(x, 3, scale), 2, scale)
    taps = _catmull_rom_taps(int(scale), str(x.device), x.dtype)
    planes = x.reshape(-1, 1, *x.shape[-2:])
    half = CATMULL_ROM_TAPS // 2
    padded = F.pad(planes, (half, half, half, half), mode="replicate")
    with torch.autocast(x.device.type, enabled=False):
        enlarged = F.pixel_shuffle(F.conv2d(padded, taps), int(scale))
    return enlarged.reshape(*x.shape[:2], *enlarged.shape[-2:])


def rational(x: Tensor, scale: float, rho: Tensor, kappa: Tensor) -> Tensor:
    """Enlarge by rational interpolation with shape maps given per sample.

    Interpolating rows first and columns first gives two results; their mean commutes with transposition.

    Parameters
    ----------
    x : Tensor, (N, 1, H, W)
        Samples.
    scale : float
        Output pixels per input pixel, at least 1.
    rho, kappa : Tensor, (N, 2, H, W)
        Shape maps on the samples: channel 0 along x, channel 1 along y. rho of an interval is the mean of its ends.

    Returns
    -------
    Tensor, (N, 1, floor(H * scale), floor(W * scale))
    """
    if scale == 1:
        return x
    rho_x, rho_y, kappa_x, kappa_y = rho[:, :1], rho[:, 1:], kappa[:, :1], kappa[:, 1:]
    rows_first = _along(x, 3, scale, rho_x, kappa_x)
    rows_first = _along(rows_first, 2, scale, _widen(rho_y, scale, 2), _widen(kappa_y, scale, 2))
    columns_first = _along(x, 2, scale, rho_y, kappa_y)
    columns_first = _along(columns_first, 3, scale, _widen(rho_x, scale, 3), _widen(kappa_x, scale, 3))
    return 0.5 * (rows_first + columns_first)


def rational_auto(x: Tensor, scale: float, noise_sigma: float) -> Tensor:
    """Enlarge by rational interpolation with rho from the data's own third differences.

    rho = g log((|D3 right| + e) / (|D3 left| + e)), g = `AUTO_GAIN`: the slope on the side of an edge counts more
    than the one on its smooth side.

    Parameters
    ----------
    x : Tensor, (N, 1, H, W), 0..1
        Samples.
    scale : float
        Output pixels per input pixel, at least 1.
    noise_sigma : float
        Standard deviation of the noise, 0..1; the e of the formula (at least 1e-4), below which roughness is not believed.

    Returns
    -------
    Tensor, (N, 1, floor(H * scale), floor(W * scale))
    """
    if scale == 1:
        return x
    e = max(noise_sigma, 1e-4)
    made = []
    for axes in ((3, 2), (2, 3)):
        y = x
        for axis in axes:
            y = _along(y, axis, scale, _auto_rho(y, axis, e), rho_on_intervals=True)
        made.append(y)
    return 0.5 * (made[0] + made[1])


def repeat_pixels(image: Tensor, scale: int) -> Tensor:
    """Bring (N, C, H, W) to the output grid: every pixel scale x scale times."""
    return image.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


def enlarge_maps(factor: Tensor, scale: int) -> Tensor:
    """Bring a map on the input grid, (N, 1, H, W), to the output grid: bilinear, pixel centres aligned."""
    if scale == 1:
        return factor
    return F.interpolate(factor, scale_factor=scale, mode="bilinear", align_corners=False)


@lru_cache(maxsize=16)
def _catmull_rom_taps(scale: int, device: str, dtype: torch.dtype) -> Tensor:
    """Return the filter of every output phase, (scale**2, 1, 5, 5): what becomes of one sample among zeros."""
    with torch.inference_mode(False):  # cached: must stay usable in training after a first use in inference
        half = CATMULL_ROM_TAPS // 2
        sample = torch.eye(CATMULL_ROM_TAPS, dtype=torch.float64)[None, None]
        # Row k has its one at sample k, so pixels of the sample in the middle are taps in its row's place.
        phases = _along(sample, 3, scale)[0, 0, :, half * scale : (half + 1) * scale].T
        taps = phases[:, None, :, None] * phases[None, :, None, :]
        return taps.reshape(scale**2, 1, CATMULL_ROM_TAPS, CATMULL_ROM_TAPS).to(device, dtype)


def _along(
    x: Tensor,
    axis: int,
    scale: float,
    rho: Tensor | None = None,
    kappa: Tensor | None = None,
    *,
    rho_on_intervals: bool = False,
) -> Tensor:
    """Interpolate along an axis of n samples; intervals -1 .. n-1 are those that any output pixel can fall into."""
    size = x.shape[axis]
    f = _extend(x, 2, axis)  # f[j + 2] is sample j
    slope = 0.5 * (f.narrow(axis, 2, size + 2) - f.narrow(axis, 0, size + 2))  # at samples -1 .. n
    if kappa is not None:
        slope = slope * (1 + torch.tanh(_extend(kappa, 1, axis)))
    f = f.narrow(axis, 1, size + 2)
    step = _later(f, axis) - _earlier(f, axis)
    left, right = _earlier(slope, axis) - step, _later(slope, axis) - step
    if rho is not None:
        if not rho_on_intervals:
            rho = _extend(rho, 1, axis)
            rho = 0.5 * (_later(rho, axis) + _earlier(rho, axis))
        rho = RHO_LIMIT * torch.tanh(rho / RHO_LIMIT)
    parts = (_earlier(f, axis), step, left, left + right, rho)
    if float(scale).is_integer():
        return _integer_scale(parts, axis, int(scale), size)
    return _any_scale(parts, axis, scale, size)


def _integer_scale(
    parts: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None], axis: int, scale: int, size: int
) -> Tensor:
    """Evaluate every interval at the same `scale` positions and interleave them: no gather, exact phases."""
    positions = sorted(((u + 0.5) / scale - 0.5) % 1.0 for u in range(scale))
    phases = torch.stack(
        [_interpolant(parts, t, math.log(t / (1 - t)) if t else 0.0) for t in positions], dim=axis + 1
    )
    inside_first = scale - sum(1 for u in range(scale) if (u + 0.5) / scale < 0.5)
    return phases.flatten(axis, axis + 1).narrow(axis, inside_first, size * scale)


def _any_scale(
    parts: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None], axis: int, scale: float, size: int
) -> Tensor:
    """Gather for each output pixel the interval it falls into."""
    u = torch.arange(int(size * scale), device=parts[0].device, dtype=torch.float64)
    position = (u + 0.5) / scale - 0.5
    interval = torch.floor(position)
    shape = [-1 if n == axis else 1 for n in range(parts[0].ndim)]
    t = (position - interval).to(parts[0].dtype).view(shape)
    index = (interval.long() + 1).clamp(0, size)
    f0, step, left, both = (part.index_select(axis, index) for part in parts[:4])
    rho = None if parts[4] is None else parts[4].index_select(axis, index)
    return _interpolant((f0, step, left, both, rho), t, torch.logit(t))


def _interpolant(
    parts: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None], t: Tensor | float, logit_t: Tensor | float
) -> Tensor:
    """Return R(t) = f0 + t D + t (1 - t) [left - w1 (left + right)], left = d0 - D, right = d1 - D."""
    f0, step, left, both, rho = parts
    w1 = t if rho is None else torch.sigmoid(rho + logit_t)
    return f0 + t * step + (t * (1 - t)) * (left - w1 * both)


def _auto_rho(x: Tensor, axis: int, e: float) -> Tensor:
    """Return rho on the intervals -1 .. n-1 from the third differences centred on an interval's two neighbours."""
    third = _extend(x, 4, axis)
    for _ in range(3):
        third = _later(third, axis) - _earlier(third, axis)
    third = third.abs()  # [j + 3]: around interval j
    left, right = (third.narrow(axis, start, x.shape[axis] + 1) for start in (1, 3))
    return AUTO_GAIN * torch.log((right + e) / (left + e))


def _extend(x: Tensor, count: int, axis: int) -> Tensor:
    """Repeat the first and the last sample of an axis `count` times."""
    first, last = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
    return torch.cat([first] * count + [x] + [last] * count, dim=axis)


def _earlier(x: Tensor, axis: int) -> Tensor:
    """Return all samples of an axis but the last."""
    return x.narrow(axis, 0, x.shape[axis] - 1)


def _later(x: Tensor, axis: int) -> Tensor:
    """Return all samples of an axis but the first."""
    return x.narrow(axis, 1, x.shape[axis] - 1)


def _widen(maps: Tensor, scale: float, axis: int) -> Tensor:
    """Interpolate maps linearly along the other axis, onto the pixels of the first pass."""
    factors = (scale, 1) if axis == 3 else (1, scale)
    return F.interpolate(maps, scale_factor=factors, mode="bilinear", align_corners=False)
