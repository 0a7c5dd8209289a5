"""The report as a sink of a run: tiles and engine, decided before the first block.

`bigrestore.api.report_sinks` hands it to a run. The dry run counts its tiles, a condition on unknown figures is refused
at once, and a finished run is asked for its former report. Beside a GPU the scores have processes of their own, so the
network never waits for them.
"""

from __future__ import annotations

import logging

import attrs

import bigrestore
from bigrestore.core.host.resources import available_cpus
from bigrestore.report.blocks import ScorePlan
from bigrestore.report.metrics.columns import NATIVE_METRICS
from bigrestore.report.metrics.judges.engine import JudgeSettings
from bigrestore.report.of_run import RunReport
from bigrestore.report.pool import ScorePool
from bigrestore.report.state import former_report
from bigrestore.report.table.condition import Condition, condition_values
from bigrestore.report.table.tiles import EngineSpec, engine_columns
from bigrestore.run.output.owned import remove_report
from bigrestore.run.plan import on_gpu
from bigrestore.run.prepared import Prepared
from bigrestore.run.sinks import Sink, SinkEstimate
from bigrestore.run.state.fingerprint import digest
from bigrestore.run.tile.block import Job
from bigrestore.run.view.summary import RunSummary
from bigrestore.settings import RunSettings

log = logging.getLogger(__name__)

SCORE_BYTES = 64 << 20
"""Memory of one strip of score tiles while it is scored, before and after."""

JUDGE_BYTES = 64 << 20
"""The same for what judges look at."""

SCORE_BLOCKS = {False: 2, True: 4}
"""Blocks held while they are scored, on a CPU and beside a GPU."""

LARGEST = 65_536
"""Score tiles (15 gigapixels) above which a run scores a stratified sample of as many, unless told otherwise."""

LARGEST_GPU = 16_384
"""The same beside a GPU, which outruns the scores: what is left over when the network is done delays the report."""

PROCESSORS_OF_THE_NETWORK = 2
"""Beside a GPU, processors that are left to the threads that feed it."""

SCORE_SECONDS_PER_TILE, JUDGE_SECONDS_PER_TILE = 0.06, 0.9
"""Processor time of one score tile, before and after, with all its columns, and of a judge: measured, with some reserve."""


class ReportSink(Sink):
    """Scores the blocks of a run and writes its report.

    Parameters
    ----------
    settings : RunSettings
        Sample, seed, and the condition of `--fail-if`.

    Raises
    ------
    UsageError
        Where the condition cannot be read, or names figures without a place in the summary.
    """

    factory = "bigrestore.report.sink:ReportSink"
    bytes_per_tile = SCORE_BYTES

    def __init__(self, settings: RunSettings) -> None:
        self._settings = settings
        self._spec = EngineSpec()
        if settings.judges:
            judging = JudgeSettings(
                settings.scale,
                before=True,
                likelihood_model=settings.likelihood_model,
                ranking_model=settings.ranking_model,
            )
            self._spec = EngineSpec(metrics=(*NATIVE_METRICS, *settings.judges), judging=judging)
            self._spec.create()  # what is missing is said before the input is read
            self.bytes_per_tile = SCORE_BYTES + JUDGE_BYTES
        if settings.fail_if is not None:
            names = [*engine_columns(self._spec.create(), pair=True, reference=False), "residual", "seam"]
            Condition.parse(settings.fail_if).require(known_values(names))

    @property
    def _seconds_per_tile(self) -> float:
        return SCORE_SECONDS_PER_TILE + len(self._settings.judges) * JUDGE_SECONDS_PER_TILE

    def tally_side(self, score_tile_px: int) -> int:
        """Return the side of the run's score tiles."""
        return score_tile_px

    def blocks_held(self, *, gpu: bool) -> int:
        """Return the blocks held while they are scored."""
        return SCORE_BLOCKS[gpu]

    def estimate(self, ready: Prepared) -> SinkEstimate:
        """Return the score tiles and their wall time; beside a GPU other processors score meanwhile."""
        chosen = self._plan(ready)
        if chosen is None:
            return SinkEstimate()
        tiles = chosen.sample or chosen.grid.count
        seconds = 0.0 if on_gpu(ready.method) else tiles * self._seconds_per_tile / ready.plan.tiles_at_once
        return SinkEstimate(tiles, seconds)

    def resume(self, ready: Prepared, summary: RunSummary) -> RunSummary | None:
        """Return the summary with the report a finished run left; None after removing one to be made anew."""
        if self._plan(ready) is None:
            return summary
        report = former_report(ready.journal, self._settings)
        if report is not None:
            return attrs.evolve(summary, report=report)
        log.info("Its report is missing, or was made otherwise, and is made now.")
        remove_report(ready.journal.root)
        return None

    def open(self, ready: Prepared, job: Job) -> RunReport | None:
        """Return the scores of this process; None for an output smaller than the input."""
        chosen = self._plan(ready)
        if chosen is None:
            return None
        gpu = on_gpu(job.method)
        workers = max(1, available_cpus() - PROCESSORS_OF_THE_NETWORK) if gpu else ready.plan.tiles_at_once
        pool = ScorePool(self._spec, workers, processes=gpu)
        engine = {
            "engine": pool.engine.describe(),
            "version": bigrestore.__version__,
            "tile_px": chosen.grid.tile_px,
            "anchored": True,  # rows of an earlier version have cut tiles at the borders
        }
        if chosen.sample is not None:
            log.info(
                "%d of %d score tiles are drawn for the report, stratified over tissue.",
                chosen.sample,
                chosen.grid.count,
            )
        return RunReport(
            ready, job, chosen, pool, digest(engine), blocks_at_once=SCORE_BLOCKS[gpu], waits=not gpu
        )

    def _plan(self, ready: Prepared) -> ScorePlan | None:
        """Return the tiles to score; None for a degradation, whose tiles have no counterpart in the input."""
        if ready.plan.grid.scale.denominator != 1:
            return None
        largest = LARGEST_GPU if on_gpu(ready.method) else LARGEST
        settings = self._settings
        return ScorePlan.of_run(
            ready.plan.grid, largest, settings.report_sample, settings.seed, ready.plan.score_tile_px
        )


def known_values(names: list[str]) -> list[str]:
    """Return the names a condition may use on a table of these columns."""
    from bigrestore.report.table.statistics import summarise

    return list(condition_values(summarise({name: [] for name in names}, resamples=1)))
