"""A run from beginning to end: open, plan, settle the output, carry out the blocks, finalize.

Whatever maps tiles to tiles can be run: a restoration from the registry, or a degradation handed in. The steps
are idempotent, so a run that was killed anywhere is started again by the same call with `resume`.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import attrs

from bigrestore.engine.block import Job
from bigrestore.engine.finalize import finalize, note_run
from bigrestore.engine.journal import BlockRecord, Journal, sidecar
from bigrestore.engine.mask import BackgroundMask, Masker, NoMask, UserMask
from bigrestore.engine.output import check_place, prepare_store, settle_existing, source_paths
from bigrestore.engine.pipeline import Pipeline
from bigrestore.engine.plan import Plan, digest, fingerprint, make_plan, provenance, require_same
from bigrestore.engine.profiles import Profiles
from bigrestore.engine.progress import Progress, make_progress
from bigrestore.engine.run_report import (
    REPORT,
    check_condition,
    closing_scores,
    former_report,
    make_report,
    start_scores,
)
from bigrestore.engine.run_scores import RunScores
from bigrestore.engine.signals import StopFlag, listen
from bigrestore.engine.summary import ReportResult, RunSummary
from bigrestore.geometry import Block
from bigrestore.io.section import Section, open_section
from bigrestore.methods.base import Method
from bigrestore.methods.registry import create_method
from bigrestore.score.validity import TILE_PX
from bigrestore.settings import RunSettings

log = logging.getLogger(__name__)

Inputs = str | Path | list[str | Path]


@attrs.frozen(eq=False)
class Prepared:
    """A run that is resolved and has written nothing yet.

    Attributes
    ----------
    section, method : Section, Method
        What is restored, and by what.
    settings : RunSettings
        What was asked for.
    plan : Plan
        What it comes to.
    masker : Masker
        Which pixels are restored.
    output, store : Path
        What the user asked for, and the store: the same, but for a TIFF.
    journal : Journal
        The folder beside the output.
    """

    section: Section
    method: Method
    settings: RunSettings
    plan: Plan
    masker: Masker
    output: Path
    store: Path
    journal: Journal

    def job(self, folder: Path | None) -> Job:
        """Return what the blocks share; profiles are kept in `folder`."""
        return Job(
            section=self.section,
            method=self.method,
            grid=self.plan.grid,
            masker=self.masker,
            profiles=Profiles(self.section, self.method, folder),
            batch_size=self.plan.batch_size,
            deterministic=self.settings.deterministic,
            score_tile_px=TILE_PX if self.settings.report and self.plan.grid.scale.denominator == 1 else 0,
        )


@attrs.define
class Clock:
    """Wall time of the phases of a run."""

    seconds: dict[str, float] = attrs.field(factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time that the context takes to a phase."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def prepare(
    inputs: Inputs,
    output: str | Path,
    settings: RunSettings,
    *,
    method: Method | None = None,
    dry: bool = False,
) -> Prepared:
    """Open input and method and resolve the plan; nothing is written or removed.

    Parameters
    ----------
    inputs : str, Path or list
        What `open_section` takes.
    output : str or Path
        A store, or a TIFF by its name.
    settings : RunSettings
        What was asked for.
    method : Method, optional
        Used in place of the one that the settings name.
    dry : bool
        Whether the output is left out of account.

    Raises
    ------
    BigrestoreError
        Of the kind of what is wrong.
    """
    path = Path(output)
    journal = Journal(path)
    section = open_section(
        inputs, level=settings.level, voxel_size_um=settings.voxel_size, input_range=settings.input_range
    )
    if section.channels == 3:
        log.info(
            "%s is colour: its luma is restored and its colour carried by interpolation.", section.source
        )
    if not dry:
        check_place(path, source_paths(inputs, section))
    check_condition(settings)
    method = method or create_method(settings)
    stored = journal.read("plan.json") if settings.resume else None
    plan = make_plan(section, method, settings, path, stored["plan"] if stored else None)
    masker = _masker(section, method, settings)
    store = sidecar(path) / "store.ome.zarr" if plan.tiff else path
    return Prepared(section, method, settings, plan, masker, path, store, journal)


def execute(
    inputs: Inputs,
    output: str | Path,
    settings: RunSettings,
    *,
    method: Method | None = None,
    progress: Progress | None = None,
) -> RunSummary:
    """Run a method over a section or volume.

    Parameters
    ----------
    inputs : str, Path or list
        What `open_section` takes.
    output : str or Path
        A store, or a TIFF by its name.
    settings : RunSettings
        What was asked for.
    method : Method, optional
        Used in place of the one that the settings name; a degradation, for instance.
    progress : Progress, optional
        Used in place of the one that the settings name.

    Returns
    -------
    RunSummary
        Blocks may have failed: see `RunSummary.raise_if_failed`.

    Raises
    ------
    BigrestoreError
        Of the kind of what is wrong; StoppedError or KeyboardInterrupt where a signal stopped the run.
    """
    clock = Clock()
    shown = progress or make_progress(settings.progress, settings.log_format)
    with listen() as flag:
        with clock.phase("start-up"):
            ready = prepare(inputs, output, settings, method=method)
            going_on = _settle(ready)
        if going_on and (finished := _finished(ready)) is not None:
            log.info("%s is finished already.", ready.output)
            return finished
        with clock.phase("start-up"):
            prepare_store(ready.store, ready.plan, going_on=going_on)
            job = ready.job(ready.journal.root / "profiles")
        log.info("%s", describe(ready))
        with closing_scores(start_scores(job, ready.plan, settings, ready.journal.root)) as scores:
            summary = _carry_out(ready, job, scores, clock, flag, shown)
    note_run(ready.journal, summary.to_json(), finished=not summary.failed)
    if ready.plan.tiff and not summary.failed:
        shutil.rmtree(ready.store)  # the TIFF was streamed from it
    return summary


def _carry_out(
    ready: Prepared, job: Job, scores: RunScores | None, clock: Clock, flag: StopFlag, shown: Progress
) -> RunSummary:
    """Do what is left of a run: profile, blocks, finalize, report."""
    with clock.phase("profile"):
        job.profiles.of(ready.plan.grid.region.z0)
    with clock.phase("blocks"):
        megapixels, restored = _blocks(ready, job, scores, flag, shown)
    flag.raise_if_set(f"go on with it by --resume; {restored} block(s) were finished")
    records = _records(ready)
    report = ReportResult()
    if any(record.status != "failed" for record in records):
        with clock.phase("finalize"):
            said = provenance(ready.plan, ready.section, ready.method, ready.settings)
            finalize(ready.store, ready.output, ready.plan, ready.section.value_range, said, shown, flag)
        if scores is not None:
            with clock.phase("report"):
                report = make_report(
                    scores, job, ready.plan, ready.store, ready.output, records, ready.settings, shown, flag
                )
    return _summary(ready, records, clock, megapixels, restored, report)


def describe(ready: Prepared) -> str:
    """Return a resolved run as one line."""
    plan, work = ready.plan, ready.plan.grid.work
    return (
        f"{ready.section.source}: {plan.grid.shape} (z, y, x) at x{plan.grid.scale}, {plan.grid.block_total} blocks, "
        f"tiles of {plan.grid.y.tile_px} px with a halo of {ready.method.halo_px}, redundancy {work.redundancy:.2f}, "
        f"{plan.threads} tiles in flight, about {plan.memory_bytes / 2**30:.1f} GiB"
    )


def _masker(section: Section, method: Method, settings: RunSettings) -> Masker:
    """Return what decides which pixels are restored."""
    scale = Fraction(method.scale)
    if settings.mask == "none":
        return NoMask()
    if settings.mask == "auto":
        return BackgroundMask(scale, (section.height, section.width), section.value_range)
    return UserMask.open(settings.mask, section.shape, scale)


def _settle(ready: Prepared) -> bool:
    """Decide what becomes of an existing output and store the plan; return whether the run goes on."""
    settings = ready.settings
    going_on = settle_existing(
        ready.output, ready.journal, resume=settings.resume, overwrite=settings.overwrite
    )
    mask = ready.masker.section.fingerprint() if isinstance(ready.masker, UserMask) else None
    facts = fingerprint(ready.plan, ready.section, ready.method, settings, mask)
    if going_on:
        stored = ready.journal.read("plan.json") or {}
        require_same(stored.get("fingerprint", {}), facts, ready.output)
        ready.journal.sweep()
    ready.journal.create()
    if not going_on:
        ready.journal.write(
            "plan.json", {"plan": ready.plan.facts, "fingerprint": facts, "digest": digest(facts)}
        )
    return going_on


def _finished(ready: Prepared) -> RunSummary | None:
    """Return the summary of a run that needs nothing more, None where something is to be done."""
    run = ready.journal.read("run.json")
    if run is None or not run.get("finished") or not ready.output.exists():
        return None
    if not ready.plan.tiff and any(
        ready.journal.intact(block.name, ready.store) is None for block in ready.plan.grid.blocks()
    ):
        return None
    report = former_report(ready.journal.root / REPORT, ready.settings)
    return _summary(ready, _records(ready), Clock({"start-up": 0.0, "blocks": 0.0}), 0.0, 0, report)


def _blocks(
    ready: Prepared, job: Job, scores: RunScores | None, flag: StopFlag, progress: Progress
) -> tuple[float, int]:
    """Carry out the blocks that are not done; return output megapixels and blocks of this run."""
    grid, total = ready.plan.grid, ready.plan.grid.block_total
    intact = {b.name for b in grid.blocks() if ready.journal.intact(b.name, ready.store) is not None}
    state = {"done": len(intact), "pixels": 0}
    progress.start("run", total, len(intact))

    def done(record: BlockRecord, block: Block) -> None:
        state["done"] += 1
        state["pixels"] += 0 if record.status == "failed" else block.box.pixels
        if record.status == "failed":
            log.error("Block %s failed: %s.", block.name, record.reason)
        progress.advance(state["done"], block.box.pixels)

    wanted = (block for block in grid.blocks() if block.name not in intact)
    try:
        pipeline = Pipeline(job, ready.plan, ready.store, ready.journal, scores)
        pipeline.run(wanted, total - len(intact), flag, done)
    finally:
        progress.close()
    return state["pixels"] / 1e6, state["done"] - len(intact)


def _records(ready: Prepared) -> list[BlockRecord]:
    """Return the records of the blocks of this run."""
    found = (ready.journal.record(block.name) for block in ready.plan.grid.blocks())
    return [record for record in found if record is not None]


def _summary(
    ready: Prepared,
    records: list[BlockRecord],
    clock: Clock,
    megapixels: float,
    restored: int,
    report: ReportResult,
) -> RunSummary:
    said = ready.method.describe()
    failed = [record for record in records if record.status == "failed"]
    return RunSummary(
        output=ready.output,
        blocks_done=sum(record.status == "done" for record in records),
        blocks_empty=sum(record.status == "empty" for record in records),
        blocks_restored=restored,
        failed={record.name: record.reason for record in failed},
        seconds={name: round(value, 3) for name, value in clock.seconds.items()},
        megapixels=megapixels,
        redundancy=ready.plan.grid.work.redundancy,
        tile_px=ready.plan.grid.y.tile_px,
        threads=ready.plan.threads,
        device=str(said.get("device", "cpu")),
        precision=str(said.get("precision", "fp32")),
        input_failed=bool(failed) and all(record.input_fault for record in failed),
        report=report,
    )
