"""What `bigrestore.restore` returns, and how a notebook shows it.

A run that wrote a file returns a `RestoreSummary`, an array a `Restored`. A notebook shows the same field before and
after, the three scores, and what was read of the section. The field is cut out by a sink as soon as the output is
whole: the result holds two small pictures and no open file.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.core.pixels import GreyBytes, to_unit
from bigrestore.errors import BigrestoreError
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section
from bigrestore.run.prepared import Prepared
from bigrestore.run.profile.kept import Profiles
from bigrestore.run.profile.words import of_sections, reading
from bigrestore.run.sinks import Sink
from bigrestore.run.state.records import BlockRecord
from bigrestore.run.stop import StopFlag
from bigrestore.run.tile.block import Job
from bigrestore.run.view.progress import Progress
from bigrestore.run.view.summary import RunSummary
from bigrestore.settings import RunSettings
from bigrestore.settings.values import PixelRange

log = logging.getLogger(__name__)

FIELD_PX = 320
"""Side of the field that a notebook shows, in output pixels."""

OVERVIEW_PX = 512
"""Longer side of the thumbnail in which the field is chosen."""

SHOWN_SCORES = {"brisque": "BRISQUE", "niqe": "NIQE", "piqe": "PIQE"}
SHOWN_ROWS = ("part", "output", "blocks", "time", "report", "copied to", "failed")


class ArrayLike(Protocol):
    """An array of NumPy, dask or xarray."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each axis."""
        ...

    @property
    def dtype(self) -> Any:
        """The type of the pixels."""
        ...

    @property
    def ndim(self) -> int:
        """Number of axes."""
        ...


AnyArray = TypeVar("AnyArray", bound=ArrayLike)


@attrs.frozen
class ScoreChange:
    """Medians of a score over the tiles; lower is better.

    Attributes
    ----------
    before, after : float
        Of the input, at x2 and x4 interpolated to the output grid, and of the output.
    change : float
        Median of the changes tile by tile.
    tiles : int
        Tiles with the score before and after.
    """

    before: float
    after: float
    change: float
    tiles: int


