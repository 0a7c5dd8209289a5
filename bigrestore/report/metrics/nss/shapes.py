"""Generalised Gaussians fitted by moment matching: how NIQE and BRISQUE put a distribution into numbers.

A fit needs five sums over a block (of absolute values, of squares, of signed squares, and how many values lie on each
side of zero), so the sums of all blocks and of all four products of neighbours are taken in one sweep over the field.
The shape parameter follows from a ratio of moments. It is looked up on the authors' grid, 0.2 to 10 in steps of
0.001, because their parameters were trained with it: a search in a sorted table.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from bigrestore.report.metrics.nss.workspace import Workspace

Values = NDArray[np.float64]

SUM_STRIP_ROWS = 24
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
    """An asymmetric generalised Gaussian, arrays over blocks; NaN if the values have only one sign.

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


def neighbour_sums(field: Values, block: tuple[int, int], workspace: Workspace | None = None) -> Sums:
    """Sum the moments for the fits over every block of a field.

    The neighbour of a pixel at a block's border is the one at the block's far side, as a circular shift of
    the block gives it.

    Parameters
    ----------
    field : ndarray of float64, (height, width)
        A whole number of blocks each way.
    block : (int, int)
        Height and width of a block, pixels.
    workspace : Workspace, optional
        Scratch space that outlives the call.

    Returns
    -------
    Sums
        Over (height / block height, width / block width) blocks.
    """
    workspace = workspace or Workspace()
    block_height, block_width = block
    rows, columns = field.shape[0] // block_height, field.shape[1] // block_width
    sums = np.zeros((3, 5, rows, field.shape[1]))
    counts = np.zeros((2, 5, rows, field.shape[1]), dtype=np.int64)
    for row in range(rows):
        band = field[row * block_height : (row + 1) * block_height]
        for top in range(0, block_height, SUM_STRIP_ROWS):
            stop = min(top + SUM_STRIP_ROWS, block_height)
            own = workspace.take("sums own", (stop - top + 1, field.shape[1]))
            own[0], own[1:] = band[top - 1], band[top:stop]
            _add_strip(own, block_width, sums[:, :, row], counts[:, :, row], workspace)
    absolute, square, signed = sums.reshape(3, 5, rows, columns, block_width).sum(axis=-1)
    below, above = counts.reshape(2, 5, rows, columns, block_width).sum(axis=-1)
    return Sums(block_height * block_width, below, above, absolute, square, signed)


def _add_strip(
    own: Values, block_width: int, sums: Values, counts: NDArray[np.int64], workspace: Workspace
) -> None:
    """Add some rows to the sums of every column; the first is only the upper neighbour of the second."""
    left = workspace.take("sums left", own.shape)
    left[:, 1:] = own[:, :-1]
    left[:, ::block_width] = own[:, block_width - 1 :: block_width]
    shape = (5, own.shape[0] - 1, own.shape[1])
    x, y = workspace.take("sums values", shape), workspace.take("sums work", shape)
    np.copyto(x[0], own[1:])
    np.multiply(own[1:], left[1:], out=x[1])
    np.multiply(own[1:], own[:-1], out=x[2])
    np.multiply(own[1:], left[:-1], out=x[3])
    np.multiply(left[1:], own[:-1], out=x[4])
    # A strip has fewer than 256 rows, so a byte holds the count.
    below = np.add.reduce((x < 0.0).view(np.uint8), axis=1, dtype=np.uint8)
    counts[0] += below
    np.abs(x, out=y)
    counts[1] += np.add.reduce((x > 0.0).view(np.uint8), axis=1, dtype=np.uint8)
    sums[0] += np.add.reduce(y, axis=1)
    y *= x
    sums[2] += np.add.reduce(y, axis=1)
    x *= x
    sums[1] += np.add.reduce(x, axis=1)


def whole_sums(blocks: Sums, field: Values, block: tuple[int, int], framed: Values, frame: int) -> Sums:
    """Turn the sums over the blocks of a field into those over the whole of a nearly equal field.

    The sums over the blocks hold nearly every product of the whole. Only the differences are computed: pixels with a
    neighbour in another block, and the frame between the two fields.

    Parameters
    ----------
    blocks : Sums
        `neighbour_sums(field, block)`.
    field : ndarray of float64, (height, width)
        A whole number of blocks each way.
    block : (int, int)
        Height and width of a block, pixels.
    framed : ndarray of float64, (height, width)
        Equals `field` but for a frame.
    frame : int
        Width of the frame, pixels.

    Returns
    -------
    Sums
        `neighbour_sums(framed, framed.shape)`, up to rounding.
    """
    (height, width), (block_height, block_width) = field.shape, block
    rows, columns = (
        _other_neighbours(*sizes, frame) for sizes in ((height, block_height), (width, block_width))
    )
    other_rows = np.setdiff1d(np.arange(height), rows)
    every_column = np.arange(width)
    counted = np.stack([blocks.below, blocks.above]).sum(axis=(2, 3))
    summed = np.stack([blocks.absolute, blocks.square, blocks.signed]).sum(axis=(2, 3))
    for sign, values, wrap in ((-1, field, block), (1, framed, (height, width))):
        across = _sums_at(values, rows, every_column, wrap)
        down = _sums_at(values.T, columns, other_rows, wrap[::-1])
        for counts, sums in (across, (down[0][:, _TRANSPOSED], down[1][:, _TRANSPOSED])):
            counted += sign * counts
            summed += sign * sums
    whole = (*counted, *summed)
    below, above, absolute, square, signed = (values.reshape(5, 1, 1) for values in whole)
    return Sums(height * width, below, above, absolute, square, signed)


_TRANSPOSED = [0, 2, 1, 3, 4]
"""Order of the products in a transposed field: the left neighbour becomes the upper one."""


def _other_neighbours(size: int, block: int, frame: int) -> NDArray[np.intp]:
    """First lines of blocks, lines in the frame, and lines after the frame."""
    return np.union1d(np.arange(0, size, block), np.r_[0 : frame + 1, size - frame : size])


def _sums_at(
    values: Values, rows: NDArray[np.intp], columns: NDArray[np.intp], wrap: tuple[int, int]
) -> tuple[NDArray[np.int64], Values]:
    """Take the counts (2, 5) and sums (3, 5) over the crossings of some rows and columns."""
    lines, lines_above = values[rows], values[_before(rows, wrap[0])]
    lefts = _before(columns, wrap[1])
    own, left = lines[:, columns], lines[:, lefts]
    above, left_above = lines_above[:, columns], lines_above[:, lefts]
    x = np.stack([own, own * left, own * above, own * left_above, left * above]).reshape(5, -1)
    y = np.abs(x)
    counts = np.stack([np.count_nonzero(x < 0.0, axis=1), np.count_nonzero(x > 0.0, axis=1)])
    return counts, np.stack([y.sum(axis=1), (x * x).sum(axis=1), (x * y).sum(axis=1)])


def _before(places: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Return the place before each one, with each block closed to a ring."""
    return np.where(places % size == 0, places + size - 1, places - 1)


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
