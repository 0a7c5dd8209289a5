"""One crop of a section under several settings, scored and side by side: what to choose, before a long run.

Each variant is restored as a run restores it, by the same tiles, and has the pixels of the run. The section is opened
and sampled once for all of them, and nothing is written but the sheet.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import attrs
import numpy as np
from numpy.typing import NDArray

from bigrestore.arrays import ImageArray, TemporaryFolder, is_array
from bigrestore.core.geometry import Box
from bigrestore.core.host.arithmetic import exact_arithmetic
from bigrestore.core.host.resources import give_threads_back, one_thread_per_tile
from bigrestore.core.pixels import GreyBytes, to_unit
from bigrestore.core.sizes import fitting_score_tile
from bigrestore.errors import UsageError
from bigrestore.io.conventions.range_check import check_range_used
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section
from bigrestore.model.method import Method
from bigrestore.model.network import NetworkMethod
from bigrestore.model.registry import create_method
from bigrestore.model.sharpening import without_sharpening
from bigrestore.report.metrics.columns import COLUMNS
from bigrestore.report.metrics.enlarge import source_box
from bigrestore.report.metrics.native_engine import NativeEngine
from bigrestore.report.page.contact_sheet import Cell, draw_contact_sheet, write_contact_sheet
from bigrestore.report.shown import number, signed
from bigrestore.report.table.grid import TileGrid
from bigrestore.report.table.tiles import Pixels, Strip, score_strip
from bigrestore.results import OVERVIEW_PX, liveliest
from bigrestore.run.plan import make_plan
from bigrestore.run.prepared import Inputs, masker_of, warn_of_restored
from bigrestore.run.profile.kept import Profiles
from bigrestore.run.profile.section_profile import Sample, profile_windows, sample_section
from bigrestore.run.profile.words import sentence
from bigrestore.run.tile.block import BlockWork, Job
from bigrestore.run.tile.realness import RealnessMap
from bigrestore.run.view.progress import NoProgress, Progress, phase_shown
from bigrestore.settings import RunSettings, TryKeywords
from bigrestore.settings.trial import Varied, variants_of
from bigrestore.settings.values import AUTO_MAP, BlurInput, NamesInput, Roi, SharpeningInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRIAL_PX = 512
"""Side of the crop where no region is asked for, in output pixels."""

DETAIL_PX = 96
"""Side of the detail under each picture, in output pixels."""

LARGEST_CROP_PX = 4096 * 4096
"""Output pixels of a region beyond which a run is what is wanted."""

SHEET_FIGURES = ("niqe", "brisque", "piqe", "invented")
"""Figures on the sheet: lower is better of the first three, `invented` is what the input does not explain."""

DEFAULT_REALNESS = (0.0, 0.5, 1.0)
DEFAULT_METHODS = ("network", "wiener")


@attrs.frozen
class Score:
    """Medians of a figure over the score tiles of the crop.

    Attributes
    ----------
    before, after : float or None
        Of the input and of the restored image; `before` is None of a figure of restored images alone.
    """

    before: float | None
    after: float


@attrs.frozen(eq=False)
class Variant:
    """The crop under some settings.

    Attributes
    ----------
    name : str
        The settings that differ, as flags without dashes.
    settings : dict
        Their values.
    image : ndarray, (h, w) or (h, w, 3)
        Restored pixels in the type of the input.
    scores : dict of str to Score
        By `niqe`, `brisque`, `piqe` and `invented`; empty where no tile could be scored.
    read : str
        Blur, noise and JPEG that the method read of the section, in words.
    seconds : float
        Time of the restoration.
    """

    name: str
    settings: dict[str, Any]
    image: NDArray[Any] = attrs.field(repr=False)
    scores: dict[str, Score]
    read: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the variant as a JSON document, without its pixels."""
        scores = {name: attrs.asdict(score) for name, score in self.scores.items()}
        return {
            "name": self.name,
            "settings": self.settings,
            "scores": scores,
            "read": self.read,
            "seconds": round(self.seconds, 3),
        }


