"""Fill what a mask calls damage with what neighbouring sections show there, without their detail.

The next section holds other cells (`coherence`), so only its low frequencies are taken: layers, borders, the course of
vessels. Each window of an absolute lattice is registered in the nearest section first; factor and offset are fitted on
the valid pixels around the damage. A neighbour whose structures correlate by less than 0.6, in the window or around the
damage, is refused. Where none is taken damage passes through, as without neighbours.

Windows overlap by half and are blended, so that the fill depends on no cut into blocks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, minimum_filter

from bigrestore.core.geometry import Box
from bigrestore.core.pixels import Floats, from_unit, luma, to_unit
from bigrestore.errors import InputError
from bigrestore.io.access.versions import recording_reads
from bigrestore.io.drawn_inputs import DAMAGE
from bigrestore.io.section import Section
from bigrestore.run.neighbours.coherence import (
    AROUND_PX,
    MOST_SHIFT_PX,
    find_shift,
    halved,
    read_around,
    seen_from,
    structure,
)
from bigrestore.run.tile.mask import UserMask

log = logging.getLogger(__name__)

FILL_WINDOW_PX = 512
"""Side of the windows that are registered, input pixels."""

RING_PX = 64
"""Valid pixels as far from damage as this say how a neighbour's grey values map to the section's."""

LEAST_RING = 1024
"""Fewer of them say nothing."""

LEAST_ALIKE = 0.6
"""Correlation of structures, in the window and on that ring, below which a neighbour is refused."""

GREY_FACTORS = (0.8, 1.25)
"""Smallest and largest factor on a neighbour's grey values."""

FEATHER_PX = 8
"""Damage as near to valid pixels as this is levelled with them."""


