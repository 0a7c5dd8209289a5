"""A run from beginning to end: open, plan, settle the output, carry out the blocks, finalize.

Whatever maps tiles to tiles can be run: a restoration from the registry, or a degradation handed in. The steps
are idempotent, so a run that was killed anywhere is started again by the same call with `resume`. They can also be
asked for one by one: the plan and the empty output, a part of the blocks beside other processes, and the rest.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from bigrestore.core.geometry import Block
from bigrestore.core.resources import give_threads_back, one_thread_per_tile
from bigrestore.errors import BlocksFailedError, OutputError, UsageError, output_error
from bigrestore.io.range_check import check_range_used
from bigrestore.model.method import Method
from bigrestore.report.blocks import RunScores
from bigrestore.report.of_run import RunReport, make_report
from bigrestore.report.start import closing_scores, start_scores
from bigrestore.report.state import forget_report, former_report
from bigrestore.run.finalize import UNFINISHED, finalize, note_run
from bigrestore.run.output.owned import remove_named
from bigrestore.run.output.place import can_be_opened
from bigrestore.run.pipeline import Pipeline
from bigrestore.run.prepared import Destination, Inputs, Prepared, prepare
from bigrestore.run.start import begin, join, take
from bigrestore.run.state.fingerprint import provenance
from bigrestore.run.state.input_check import require_input_of, require_steady_input
from bigrestore.run.state.records import BlockRecord
from bigrestore.run.stop import StopFlag, listen
from bigrestore.run.tile.block import Job
from bigrestore.run.tile.maps import described, images
from bigrestore.run.view.progress import Progress, make_progress
from bigrestore.run.view.summary import RunSummary
from bigrestore.run.workers.shards import has_workers, make_crew, own_blocks
from bigrestore.settings import RunSettings

log = logging.getLogger(__name__)

COMPARING = "nothing was done yet, go on by --resume"


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

    def rounded(self) -> dict[str, float]:
        """Return the seconds of each phase, to the millisecond."""
        return {name: round(value, 3) for name, value in self.seconds.items()}


def execute(
    inputs: Inputs,
    output: str | Path,
    settings: RunSettings,
    *,
    method: Method | None = None,
    progress: Progress | None = None,
    guarded: Mapping[str, Path] | None = None,
    destination: Destination | None = None,
) -> RunSummary:
    """Run a method over a section or volume, or carry out the step of it that the settings ask for.

    Parameters
    ----------
    inputs : str, Path or list
        What `open_section` takes.
    output : str or Path
        A store, or a TIFF by its name.
    settings : RunSettings
        What was asked for.
    method : Method, optional
        Used in place of the one that the settings name; a degradation, for instance. It has no workers.
    progress : Progress, optional
        Used in place of the one that the settings name.
    guarded : mapping, optional
        Further files that the output must not touch, by what they are called.
    destination : Destination, optional
        Where the output is copied to when it is whole.

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
    if method is not None and has_workers(settings):
        raise UsageError(
            "Workers make the method anew from its name; hand in no method, or ask for no workers."
        )
    shown = progress or make_progress(settings.progress, settings.log_format)
    with contextlib.ExitStack() as held:
        flag = held.enter_context(listen())
        with clock.phase("start-up"):
            ready = prepare(inputs, output, settings, method=method, guarded=guarded, destination=destination)
            check_range_used(ready.section, settings.input_range)
            held.enter_context(take(ready))
            again = ready.going_on and require_input_of(
                ready, _own_names(ready), lambda: flag.raise_if_set(COMPARING)
            )
        if ready.going_on and not again and (finished := _finished(ready)) is not None:
            log.info("%s is finished already.", ready.output)
            if ready.settings.shard or ready.settings.init_only:
                return finished
            ready.journal.drop_altered_profiles()
            return _with_report(ready, finished, clock, shown, flag)
        job = _begun(ready, clock)
        log.info("%s", describe(ready))
        if settings.init_only:
            return _summary(ready, [], clock, 0.0, 0)
        return _carry_out(ready, job, clock, shown, flag)


def _begun(ready: Prepared, clock: Clock) -> Job:
    """Look at the first section, begin or join the run, and return what its blocks share."""
    folder = ready.journal.root / "profiles"
    job = ready.job(folder if ready.going_on else None)
    with clock.phase("profile"):
        before = one_thread_per_tile()  # as for every other section: sums do not depend on the processors
        try:
            job.profiles.of(ready.plan.grid.region.z0)
        finally:
            give_threads_back(before)
    with clock.phase("start-up"):
        if ready.settings.shard:
            join(ready)
        else:
            begin(ready)
        job.profiles.keep_in(folder)
    return job


