"""The mask of a run: pixels to restore, and pixels to pass through interpolated.

Histology is half glass. Flat, quiet background at the section's level is interpolated and never shown to the method.
Each cell of an absolute 64-pixel lattice is judged by its own pixels and thresholds of the whole section, tissue grows
by one cell in every direction, and the border between the two is feathered over one cell; so a pixel's weight depends
on nothing but its place, and neither blocks nor tiles can be seen in the result.

A user's own mask is taken as it is: 0 passes through, 2 is damage, which passes through unseen, and any other value is
tissue.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.geometry import Box, round_up
from bigrestore.core.pixels import Floats, to_grey
from bigrestore.errors import UsageError
from bigrestore.io.drawn_inputs import DAMAGE, open_mask
from bigrestore.io.section import Section
from bigrestore.run.profile.section_profile import Profile

CELL_PX = 64
"""Side of a cell of the background lattice, in input pixels."""

QUIET_BACKGROUND = 2.5 / 255
"""Background with more noise than this is restored like tissue: clean tissue on noisy glass would show its border."""

MARGIN_PX = 3 * CELL_PX
"""Input pixels around a box that its weights depend on: one cell to grow, one to feather, one to align."""


@attrs.frozen(eq=False)
class Weights:
    """How much of the method each output pixel of a block takes.

    Attributes
    ----------
    box : Box
        Output pixels, absolute.
    restored : ndarray, box, float32, or None
        1: the method alone, 0: interpolation alone; None: 1 everywhere.
    valid : ndarray, bool, or None
        On the input pixels of the block's read: False for pixels hidden from the method; None: True everywhere.
    """

    box: Box
    restored: Floats | None = None
    valid: NDArray[np.bool_] | None = None

    def of(self, box: Box) -> Floats | None:
        """Return the weights of a box inside, None if all are 1."""
        if self.restored is None:
            return None
        part = self.restored[box.slices(self.box)]
        return None if part.size and part.min() >= 1.0 else part

    def empty(self, box: Box) -> bool:
        """Return whether nothing of a box inside is to be restored."""
        return self.restored is not None and not self.restored[box.slices(self.box)].any()


class Masker(Protocol):
    """Gives the weights of a block."""

    def weights(self, z: int, box: Box, read: Box, pixels: NDArray[Any], profile: Profile) -> Weights:
        """Return the weights of the output `box` of section z, whose input `pixels` fill `read`."""
        ...


@attrs.frozen
class NoMask:
    """Restores everything."""

    def weights(self, z: int, box: Box, read: Box, pixels: NDArray[Any], profile: Profile) -> Weights:
        """Return weights of 1 everywhere."""
        return Weights(box)


@attrs.frozen(eq=False)
class BackgroundMask:
    """Interpolates flat background.

    Attributes
    ----------
    scale : Fraction
        Output pixels per input pixel.
    shape : tuple of int
        (height, width) of the section, in input pixels.
    value_range : tuple of float
        Storage values of black and white.
    """

    scale: Fraction
    shape: tuple[int, int]
    value_range: tuple[float, float]

    def weights(self, z: int, box: Box, read: Box, pixels: NDArray[Any], profile: Profile) -> Weights:
        """Judge the cells around the box by their own pixels."""
        if profile.background is None:
            return Weights(box)
        down, up = self.scale.denominator, self.scale.numerator
        cells = Box(
            *_cell_span(box.y0 * down // up, -(-box.y1 * down // up), self.shape[0]),
            *_cell_span(box.x0 * down // up, -(-box.x1 * down // up), self.shape[1]),
        )
        area = Box(
            cells.y0 * CELL_PX,
            min(cells.y1 * CELL_PX, self.shape[0]),
            cells.x0 * CELL_PX,
            min(cells.x1 * CELL_PX, self.shape[1]),
        )
        grey = to_grey(pixels[area.slices(read)], self.value_range)
        tissue = _grow(~flat_cells(grey, profile.background, profile.background_sigma))
        if tissue.all():
            return Weights(box)
        if not tissue.any():
            return Weights(box, np.zeros((box.height, box.width), np.float32))
        return Weights(box, _feather(tissue, cells, box, self.scale))


def flat_cells(grey: Floats, level: float, sigma: float) -> NDArray[np.bool_]:
    """Mark the 64-pixel cells of background.

    A cell is background if none of its pixels leaves the level by more than 6 sigma and two grey levels of 8 bits, and
    none of its 8 x 8 means by more than half a sigma (four times a mean's own) and one grey level; or if it is
    constant, as a scanner's black fill. Where the background is noisy (`QUIET_BACKGROUND`) only constant cells are.

    Parameters
    ----------
    grey : ndarray, (h, w), 0..1
        Begins on the lattice; the last cells may be cut by the section's border.
    level, sigma : float
        Background level and its noise, 0..1.

    Returns
    -------
    ndarray, (ceil(h / 64), ceil(w / 64)), bool
    """
    height, width = (round_up(n, CELL_PX) for n in grey.shape)
    padded = np.pad(grey, [(0, height - grey.shape[0]), (0, width - grey.shape[1])], mode="edge")
    eighths = padded.reshape(height // 8, 8, width // 8, 8)
    means, low, high = eighths.mean(axis=(1, 3)), eighths.min(axis=(1, 3)), eighths.max(axis=(1, 3))

    def per_cell(values: Floats, take: np.ufunc) -> Floats:
        cells = values.reshape(height // CELL_PX, CELL_PX // 8, width // CELL_PX, CELL_PX // 8)
        return np.asarray(take.reduce(take.reduce(cells, axis=3), axis=1))

    lowest, highest = per_cell(low, np.minimum), per_cell(high, np.maximum)
    reach = 6 * sigma + 2 / 255
    near = (lowest >= level - reach) & (highest <= level + reach)
    drift = per_cell(np.abs(means - np.float32(level)), np.maximum)
    flat = near & (drift <= 0.5 * sigma + 1 / 255) & (sigma <= QUIET_BACKGROUND)
    return np.asarray(flat | (lowest == highest))


def _cell_span(start_px: int, stop_px: int, size_px: int) -> tuple[int, int]:
    """Return the cells behind the weights of an input span, inside the section."""
    last = -(-size_px // CELL_PX)
    return max(0, start_px // CELL_PX - 2), min(last, -(-stop_px // CELL_PX) + 2)


def _grow(tissue: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Let tissue take its eight neighbours."""
    padded = np.pad(tissue, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return np.asarray(rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:])


def _feather(tissue: NDArray[np.bool_], cells: Box, box: Box, scale: Fraction) -> Floats:
    """Interpolate between the centres of the cells, bilinearly, at every output pixel.

    A cell of tissue before growing is surrounded by tissue, so all its pixels keep weight 1.
    """
    y = _cell_positions(box.y0, box.y1, scale, cells.y0, tissue.shape[0])
    x = _cell_positions(box.x0, box.x1, scale, cells.x0, tissue.shape[1])
    values = tissue.astype(np.float32)
    rows = _mix_cells(values, *y)
    return np.ascontiguousarray(_mix_cells(np.ascontiguousarray(rows.T), *x).T)


def _cell_positions(
    start: int, stop: int, scale: Fraction, first_cell: int, count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Return for output pixels the two neighbouring cells, and the weight of the second."""
    at = (np.arange(start, stop) + 0.5) / float(scale) / CELL_PX - 0.5 - first_cell
    before = np.floor(at)
    weight = (at - before).astype(np.float32)
    index = before.astype(np.intp)
    return np.clip(index, 0, count - 1), np.clip(index + 1, 0, count - 1), weight


def _mix_cells(values: Floats, before: NDArray[np.intp], behind: NDArray[np.intp], weight: Floats) -> Floats:
    """Interpolate along the first axis; equal neighbours give their own value exactly."""
    first = values[before]
    return np.asarray(first + weight[:, None] * (values[behind] - first))


def at_output(flags: NDArray[np.bool_], read: Box, box: Box, scale: Fraction) -> NDArray[np.bool_]:
    """Return flags of the input pixels of `read` at the output pixels of `box`: each that of its input pixel."""
    y, x = (
        np.arange(*span) * scale.denominator // scale.numerator - first
        for span, first in (((box.y0, box.y1), read.y0), ((box.x0, box.x1), read.x0))
    )
    return np.asarray(flags[np.ix_(y, x)])


@attrs.frozen(eq=False)
class UserMask:
    """A mask drawn by the user.

    Attributes
    ----------
    section : Section
        The mask, of the input's shape.
    scale : Fraction
        Output pixels per input pixel.
    """

    section: Section
    scale: Fraction

    @classmethod
    def open(cls, path: str, shape: tuple[int, int, int], scale: Fraction) -> UserMask:
        """Open a mask file and check its shape.

        Raises
        ------
        UsageError
            Where it has another shape than the input (z, y, x).
        InputError
            Where it cannot be read, has colours, or is not of bool or integers.
        """
        mask = open_mask(path)
        if mask.shape != shape:
            raise UsageError(
                f"the mask {path} has shape {mask.shape} (z, y, x), the input {shape}; give one of the "
                "input's shape."
            )
        return cls(mask, scale)

    def weights(self, z: int, box: Box, read: Box, pixels: NDArray[Any], profile: Profile) -> Weights:
        """Read the mask of the block."""
        drawn = self.section.read(z, read.y0, read.y1, read.x0, read.x1)
        valid = drawn != DAMAGE
        tissue = valid & (drawn != 0)
        restored = at_output(tissue, read, box, self.scale).astype(np.float32)
        return Weights(box, None if restored.all() else restored, None if valid.all() else valid)
