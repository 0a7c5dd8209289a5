"""The report of a run: rows of all blocks collected, missing ones scored, table, summary and page written.

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

import attrs
import numpy as np

import bigrestore
from bigrestore.core.geometry import Box
from bigrestore.errors import BigrestoreError, InputError, OutputError, StoppedError, one_line
from bigrestore.io.open_section import open_section
from bigrestore.report.blocks import LATE, RunScores, ScorePlan
from bigrestore.report.images import Images, ImageToScore, open_maps, score_places
from bigrestore.report.pool import ScorePool
from bigrestore.report.rows import Columns, extend, to_columns, to_table
from bigrestore.report.state import note_report, report_result
from bigrestore.report.table.grid import ScoreTile, tile_worth
from bigrestore.report.table.tiles import FAILED, TileRow, missing_rows
from bigrestore.run.output.owned import REPORT
from bigrestore.run.prepared import Prepared
from bigrestore.run.profile.section_profile import Profile
from bigrestore.run.profile.words import reading
from bigrestore.run.state.records import BlockRecord
from bigrestore.run.stop import StopFlag
from bigrestore.run.tile.block import Job
from bigrestore.run.tile.unlikely import total_unlikely
from bigrestore.run.view.progress import Progress
from bigrestore.run.view.summary import ReportResult, RunSummary
from bigrestore.settings.values import UNLIKELY_MAP

log = logging.getLogger(__name__)

REPORT_UNFINISHED = "the output is written, make its report by --resume"


class RunReport(RunScores):
    """Scores the blocks of a run, and makes its report once the output is whole.

    Parameters
    ----------
    ready : Prepared
        The run.
    job : Job
        Section, method and profiles of its blocks.
    plan, pool, digest, blocks_at_once, waits
        As of `RunScores`.
    """

    reports = True

    def __init__(
        self,
        ready: Prepared,
        job: Job,
        plan: ScorePlan,
        pool: ScorePool,
        digest: str,
        *,
        blocks_at_once: int,
        waits: bool,
    ) -> None:
        self._source = ImageToScore(job.section)
        folder = ready.journal.root / "scores"
        super().__init__(plan, pool, folder, digest, self._source, blocks_at_once=blocks_at_once, waits=waits)
        self._ready, self._job, self._grid = ready, job, ready.plan.grid
        self._records: dict[str, BlockRecord] = {}
        self._done = 0

    def finish(
        self, summary: RunSummary, records: list[BlockRecord], progress: Progress, flag: StopFlag
    ) -> RunSummary:
        """Write the report and note it; an error is in the result, because it must not cost the output.

        Raises
        ------
        StoppedError, KeyboardInterrupt
            Where a signal set the flag.
        """
        flag.remedy = REPORT_UNFINISHED
        self._records = {record.name: record for record in records}
        journal, settings = self._ready.journal, self._ready.settings
        folder = journal.root / REPORT
        try:
            figures = self.write(folder, progress, flag)
            note_report(journal, self.plan.sample, self.failures, settings.judges)
        except StoppedError:
            raise
        except Exception as error:  # raised by the summary, once the output is safe
            log.debug("The report cannot be made.", exc_info=True)
            return attrs.evolve(summary, report=self._failed(error))
        return attrs.evolve(summary, report=report_result(folder, figures, list(self.failures), settings))

    def _failed(self, error: Exception) -> ReportResult:
        """Return the result of a failed report."""
        why = one_line(error)
        kind = type(error) if isinstance(error, BigrestoreError) else BigrestoreError
        sentence = (
            f"The output {self._ready.output} is written, but its report could not be made: {why}; correct the cause and "
            "make it by --resume."
        )
        check, condition = "", self._ready.settings.fail_if
        if condition is not None and not isinstance(error, OutputError):
            check = (
                f"--fail-if {condition!r} could not be checked, because the report could not be made: {why}"
            )
        failures = [*self.failures, f"the report could not be made: {why}"]
        return ReportResult(failures=failures, check=check, error=kind(sentence))

    @cached_property
    def _images(self) -> Images:
        """The output and its input."""
        store, region = self._ready.store, self._grid.region
        path = store if store.exists() else self._ready.output  # a TIFF's store is removed at the end
        image = open_section(path, input_range=self._job.section.value_range)
        first = (region.z0, region.box.y0, region.box.x0)
        return Images(
            ImageToScore(image, first),
            self._source,
            scale=int(self._grid.scale),
            tile_px=self.plan.grid.tile_px,
            maps=open_maps(store, image),
            noise_law=lambda z: self._job.profiles.of(z).noise_law,
        )

    def write(self, folder: Path, progress: Progress, flag: StopFlag) -> dict[str, Any]:
        """Score the missing tiles and write the report; return its summary.

        Raises
        ------
        BigrestoreError
            By its kind.
        StoppedError, KeyboardInterrupt
            Where a signal set the flag.
        """
        from bigrestore.report.table.content import Report
        from bigrestore.report.table.statistics import summarise
        from bigrestore.report.table.write import write_report

        rows, native = self._collect(progress, flag)
        columns = self._with_run_figures(rows)
        facts = self._facts() | {"blobs": self._blobs(columns)} | self._readings() | self._unlikely()
        if native is not None:
            facts["before_native"] = summarise(to_table(native), resamples=1)
        report = Report(to_table(columns), facts, self._images.picture, self._images.overview)
        flag.raise_if_set(REPORT_UNFINISHED)
        return write_report(report, folder)

    def _collect(self, progress: Progress, flag: StopFlag) -> tuple[Columns, Columns | None]:
        """Return the rows of the output, and of the input on its own grid if it differs."""
        self.wait(lambda: bool(flag))
        flag.raise_if_set(REPORT_UNFINISHED)
        kinds = ["rows"] + (["native"] if self.plan.native is not None else [])
        columns: dict[str, Columns] = {kind: {name: [] for name in self.names(kind)} for kind in kinds}
        whole = [name for name, record in self._records.items() if record.status != "failed"]
        for name in (*whole, LATE):
            stored = self.stored(name)
            for kind in kinds:
                if kind in stored:
                    extend(columns[kind], stored[kind])
        missing = {kind: self._settle(kind, columns[kind]) for kind in kinds}
        total = sum(map(len, missing.values()))
        if total:
            log.debug("%d score tiles are read back from the output.", total)
            progress.start("report", total)
            late = self.stored(LATE) or {kind: {name: [] for name in self.names(kind)} for kind in kinds}
            try:
                for kind in kinds:
                    self._score_late(kind, missing[kind], (columns[kind], late[kind]), progress, flag)
            finally:
                self.keep(LATE, late)
        return columns["rows"], columns.get("native")

    def _settle(self, kind: str, columns: Columns) -> list[ScoreTile]:
        """Drop unwanted rows, add those of failed blocks; return the missing tiles."""
        plan = self.plan
        grid = plan.grid if kind == "rows" else plan.native
        assert grid is not None
        have = {
            key: i for i, key in enumerate(zip(columns["z"], columns["row"], columns["column"], strict=True))
        }
        scale = 1 if kind == "rows" else plan.scale
        failed = [
            block
            for block in self._grid.blocks()
            if (record := self._records.get(block.name)) is None or record.status == "failed"
        ]
        keep: list[int] = []
        missing: list[ScoreTile] = []
        lost: list[ScoreTile] = []
        for z in range(grid.z0, grid.z1):
            if self._profile(z) is None:
                lost += grid.places(z) if plan.sample is None else []
                continue
            wanted = self.wanted(kind, z, self._background(z))
            boxes = [block.box for block in failed if block.z == z]
            for place in grid.places(z) if wanted is None else sorted(wanted):
                index = have.get((z, place.row, place.column))
                if index is not None:
                    keep.append(index)
                elif any(place.box.enlarged(scale).intersect(box).pixels for box in boxes):
                    lost.append(place)
                else:
                    missing.append(place)
        names = self.names(kind)
        kept: Columns = {name: [] for name in names}
        extend(kept, columns, keep)
        extend(kept, to_columns(missing_rows(lost, names, FAILED), names))
        columns.update(kept)
        return missing

    def _score_late(
        self,
        kind: str,
        places: list[ScoreTile],
        columns: tuple[Columns, Columns],
        progress: Progress,
        flag: StopFlag,
    ) -> None:
        """Score tiles from the finished output; the second columns, kept for later, get no failed tile."""
        images = self._images if kind == "rows" else Images(self._source, tile_px=self.plan.grid.tile_px)
        names = self.names(kind)

        def taken(group: list[ScoreTile], future: Future[list[TileRow]]) -> None:
            flag.raise_if_set(REPORT_UNFINISHED)
            rows = to_columns(self.rows_of(future, kind, group), names)
            extend(columns[0], rows)
            extend(columns[1], rows, [i for i, reason in enumerate(rows["reason"]) if reason != FAILED])
            self._done += len(group)
            progress.advance(self._done, sum(place.box.pixels for place in group))

        score_places(images, places, self._background, self.pool, taken)

    def _with_run_figures(self, columns: Columns) -> Columns:
        """Add the figures from the records of blocks: residual and seams.

        The records have sums over the cells of the grid; a tile moved inward to the border has those of all cells that it
        touches.
        """
        figures = dict(columns)
        side = self.plan.grid.tile_px
        places = list(zip(*(columns[name] for name in ("z", "y", "x", "height", "width")), strict=True))
        for figure, stat in (("residual", "residuals"), ("seam", "seams")):
            sums = self._sums(stat)
            if sums:
                figures[figure] = [
                    math.nan if reason else _root_ratio(sums, z, Box(y, y + height, x, x + width), side)
                    for (z, y, x, height, width), reason in zip(places, columns["reason"], strict=True)
                ]
        return figures

    def _blobs(self, columns: Columns) -> dict[str, Any]:
        """Return the blobs of the scored tiles, those without support in the input, and both by block.

        A tile belongs to the block of its first pixel; `pixels` is the area searched for blobs. What overlapping tiles
        share counts once, on the average.
        """
        blocks: dict[str, list[float]] = {}
        pixels = 0.0
        grid = self._grid
        side, origin = grid.y.block_px, grid.region.box
        names = ("z", "y", "x", "height", "width", "blobs", "blobs_unsupported")
        rows = zip(*(columns[name] for name in names), strict=True)
        worth = tile_worth(*(np.array(columns[name], np.int64) for name in names[:5]))
        for own, (z, y, x, height, width, *counts) in zip(worth.tolist(), rows, strict=True):
            if not math.isnan(counts[0]):
                block = grid.block(z, (y - origin.y0) // side, (x - origin.x0) // side)
                total = blocks.setdefault(block.name, [0.0, 0.0])
                total[:] = (total[0] + own * counts[0], total[1] + own * counts[1])
                pixels += own * height * width
        whole = {name: [round(count) for count in total] for name, total in blocks.items()}
        all_blobs, unsupported = (round(sum(total[index] for total in blocks.values())) for index in (0, 1))
        return {"found": all_blobs, "unsupported": unsupported, "pixels": round(pixels), "blocks": whole}

    def _readings(self) -> dict[str, list[dict[str, Any]]]:
        """Return the reading of each section, under `read`; nothing for a method without readings."""
        region, scale = self._grid.region, int(self._grid.scale)
        profiles = {z: self._profile(z) for z in region.sections}
        readings = [reading(known.statistics, z, scale) for z, known in profiles.items() if known is not None]
        return {"read": readings} if any(each["says"] for each in readings) else {}

    def _unlikely(self) -> dict[str, Any]:
        """Return what the map `unlikely` says of the run, from the records of its blocks; nothing without the map."""
        if UNLIKELY_MAP not in self._ready.plan.maps:
            return {}
        records = [self._records.get(block.name) for block in self._grid.blocks()]
        stats = [record.stats for record in records if record is not None]
        return {UNLIKELY_MAP: total_unlikely(each[UNLIKELY_MAP] for each in stats if UNLIKELY_MAP in each)}

    def _sums(self, stat: str) -> dict[tuple[int, int, int], list[float]]:
        """Return the sums of a statistic over all blocks of a tile."""
        sums: dict[tuple[int, int, int], list[float]] = {}
        for block in self._grid.blocks():
            record = self._records.get(block.name)
            parts: Mapping[str, list[float]] = record.stats.get(stat, {}) if record is not None else {}
            for name, values in parts.items():
                row, column = map(int, name.split(","))
                total = sums.setdefault((block.z, row, column), [0.0] * len(values))
                for index, value in enumerate(values):
                    total[index] += value
        return sums

    def _facts(self) -> dict[str, Any]:
        """Return the provenance: images, engine and sampling; no time and no host."""
        plan, section = self.plan, self._job.section
        region, said = self._grid.region, self._job.method.describe()
        return {
            "image": self._ready.output.name,
            "before": section.source,
            "engine": self.pool.engine.describe(),
            "tile_px": plan.grid.tile_px,
            "value_range": list(section.value_range),
            "dtype": section.dtype.name,
            "scale": plan.scale,
            "voxel_size_um": list(self._ready.plan.spec.voxel_size_um),
            "origin_px": [region.box.y0, region.box.x0],
            "sections": [region.z0, region.z1],
            "thumbnail_z": (region.z0 + region.z1) // 2,
            "opens": self._opens(),
            "sampling": sampling_fact(plan.sample, plan.grid.count, plan.seed),
            "method": said,
            "model": said.get("model"),
            "versions": versions(),
            "failures": list(self.failures),
        }

    def _opens(self) -> dict[str, Any] | None:
        """Return what a viewer opens: the output, from the folder of the report or where it is copied to."""
        ready = self._ready
        if ready.plan.zipped:
            return None
        there = ready.destination
        path = f"../../{ready.output.name}" if there is None else there.url
        return {"path": path, "ome_zarr": not ready.plan.tiff}

    def _profile(self, z: int) -> Profile | None:
        """Return the profile of section z; None if no block of it was restored, because it cannot be read."""
        try:
            return self._job.profiles.of(z)
        except InputError:
            here = [self._records.get(block.name) for block in self._grid.blocks() if block.z == z]
            if any(record is not None and record.status != "failed" for record in here):
                raise
            return None

    def _background(self, z: int) -> tuple[float | None, float]:
        known = self._job.profiles.of(z)
        return known.background, known.background_sigma


def sampling_fact(sample: int | None, total: int, seed: int) -> str:
    """Say in words which tiles were scored."""
    if sample is None:
        return f"all {total} tiles"
    return (
        f"at most {sample} of {total} tiles, drawn systematically from a random start (seed {seed}): sections have equal "
        "parts, and within a section tiles are ordered by their share of tissue in four steps and then along the rows"
    )


def versions() -> dict[str, str]:
    """Return the versions behind the figures."""
    return {"bigrestore": bigrestore.__version__} | {name: version(name) for name in ("numpy", "scipy")}


def _root_ratio(sums: Mapping[tuple[int, int, int], list[float]], z: int, tile: Box, side: int) -> float:
    """Return the root of a sum of squares over another sum, of all cells that a tile touches; NaN over 0."""
    rows, columns = range(tile.y0 // side, -(-tile.y1 // side)), range(tile.x0 // side, -(-tile.x1 // side))
    cells = [sums.get((z, row, column), [0.0, 0.0]) for row in rows for column in columns]
    square, over = (sum(cell[index] for cell in cells) for index in (0, 1))
    return math.sqrt(square / over) if over > 0 else math.nan