def _carry_out(ready: Prepared, job: Job, clock: Clock, shown: Progress, flag: StopFlag) -> RunSummary:
    """Carry out the blocks, or finalize, or both."""
    settings = ready.settings
    with closing_scores(start_scores(job, ready.plan, settings, ready.journal)) as scores:
        megapixels, restored = 0.0, 0
        if not settings.finalize:
            with clock.phase("blocks"):
                megapixels, restored = _blocks(ready, job, scores, flag, shown)
                if settings.shard and scores is not None:
                    scores.wait(lambda: bool(flag))
            again = "start it again" if settings.shard else "go on with it by --resume"
            flag.raise_if_set(f"{again}; {restored} block(s) were finished")
        records = _records(ready)
        if settings.shard:
            return _summary(ready, records, clock, megapixels, restored)
        _require_all(ready, records)
        written = any(record.status != "failed" for record in records)
        if written:
            with clock.phase("finalize"):
                require_steady_input(ready, _own_names(ready), lambda: flag.raise_if_set(UNFINISHED))
            with clock.phase("finalize"):
                said = provenance(ready.plan, ready.section, ready.method, settings, ready.identity)
                said |= {"maps": described(ready.plan)} if ready.plan.maps else {}
                finalize(ready.store, ready.output, ready.plan, ready.section.value_range, said, shown, flag)
        summary = _summary(ready, records, clock, megapixels, restored)
        _conclude(ready, summary, scored=scores is not None)
        if scores is not None and written:
            summary = _report(ready, job, scores, summary, clock, shown, flag)
        if ready.plan.passing_store and not summary.failed:
            _remove_passing_store(ready)
    return summary


def _require_all(ready: Prepared, records: list[BlockRecord]) -> None:
    """Refuse to finish an output that is gone, or of which blocks were never done, or are no longer what they were."""
    if not all(can_be_opened(image.path) for image in images(ready.store, ready.plan)):
        raise OutputError(
            f"The output {ready.store} is gone, or its metadata are; bring it back, or do it again by --resume."
        )
    failed = {record.name for record in records if record.status == "failed"}
    names = (block.name for block in ready.plan.grid.blocks())
    lost = [name for name in names if name not in failed and ready.journal.intact(name, ready.store) is None]
    if lost:
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        raise BlocksFailedError(
            f"{len(lost)} block(s) of {ready.output} are not done: {', '.join(lost[:5])}{more}; do them by --resume, or "
            "by the --shard that they belong to, and finish then."
        )


def _conclude(ready: Prepared, summary: RunSummary, *, scored: bool) -> None:
    """Note what the run did, and what the finished output consists of; what follows can no longer cost it."""
    finished = not summary.failed
    if finished:
        ready.journal.note_files(ready.output)
    note_run(ready.journal, summary.to_json(), finished=finished, scored=scored)


def _report(
    ready: Prepared,
    job: Job,
    scores: RunScores,
    summary: RunSummary,
    clock: Clock,
    progress: Progress,
    flag: StopFlag,
) -> RunSummary:
    """Make the report of an output that is whole, and note it; return the summary with it."""
    with clock.phase("report"):
        image = ready.store if ready.store.exists() else ready.output  # a TIFF's store is removed at the end
        made = RunReport(scores, job, ready.plan, image, ready.output, _records(ready))
        found = make_report(made, ready.journal, ready.settings, progress, flag)
    summary = attrs.evolve(summary, report=found, seconds=summary.seconds | clock.rounded())
    if found.folder:
        note_run(ready.journal, summary.to_json(), finished=not summary.failed, scored=True)
    return summary


def _remove_passing_store(ready: Prepared) -> None:
    """Remove the store that a TIFF or a zip file was made of; what somebody put into it stays."""
    outline = ready.journal.outline
    try:
        remove_named(ready.store, outline.is_file, outline.is_folder)
    except OSError as error:
        raise output_error(ready.store, error) from error


def describe(ready: Prepared) -> str:
    """Return a resolved run as one line."""
    plan, work, method = ready.plan, ready.plan.grid.work, ready.method.describe()
    prior = f" at realness {method['realness']:g}" if method.get("realness") else ""
    return (
        f"{ready.section.source}: {plan.grid.shape} (z, y, x) at x{plan.grid.scale}{prior}, {plan.grid.block_total} blocks, "
        f"tiles of {plan.grid.y.tile_px} px with a halo of {ready.method.halo_px}, redundancy {work.redundancy:.2f}, "
        f"{plan.workers} worker(s) of {plan.threads} tile(s) in flight ({plan.choice}), "
        f"about {plan.memory_bytes / 2**30:.1f} GiB"
    )


