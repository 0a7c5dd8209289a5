"""Generalised Gaussians fitted by moment matching: how NIQE and BRISQUE put a distribution into numbers.

A fit needs five sums over a block (of absolute values, of squares, of signed squares, and how many values lie
on each side of zero), so the sums of all blocks and of all four products of neighbours are taken in one sweep
over the field. The shape parameter follows from a ratio of moments. It is looked up on the grid that the
authors used, 0.2 to 10 in steps of 0.001, because their parameters were trained with it; nothing
is evaluated at run time but a search in a sorted table.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Values = NDArray[np.float64]

_STRIP_ROWS = 24
_SHAPES: Values = np.arange(200, 10001) / 1000.0


def _moment_ratio(shape: Values) -> Values:
    """(E|x|)^2 / E x^2 of a generalised Gaussian: rises with the shape from 0.02 to 0.75."""
    return np.asarray(np.exp(2.0 * gammaln(2.0 / shape) - gammaln(1.0 / shape) - gammaln(3.0 / shape)))


_RATIOS = _moment_ratio(_SHAPES)
_INVERSE_RATIOS = 1.0 / _RATIOS[::-1]
_SCALE_OF_DEVIATION = np.exp((gammaln(1.0 / _SHAPES) - gammaln(3.0 / _SHAPES)) / 2.0)
_MEAN_OF_SCALE = np.exp(gammaln(2.0 / _SHAPES) - gammaln(1.0 / _SHAPES))


@attrs.frozen(eq=False)
class Sums:
    """Sums over the blocks of a field and of its four products of neighbours.

    Every array has the shape (5, rows of blocks, columns of blocks); the first axis is the field itself, then
    the products with the left, the upper, the upper left and the upper right neighbour.

    Attributes
    ----------
    count : int
        Values in a block.
    below, above : ndarray of int64
        How many values are below and above zero.
    absolute, square, signed : ndarray of float64
        Sums of |x|, of x^2 and of x |x|.
    """

    count: int
    below: NDArray[np.int64]
    above: NDArray[np.int64]
    absolute: Values
    square: Values
    signed: Values


@attrs.frozen(eq=False)
class Asymmetric:
    """An asymmetric generalised Gaussian, arrays over blocks; NaN where the values have only one sign.

    Attributes
    ----------
    shape : ndarray
        The exponent, 0.2 to 10.
    left, right : ndarray
        Root mean square of the values below and above zero.
    left_scale, right_scale : ndarray
        The scale parameters (beta of NIQE's equations 4 to 7).
    mean_factor : ndarray
        Gamma(2 / shape) / Gamma(1 / shape): the mean is this times the difference of the scales.
    """

    shape: Values
    left: Values
    right: Values
    left_scale: Values
    right_scale: Values
    mean_factor: Values


def neighbour_sums(field: Values, block: tuple[int, int]) -> Sums:
    """Sum what the fits need over every block of a field.

    The neighbour of a pixel at a block's border is the one at the block's far side, as a circular shift of
    the block gives it.

    Parameters
    ----------
    field : ndarray of float64, (height, width)
        A whole number of blocks each way.
    block : (int, int)
        Height and width of a block, pixels.

    Returns
    -------
    Sums
        Over (height / block height, width / block width) blocks.
    """
    block_height, block_width = block
    rows, columns = field.shape[0] // block_height, field.shape[1] // block_width
    sums = np.empty((3, 5, rows, columns))
    counts = np.empty((2, 5, rows, columns), dtype=np.int64)
    for row in range(rows):
        band = field[row * block_height : (row + 1) * block_height]
        per_column, count_per_column = _sums_down(band, block_width)
        per_column.reshape(3, 5, columns, block_width).sum(axis=-1, out=sums[:, :, row])
        count_per_column.reshape(2, 5, columns, block_width).sum(axis=-1, out=counts[:, :, row])
    return Sums(block_height * block_width, counts[0], counts[1], sums[0], sums[1], sums[2])


def _sums_down(band: Values, block_width: int) -> tuple[Values, NDArray[np.int64]]:
    """Sum one row of blocks down its columns: ((3, 5, width) sums, (2, 5, width) counts)."""
    height, width = band.shape
    own = np.concatenate([band[-1:], band])
    left = _turned(own, block_width)
    sums = np.zeros((3, 5, width))
    counts = np.zeros((2, 5, width), dtype=np.int64)
    strip = min(height, _STRIP_ROWS)
    values, work = np.empty((5, strip, width)), np.empty((5, strip, width))
    for top in range(0, height, strip):
        rows = min(strip, height - top)
        here, above = slice(top + 1, top + 1 + rows), slice(top, top + rows)
        x, y = values[:, :rows], work[:, :rows]
        np.copyto(x[0], own[here])
        np.multiply(own[here], left[here], out=x[1])
        np.multiply(own[here], own[above], out=x[2])
        np.multiply(own[here], left[above], out=x[3])
        np.multiply(left[here], own[above], out=x[4])
        counts[0] += np.add.reduce((x < 0.0).view(np.uint8), axis=1, dtype=np.uint8)
        counts[1] += np.add.reduce((x > 0.0).view(np.uint8), axis=1, dtype=np.uint8)
        np.abs(x, out=y)
        sums[0] += np.add.reduce(y, axis=1)
        y *= x
        sums[2] += np.add.reduce(y, axis=1)
        x *= x
        sums[1] += np.add.reduce(x, axis=1)
    return sums, counts


def _turned(band: Values, block_width: int) -> Values:
    """Shift every block by one pixel to the right, its last column becoming the first."""
    turned = np.empty_like(band)
    turned[:, 1:] = band[:, :-1]
    turned[:, ::block_width] = band[:, block_width - 1 :: block_width]
    return turned


def fit_symmetric(count: int, absolute: Values, square: Values) -> tuple[Values, Values]:
    """Fit a generalised Gaussian of zero mean.

    The shape whose Gamma(1/a) Gamma(3/a) / Gamma(2/a)^2 is nearest to E x^2 / (E|x|)^2: Sharifi and
    Leon-Garcia (1995), section II of the BRISQUE paper.

    Parameters
    ----------
    count : int
        Number of values.
    absolute, square : ndarray of float64
        Sums of |x| and of x^2.

    Returns
    -------
    shape, variance : ndarray of float64
        NaN where all values are zero.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse = square * count / (absolute * absolute)
    place = _nearest(_INVERSE_RATIOS, inverse)
    shape = np.where(np.isfinite(inverse), _SHAPES[::-1][place], np.nan)
    return shape, square / count


def fit_asymmetric(sums: Sums) -> Asymmetric:
    """Fit asymmetric generalised Gaussians to all blocks and products at once.

    Lasmar, Stitou and Berthoumieu (2009) as used in equations 4 to 8 of Mittal, Soundararajan and Bovik, "Making
    a completely blind image quality analyzer", IEEE Signal Processing Letters 20 (2013).

    Parameters
    ----------
    sums : Sums
        From `neighbour_sums`.

    Returns
    -------
    Asymmetric
        Arrays of the shape of the sums.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        # A sum of squares less its signed twin is zero up to rounding where one side is empty.
        left = np.sqrt(np.maximum(sums.square - sums.signed, 0.0) / (2.0 * sums.below))
        right = np.sqrt(np.maximum(sums.square + sums.signed, 0.0) / (2.0 * sums.above))
        skew = left / right
        ratio = sums.absolute**2 / (sums.count * sums.square)
        ratio *= (skew**3 + 1.0) * (skew + 1.0) / (skew**2 + 1.0) ** 2
    empty = ~np.isfinite(ratio) | (sums.below == 0) | (sums.above == 0)
    place = _nearest(_RATIOS, ratio)

    def known(values: Any) -> Values:
        return np.where(empty, np.nan, values)

    scale = _SCALE_OF_DEVIATION[place]
    return Asymmetric(
        shape=known(_SHAPES[place]),
        left=known(left),
        right=known(right),
        left_scale=known(left * scale),
        right_scale=known(right * scale),
        mean_factor=known(_MEAN_OF_SCALE[place]),
    )


def _nearest(table: Values, values: Values) -> NDArray[np.intp]:
    """Place of the nearest entry of a rising table; of no meaning for NaN."""
    upper = np.clip(np.searchsorted(table, values), 1, table.size - 1)
    lower = upper - 1
    return np.where(values - table[lower] <= table[upper] - values, lower, upper)
