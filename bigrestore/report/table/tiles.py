"""Rows of the tile table: score the pixels of a few tiles side by side.

All tiles are scored here, for a run, a pair of images and the native grid alike, in this process or another: a
`Strip` holds pixels in the storage dtype with their ranges, and can be sent through a pipe. Image, input and
reference are put on one grid and one value range here. The result does not depend on the grouping of tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.geometry import Box
from bigrestore.core.pixels import Floats, to_grey
from bigrestore.core.sizes import SCORE_TILE_PX
from bigrestore.report.metrics.blobs import BlobScales, compare
from bigrestore.report.metrics.columns import PLAIN, REFERENCE, plain_measures, reference_measures
from bigrestore.report.metrics.detail import invented_share
from bigrestore.report.metrics.enlarge import enlarged_box
from bigrestore.report.metrics.judges.engine import (
    InputOfTile,
    JudgedEngine,
    JudgeSettings,
    compared_columns,
)
from bigrestore.report.metrics.measures import tile_noise_sigma
from bigrestore.report.metrics.validity import tissue_share, why_invalid
from bigrestore.report.table.grid import ScoreTile, bounding_box

if TYPE_CHECKING:
    from bigrestore.report.metrics.score_engine import ScoreEngine

TileRow = dict[str, Any]

PLACE = ("z", "row", "column", "y", "x", "height", "width")
RESTORED = ("drift", "invented", "blobs", "blobs_unsupported")
"""Figures that are made here of a tile and its input; a run adds its residual and its seams."""

FAILED = "failed"
"""Reason of a tile whose scoring failed, or whose block did."""


@attrs.frozen
class EngineSpec:
    """The arguments of an engine, to be sent to another process.

    Attributes
    ----------
    name : str
        `native` or `pyiqa`.
    metrics : tuple of str, optional
        None: the engine's default.
    niqe_model : str, optional
        File with another NIQE model.
    judging : JudgeSettings
        What judges among the metrics are told.
    """

    name: str = "native"
    metrics: tuple[str, ...] | None = None
    niqe_model: str | None = None
    judging: JudgeSettings = attrs.field(factory=JudgeSettings)

    def create(self) -> ScoreEngine:
        """Make the engine; the errors are those of `bigrestore.report.metrics.engine.create_engine`."""
        from bigrestore.report.metrics.engine import create_engine

        model = None if self.niqe_model is None else Path(self.niqe_model)
        return create_engine(self.name, self.metrics, niqe_model=model, judging=self.judging)


@attrs.frozen(eq=False)
class Pixels:
    """Part of an image in its storage dtype.

    Attributes
    ----------
    values : ndarray, (h, w) or (h, w, 3)
        Storage values.
    box : Box
        Their box, in pixels of the image.
    value_range : tuple of float
        Values of black and white.
    """

    values: NDArray[Any]
    box: Box
    value_range: tuple[float, float]

    def grey(self) -> Floats:
        """Return the values as grey of 0..1, colour as its luma."""
        return to_grey(self.values, self.value_range)


@attrs.frozen(eq=False)
class Strip:
    """Tiles of one row of the grid, with their pixels.

    Attributes
    ----------
    places : list of ScoreTile
        The tiles.
    image : Pixels
        The image, on the grid of the tiles.
    before, reference : Pixels, optional
        The input, on its own grid (more than the tiles need at x2 and x4), and the reference, on the image's.
    scale : int
        Pixels of the image per pixel of the input.
    tile_px : int
        Side of a whole tile.
    background, sigma : float or None, float
        Level and noise of the background, 0..1.
    pixel_um : float or None
        Size of a pixel of the image, for the size of cells; None: unknown.
    noise_law : (float, float) or None
        Gain and read noise of the input's section; None: not read.
    """

    places: list[ScoreTile]
    image: Pixels
    before: Pixels | None = None
    reference: Pixels | None = None
    scale: int = 1
    tile_px: int = SCORE_TILE_PX
    background: float | None = None
    sigma: float = 0.0
    pixel_um: float | None = None
    noise_law: tuple[float, float] | None = None


def engine_columns(engine: ScoreEngine, *, pair: bool, reference: bool) -> list[str]:
    """Return the columns of a table of tiles that an engine scores, in order."""
    further = compared_columns(engine, "reference") if reference else ()
    names = column_names((*engine.metrics, *further), pair=pair, reference=reference)
    return names + list(compared_columns(engine, "before") if pair else ())


def column_names(
    metrics: Sequence[str], *, pair: bool, reference: bool, extra: Sequence[str] = ()
) -> list[str]:
    """Return the columns of a table of tiles, in order; `extra` are figures of the image alone."""
    compared = [*metrics, *PLAIN, *(REFERENCE if reference else ())]
    names = [*PLACE, "tissue", "reason", *(["reason_before"] if pair else [])]
    for name in compared:
        names += [name, f"{name}_before"] if pair else [name]
    return names + list(RESTORED if pair else ()) + list(extra)


def score_strip(strip: Strip, engine: ScoreEngine) -> list[TileRow]:
    """Score the tiles of a strip.

    Returns
    -------
    list of dict
        A row per tile, with every column of `column_names`; figures of invalid tiles are NaN.
    """
    planes = _Planes(strip)
    rows = []
    for place in strip.places:
        own, former, truth = planes.tile(place)
        row = _place_row(place)
        row["tissue"] = tissue_share(own if former is None else former, strip.background, strip.sigma)
        row |= _tile_figures(own, row["tissue"], truth, engine, strip.tile_px, "")
        if former is not None:
            row |= _tile_figures(former, row["tissue"], truth, engine, strip.tile_px, "_before")
            if row["reason"] or row["reason_before"]:
                row |= dict.fromkeys((*RESTORED, *compared_columns(engine, "before")), math.nan)
            else:
                row["drift"] = row["mean"] - row["mean_before"]
                noise = row["noise_before"] if strip.scale == 1 else tile_noise_sigma(planes.native(place))
                row["invented"] = invented_share(own, former, noise, strip.scale)
                row |= _blob_figures(own, former, noise, strip)
                if isinstance(engine, JudgedEngine):
                    row |= engine.compare("before", own, planes.input_of(place))
        rows.append(row)
    return rows


def _blob_figures(tile: Floats, former: Floats, noise: float, strip: Strip) -> TileRow:
    """Count the blobs of a tile and those without support in its input; both are mirrored beyond the tile."""
    scales = BlobScales.of_voxel(strip.pixel_um)
    blobs, kept = compare(tile, former, scales, noise=noise, scale=strip.scale)
    return {"blobs": blobs.count, "blobs_unsupported": int(np.count_nonzero(~kept))}


class _Planes:
    """The images of a strip as grey on one grid.

    Parameters
    ----------
    strip : Strip
        The strip.
    """

    def __init__(self, strip: Strip) -> None:
        self._strip = strip
        self._image = strip.image.grey()
        self._native = None if strip.before is None else strip.before.grey()
        self._reference = None if strip.reference is None else strip.reference.grey()
        self._wanted = bounding_box(strip.places)
        self._before = self._native
        if strip.before is not None and self._native is not None and strip.scale > 1:
            self._before = enlarged_box(self._native, strip.before.box, self._wanted, strip.scale)

    def tile(self, place: ScoreTile) -> tuple[Floats, Floats | None, Floats | None]:
        """Return a tile of the image, of the input on the same grid, and of the reference."""
        strip, box = self._strip, place.box
        own = np.ascontiguousarray(self._image[box.slices(strip.image.box)])
        former = truth = None
        if self._before is not None and strip.before is not None:
            origin = self._wanted if strip.scale > 1 else strip.before.box
            former = np.ascontiguousarray(self._before[box.slices(origin)])
        if self._reference is not None and strip.reference is not None:
            truth = np.ascontiguousarray(self._reference[box.slices(strip.reference.box)])
        return own, former, truth

    def native(self, place: ScoreTile) -> NDArray[np.float64]:
        """Return the input of a tile on its own grid."""
        strip, box = self._strip, place.box
        if self._native is None or strip.before is None:
            raise ValueError("the strip has no input")
        inner = Box(*(edge // strip.scale for edge in (box.y0, box.y1, box.x0, box.x1)))
        return self._native[inner.slices(strip.before.box)].astype(np.float64)

    def input_of(self, place: ScoreTile) -> InputOfTile:
        """Return the whole input pixels of a tile on their own grid."""
        strip, box, scale = self._strip, place.box, self._strip.scale
        assert self._native is not None
        assert strip.before is not None
        inner = Box(-(-box.y0 // scale), box.y1 // scale, -(-box.x0 // scale), box.x1 // scale)
        pixels = np.ascontiguousarray(self._native[inner.slices(strip.before.box)])
        origin = inner.y0 * scale - box.y0, inner.x0 * scale - box.x0
        return InputOfTile(pixels, origin, scale, strip.noise_law)


def missing_rows(places: Iterable[ScoreTile], names: Sequence[str], reason: str = FAILED) -> list[TileRow]:
    """Return the rows of failed tiles."""
    rows = []
    for place in places:
        row = dict.fromkeys(names, math.nan) | _place_row(place) | {"tissue": math.nan, "reason": reason}
        if "reason_before" in names:
            row["reason_before"] = reason
        rows.append(row)
    return rows


def _place_row(place: ScoreTile) -> TileRow:
    box = place.box
    return {
        "z": place.z,
        "row": place.row,
        "column": place.column,
        "y": box.y0,
        "x": box.x0,
        "height": box.height,
        "width": box.width,
    }


def _tile_figures(
    tile: Floats, tissue: float, truth: Floats | None, engine: ScoreEngine, tile_px: int, ending: str
) -> TileRow:
    """Return reason and figures of a tile of one image."""
    reason = why_invalid(tile, tissue, tile_px)
    names = [*engine.metrics, *PLAIN]
    if truth is not None:
        names += [*compared_columns(engine, "reference"), *REFERENCE]
    figures: dict[str, float] = dict.fromkeys(names, math.nan)
    if not reason:
        figures |= engine.score(tile) | plain_measures(tile)
        if truth is not None:
            figures |= reference_measures(tile, truth)
            if isinstance(engine, JudgedEngine):
                figures |= engine.compare("reference", tile, truth)
    return {f"reason{ending}": reason} | {f"{name}{ending}": value for name, value in figures.items()}
