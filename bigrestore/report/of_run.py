"""The report of a run: rows of all blocks put together, what is missing scored, table, summary and page written.

It comes last, when the store is whole. Whatever goes wrong here is said and costs the report, never the output.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from concurrent.futures import Future
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bigrestore
from bigrestore.core.geometry import Box
from bigrestore.errors import BigrestoreError, OutputError, StoppedError
from bigrestore.io.section import open_section
from bigrestore.report.blocks import LATE, RunScores
from bigrestore.report.columns_of_tiles import Columns, extend, to_columns, to_table
from bigrestore.report.images import Images, Source, score_places
from bigrestore.report.state import REPORT, note_report, report_result
from bigrestore.report.table.grid import Place
from bigrestore.report.table.tiles import FAILED, Row, missing_rows
from bigrestore.run.plan import Plan
from bigrestore.run.profile.words import reading
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.records import BlockRecord
from bigrestore.run.stop import StopFlag
from bigrestore.run.tile.block import Job
from bigrestore.run.view.progress import Progress
from bigrestore.run.view.summary import ReportResult
from bigrestore.settings import RunSettings

log = logging.getLogger(__name__)

UNFINISHED = "the output is written, make its report by --resume"


def make_report(
    report: RunReport, journal: Journal, settings: RunSettings, progress: Progress, flag: StopFlag
) -> ReportResult:
    """Write the report of an output that is written, and note it; what goes wrong is in the result.

    Raises
    ------
    StoppedError, KeyboardInterrupt
        Where a signal set the flag.
    """
    folder = journal.root / REPORT
    try:
        summary = report.write(folder, progress, flag)
        note_report(journal, report.scores.plan.sample, report.scores.failures)
    except StoppedError:
        raise
    except Exception as error:  # whatever it is, it must not cost the output; the summary raises it
        log.debug("The report cannot be made.", exc_info=True)
        why = _why(error)
        kind = type(error) if isinstance(error, BigrestoreError) else BigrestoreError
        found = kind(
            f"The output {report.output} is written, but its report could not be made: {why}; correct the cause and "
            "make it by --resume."
        )
        check = ""
        if settings.fail_if is not None and not isinstance(error, OutputError):
            check = f"--fail-if {settings.fail_if!r} could not be checked, because the report could not be made: {why}"
        failures = [*report.scores.failures, f"the report could not be made: {why}"]
        return ReportResult(failures=failures, check=check, error=found)
    return report_result(folder, summary, list(report.scores.failures), settings)


def _why(error: Exception) -> str:
    """Return an error as part of a sentence; its kind is named where it is none of ours."""
    said = " ".join(str(error).split()).rstrip(".")
    return said if isinstance(error, BigrestoreError) and said else f"{type(error).__name__}: {said}"


class RunReport:
    """Makes the report of a run whose output is written.

    Parameters
    ----------
    scores : RunScores
        Took the blocks.
    job, plan : Job, Plan
        Of the run.
    image : Path
        Where the pixels are read: the store, or a TIFF that was streamed from it.
    output : Path
        What the user asked for.
    records : list of BlockRecord
        Of all blocks.
    """

    def __init__(
        self,
        scores: RunScores,
        job: Job,
        plan: Plan,
        image: Path,
        output: Path,
        records: list[BlockRecord],
    ) -> None:
        self.scores, self.output = scores, output
        self._job, self._plan, self._image = job, plan, image
        self._records = {record.name: record for record in records}
        self._source = Source(job.section)
        self._done = 0

    @cached_property
    def _images(self) -> Images:
        """The output and its input."""
        region = self._plan.grid.region
        image = open_section(self._image, input_range=self._job.section.value_range)
        first = (region.z0, region.box.y0, region.box.x0)
        return Images(Source(image, first), self._source, None, int(self._plan.grid.scale))

    def write(self, folder: Path, progress: Progress, flag: StopFlag) -> dict[str, Any]:
        """Score what is missing and write the report; return its summary.

        Raises
        ------
        BigrestoreError
            Of the kind of what is wrong.
        StoppedError, KeyboardInterrupt
            Where a signal set the flag.
        """
        from bigrestore.report.table.statistics import summarise
        from bigrestore.report.table.write import Report, write_report

        rows, native = self._collect(progress, flag)
        columns = self._with_run_figures(rows)
        facts = self._facts() | {"blobs": self._blobs(columns)} | self._readings()
        if native is not None:
            facts["before_native"] = summarise(to_table(native), resamples=1)
        region = self._plan.grid.region
        z = facts["thumbnail_z"] = (region.z0 + region.z1) // 2
        thumbnails, px = self._images.thumbnails(z)
        report = Report(to_table(columns), facts, thumbnails, px, self._images.picture)
        flag.raise_if_set(UNFINISHED)
        return write_report(report, folder)

    def _collect(self, progress: Progress, flag: StopFlag) -> tuple[Columns, Columns | None]:
        """Return the rows of the output, and of the input on its own grid where that is another."""
        scores, plan = self.scores, self.scores.plan
        scores.wait(lambda: bool(flag))
        flag.raise_if_set(UNFINISHED)
        kinds = ["rows"] + (["native"] if plan.native is not None else [])
        found: dict[str, Columns] = {kind: {name: [] for name in scores.names(kind)} for kind in kinds}
        whole = [name for name, record in self._records.items() if record.status != "failed"]
        for name in (*whole, LATE):
            stored = scores.stored(name)
            for kind in kinds:
                if kind in stored:
                    extend(found[kind], stored[kind])
        missing = {kind: self._settle(kind, found[kind]) for kind in kinds}
        total = sum(map(len, missing.values()))
        if total:
            log.info("%d score tiles are read back from the output.", total)
            progress.start("scores", total)
            late = scores.stored(LATE) or {kind: {name: [] for name in scores.names(kind)} for kind in kinds}
            try:
                for kind in kinds:
                    self._score(kind, missing[kind], (found[kind], late[kind]), progress, flag)
            finally:
                progress.close()
                scores.keep(LATE, late)
        return found["rows"], found.get("native")

    def _settle(self, kind: str, columns: Columns) -> list[Place]:
        """Drop rows that are not wanted, add those of failed blocks; return the tiles that are still missing."""
        plan = self.scores.plan
        grid = plan.grid if kind == "rows" else plan.native
        assert grid is not None
        have = {
            key: i for i, key in enumerate(zip(columns["z"], columns["row"], columns["column"], strict=True))
        }
        scale = 1 if kind == "rows" else plan.scale
        failed = [
            block for block in self._plan.grid.blocks() if self._status(block.name) in ("failed", "missing")
        ]
        keep, missing, lost = [], [], []
        for z in range(grid.z0, grid.z1):
            wanted = self.scores.wanted(kind, z, self._background(z))
            boxes = [block.box for block in failed if block.z == z]
            for place in grid.places(z) if wanted is None else sorted(wanted):
                index = have.get((z, place.row, place.column))
                if index is not None:
                    keep.append(index)
                elif any(_scaled(place, scale).intersect(box).pixels for box in boxes):
                    lost.append(place)
                else:
                    missing.append(place)
        names = self.scores.names(kind)
        kept: Columns = {name: [] for name in names}
        extend(kept, columns, keep)
        extend(kept, to_columns(missing_rows(lost, names, FAILED), names))
        columns.update(kept)
        return missing

    def _score(
        self,
        kind: str,
        places: list[Place],
        columns: tuple[Columns, Columns],
        progress: Progress,
        flag: StopFlag,
    ) -> None:
        """Score tiles from the finished output; of those that are kept, the second columns, none has failed."""
        scores = self.scores
        images = self._images if kind == "rows" else Images(self._source)
        names = scores.names(kind)

        def taken(group: list[Place], future: Future[list[Row]]) -> None:
            flag.raise_if_set(UNFINISHED)
            rows = to_columns(scores.rows_of(future, kind, group), names)
            extend(columns[0], rows)
            extend(columns[1], rows, [i for i, reason in enumerate(rows["reason"]) if reason != FAILED])
            self._done += len(group)
            progress.advance(self._done, sum(place.box.pixels for place in group))

        score_places(images, places, self._background, scores.pool, taken)

    def _with_run_figures(self, columns: Columns) -> Columns:
        """Add the figures that the method's own words gave: residual and seams, from the records of blocks."""
        found = dict(columns)
        keys = list(zip(columns["z"], columns["row"], columns["column"], strict=True))
        for figure, stat in (("residual", "residuals"), ("seam", "seams")):
            sums = self._sums(stat)
            if sums:
                found[figure] = [
                    math.nan if reason else _root_ratio(*sums.get(key, (0.0, 0.0)))
                    for key, reason in zip(keys, columns["reason"], strict=True)
                ]
        return found

    def _blobs(self, columns: Columns) -> dict[str, Any]:
        """Return the blobs of the scored tiles, those without support in the input, and both by block.

        A tile belongs to the block that its first pixel lies in; `pixels` is where blobs were looked for.
        """
        blocks: dict[str, list[int]] = {}
        pixels = 0
        grid = self._plan.grid
        side, origin = grid.y.block_px, grid.region.box
        names = ("z", "y", "x", "height", "width", "blobs", "blobs_unsupported")
        for z, y, x, height, width, *counts in zip(*(columns[name] for name in names), strict=True):
            if not math.isnan(counts[0]):
                block = grid.block(z, (y - origin.y0) // side, (x - origin.x0) // side)
                total = blocks.setdefault(block.name, [0, 0])
                total[:] = (total[0] + int(counts[0]), total[1] + int(counts[1]))
                pixels += height * width
        found, unsupported = (sum(total[index] for total in blocks.values()) for index in (0, 1))
        return {"found": found, "unsupported": unsupported, "pixels": pixels, "blocks": blocks}

    def _readings(self) -> dict[str, list[dict[str, Any]]]:
        """Return what was read of each section, under `read`; nothing where the method reads nothing."""
        region, profiles = self._plan.grid.region, self._job.profiles
        scale = int(self._plan.grid.scale)
        found = [reading(profiles.of(z).statistics, z, scale) for z in range(region.z0, region.z1)]
        return {"read": found} if any(each["says"] for each in found) else {}

    def _sums(self, stat: str) -> dict[tuple[int, int, int], list[float]]:
        """Return the sums of a statistic over the blocks that a tile lies in."""
        found: dict[tuple[int, int, int], list[float]] = {}
        for block in self._plan.grid.blocks():
            record = self._records.get(block.name)
            parts: Mapping[str, list[float]] = record.stats.get(stat, {}) if record is not None else {}
            for name, values in parts.items():
                row, column = map(int, name.split(","))
                total = found.setdefault((block.z, row, column), [0.0] * len(values))
                for index, value in enumerate(values):
                    total[index] += value
        return found

    def _facts(self) -> dict[str, Any]:
        """Return the provenance: what was compared, by which engine, how; no time and no host."""
        plan, scores, section = self._plan, self.scores, self._job.section
        region, said = plan.grid.region, self._job.method.describe()
        return {
            "image": self.output.name,
            "before": section.source,
            "engine": scores.pool.engine.describe(),
            "tile_px": scores.plan.grid.tile_px,
            "value_range": list(section.value_range),
            "dtype": section.dtype.name,
            "scale": scores.plan.scale,
            "voxel_size_um": list(plan.spec.voxel_size_um),
            "origin_px": [region.box.y0, region.box.x0],
            "sampling": sampling_fact(scores.plan.sample, scores.plan.grid.count, scores.plan.seed),
            "method": said,
            "model": said.get("model"),
            "versions": versions(),
            "failures": list(scores.failures),
        }

    def _status(self, name: str) -> str:
        record = self._records.get(name)
        return "missing" if record is None else record.status

    def _background(self, z: int) -> tuple[float | None, float]:
        known = self._job.profiles.of(z)
        return known.background, known.background_sigma


def sampling_fact(sample: int | None, total: int, seed: int) -> str:
    """Say in words which tiles were scored."""
    if sample is None:
        return f"all {total} tiles"
    return (
        f"at most {sample} of {total} tiles, drawn systematically from a random start (seed {seed}): every section has its "
        "part, and within a section tiles are ordered by their share of tissue in four steps and then along the rows"
    )


def versions() -> dict[str, str]:
    """Return the versions that the figures depend on."""
    return {"bigrestore": bigrestore.__version__} | {name: version(name) for name in ("numpy", "scipy")}


def _root_ratio(square: float, over: float) -> float:
    """Return the root of a sum of squares over another sum, NaN where there is nothing to divide by."""
    return math.sqrt(square / over) if over > 0 else math.nan


def _scaled(place: Place, scale: int) -> Box:
    """Return the output pixels of a tile of the input's grid."""
    box = place.box
    return Box(box.y0 * scale, box.y1 * scale, box.x0 * scale, box.x1 * scale)
