"""Blur kernels of optics, motion and section thickness.

Every kernel is a square array of odd side on the OUTPUT grid (the fine one), non-negative, sums to one,
and is applied as a correlation: `x[i] = sum_m k[m] * y[s * i + (s - 1) // 2 + m - c]` per axis, c the
middle. The filter for downsampling by s is folded in: one array says everything between the clean image and
the sampled one, and degrading it again needs nothing else. For even s the centre of a coarse pixel lies half
a fine pixel beyond the sampling position. The folded filter holds that half pixel, so pixel centres stay
aligned for every kind of downsampling. About such a centre the first row and column of the square have no
counterpart; they stay empty, or a kernel with long tails would lean to them and move the image.

Plain numpy: a kernel is drawn once per patch and is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, center_of_mass

from bigrestore.errors import UsageError

Kernel = NDArray[np.float32]
_Doubles = NDArray[np.float64]

KERNEL_SIZE = {1: 21, 2: 21, 4: 41}
"""Side of the effective kernel in output pixels, by scale."""

DOWNSAMPLING_FILTERS = ("bicubic", "area", "s-fold")
"""The filters that `fold_downsampling` knows for scales above one."""

_SUBSAMPLES = 8
"""Sub-samples per pixel and axis with which hard-edged shapes are anti-aliased."""

_ROUNDS = 3
"""Rounds of solving for the two sigmas of a matched Gaussian: a slanted one's moments depend on both."""


def kernel_size(scale: int) -> int:
    """Return the side of the effective kernel in output pixels for a scale of 1, 2 or 4.

    Raises
    ------
    UsageError
        If the scale is another.
    """
    if scale not in KERNEL_SIZE:
        raise UsageError(f"The scale {scale!r} is not one of 1, 2 and 4; choose one of them.")
    return KERNEL_SIZE[scale]


def normalised_kernel(kernel: NDArray[np.floating]) -> Kernel:
    """Clip negative values, drop taps below a millionth of the peak, divide by the sum; return float32.

    Such small taps change no grey level, and most kernels fill only a fraction of their square without them.

    Raises
    ------
    UsageError
        If nothing positive or something not finite is in the kernel.
    """
    clipped = np.clip(np.asarray(kernel, np.float64), 0.0, None)
    total = float(clipped.sum())
    if not math.isfinite(total) or total <= 0.0:
        raise UsageError(f"The blur kernel sums to {total}; it must be finite and have a positive value.")
    clipped[clipped < 1e-6 * clipped.max()] = 0.0
    result: Kernel = (clipped / clipped.sum()).astype(np.float32)
    return result


def equivalent_sigma(kernel: NDArray[np.floating]) -> float:
    """Return the sigma of the Gaussian of the same spread, in pixels.

    It is the root of the mean, over the two axes, of the second moment about the centre of mass, so a
    shift of half a pixel does not count as blur.
    """
    weights = np.asarray(kernel, np.float64)
    weights = weights / weights.sum()
    moments = []
    for axis, size in enumerate(weights.shape):
        profile = weights.sum(axis=1 - axis)
        position = np.arange(size, dtype=np.float64)
        mean = float(profile @ position)
        moments.append(float(profile @ (position - mean) ** 2))
    return math.sqrt(sum(moments) / len(moments))


def narrowed(kernel: NDArray[np.floating], widest_px: float) -> Kernel:
    """Return a kernel of the same shape about the same centre, but of no larger equivalent sigma than `widest_px`.

    A kernel that is not wider is returned unchanged. The sum stays one.
    """
    sigma = equivalent_sigma(kernel)
    if sigma <= widest_px:
        return np.asarray(kernel, np.float32)
    weights = np.pad(
        np.asarray(kernel, np.float64), 1
    )  # or the interpolation ends at another slope on each side
    centre, factor = np.array(center_of_mass(weights)), sigma / widest_px
    scaled = affine_transform(weights, [factor, factor], offset=centre * (1 - factor), order=1)[1:-1, 1:-1]
    return np.asarray(scaled / scaled.sum(), np.float32)


