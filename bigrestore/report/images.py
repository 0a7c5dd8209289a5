"""The images of a scoring: their places on the common grid, and the strips, pictures and overviews cut out of them.

All positions are those of the run: absolute pixels of the output grid and absolute sections. An output of a region of
interest begins somewhere inside. The input is brought to the output grid by Catmull-Rom interpolation, the natural
picture of an unrestored input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.geometry import Box
from bigrestore.core.pixels import Floats, to_grey, to_unit
from bigrestore.core.sizes import SCORE_TILE_PX
from bigrestore.errors import InputError, UnreadableSectionError
from bigrestore.io.open_section import open_section
from bigrestore.io.patched import patched_lowres
from bigrestore.io.section import Section
from bigrestore.io.store.store_spec import MAPS_GROUP
from bigrestore.report.metrics.blobs import pixel_um
from bigrestore.report.metrics.enlarge import enlarged_box, source_box
from bigrestore.report.pool import ScorePool
from bigrestore.report.table.grid import ScoreTile, bounding_box, strips
from bigrestore.report.table.tiles import Pixels, Strip, TileRow
from bigrestore.settings.values import MAPS

Picture = NDArray[np.uint8]
"""(h, w) grey or (h, w, 3) colour."""

Background = Callable[[int], "tuple[float | None, float]"]

TISSUE_PX = 1200
"""Longest side of the small picture that a sample of tiles is drawn by."""

STRIPS_AHEAD = 2
"""Strips for each worker that are read before their turn."""


@attrs.frozen(eq=False)
class ImageToScore:
    """An image and the place of its first pixel.

    Attributes
    ----------
    section : Section
        The image.
    first : tuple of int
        Absolute (z, y, x) of its first pixel, on its own grid.
    """

    section: Section
    first: tuple[int, int, int] = (0, 0, 0)

    @property
    def box(self) -> Box:
        """Its pixels, absolute."""
        _, y, x = self.first
        return Box(y, y + self.section.height, x, x + self.section.width)

    def pixels(self, z: int, box: Box) -> Pixels:
        """Read part of a section."""
        z0, y, x = self.first
        values = self.section.read(z - z0, box.y0 - y, box.y1 - y, box.x0 - x, box.x1 - x)
        return Pixels(values, box, self.section.value_range)


@attrs.frozen(eq=False)
class Overview:
    """A whole section, small.

    Attributes
    ----------
    picture : ndarray, (h, w) or (h, w, 3), uint8
        The image.
    px : float
        Pixels of the image per pixel of it.
    maps : dict of ndarray, (h, w), float32
        Its maps by name, in grey levels of 0..1.
    """

    picture: Picture
    px: float
    maps: Mapping[str, Floats] = attrs.field(factory=dict)


@attrs.frozen(eq=False)
class Images:
    """The images of a scoring.

    Attributes
    ----------
    image : ImageToScore
        The image in question.
    before, reference : ImageToScore, optional
        Its input, on its own grid, and a reference on the image's grid.
    scale : int
        Pixels of the image per pixel of the input.
    tile_px : int
        Side of a score tile.
    maps : dict of Section
        Maps of the image on its own grid, by name.
    noise_law : callable, optional
        Gain and read noise of section z of the input.
    """

    image: ImageToScore
    before: ImageToScore | None = None
    reference: ImageToScore | None = None
    scale: int = 1
    tile_px: int = SCORE_TILE_PX
    maps: Mapping[str, Section] = attrs.field(factory=dict)
    noise_law: Callable[[int], tuple[float, float]] | None = None

    def strip(self, places: list[ScoreTile], background: tuple[float | None, float]) -> Strip:
        """Read the pixels of a strip."""
        z, box = places[0].z, bounding_box(places)
        return Strip(
            places,
            self.image.pixels(z, box),
            None if self.before is None else self._before(self.before, z, box),
            None if self.reference is None else self.reference.pixels(z, box),
            self.scale,
            self.tile_px,
            *background,
            pixel_um=pixel_um((self.before or self.image).section.voxel_size_um, self.scale),
            noise_law=None if self.noise_law is None else self.noise_law(z),
        )

    def picture(
        self, z: int, y: int, x: int, height: int, width: int
    ) -> tuple[Picture | None, Picture, Picture | None]:
        """Return part of all three images on the output grid, in 8 bits and in colour where they are."""
        box = Box(y, y + height, x, x + width)
        before = reference = None
        if self.before is not None:
            part = self._before(self.before, z, box)
            unit = to_unit(part.values, part.value_range)
            before = _bytes(enlarged_box(unit, part.box, box, self.scale))
        if self.reference is not None:
            reference = _picture(self.reference, z, box)
        return before, _picture(self.image, z, box), reference

    def overview(self, z: int, longest_px: int) -> Overview:
        """Return a small picture of a section with its maps, the longer side at most `longest_px`."""
        section, index = self.image.section, z - self.image.first[0]
        values, px = patched_lowres(section, index, longest_px)
        maps = {name: patched_lowres(shown, index, longest_px)[0] for name, shown in self.maps.items()}
        return Overview(_bytes(to_unit(values, section.value_range)), px, maps)

    def _before(self, source: ImageToScore, z: int, box: Box) -> Pixels:
        """Read the input behind an output box; a region's borders are not the section's."""
        wanted = source_box(box, self.scale, source.box.y1, source.box.x1)
        return source.pixels(z, wanted)


def score_places(
    images: Images,
    places: Sequence[ScoreTile],
    background: Background,
    pool: ScorePool,
    taken: Callable[[list[ScoreTile], Future[list[TileRow]]], None],
) -> None:
    """Score tiles read from the images, in order; reading stays a little ahead of scoring.

    Parameters
    ----------
    images : Images
        What is read.
    places : sequence of ScoreTile
        The tiles, section by section and row by row.
    background : callable
        Level and noise of the background of section z.
    pool : ScorePool
        Scores.
    taken : callable
        Called in this thread with each strip's tiles and its finished future, in order; that of a strip that cannot be
        read has the InputError.
    """

    def submitted() -> Iterator[tuple[list[ScoreTile], Future[list[TileRow]]]]:
        # Kept, or each strip of such a section would look for a readable part again.
        unreadable: dict[int, UnreadableSectionError] = {}
        for group in strips(places):
            z = group[0].z
            try:
                if z in unreadable:
                    raise unreadable[z]
                yield group, pool.submit(images.strip(group, background(z)))
            except InputError as error:
                if isinstance(error, UnreadableSectionError):
                    unreadable[z] = error
                unread: Future[list[TileRow]] = Future()
                unread.set_exception(error)
                yield group, unread

    waiting: list[tuple[list[ScoreTile], Future[list[TileRow]]]] = []
    for item in submitted():
        waiting.append(item)
        if len(waiting) > STRIPS_AHEAD * pool.workers:
            _take(waiting.pop(0), taken)
    for item in waiting:
        _take(item, taken)


def _take(
    item: tuple[list[ScoreTile], Future[list[TileRow]]],
    taken: Callable[[list[ScoreTile], Future[list[TileRow]]], None],
) -> None:
    places, future = item
    future.exception()  # waits; whoever takes it decides what an error means
    taken(places, future)


def tissue_seen(
    source: ImageToScore,
    places: Iterable[ScoreTile],
    background: tuple[float | None, float],
    scale: int,
    z: int,
) -> NDArray[np.float64]:
    """Return the share of tissue in each tile of section z, 0..1, from a small picture of the input."""
    grey, px = _small(source, z)
    level, sigma = background
    tissue = (grey > 0) & (grey < 1)
    if level is not None:
        tissue &= np.abs(grey - level) > max(4 / 255, 2 * sigma)
    total = np.zeros((grey.shape[0] + 1, grey.shape[1] + 1))
    total[1:, 1:] = tissue.cumsum(axis=0).cumsum(axis=1)
    shares = []
    for place in places:
        spans = []
        for start, stop, first, size in (
            (place.box.y0, place.box.y1, source.first[1], grey.shape[0]),
            (place.box.x0, place.box.x1, source.first[2], grey.shape[1]),
        ):
            low = min(size - 1, max(0, int((start / scale - first) / px)))
            spans.append((low, min(size, max(low + 1, round((stop / scale - first) / px)))))
        (y0, y1), (x0, x1) = spans
        area = total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]
        shares.append(area / ((y1 - y0) * (x1 - x0)))
    return np.array(shares, np.float64)


def _small(source: ImageToScore, z: int) -> tuple[NDArray[np.float32], float]:
    """Return a small grey picture of a section, 0..1, and the pixels of the image per pixel of it."""
    values, px = patched_lowres(source.section, z - source.first[0], TISSUE_PX)
    return to_grey(values, source.section.value_range), px


def open_maps(store: Path, image: Section) -> dict[str, Section]:
    """Return the maps that a store of bigrestore holds beside its image; none of another shape."""
    folders = {name: store / MAPS_GROUP / name for name in MAPS}
    maps = {name: open_section(folder) for name, folder in folders.items() if folder.is_dir()}
    return {name: shown for name, shown in maps.items() if shown.shape == image.shape}


def _picture(source: ImageToScore, z: int, box: Box) -> Picture:
    part = source.pixels(z, box)
    return _bytes(to_unit(part.values, part.value_range))


def _bytes(unit: NDArray[Any]) -> Picture:
    levels: Picture = np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)
    return levels
