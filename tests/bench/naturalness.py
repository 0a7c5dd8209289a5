"""One ruler for everything that `realness` compares: fidelity, naturalness and blobs of an image beside its clean one.

Tiles are those of 192 px that are tissue in the clean image, the same ones for every candidate: the size is part
of a score, and whole tiles of 480 px would be too few in the smaller images of val/. Scores and blobs are taken on
whole pixels of 8 bits, because that is what is stored. Changes are paired tile by tile, and their interval is that of
the report, a bootstrap of squares of neighbouring tiles, every image drawn within itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bigrestore.core.geometry import Box
from bigrestore.report.metrics.blobs import BlobCount, invented, lost
from bigrestore.report.metrics.columns import NATIVE_METRICS
from bigrestore.report.metrics.engine import create_engine
from bigrestore.report.metrics.measures import tenengrad
from bigrestore.report.metrics.score_engine import ScoreEngine
from bigrestore.report.metrics.validity import tissue_share, why_invalid
from bigrestore.report.table.bootstrap import lattices, median_intervals
from bigrestore.report.table.grid import TileGrid
from tests.bench.metrics import psnr, ssim
from tests.bench.restorers import unit

Grey = NDArray[np.uint8]
Place = tuple[int, int]

TILE_PX = 192
SCORES = ("niqe", "brisque", "piqe")


@attrs.frozen(eq=False)
class Judged:
    """What is said of one image.

    Attributes
    ----------
    psnr, ssim, sharpness : float
        Over the whole image; sharpness is the mean squared gradient (Tenengrad).
    scores : dict
        NIQE, BRISQUE and PIQE of each tile, by (row, column).
    invented, lost : BlobCount
        Against the clean image.
    """

    psnr: float
    ssim: float
    sharpness: float
    scores: dict[Place, dict[str, float]]
    invented: BlobCount
    lost: BlobCount


@attrs.frozen(eq=False)
class Row:
    """The same over all images of a case: means over images and over tiles, sums of blobs."""

    name: str
    images: list[Judged]

    def mean(self, figure: str) -> float:
        """Return a mean over images, or over the tiles of all of them."""
        if figure in SCORES:
            values = [scores[figure] for image in self.images for scores in image.scores.values()]
            return float(np.nanmean(values)) if values else float("nan")
        return float(np.mean([getattr(image, figure) for image in self.images]))

    def blobs(self, kind: str) -> BlobCount:
        """Return the `invented` or the `lost` ones."""
        found: list[BlobCount] = [getattr(image, kind) for image in self.images]
        return sum(found[1:], start=found[0])

    def to_json(self) -> dict[str, object]:
        """Return the figures."""
        means = {name: self.mean(name) for name in ("psnr", "ssim", "sharpness", *SCORES)}
        counts = {
            kind: {"found": count.found, "unsupported": count.unsupported, "per_mpx": count.per_mpx}
            for kind, count in (("invented", self.blobs("invented")), ("lost", self.blobs("lost")))
        }
        return {"name": self.name, **means, **counts, "tiles": sum(len(i.scores) for i in self.images)}


@cache
def engine() -> ScoreEngine:
    """Return the native engine."""
    return create_engine("native", NATIVE_METRICS)


def tissue_tiles(clean: Grey) -> list[Place]:
    """Return row and column of the whole tiles that are valid tissue in the clean image."""
    from bigrestore.io.open_section import open_section
    from bigrestore.run.profile.section_profile import find_background

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clean.png"
        Image.fromarray(clean).save(path)
        level, sigma = find_background(open_section(path), 0)
    grid = TileGrid(0, 1, Box(0, clean.shape[0], 0, clean.shape[1]), TILE_PX, anchored=False)
    found = []
    for place in grid.places(0):
        tile = unit(clean[place.box.y0 : place.box.y1, place.box.x0 : place.box.x1])
        if not why_invalid(tile, tissue_share(tile, level, sigma), TILE_PX):
            found.append((place.row, place.column))
    return found


def judge(image: Grey, clean: Grey, tiles: Sequence[Place]) -> Judged:
    """Return every figure of one image; `tiles` are from `tissue_tiles`."""
    values, truth = unit(image), unit(clean)
    side = TILE_PX
    scores = {
        (row, column): engine().score(
            np.ascontiguousarray(values[row * side : (row + 1) * side, column * side : (column + 1) * side])
        )
        for row, column in tiles
    }
    return Judged(
        psnr(image, clean),
        ssim(image, clean),
        tenengrad(values.astype(np.float64)),
        scores,
        invented(values, truth),
        lost(values, truth),
    )


def changes(
    after: Sequence[Sequence[Judged]], before: Sequence[Sequence[Judged]]
) -> dict[str, tuple[float, tuple[float, float] | None]]:
    """Return the median change of each score over the tiles, and its 95 % interval.

    Parameters
    ----------
    after, before : sequence of sequence of Judged
        By case, then by image; the changes of a tile in several cases are averaged first, because they are changes of
        the same tissue.
    """
    where: list[tuple[int, int, int]] = []
    found: dict[str, list[float]] = {name: [] for name in SCORES}
    for index, image in enumerate(after[0]):
        for place in image.scores:
            where.append((index, *place))
            for name in SCORES:
                found[name].append(
                    float(
                        np.mean(
                            [
                                new[index].scores[place][name] - old[index].scores[place][name]
                                for new, old in zip(after, before, strict=True)
                            ]
                        )
                    )
                )
    if not where:
        return {name: (float("nan"), None) for name in SCORES}
    z, row, column = np.array(where, np.int64).T
    values = {name: np.array(column_, np.float64) for name, column_ in found.items()}
    intervals = median_intervals(values, lattices(z, row, column))
    return {name: (float(np.nanmedian(values[name])), intervals[name]) for name in SCORES}


def interval_text(change: tuple[float, tuple[float, float] | None]) -> str:
    """Return a change with its interval for people."""
    middle, interval = change
    if interval is None:
        return f"{middle:+.2f} (too few tiles)"
    return f"{middle:+.2f} ({interval[0]:+.2f} to {interval[1]:+.2f})"


def is_better(change: tuple[float, tuple[float, float] | None]) -> bool:
    """Return whether a score fell and its interval excludes zero."""
    return change[1] is not None and change[1][1] < 0


def at_equal(figure: float, sweep: Sequence[Mapping[str, float]], x: str, y: str) -> float:
    """Return y where x first reaches a figure from above along a sweep, linear between its points; NaN if never."""
    for one, two in pairwise(sweep):
        if one[x] <= figure:
            return one[y]
        if two[x] <= figure:
            share = (one[x] - figure) / (one[x] - two[x])
            return one[y] + share * (two[y] - one[y])
    return float("nan")