def _finished(ready: Prepared) -> RunSummary | None:
    """Return the summary of a run that needs nothing more, None where something is to be done."""
    run = ready.journal.read("run.json")
    if run is None or not run.get("finished"):
        return None
    damaged = ready.journal.damaged(ready.output, thorough=ready.settings.check_all)
    if damaged:
        log.warning(
            "%s was finished, but %d file(s) of it are missing or damaged, first %s; what depends on them is "
            "done again.",
            ready.output,
            len(damaged),
            damaged[0],
        )
        return None
    if ready.plan.passing_store:
        if ready.store.exists() and not ready.settings.shard:
            _remove_passing_store(ready)
    elif any(_intact(ready, block) is None for block in ready.plan.grid.blocks()):
        return None
    return _summary(ready, _records(ready), Clock({"start-up": 0.0, "blocks": 0.0}), 0.0, 0)


def _intact(ready: Prepared, block: Block) -> BlockRecord | None:
    return ready.journal.intact(block.name, ready.store, thorough=ready.settings.check_all)


def _with_report(
    ready: Prepared, summary: RunSummary, clock: Clock, progress: Progress, flag: StopFlag
) -> RunSummary:
    """Return the summary of a finished run with its report, which is made where it is missing."""
    former = former_report(ready.journal, ready.plan, ready.method, ready.settings)
    if former is not None:
        return attrs.evolve(summary, report=former)
    log.info("Its report is missing, or was made otherwise, and is made now.")
    ready.journal.sweep(ready.store)
    ready.journal.create()
    forget_report(ready.journal)
    job = ready.job(ready.journal.root / "profiles")
    with closing_scores(start_scores(job, ready.plan, ready.settings, ready.journal)) as scores:
        assert scores is not None  # what needs no report has one already
        return _report(ready, job, scores, summary, clock, progress, flag)


def _blocks(
    ready: Prepared, job: Job, scores: RunScores | None, flag: StopFlag, progress: Progress
) -> tuple[float, int]:
    """Carry out the blocks that are not done; return output megapixels and blocks of this run."""
    grid = ready.plan.grid
    mine = own_blocks(grid, ready.settings.shard_of)
    wanted = [index for index in mine if _intact(ready, grid.block_at(index)) is None]
    before = len(mine) - len(wanted)
    state = {"done": before, "pixels": 0}
    progress.start("run", len(mine), before)

    def done(record: BlockRecord, block: Block) -> None:
        state["done"] += 1
        state["pixels"] += 0 if record.status == "failed" else block.box.pixels
        if record.status == "failed":
            log.error("Block %s failed: %s.", block.name, record.reason)
        progress.advance(state["done"], block.box.pixels)

    try:
        if wanted and has_workers(ready.settings):
            make_crew(ready).run(wanted, flag, done)
        else:
            pipeline = Pipeline(job, ready.plan, ready.store, ready.journal, scores)
            pipeline.run(map(grid.block_at, wanted), flag, done)
    finally:
        progress.close()
    return state["pixels"] / 1e6, state["done"] - before


def _own_names(ready: Prepared) -> Iterator[str]:
    """Yield the names of the blocks of this run, or of its part of them."""
    grid = ready.plan.grid
    return (grid.block_at(index).name for index in own_blocks(grid, ready.settings.shard_of))


def _records(ready: Prepared) -> list[BlockRecord]:
    """Return the records of the blocks of this run, or of its part of them."""
    return [record for name in _own_names(ready) if (record := ready.journal.record(name)) is not None]


def _summary(
    ready: Prepared,
    records: list[BlockRecord],
    clock: Clock,
    megapixels: float,
    restored: int,
) -> RunSummary:
    said = ready.method.describe()
    failed = [record for record in records if record.status == "failed"]
    return RunSummary(
        output=ready.output,
        blocks_done=sum(record.status == "done" for record in records),
        blocks_empty=sum(record.status == "empty" for record in records),
        blocks_restored=restored,
        failed={record.name: record.reason for record in failed},
        seconds=clock.rounded(),
        megapixels=megapixels,
        redundancy=ready.plan.grid.work.redundancy,
        tile_px=ready.plan.grid.y.tile_px,
        threads=ready.plan.threads,
        workers=ready.plan.workers,
        part=_part(ready.settings),
        device=str(said.get("device", "cpu")),
        precision=str(said.get("precision", "fp32")),
        maps=ready.plan.maps,
        input_failed=bool(failed) and all(record.input_fault for record in failed),
    )


def _part(settings: RunSettings) -> str:
    """Return which part of a run was asked for, "" for the whole."""
    if settings.shard:
        return f"shard {settings.shard}"
    return "init" if settings.init_only else "finalize" if settings.finalize else ""
