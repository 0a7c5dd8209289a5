"""The report of a run: rows of all blocks put together, what is missing scored, table, summary and page written.

It comes last, when the store is whole. Whatever goes wrong here is said and costs the report, never the output.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bigrestore
from bigrestore.engine.block import Job
from bigrestore.engine.journal import BlockRecord, sidecar
from bigrestore.engine.plan import SCORE_BLOCKS, Plan, digest, on_gpu
from bigrestore.engine.progress import Progress
from bigrestore.engine.resources import available_cpus
from bigrestore.engine.run_scores import RunScores, ScorePlan
from bigrestore.engine.score_images import Images, Source, score_places
from bigrestore.engine.score_pool import ScorePool
from bigrestore.engine.score_table import Columns, extend, score_rows, to_columns, to_table
from bigrestore.engine.signals import StopFlag
from bigrestore.engine.summary import ReportResult
from bigrestore.errors import StoppedError
from bigrestore.geometry import Box
from bigrestore.io.section import open_section
from bigrestore.methods.base import Method
from bigrestore.score.condition import Condition, condition_values
from bigrestore.score.grid import Place
from bigrestore.score.tiles import FAILED, EngineSpec, Row, column_names, missing_rows
from bigrestore.settings import RunSettings

log = logging.getLogger(__name__)

REPORT = "report"
"""Folder of the report, beside the journal."""

LARGEST = 65_536
"""Score tiles (15 gigapixels) above which a run scores a stratified sample of as many, unless told otherwise."""

LARGEST_GPU = 16_384
"""The same beside a GPU, which outruns the scores: what is left over when the network is done delays the report."""

PROCESSORS_OF_THE_NETWORK = 2
"""Beside a GPU, processors that are left to the threads that feed it."""

SHOWN = ("niqe", "brisque", "piqe", "sharpness", "noise", "residual", "invented")
"""Figures of the summary that the command line prints."""


def check_condition(settings: RunSettings) -> None:
    """Refuse a condition that asks for what the summary of a run will not have.

    Raises
    ------
    UsageError
        Naming it, and what there is.
    """
    if settings.fail_if is None:
        return
    metrics = EngineSpec().create().metrics
    names = column_names(metrics, pair=True, reference=False, extra=("residual", "seam"))
    Condition.parse(settings.fail_if).require(known_values(names))


def known_values(names: list[str]) -> list[str]:
    """Return what a condition on a table of these columns may ask for."""
    from bigrestore.score.statistics import summarise

    return list(condition_values(summarise({name: [] for name in names}, resamples=1)))


def score_plan(plan: Plan, method: Method, settings: RunSettings) -> ScorePlan | None:
    """Return which tiles a run scores; None where no report is wanted, or the output is smaller than the input.

    A degradation has no tile to put beside the input's.
    """
    if not settings.report or plan.grid.scale.denominator != 1:
        return None
    largest = LARGEST_GPU if on_gpu(method) else LARGEST
    return ScorePlan.of_run(plan.grid, largest, settings.report_sample, settings.seed)


def start_scores(job: Job, plan: Plan, settings: RunSettings, root: Path) -> RunScores | None:
    """Make what takes the blocks of a run; None where no report is wanted, or there is nothing to compare.

    Beside a GPU the scores have processes of their own, and as many processors as the network's threads leave.
    """
    chosen = score_plan(plan, job.method, settings)
    if chosen is None:
        return None
    gpu = on_gpu(job.method)
    workers = max(1, available_cpus() - PROCESSORS_OF_THE_NETWORK) if gpu else plan.threads
    pool = ScorePool(EngineSpec(), workers, processes=gpu)
    said = {"engine": pool.engine.describe(), "version": bigrestore.__version__}
    if chosen.sample is not None:
        log.info(
            "%d of %d score tiles are drawn for the report, stratified over tissue.",
            chosen.sample,
            chosen.grid.count,
        )
    return RunScores(
        chosen,
        pool,
        root / "scores",
        digest(said),
        Source(job.section),
        blocks_at_once=SCORE_BLOCKS[gpu],
        waits=not gpu,
    )


@contextlib.contextmanager
def closing_scores(scores: RunScores | None) -> Iterator[RunScores | None]:
    """Give the scores, and end their threads and processes whatever happens."""
    try:
        yield scores
    finally:
        if scores is not None:
            scores.pool.close()


def make_report(
    scores: RunScores,
    job: Job,
    plan: Plan,
    store: Path,
    output: Path,
    records: list[BlockRecord],
    settings: RunSettings,
    progress: Progress,
    flag: StopFlag,
) -> ReportResult:
    """Write the report of a run whose store is whole; a failure is said and nothing else.

    Raises
    ------
    StoppedError, KeyboardInterrupt
        Where a signal set the flag.
    """
    folder = sidecar(output) / REPORT
    try:
        return RunReport(scores, job, plan, store, output, records).write(
            folder, settings.fail_if, progress, flag
        )
    except StoppedError:
        raise
    except Exception as error:
        log.exception("The output is whole, but its report could not be made.")
        why = f"the report could not be made: {type(error).__name__}: {' '.join(str(error).split())}"
        check = (
            f"--fail-if {settings.fail_if!r} could not be checked, because {why}" if settings.fail_if else ""
        )
        return ReportResult(failures=[*scores.failures, why], check=check)


def former_report(folder: Path, settings: RunSettings) -> ReportResult:
    """Return the report that a finished run left, and check the condition against it."""
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        if settings.fail_if is None:
            return ReportResult()
        why = "the run was finished without a report; make one with bigrestore score"
        return ReportResult(check=f"--fail-if {settings.fail_if!r} could not be checked, because {why}")
    check = ""
    if settings.fail_if is not None:
        condition = Condition.parse(settings.fail_if)
        values = condition_values(summary)
        condition.require(values)
        check = condition.failure(values) or ""
    return ReportResult(str(folder), score_rows(summary, SHOWN), [], check)


class RunReport:
    """Makes the report of a run whose store is whole.

    Parameters
    ----------
    scores : RunScores
        Took the blocks.
    job, plan : Job, Plan
        Of the run.
    store : Path
        The output.
    output : Path
        What the user asked for; they differ for a TIFF.
    records : list of BlockRecord
        Of all blocks.
    """

    def __init__(
        self,
        scores: RunScores,
        job: Job,
        plan: Plan,
        store: Path,
        output: Path,
        records: list[BlockRecord],
    ) -> None:
        self._scores, self._job, self._plan, self._output = scores, job, plan, output
        self._records = {record.name: record for record in records}
        region = plan.grid.region
        image = open_section(store, input_range=job.section.value_range)
        first = (region.z0, region.box.y0, region.box.x0)
        self._source = Source(job.section)
        self._images = Images(Source(image, first), self._source, None, int(plan.grid.scale))
        self._done = 0

    def write(self, folder: Path, condition: str | None, progress: Progress, flag: StopFlag) -> ReportResult:
        """Score what is missing and write the report.

        Raises
        ------
        StoppedError, KeyboardInterrupt
            Where a signal set the flag.
        """
        from bigrestore.score.report import Report, write_report
        from bigrestore.score.statistics import summarise

        rows, native = self._collect(progress, flag)
        columns = self._with_run_figures(rows)
        facts = self._facts()
        if native is not None:
            facts["before_native"] = summarise(to_table(native), resamples=1)
        region = self._plan.grid.region
        z = facts["thumbnail_z"] = (region.z0 + region.z1) // 2
        thumbnails, px = self._images.thumbnails(z)
        report = Report(to_table(columns), facts, thumbnails, px, self._images.picture)
        summary = write_report(report, folder)
        check = ""
        if condition is not None:
            check = Condition.parse(condition).failure(condition_values(summary)) or ""
        return ReportResult(str(folder), score_rows(summary, SHOWN), list(self._scores.failures), check)

    def _collect(self, progress: Progress, flag: StopFlag) -> tuple[Columns, Columns | None]:
        """Return the rows of the output, and of the input on its own grid where that is another."""
        scores, plan = self._scores, self._scores.plan
        scores.wait(lambda: bool(flag))
        flag.raise_if_set("the output is whole, make its report by --resume")
        kinds = ["rows"] + (["native"] if plan.native is not None else [])
        found: dict[str, Columns] = {kind: {name: [] for name in scores.names(kind)} for kind in kinds}
        for name, record in self._records.items():
            stored = scores.stored(name) if record.status != "failed" else {}
            for kind in kinds:
                if kind in stored:
                    extend(found[kind], stored[kind])
        missing = {kind: self._settle(kind, found[kind]) for kind in kinds}
        total = sum(map(len, missing.values()))
        if total:
            log.info("%d score tiles are read back from the output.", total)
            progress.start("scores", total)
            try:
                for kind in kinds:
                    self._score(kind, missing[kind], found[kind], progress, flag)
            finally:
                progress.close()
        return found["rows"], found.get("native")

    def _settle(self, kind: str, columns: Columns) -> list[Place]:
        """Drop rows that are not wanted, add those of failed blocks; return the tiles that are still missing."""
        plan = self._scores.plan
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
            wanted = self._scores.wanted(kind, z, self._background(z))
            boxes = [block.box for block in failed if block.z == z]
            for place in grid.places(z) if wanted is None else sorted(wanted):
                index = have.get((z, place.row, place.column))
                if index is not None:
                    keep.append(index)
                elif any(_scaled(place, scale).intersect(box).pixels for box in boxes):
                    lost.append(place)
                else:
                    missing.append(place)
        names = self._scores.names(kind)
        kept: Columns = {name: [] for name in names}
        extend(kept, columns, keep)
        extend(kept, to_columns(missing_rows(lost, names, FAILED), names))
        columns.update(kept)
        return missing

    def _score(
        self, kind: str, places: list[Place], columns: Columns, progress: Progress, flag: StopFlag
    ) -> None:
        """Score tiles from the finished output."""
        scores = self._scores
        images = self._images if kind == "rows" else Images(self._source)
        names = scores.names(kind)

        def taken(group: list[Place], future: Future[list[Row]]) -> None:
            flag.raise_if_set("the output is whole, make its report by --resume")
            extend(columns, to_columns(scores.rows_of(future, kind, group), names))
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
        plan, scores, section = self._plan, self._scores, self._job.section
        region, said = plan.grid.region, self._job.method.describe()
        return {
            "image": self._output.name,
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