@attrs.frozen
class RestoreSummary(RunSummary):
    """What a run did, as a notebook shows it; the attributes of `RunSummary` besides these.

    Attributes
    ----------
    read : str
        Blur, noise and JPEG that were read of the sections, and the answer of the run, in words; "" where the method
        reads nothing.
    scores : dict of str to ScoreChange
        By `brisque`, `niqe` and `piqe`; empty without a report, or where no tile could be scored.
    before, after : ndarray or None
        The same field of at most 320 output pixels, uint8, (h, w) or (h, w, 3); before in input pixels. None for a part
        of a run.
    """

    read: str = ""
    scores: dict[str, ScoreChange] = attrs.field(factory=dict)
    before: GreyBytes | None = attrs.field(default=None, repr=False, eq=False)
    after: GreyBytes | None = attrs.field(default=None, repr=False, eq=False)

    @classmethod
    def of(cls, summary: RunSummary, seen: Observer) -> RestoreSummary:
        """Return the summary of a run with what an observer saw."""
        known = {field.name: getattr(summary, field.name) for field in attrs.fields(RunSummary)}
        return cls(
            **known,
            read=seen.read,
            scores=_scores(summary.report.folder),
            before=seen.before,
            after=seen.after,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the summary as a JSON document, without the pictures."""
        return {name: value for name, value in super().to_json().items() if name not in ("before", "after")}

    def _repr_html_(self) -> str:
        """Return the summary for a notebook."""
        return self.as_html(SHOWN_ROWS)

    def as_html(self, names: Sequence[str]) -> str:
        """Return the field before and after, the scores, what was read, and the rows of these names."""
        from html import escape

        parts = [*_pictures(self.before, self.after), *_score_table(self.scores)]
        if not self.scores:
            said = dict(self.report.rows).get("score tiles", "")
            parts.append(f"<p>No scores{': ' + escape(said) if said else ''}.</p>")
        if self.read:
            parts.append(f"<p>Read: {escape(self.read)}.</p>")
        parts += [
            f"<div>{escape(name)}: {escape(value)}</div>" for name, value in self.rows() if name in names
        ]
        return f'<div class="bigrestore">{"".join(parts)}</div>'


@attrs.frozen(eq=False, repr=False)
class Restored(Generic[AnyArray]):
    """A restored array with its maps and the summary of the run.

    Attributes
    ----------
    image : array
        Of the kind, axes and dtype of the input.
    maps : dict of str to array
        By the names asked for, float32 on the image's grid, grey levels from 0 to 1 of the input's range.
    summary : RestoreSummary
        Scores, what was read, time, device; its `output` is no path.
    """

    image: AnyArray
    maps: dict[str, AnyArray]
    summary: RestoreSummary

    @property
    def scores(self) -> dict[str, ScoreChange]:
        """The scores by their names."""
        return self.summary.scores

    @property
    def read(self) -> str:
        """What was read of the sections, in words."""
        return self.summary.read

    def __repr__(self) -> str:
        image = f"{type(self.image).__name__} {self.image.shape} {self.image.dtype}"
        return f"Restored(image={image}, maps={list(self.maps)}, scores={self.scores}, read={self.read!r})"

    def _repr_html_(self) -> str:
        """Return the summary for a notebook."""
        return self.summary.as_html(("blocks", "time"))


class Observer(Sink):
    """Reads at the end of a run what a result shows: the reading of the sections, and a field before and after."""

    factory = "bigrestore.results:Observer"

    def __init__(self, settings: RunSettings | None = None) -> None:
        del settings
        self.read = ""
        self.before: GreyBytes | None = None
        self.after: GreyBytes | None = None
        self._run: tuple[Prepared, Profiles] | None = None

    def open(self, ready: Prepared, job: Job) -> Observer:
        """Keep what `finish` needs."""
        self._run = (ready, job.profiles)
        return self

    def resume(self, ready: Prepared, summary: RunSummary) -> RunSummary:
        """Look at a finished run; its reading is that of its report."""
        self.read = dict(summary.report.rows).get("read", "")
        self._take_field(ready)
        return summary

    def finish(
        self, summary: RunSummary, records: list[BlockRecord], progress: Progress, flag: StopFlag
    ) -> RunSummary:
        """Look at the whole output."""
        assert self._run is not None
        ready, profiles = self._run
        grid = ready.plan.grid
        self._take_field(ready)
        if grid.scale.denominator == 1:
            try:
                self.read = of_sections(
                    [reading(profiles.of(z).statistics, z, int(grid.scale)) for z in grid.region.sections]
                )
            except BigrestoreError as error:
                log.debug("What was read is not shown (%s).", error)
        return summary

    def close(self) -> None:
        """Let go of the section."""
        self._run = None

    def _take_field(self, ready: Prepared) -> None:
        """Cut out the field before and after; without one nothing is shown."""
        try:
            self.before, self.after = field_of(ready)
        except BigrestoreError as error:
            log.debug("No field is shown (%s).", error)


def field_of(ready: Prepared) -> tuple[GreyBytes, GreyBytes]:
    """Return the same field of the input and of the finished output of a run, as 8 bits.

    Raises
    ------
    InputError
        Where input or output cannot be read there.
    """
    source, output, grid = ready.section, open_section(ready.output), ready.plan.grid
    z, box = output.depth // 2, grid.region.box
    overview, factor = output.lowres(z, OVERVIEW_PX)
    step = grid.scale.numerator
    centre_y, centre_x = liveliest(overview, FIELD_PX / factor)
    y0, y1 = _field_range(box.y0, output.height, centre_y * factor, step)
    x0, x1 = _field_range(box.x0, output.width, centre_x * factor, step)
    v0, u0 = (int(first / grid.scale) for first in (box.y0 + y0, box.x0 + x0))
    v1, u1 = (math.ceil(last / grid.scale) for last in (box.y0 + y1, box.x0 + x1))
    v1, u1 = min(v1, source.height), min(u1, source.width)
    before = source.read(grid.region.z0 + z, v0, v1, u0, u1)
    return _eight_bits(before, source), _eight_bits(output.read(z, y0, y1, x0, x1), source)


def _field_range(start: int, size: int, centre: float, step: int) -> PixelRange:
    """Return the range of the field along one axis of the output, on whole pixels of the input where it can be.

    Parameters
    ----------
    start : int
        Output pixels of the whole run before the output.
    size : int
        Pixels of the output.
    centre : float
        Middle of the field, in pixels of the output.
    step : int
        Output pixels of one input pixel.
    """
    side = min(FIELD_PX, size)
    first = min(max(0, round(centre) - side // 2), size - side)
    beyond = (start + first) % step
    first += -beyond if first >= beyond else step - beyond
    last = min(first + side, size)
    last -= (start + last) % step
    return (first, last) if first < last else (0, size)


def liveliest(overview: NDArray[Any], side: float) -> tuple[float, float]:
    """Return the centre (y, x) of the square of `side` pixels with most structure.

    Contrasts above the median count as that: texture wins over the border of the tissue.
    """
    from scipy.ndimage import uniform_filter

    grey = overview.astype(np.float64)
    grey = grey if grey.ndim == 2 else grey.mean(axis=2)
    contrast = np.hypot(*np.gradient(np.pad(grey, 1, mode="edge")))[1:-1, 1:-1]
    most = float(np.median(contrast[contrast > 0])) if contrast.any() else 0.0
    # Beyond the edge there is nothing, so that the square lies inside where it can.
    around = uniform_filter(np.minimum(contrast, most), max(1, round(side)), mode="constant")
    y, x = np.unravel_index(int(np.argmax(around)), around.shape)
    return float(y) + 0.5, float(x) + 0.5


def _eight_bits(pixels: NDArray[Any], source: Section) -> GreyBytes:
    """Return pixels of the input's range as 0 to 255."""
    return np.rint(255 * np.clip(to_unit(pixels, source.value_range), 0, 1)).astype(np.uint8)


def _scores(folder: str) -> dict[str, ScoreChange]:
    """Return the scores of a report; nothing without one."""
    try:
        metrics = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))["metrics"]
    except (OSError, ValueError):
        return {}
    changes = {name: metrics[name]["change"] for name in SHOWN_SCORES if name in metrics}
    return {
        name: ScoreChange(change["median_before"], change["median_after"], change["median"], change["count"])
        for name, change in changes.items()
        if change["count"]
    }