@attrs.frozen(eq=False)
class Filler:
    """Fills damage from neighbouring sections.

    Attributes
    ----------
    section : Section
        The volume.
    mask : UserMask
        Says what damage is.
    reach : int
        Sections before and after that may be taken.
    sigma_px : float
        Standard deviation of the Gaussian that takes a neighbour's detail out, input pixels.
    """

    section: Section
    mask: UserMask
    reach: int
    sigma_px: float
    _refused: set[int] = attrs.field(factory=set, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def fill(
        self, z: int, read: Box, pixels: NDArray[Any], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Fill the damage of a block.

        Parameters
        ----------
        z : int
            The section.
        read : Box
            Input pixels of the block, absolute.
        pixels : ndarray, (h, w[, 3])
            Storage values of `read`.
        valid : ndarray, (h, w), bool
            False for damage.

        Returns
        -------
        pixels : ndarray
            With damage filled.
        filled : ndarray, (h, w), bool
            Where.
        """
        total = np.zeros((*pixels.shape[:2], self.section.channels), np.float32)
        weights = np.zeros(pixels.shape[:2], np.float32)
        for window in self._windows(read, valid):
            made = self._of_window(z, window)
            if made is None:
                continue
            both = window.intersect(read)
            weight = _blend(window)[both.slices(window)]
            total[both.slices(read)] += made[both.slices(window)] * weight[..., None]
            weights[both.slices(read)] += weight
        filled = ~valid & (weights > 0)
        values = np.asarray(total[filled] / weights[filled][:, None], np.float32)
        whole = pixels.copy()
        stored = from_unit(values, self.section.value_range, pixels.dtype)
        whole[filled] = stored if pixels.ndim == 3 else stored[:, 0]
        return whole, filled

    def _windows(self, read: Box, valid: NDArray[np.bool_]) -> Iterator[Box]:
        """Yield the windows of the lattice with damage in a block."""
        step, whole = FILL_WINDOW_PX // 2, Box(0, self.section.height, 0, self.section.width)
        for y in range((read.y0 // step - 1) * step, read.y1, step):
            for x in range((read.x0 // step - 1) * step, read.x1, step):
                window = Box(y, y + FILL_WINDOW_PX, x, x + FILL_WINDOW_PX).intersect(whole)
                both = window.intersect(read)
                if both.pixels and not valid[both.slices(read)].all():
                    yield window

    def _of_window(self, z: int, window: Box) -> Floats | None:
        """Return what a window looks like by the nearest section that resembles it, (h, w, channels), 0..1."""
        box = (window.y0, window.y1, window.x0, window.x1)
        own = to_unit(self.section.read(z, *box), self.section.value_range)
        with recording_reads():
            valid = self.mask.section.read(z, *box) != DAMAGE
        ring = valid & (distance_transform_edt(valid) <= RING_PX)
        if ring.sum() < LEAST_RING:
            return None
        for other in self._neighbours(z):
            try:
                around = to_unit(read_around(self.section, other, box), self.section.value_range)
            except InputError as error:
                self._note(other, error)
                continue
            if not self._sound(other, box)[~valid | ring].all():
                continue
            made = self._from_neighbour(own, around, valid, ring)
            if made is not None:
                return made
        return None

    def _sound(self, z: int, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
        """Return which pixels of a window have no damage within the largest shift, in a neighbour."""
        side = 2 * AROUND_PX + 1
        with recording_reads():  # the mask's files as a whole are held against those that the run began with
            sound = read_around(self.mask.section, z, box) != DAMAGE
        near = minimum_filter(sound, side)[AROUND_PX:-AROUND_PX, AROUND_PX:-AROUND_PX]
        return np.asarray(near, bool)

    def _neighbours(self, z: int) -> list[int]:
        """Return the sections that may be taken, the nearest first."""
        near = [other for step in range(1, self.reach + 1) for other in (z - step, z + step)]
        return [other for other in near if 0 <= other < self.section.depth]

    def _note(self, z: int, error: InputError) -> None:
        """Say once that a section is skipped."""
        with self._lock:
            if z not in self._refused:
                self._refused.add(z)
                log.warning("Section %d fills no damage: %s", z, error)

    def _from_neighbour(
        self, own: Floats, around: Floats, valid: NDArray[np.bool_], ring: NDArray[np.bool_]
    ) -> Floats | None:
        """Return a neighbour's low frequencies in the grey values of the section; None where it is refused."""
        grey = [luma(image) if image.ndim == 3 else image for image in (own, around)]
        by = find_shift(grey[0], grey[1], valid)
        if max(abs(by.y), abs(by.x)) > MOST_SHIFT_PX:
            return None
        alike = structure(grey[0], valid), structure(seen_from(grey[1], by))
        near = halved(ring.astype(np.float64)) == 1
        if min(by.correlation, np.corrcoef(*(image[near] for image in alike))[0, 1]) < LEAST_ALIKE:
            return None
        share = np.maximum(gaussian_filter(valid.astype(np.float32), self.sigma_px), 1e-3)
        levelled = np.clip(1 - distance_transform_edt(~valid) / FEATHER_PX, 0, 1)
        planes = []
        for channel in range(self.section.channels):
            mine, theirs = (image[..., channel] if image.ndim == 3 else image for image in (own, around))
            smooth = gaussian_filter(seen_from(theirs, by), self.sigma_px)
            seen = gaussian_filter(np.where(valid, mine, 0).astype(np.float32), self.sigma_px) / share
            factor, offset = _fit(smooth[ring], seen[ring])
            made = factor * smooth + offset
            planes.append(made + levelled * (seen - made))
        return np.asarray(np.clip(np.stack(planes, axis=-1), 0, 1), np.float32)


def _fit(theirs: NDArray[np.floating], mine: NDArray[np.floating]) -> tuple[float, float]:
    """Return factor, within its bounds, and offset of the least squares of mine = factor * theirs + offset."""
    spread = float(theirs.var())
    factor = float(((theirs - theirs.mean()) * (mine - mine.mean())).mean()) / spread if spread > 0 else 1.0
    factor = min(max(factor, GREY_FACTORS[0]), GREY_FACTORS[1])
    return factor, float(mine.mean()) - factor * float(theirs.mean())


def _blend(window: Box) -> Floats:
    """Return weights of a window that fall off towards its sides; those of a window cut by the border stay above 0."""
    rows, columns = (
        np.minimum(np.arange(size) + 1, size - np.arange(size)).astype(np.float32)
        for size in (window.height, window.width)
    )
    return np.outer(rows, columns) / np.float32(FILL_WINDOW_PX**2)