@attrs.frozen(eq=False)
class Trial:
    """A crop under several settings; a notebook shows its sheet.

    Attributes
    ----------
    source : str
        The input.
    z : int
        Its section.
    roi : tuple of (int, int)
        Rows and columns of the crop, in output pixels.
    before : ndarray
        The crop of the input, in input pixels.
    value_range : tuple of float
        Values of black and white.
    variants : tuple of Variant
        In the order of the values given.
    """

    source: str
    z: int
    roi: tuple[tuple[int, int], tuple[int, int]]
    before: NDArray[Any] = attrs.field(repr=False)
    value_range: tuple[float, float]
    variants: tuple[Variant, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the scores as a JSON document."""
        return {
            "input": self.source,
            "z": self.z,
            "roi": [list(span) for span in self.roi],
            "variants": [variant.to_json() for variant in self.variants],
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return the variants and their scores for people."""
        (y0, y1), (x0, x1) = self.roi
        rows = [("crop", f"{self.source}  section {self.z}, --roi {y0}:{y1},{x0}:{x1}")]
        scored = [(each.name, ", ".join(_said(each.scores)) or "no scores") for each in self.variants]
        return rows + scored

    def save(self, path: str | Path) -> None:
        """Write the sheet as a PNG.

        Raises
        ------
        OutputError
            The file cannot be written.
        """
        write_contact_sheet(Path(path), self._figure())

    def _repr_png_(self) -> bytes:
        """Return the sheet for a notebook."""
        stream = io.BytesIO()
        self._figure().savefig(stream, format="png")
        return stream.getvalue()

    def _figure(self) -> Figure:
        """Draw the sheet."""
        (y0, y1), (x0, x1) = self.roi
        box = Box(y0, y1, x0, x1)
        picture = self._eight_bits(self.before)
        step = (y1 - y0) / picture.shape[0]
        side = min(DETAIL_PX, box.height, box.width)
        middle = liveliest(picture, side / step)
        first = [
            min(max(0, round(at * step) - side // 2), extent - side)
            for at, extent in zip(middle, (box.height, box.width), strict=True)
        ]
        detail = Box(y0 + first[0], y0 + first[0] + side, x0 + first[1], x0 + first[1] + side)
        scores = next((each.scores for each in self.variants if each.scores), {})
        own = {name: Score(None, score.before) for name, score in scores.items() if score.before is not None}
        cells = [Cell("input", "\n".join(_said(own)) or "no scores", picture)]
        cells += [
            Cell(each.name, "\n".join(_said(each.scores)) or "no scores", self._eight_bits(each.image))
            for each in self.variants
        ]
        read = next((each.read for each in self.variants if each.read), "")
        name = self.source.rstrip("/").rsplit("/", 1)[-1]
        place = f"{name}, section {self.z}, rows {y0} to {y1}, columns {x0} to {x1} of the output"
        return draw_contact_sheet(cells, box, detail, f"{place}\n{read}" if read else place)

    def _eight_bits(self, pixels: NDArray[Any]) -> GreyBytes:
        """Return pixels of the input's range as 0 to 255."""
        return np.rint(255 * np.clip(to_unit(pixels, self.value_range), 0, 1)).astype(np.uint8)


def try_variants(
    inputs: Any,
    *,
    realness: float | Sequence[float] = (),
    method: NamesInput = (),
    blur: BlurInput | Sequence[BlurInput] = (),
    sharpened: SharpeningInput | Sequence[SharpeningInput] = (),
    **settings: Unpack[TryKeywords],
) -> Trial:
    """Restore one crop of a section under several settings, and score it.

    Parameters
    ----------
    inputs : str, Path or list of them; or an array
        As for `bigrestore.restore`.
    realness, method, blur, sharpened : one value or several
        Values of the settings of `run`; each combination is a variant. None at all: realness 0, 0.5 and 1 of a model with a
        prior, and the methods network and wiener of another.
    **settings
        Settings of `run` for all variants. Without `roi` the crop is the liveliest 512 px of the middle section.

    Returns
    -------
    Trial
        Pixels and scores of each variant; a notebook shows them as a sheet, `save` writes it.

    Raises
    ------
    BigrestoreError
        Of the kind of what is wrong.

    Examples
    --------
    >>> import bigrestore
    >>> bigrestore.try_variants("section.tif", realness=[0, 0.5, 1])  # doctest: +SKIP
    """
    asked = Varied(realness=realness, method=method, blur=blur, sharpened=sharpened)
    common = RunSettings.from_mapping(settings, "try_variants()")
    if not is_array(inputs):
        return carry_out_trial(inputs, common, asked)
    folder = TemporaryFolder()
    try:
        ImageArray.of(inputs).write(folder.path / "array.zarr")
        made = carry_out_trial(folder.path / "array.zarr", common, asked)
        return attrs.evolve(made, source="array")
    finally:
        folder.remove()


def carry_out_trial(
    inputs: Inputs, common: RunSettings, asked: Varied, progress: Progress | None = None
) -> Trial:
    """Restore and score each variant of a crop; the arguments are those of the command.

    Raises
    ------
    BigrestoreError
        Of the kind of what is wrong.
    """
    shown = progress or NoProgress()
    with phase_shown(shown, "start-up"):
        section = open_section(
            inputs,
            level=common.level,
            series=common.series,
            channel=common.channel,
            input_range=common.input_range,
            storage_options=common.storage_options,
        )
        check_range_used(section, common.input_range, profiled=True)
        varied = asked.values()
        if not any(varied.values()):
            varied = _default_values(common)
        z, roi = _crop(section, common)
        common = attrs.evolve(common, roi=(z, *roi))
        variants = variants_of(common, varied)
        methods = [
            without_sharpening(create_method(settings), settings.sharpened) for _, settings in variants
        ]  # refused before the first is restored
        realness = RealnessMap.asked_for(common.realness_map, section.shape)
        warn_of_restored(section, methods[0])
        sample = sample_section(section, z[0])
    made = []
    with exact_arithmetic():
        for (chosen, settings), method in zip(variants, methods, strict=True):
            name = ", ".join(f"{flag} {_word(value)}" for flag, value in chosen.items()) or "as asked"
            with phase_shown(shown, name):
                made.append(_variant(name, chosen, section, settings, method, sample, z[0], realness))
    box, scale = Box(*roi[0], *roi[1]), common.scale
    v0, v1 = box.y0 // scale, -(-box.y1 // scale)
    u0, u1 = box.x0 // scale, -(-box.x1 // scale)
    return Trial(
        source=section.source,
        z=z[0],
        roi=roi,
        before=section.read(z[0], v0, v1, u0, u1),
        value_range=section.value_range,
        variants=tuple(made),
    )


def _default_values(common: RunSettings) -> dict[str, Sequence[Any]]:
    """Return what is compared where nothing is asked for: realness where the model has a prior, else methods."""
    method = create_method(common)
    if not (isinstance(method, NetworkMethod) and "invented" in method.map_names):
        return {"method": DEFAULT_METHODS}
    drawn = common.realness_map not in (None, AUTO_MAP)  # and a map is refused at realness 0
    return {"realness": DEFAULT_REALNESS[drawn:]}


def _crop(section: Section, settings: RunSettings) -> tuple[tuple[int, int], Any]:
    """Return section and region of the crop: as asked for, or the liveliest part of the middle section.

    Without a region its edges lie on whole input pixels.
    """
    scale = settings.scale
    asked: Roi = settings.roi or (None, (0, 0), (0, 0))
    first = section.depth // 2 if asked[0] is None else asked[0][0]
    z = (first, first + 1)
    if settings.roi is not None:
        (y0, y1), (x0, x1) = asked[1:]
        if (y1 - y0) * (x1 - x0) > LARGEST_CROP_PX:
            raise UsageError(
                f"--roi has {y1 - y0} x {x1 - x0} output pixels, and a crop to compare has 4096 x 4096 at most; give "
                "less, or restore it by `bigrestore run`."
            )
        return z, asked[1:]
    overview, factor = section.lowres(first, OVERVIEW_PX)
    side = TRIAL_PX // scale
    middle = liveliest(overview, side / factor)
    spans = []
    for at, extent in zip(middle, (section.height, section.width), strict=True):
        start = min(max(0, round(at * factor) - side // 2), max(0, extent - side))
        spans.append((start * scale, min(extent, start + side) * scale))
    return z, (spans[0], spans[1])


def _variant(
    name: str,
    chosen: Mapping[str, Any],
    section: Section,
    settings: RunSettings,
    method: Method,
    sample: Sample,
    z: int,
    realness: RealnessMap | None,
) -> Variant:
    """Restore and score the crop by one method."""
    started = time.perf_counter()
    profile = profile_windows(sample, method)
    plan = make_plan(section, method, settings, Path("crop.ome.zarr"), None)
    job = Job(
        section=section,
        method=method,
        grid=plan.grid,
        masker=masker_of(section, method, settings),
        profiles=Profiles(section, method, None, {z: profile}),
        realness=realness,
    )
    box = plan.grid.region.box
    image = np.empty((box.height, box.width, 3)[: 2 + (section.channels == 3)], section.dtype)
    before = one_thread_per_tile()  # as in a run: sums do not depend on the processors
    try:
        with ThreadPoolExecutor(plan.threads, initializer=one_thread_per_tile) as pool:
            for block in plan.grid.blocks():
                work = BlockWork(job, block)
                list(pool.map(work.restore, work.batches))
                work.finish()
                image[block.box.slices(box)] = work.output
    finally:
        give_threads_back(before)
    seconds = time.perf_counter() - started
    scores = _crop_scores(
        section, z, image, box, settings.scale, (profile.background, profile.background_sigma)
    )
    said = sentence(profile.statistics, settings.scale)
    return Variant(name, dict(chosen), image, scores, said, seconds)


def _crop_scores(
    section: Section,
    z: int,
    image: NDArray[Any],
    box: Box,
    scale: int,
    background: tuple[float | None, float],
) -> dict[str, Score]:
    """Return the medians over the valid score tiles of the crop; of a figure without values none."""
    side = fitting_score_tile(box.height, box.width)
    needed = source_box(box, scale, section.height, section.width)
    strip = Strip(
        list(TileGrid(z, z + 1, box, side).places(z)),
        Pixels(image, box, section.value_range),
        Pixels(section.read(z, needed.y0, needed.y1, needed.x0, needed.x1), needed, section.value_range),
        scale=scale,
        tile_px=side,
        background=background[0],
        sigma=background[1],
    )
    rows = [row for row in score_strip(strip, NativeEngine()) if not (row["reason"] or row["reason_before"])]
    scores = {}
    for name in SHEET_FIGURES:
        after, before = (
            [row[column] for row in rows if np.isfinite(row.get(column, np.nan))]
            for column in (name, f"{name}_before")
        )
        if after:
            scores[name] = Score(float(np.median(before)) if before else None, float(np.median(after)))
    return scores


def _said(scores: Mapping[str, Score]) -> list[str]:
    """Return scores as words, each with its change."""
    words = []
    for name, score in scores.items():
        column = COLUMNS[name]
        after = number(score.after * column.factor, column.digits)
        change = (
            ""
            if score.before is None
            else f" ({signed((score.after - score.before) * column.factor, column.digits)})"
        )
        unit = " %" if column.unit == "%" else ""
        words.append(f"{column.label} {after}{unit}{change}")
    return words


def _word(value: Any) -> str:
    """Return the value of a setting as it is typed."""
    if isinstance(value, tuple) and len(value) == 2:
        return ",".join(f"{part:g}" for part in value)
    if isinstance(value, tuple):
        along, across, angle = value
        return f"{along:g}" if along == across else f"{along:g},{across:g},{angle:g}"
    return f"{value:g}" if isinstance(value, float) else str(value)
