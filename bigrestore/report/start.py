"""What a run scores, and by what: decided from plan and settings before its first block.

Which tiles are scored must be known before anything is restored (the dry run counts them, a condition that asks for
what no summary will have is refused), and who computes depends on whether a GPU must not be kept waiting.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import bigrestore
from bigrestore.core.resources import available_cpus
from bigrestore.model.method import Method
from bigrestore.report.blocks import RunScores, ScorePlan
from bigrestore.report.images import Source
from bigrestore.report.pool import ScorePool
from bigrestore.report.table.condition import Condition, condition_values
from bigrestore.report.table.tiles import EngineSpec, column_names
from bigrestore.run.plan import SCORE_BLOCKS, Plan, on_gpu
from bigrestore.run.state.fingerprint import digest
from bigrestore.run.state.journal import Journal
from bigrestore.run.tile.block import Job
from bigrestore.settings import RunSettings

log = logging.getLogger(__name__)

LARGEST = 65_536
"""Score tiles (15 gigapixels) above which a run scores a stratified sample of as many, unless told otherwise."""

LARGEST_GPU = 16_384
"""The same beside a GPU, which outruns the scores: what is left over when the network is done delays the report."""

PROCESSORS_OF_THE_NETWORK = 2
"""Beside a GPU, processors that are left to the threads that feed it."""


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
    from bigrestore.report.table.statistics import summarise

    return list(condition_values(summarise({name: [] for name in names}, resamples=1)))


def score_plan(plan: Plan, method: Method, settings: RunSettings) -> ScorePlan | None:
    """Return which tiles a run scores; None where no report is wanted, or the output is smaller than the input.

    A degradation has no tile to put beside the input's.
    """
    if not settings.report or plan.grid.scale.denominator != 1:
        return None
    largest = LARGEST_GPU if on_gpu(method) else LARGEST
    return ScorePlan.of_run(plan.grid, largest, settings.report_sample, settings.seed)


def start_scores(job: Job, plan: Plan, settings: RunSettings, journal: Journal) -> RunScores | None:
    """Make what takes the blocks of a run; None where no report is wanted, or there is nothing to compare.

    Beside a GPU the scores have processes of their own, and as many processors as the network's threads leave.
    """
    chosen = score_plan(plan, job.method, settings)
    if chosen is None:
        return None
    gpu = on_gpu(job.method)
    workers = max(1, available_cpus() - PROCESSORS_OF_THE_NETWORK) if gpu else plan.tiles_at_once
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
        journal.root / "scores",
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