def delta(size: int) -> Kernel:
    """Return the identity kernel of side `size`."""
    kernel = np.zeros((size, size), np.float32)
    kernel[size // 2, size // 2] = 1.0
    return kernel


def _centred_positions(size: int) -> _Doubles:
    return np.arange(size, dtype=np.float64) - size // 2


def _mahalanobis(size: int, sigma_y: float, sigma_x: float, angle_rad: float) -> _Doubles:
    """Return the squared distance from the centre in units of the sigmas, x turned by the angle."""
    y, x = _centred_positions(size)[:, None], _centred_positions(size)[None, :]
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    along, across = cosine * x + sine * y, cosine * y - sine * x
    return np.asarray((along / sigma_x) ** 2 + (across / sigma_y) ** 2)


def gaussian(size: int, sigma_y_px: float, sigma_x_px: float | None = None, angle_rad: float = 0.0) -> Kernel:
    """Return a Gaussian sampled at pixel centres; isotropic for one sigma."""
    sigma_x = sigma_y_px if sigma_x_px is None else sigma_x_px
    return normalised_kernel(np.exp(-0.5 * _mahalanobis(size, sigma_y_px, sigma_x, angle_rad)))


def gaussian_taps(sigma_px: float, reach_px: int) -> NDArray[np.float64]:
    """Return a Gaussian along one axis, (2 * reach + 1,), cut off at its reach; the taps sum to one."""
    taps = np.exp(-0.5 * (np.arange(-reach_px, reach_px + 1) / sigma_px) ** 2)
    return np.asarray(taps / taps.sum())


def matched_gaussian(size: int, sigma_along_px: float, sigma_across_px: float, angle_rad: float) -> Kernel:
    """Return a Gaussian integrated over pixels, with the squared sigmas as its second moments.

    Sampled at pixel centres, a Gaussian below half a pixel is narrower than its parameter; integrated over pixels it
    is wider. So the parameters are solved for, one axis after the other, until the kernel has the given moments.

    Parameters
    ----------
    size : int
        Side of the kernel, odd.
    sigma_along_px, sigma_across_px : float
        Along the direction and across it; 0 for no blur. A slanted line cannot be narrower across than
        about 0.3 px on a grid, and is as narrow as it can be.
    angle_rad : float
        The direction, from +x towards +y.
    """
    from scipy.optimize import brentq

    wanted = (sigma_along_px**2, sigma_across_px**2)
    if not any(wanted):
        return delta(size)
    narrowest, widest = 0.5 / _SUBSAMPLES, size / 2
    sigmas = [max(narrowest, sigma_along_px), max(narrowest, sigma_across_px)]

    def excess(sigma: float, axis: int) -> float:
        tried = [sigma if index == axis else other for index, other in enumerate(sigmas)]
        kernel = _integrated_gaussian(size, tried[0], tried[1], angle_rad)
        return _moments_along(kernel, angle_rad)[axis] - wanted[axis]

    for _ in range(_ROUNDS):
        for axis in (0, 1):
            enough = excess(narrowest, axis) >= 0
            sigmas[axis] = narrowest if enough else float(brentq(excess, narrowest, widest, args=(axis,)))
    return normalised_kernel(_integrated_gaussian(size, sigmas[0], sigmas[1], angle_rad))


def _integrated_gaussian(size: int, sigma_along: float, sigma_across: float, angle_rad: float) -> _Doubles:
    """Return a Gaussian summed over the sub-samples of each pixel; its sum is one."""
    position = (np.arange(size * _SUBSAMPLES) + 0.5) / _SUBSAMPLES - size / 2
    if angle_rad == 0:  # the product of two profiles, in a tenth of the time
        across, along = (
            np.exp(-0.5 * (position / sigma) ** 2).reshape(size, _SUBSAMPLES).sum(axis=1)
            for sigma in (sigma_across, sigma_along)
        )
        return np.outer(across / across.sum(), along / along.sum())
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    along = cosine * position + sine * position[:, None]
    across = cosine * position[:, None] - sine * position
    values = np.exp(-0.5 * ((along / sigma_along) ** 2 + (across / sigma_across) ** 2))
    pixels = values.reshape(size, _SUBSAMPLES, size, _SUBSAMPLES).sum(axis=(1, 3))
    return np.asarray(pixels / pixels.sum())


def _moments_along(kernel: _Doubles, angle_rad: float) -> tuple[float, float]:
    """Return the second moments along and across a direction, about the middle."""
    y, x = _centred_positions(kernel.shape[0])[:, None], _centred_positions(kernel.shape[0])
    cosine, sine = math.cos(angle_rad), math.sin(angle_rad)
    along, across = cosine * x + sine * y, cosine * y - sine * x
    return float((kernel * along**2).sum()), float((kernel * across**2).sum())


def generalised_gaussian(
    size: int, sigma_y_px: float, sigma_x_px: float, angle_rad: float, shape: float
) -> Kernel:
    """Return exp(-(d^2)^shape / 2): pointed for a shape below one, flat-topped above, Gaussian at one."""
    distance = _mahalanobis(size, sigma_y_px, sigma_x_px, angle_rad)
    return normalised_kernel(np.exp(-0.5 * distance**shape))


def plateau(size: int, sigma_y_px: float, sigma_x_px: float, angle_rad: float, shape: float) -> Kernel:
    """Return 1 / (1 + (d^2)^shape): a plateau with the long tails of stray light."""
    distance = _mahalanobis(size, sigma_y_px, sigma_x_px, angle_rad)
    return normalised_kernel(1.0 / (1.0 + distance**shape))


def _radial(size: int, reach_px: float, profile: Callable[[_Doubles], _Doubles]) -> Kernel:
    """Integrate a radial profile over each pixel within `reach_px` by sub-sampling."""
    radius = min(size // 2, math.ceil(reach_px + 0.5))
    count = (2 * radius + 1) * _SUBSAMPLES
    position = (np.arange(count) + 0.5) / _SUBSAMPLES - radius - 0.5
    values = profile(np.hypot(position[:, None], position[None, :]))
    pixels = values.reshape(2 * radius + 1, _SUBSAMPLES, 2 * radius + 1, _SUBSAMPLES).sum(axis=(1, 3))
    kernel = np.zeros((size, size))
    inside = slice(size // 2 - radius, size // 2 + radius + 1)
    kernel[inside, inside] = pixels
    return normalised_kernel(kernel)


def defocus(size: int, radius_px: float) -> Kernel:
    """Return the disk of geometrical optics for a point out of focus, its rim anti-aliased.

    A disk of radius r has the second moment r^2 / 4 per axis; integrating over pixels adds 1/12 if the disk covers
    many of them. A disk within one pixel (r <= 0.5) blurs nothing.
    """
    if radius_px <= 0.5:
        return delta(size)
    return _radial(size, radius_px, lambda distance: np.asarray(distance <= radius_px, np.float64))


def thickness(size: int, below_px: float, above_px: float) -> Kernel:
    """Return the mean of the defocus disks of all depths of a section.

    The plane in focus lies inside the section; the disk grows linearly to a radius of `below_px` at one
    face and `above_px` at the other. The mean of disks of radius R*t over t in 0..1 has the density
    (1/d - 1/R) / (pi R) at distance d < R (integrate 1 / (pi R^2 t^2) from t = d/R to 1); each side
    weighs as much as its share of the depth, which is proportional to its R.
    """

    def profile(distance: _Doubles) -> _Doubles:
        total = np.zeros_like(distance)
        for radius in (below_px, above_px):
            if radius > 0.0:
                total += np.clip(1.0 / distance - 1.0 / radius, 0.0, None)
        return total

    if max(below_px, above_px) <= 0.5:
        return delta(size)
    return _radial(size, max(below_px, above_px), profile)


def motion(size: int, length_px: float, angle_rad: float) -> Kernel:
    """Return a straight line of the given length through the centre, splatted bilinearly."""
    count = 8 * math.ceil(length_px) + 1
    step = (np.arange(count) + 0.5) / count - 0.5
    middle = size // 2
    y = np.clip(middle + length_px * step * math.sin(angle_rad), 0.0, size - 1.001)
    x = np.clip(middle + length_px * step * math.cos(angle_rad), 0.0, size - 1.001)
    row, column = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    down, right = y - row, x - column
    kernel = np.zeros((size, size))
    np.add.at(kernel, (row, column), (1 - down) * (1 - right))
    np.add.at(kernel, (row, column + 1), (1 - down) * right)
    np.add.at(kernel, (row + 1, column), down * (1 - right))
    np.add.at(kernel, (row + 1, column + 1), down * right)
    return normalised_kernel(kernel)


def _keys_cubic(distance: _Doubles) -> _Doubles:
    """Keys' cubic convolution kernel with a = -1/2 (Keys 1981), of support 2."""
    d = np.abs(distance)
    inner = (1.5 * d - 2.5) * d * d + 1.0
    outer = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return np.where(d <= 1.0, inner, np.where(d < 2.0, outer, 0.0))


def downsampling_taps(name: str, scale: int) -> tuple[_Doubles, int]:
    """Return the taps of a downsampling filter along one axis and the offset of the first.

    Parameters
    ----------
    name : str
        `bicubic` (Keys' cubic stretched by the scale, which is antialiased bicubic; its small negative
        lobes are clipped, because an effective kernel is non-negative), `area` (the mean of the fine pixels
        under a coarse one) or `s-fold` (a point sample at the coarse pixel's centre; for an even scale the
        centre lies between two fine pixels, whose mean is taken).
    scale : int
        Fine pixels per coarse pixel.

    Returns
    -------
    taps : ndarray
        Weights that sum to one.
    first : int
        Offset of the first tap from the fine pixel s * i + (s - 1) // 2.

    Raises
    ------
    UsageError
        If the name is unknown.
    """
    centre = (scale - 1) / 2 - (scale - 1) // 2
    if scale == 1:
        return np.ones(1), 0
    if name == "area":
        return np.full(scale, 1.0 / scale), -((scale - 1) // 2)
    if name == "s-fold":
        return (np.full(2, 0.5), 0) if centre else (np.ones(1), 0)
    if name == "bicubic":
        first = -2 * scale + 1
        taps = np.clip(_keys_cubic((np.arange(first, 2 * scale + 1) - centre) / scale), 0.0, None)
        return taps / taps.sum(), first
    raise UsageError(f"The downsampling {name!r} is unknown; known are {', '.join(DOWNSAMPLING_FILTERS)}.")


def fold_downsampling(kernel: NDArray[np.floating], name: str, scale: int) -> Kernel:
    """Fold a downsampling filter into a blur kernel of the same side.

    What lies beyond the square is dropped, and its counterpart across the centre.
    """
    taps, first = downsampling_taps(name, scale)
    folded = np.asarray(kernel, np.float64)
    for axis in (0, 1):
        total = np.zeros_like(folded)
        for offset, weight in enumerate(taps, start=first):
            total += weight * _shifted(folded, offset, axis)
        folded = total
    return normalised_kernel(within_counterparts(folded, scale))


def sharpest(scale: int) -> Kernel:
    """Return the kernel of no blur on the output grid: at x2 and x4 the mean of the pixels of an input pixel."""
    kernel = delta(kernel_size(scale))
    return kernel if scale == 1 else fold_downsampling(kernel, "area", scale)


def within_counterparts(kernel: NDArray[np.floating], scale: int) -> _Doubles:
    """Return a kernel of odd side without the taps that have no counterpart across the centre; none at odd scales."""
    inside = np.array(kernel, np.float64)
    if scale % 2 == 0:
        inside[0], inside[:, 0] = 0.0, 0.0
    return inside


def _shifted(array: _Doubles, offset: int, axis: int) -> _Doubles:
    """Shift an array along an axis and fill with zeros."""
    if offset == 0:
        return array
    moved = np.zeros_like(array)
    size = array.shape[axis]
    source = slice(max(0, -offset), size - max(0, offset))
    goal = slice(max(0, offset), size - max(0, -offset))
    if axis == 0:
        moved[goal] = array[source]
    else:
        moved[:, goal] = array[:, source]
    return moved


def compose(first: NDArray[np.floating], second: NDArray[np.floating], dilation: int = 1) -> Kernel:
    """Return the kernel of `first` followed by `second`, of the side of `first`.

    Parameters
    ----------
    first : ndarray, (k, k)
        Kernel on the fine grid, applied first.
    second : ndarray, (m, m)
        Kernel applied to the result, on a grid `dilation` times coarser; it may have negative taps.
    dilation : int
        Fine pixels between two taps of `second`: the scale, if it acts after downsampling.

    Notes
    -----
    Correlations compose by the full convolution of their arrays. What leaves the square of `first` is
    dropped and the rest renormalised.
    """
    base = np.asarray(first, np.float64)
    total = np.zeros_like(base)
    middle = second.shape[0] // 2
    for row, column in np.argwhere(np.asarray(second) != 0.0):
        moved = _shifted(base, int(row - middle) * dilation, 0)
        total += float(second[row, column]) * _shifted(moved, int(column - middle) * dilation, 1)
    return normalised_kernel(total)


def fitted(kernel: NDArray[np.floating], size: int) -> Kernel:
    """Centre-crop or zero-pad a kernel of odd side to another odd side and renormalise it."""
    side = kernel.shape[0]
    fitted_kernel = np.zeros((size, size))
    keep = min(side, size) // 2
    source = slice(side // 2 - keep, side // 2 + keep + 1)
    goal = slice(size // 2 - keep, size // 2 + keep + 1)
    fitted_kernel[goal, goal] = np.asarray(kernel, np.float64)[source, source]
    return normalised_kernel(fitted_kernel)