def _pictures(before: GreyBytes | None, after: GreyBytes | None) -> list[str]:
    """Return the field before and after as HTML, side by side and of the same size."""
    if before is None or after is None:
        return []
    from bigrestore.report.shown import data_uri, encode_webp

    cells = []
    for name, picture in (("before", before), ("after", after)):
        uri = data_uri(encode_webp(picture, 90))
        height, width = after.shape[:2]
        cells.append(
            f'<td style="text-align:center"><img alt="{name}" src="{uri}" width="{width}" height="{height}" '
            f'style="image-rendering:pixelated"><br>{name}</td>'
        )
    return [f"<table><tr>{''.join(cells)}</tr></table>"]


def _score_table(scores: dict[str, ScoreChange]) -> list[str]:
    """Return the scores as an HTML table."""
    from bigrestore.report.shown import number, signed

    if not scores:
        return []
    rows = "".join(
        f"<tr><th>{SHOWN_SCORES[name]}</th><td>{number(score.before, 2)}</td><td>{number(score.after, 2)}</td>"
        f"<td>{signed(score.change, 2)}</td><td>{score.tiles}</td></tr>"
        for name, score in scores.items()
    )
    heads = "".join(f"<th>{name}</th>" for name in ("lower is better", "before", "after", "change", "tiles"))
    return [f"<table><tr>{heads}</tr>{rows}</table>"]
