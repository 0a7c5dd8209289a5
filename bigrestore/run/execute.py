"""A run from beginning to end: open the input, plan, take the output, restore the blocks, finalize.

Any method from tiles to tiles runs here: a restoration from the registry, or a degradation handed in. Each step may be
repeated, so a killed run continues by the same call with `resume`. Steps can also be asked for one by one: the plan
with the empty output (`init_only`), a part of the blocks (`shard`), and the rest (`finalize`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from bigrestore.core.geometry import Block
from bigrestore.core.host.arithmetic import exact_arithmetic
from bigrestore.core.host.command import SAME_COMMAND
from bigrestore.core.host.resources import give_threads_back, one_thread_per_tile
from bigrestore.errors import BlocksFailedError, OutputError, UsageError, output_error
from bigrestore.io.conventions.range_check import check_range_used
from bigrestore.model.method import Method
from bigrestore.run.finalize import UNFINISHED, finalize, note_run
from bigrestore.run.output.owned import remove_named
from bigrestore.run.output.place import is_as_planned
from bigrestore.run.pipeline import Pipeline
from bigrestore.run.prepared import Destination, Inputs, Prepared, prepare
from bigrestore.run.sinks import BlockSink, Sink, open_sinks, require_factories
from bigrestore.run.start import begin, join, take
from bigrestore.run.state.checks import faults_to_redo
from bigrestore.run.state.claims import Claims
from bigrestore.run.state.fingerprint import run_provenance
from bigrestore.run.state.input_check import require_input_of, require_steady_input
from bigrestore.run.state.records import BlockRecord
from bigrestore.run.stop import StopFlag, listen
from bigrestore.run.tile.block import Job
from bigrestore.run.tile.maps import described, images
from bigrestore.run.tile.speed import expected_seconds
from bigrestore.run.view.progress import NoProgress, Progress, make_progress, phase_shown
from bigrestore.run.view.summary import RunSummary
from bigrestore.run.view.tile_count import TileCount
from bigrestore.run.workers.shards import has_workers, own_blocks, start_workers
from bigrestore.settings import RunSettings

log = logging.getLogger(__name__)

NOT_BEGUN = "nothing was written yet, start it again"

COMPARING = "nothing was done yet, go on by --resume"

BEGUN = "go on with it by --resume"


@attrs.define
class Clock:
    """Wall time of the phases of a run."""

    seconds: dict[str, float] = attrs.field(factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the duration of the context to a phase."""
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
    sinks: Sequence[Sink] = (),
) -> RunSummary:
    """Run a method over a section or volume, or the one step asked for by the settings.

    Parameters
    ----------
    inputs : str, Path or list
        As for `open_section`.
    output : str or Path
        A store, or a TIFF by its name.
    settings : RunSettings
        All flags.
    method, progress : Method, Progress, optional
        Used instead of the settings' own. Such a method, a degradation for instance, has no workers.
    guarded : mapping, optional
        Further files to keep the output off, by their role.
    destination : Destination, optional
        Target of the copy of a whole output.
    sinks : sequence of Sink
        Take the blocks, and finish when the output is whole; the report is one.

    Returns
    -------
    RunSummary
        Blocks may have failed: see `RunSummary.raise_if_failed`.

    Raises
    ------
    BigrestoreError
        By its kind; StoppedError or KeyboardInterrupt after a signal.
    """
    clock = Clock()
    _check_workers(settings, method, sinks)
    shown = progress or make_progress(settings.progress, settings.log_format)
    with contextlib.ExitStack() as held:
        flag = held.enter_context(listen(remedy=COMPARING if settings.goes_on else NOT_BEGUN))
        with clock.phase("start-up"), phase_shown(shown, "start-up"):
            ready = prepare(
                inputs,
                output,
                settings,
                method=method,
                guarded=guarded,
                destination=destination,
                sinks=sinks,
            )
            check_range_used(ready.section, settings.input_range, profiled=True)
            held.enter_context(take(ready))
            other_input = ready.resuming and require_input_of(
                ready, _own_names(ready), lambda: flag.raise_if_set(COMPARING)
            )
        if ready.resuming and not other_input and (finished := _finished(ready)) is not None:
            return _resumed(ready, sinks, finished, clock, shown, flag)
        held.enter_context(exact_arithmetic(deterministic=settings.deterministic))
        job = _begun(ready, clock, shown, flag)
        if settings.init_only:
            return _summary(ready, [], clock)
        takers = held.enter_context(open_sinks(sinks, ready, job))
        written = (0.0, 0) if settings.finalize else _blocks(ready, job, takers, clock, shown, flag)
        if settings.shard:
            return _summary(ready, _records(ready), clock, *written)
        return _finalized(ready, takers, written, clock, shown, flag)


def _check_workers(settings: RunSettings, method: Method | None, sinks: Sequence[Sink]) -> None:
    """Refuse objects that workers cannot make anew."""
    if not has_workers(settings):
        return
    if method is not None:
        raise UsageError(
            "Workers make the method anew from its name; hand in no method, or ask for no workers."
        )
    require_factories(sinks)


def _begun(ready: Prepared, clock: Clock, progress: Progress, flag: StopFlag) -> Job:
    """Profile a first section, begin or join the run, and log and return it."""
    folder = ready.journal.root / "profiles"
    job = ready.job(folder if ready.resuming else None)
    with clock.phase("profile"), phase_shown(progress, "profile"):
        before = one_thread_per_tile()  # as for every other section: sums do not depend on the processors
        try:
            job.profiles.first_readable(ready.plan.grid.region.sections)
        finally:
            give_threads_back(before)
    flag.remedy = _going_on(ready)
    with clock.phase("start-up"):
        if ready.settings.shard:
            join(ready)
        else:
            begin(ready)
        job.profiles.keep_in(folder)
    log.info("%s", describe_run(ready))
    if scope := ready.method.describe().get("scope"):
        log.warning("--method %s is %s.", ready.method.name, scope)
    return job


def _finalized(
    ready: Prepared,
    takers: list[BlockSink],
    written: tuple[float, int],
    clock: Clock,
    shown: Progress,
    flag: StopFlag,
) -> RunSummary:
    """Make the output whole and let the sinks finish; `written` are the megapixels and blocks of this run."""
    records = _records(ready)
    _require_all(ready, records)
    any_restored = any(record.status != "failed" for record in records)
    flag.remedy = UNFINISHED
    if any_restored:
        with clock.phase("finalize"), phase_shown(shown, "finalize"):
            require_steady_input(ready, _own_names(ready), lambda: flag.raise_if_set(UNFINISHED))
            said = run_provenance(ready.plan, ready.section, ready.method, ready.settings, ready.identity)
            said |= {"maps": described(ready.plan)} if ready.plan.maps else {}
            finalize(ready.store, ready.output, ready.plan, ready.section, said, shown, flag)
    summary = _summary(ready, records, clock, *written)
    if not summary.failed:
        ready.journal.list_files(ready.output)
    reports = any(taker.reports for taker in takers)
    note_run(ready.journal, summary.to_json(), finished=not summary.failed, scored=reports)
    if any_restored:  # no error from here on costs the output
        summary = _finish(ready, takers, summary, clock, shown, flag)
    if ready.plan.temporary_store and not summary.failed:
        _remove_temporary_store(ready)
    return summary


def _require_all(ready: Prepared, records: list[BlockRecord]) -> None:
    """Refuse to finish an output that is gone, or has missing or changed blocks."""
    if not all(is_as_planned(image) for image in images(ready.store, ready.plan)):
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


def _finish(
    ready: Prepared,
    takers: list[BlockSink],
    summary: RunSummary,
    clock: Clock,
    progress: Progress,
    flag: StopFlag,
) -> RunSummary:
    """Let the sinks finish a whole output; return the summary with their results, and store it."""
    if not takers:
        return summary
    flag.remedy = "the output is written, finish the rest by --resume"
    records = _records(ready)
    with clock.phase("report"), phase_shown(progress, "report"):
        for taker in takers:
            summary = taker.finish(summary, records, progress, flag)
    summary = attrs.evolve(summary, seconds=summary.seconds | clock.rounded())
    if summary.report.folder:
        note_run(ready.journal, summary.to_json(), finished=not summary.failed, scored=True)
    return summary


def _remove_temporary_store(ready: Prepared) -> None:
    """Remove the store behind a TIFF or zip file; files of other origin in it stay."""
    outline = ready.journal.outline
    try:
        remove_named(ready.store, outline.is_file, outline.is_folder)
    except OSError as error:
        raise output_error(ready.store, error) from error


def describe_run(ready: Prepared) -> str:
    """Return a resolved run as one line."""
    plan, work, method = ready.plan, ready.plan.grid.work, ready.method.describe()
    prior = f" at realness {method['realness']:g}" if method.get("realness") else ""
    prior += f" by the map of {method['objective']['model']}" if "objective" in method else ""
    depth, height, width = plan.grid.shape
    size = f"{f'{depth} sections of ' if depth > 1 else ''}{height} x {width} px"
    tiles, workers = work.tiles * work.sections, f"{plan.workers} workers, each " if plan.workers > 1 else ""
    return (
        f"{ready.section.source}: {size} at x{plan.grid.scale}{prior}, {plan.grid.block_total} block(s) and {tiles} "
        f"tile(s) of at most {plan.grid.y.tile_px} px, {workers}{plan.threads} at once ({plan.choice}), about "
        f"{plan.memory_bytes / 2**30:.1f} GiB"
    )


def _finished(ready: Prepared) -> RunSummary | None:
    """Return the summary of a finished run; None for an unfinished or damaged one."""
    run = ready.journal.read("run.json")
    if run is None or not run.get("finished"):
        return None
    faults = list(faults_to_redo(ready.journal, ready.output, thorough=ready.settings.check_all))
    if faults:
        log.warning(
            "%s was finished, but has %d fault(s), first %s at %s: expected %s, found %s; what depends on them is done "
            "again.",
            *(ready.output, len(faults), faults[0].id, faults[0].location),
            *(faults[0].expected, faults[0].actual),
        )
        return None
    if ready.plan.temporary_store and ready.store.exists() and not ready.settings.shard:
        _remove_temporary_store(ready)
    return _summary(ready, _records(ready), Clock({"start-up": 0.0, "blocks": 0.0}))


def _intact(ready: Prepared, block: Block) -> BlockRecord | None:
    return ready.journal.intact(block.name, ready.store, thorough=ready.settings.check_all)


def _resumed(
    ready: Prepared,
    sinks: Sequence[Sink],
    summary: RunSummary,
    clock: Clock,
    progress: Progress,
    flag: StopFlag,
) -> RunSummary:
    """Return the summary of a finished run; a sink without its former result, such as a lost report, finishes again."""
    log.info("%s is finished already.", ready.output)
    if ready.settings.shard or ready.settings.init_only:
        return summary
    ready.journal.drop_altered_profiles()
    missing = []
    for sink in sinks:
        former = sink.resume(ready, summary)
        if former is None:
            missing.append(sink)
        else:
            summary = former
    if not missing:
        return summary
    ready.journal.sweep(ready.store)
    ready.journal.create()
    job = ready.job(ready.journal.root / "profiles")
    with open_sinks(missing, ready, job) as takers:
        return _finish(ready, takers, summary, clock, progress, flag)


def _blocks(
    ready: Prepared, job: Job, takers: list[BlockSink], clock: Clock, progress: Progress, flag: StopFlag
) -> tuple[float, int]:
    """Restore the missing blocks; return output megapixels and blocks of this run."""
    grid, shard = ready.plan.grid, ready.settings.shard
    mine = own_blocks(grid, ready.settings.shard_of)
    with clock.phase("blocks"):
        wanted = [index for index in mine if _intact(ready, grid.block_at(index)) is None]
        before = len(mine) - len(wanted)
        state = {"done": before, "pixels": 0}
        missing = sum(grid.tile_count(grid.block_at(index).box) for index in wanted)
        tiles = TileCount(grid, progress, sum(grid.tile_count(grid.block_at(index).box) for index in mine))
        if wanted:
            expected = None if isinstance(progress, NoProgress) else expected_seconds(ready, job, missing)
            tiles.start(missing, expected)

        def done(record: BlockRecord, block: Block) -> None:
            state["done"] += 1
            state["pixels"] += 0 if record.status == "failed" else block.box.pixels
            if record.status == "failed":
                log.error("Block %s failed: %s.", block.name, record.reason)
            tiles.end_block(block)

        try:
            claims = Claims(ready.journal, grid, wanted, processes=ready.plan.workers)
            if wanted and has_workers(ready.settings):
                start_workers(ready, claims, flag, done, tiles.add)
            else:
                pipeline = Pipeline(job, ready.plan, ready.store, ready.journal, takers)
                with flag.polled():
                    pipeline.run(claims, flag, done, tiles.add)
        finally:
            progress.close()
        for taker in takers if shard else ():  # a whole run waits in `finish`
            taker.wait(lambda: bool(flag))
    restored = state["done"] - before
    flag.raise_if_set(f"{_going_on(ready)}; {restored} block(s) were finished")
    return state["pixels"] / 1e6, restored


def _going_on(ready: Prepared) -> str:
    """Return the remedy of a stopped run; a part of a job array is started as it was."""
    return f"go on {SAME_COMMAND}" if ready.settings.shard else BEGUN


def _own_names(ready: Prepared) -> Iterator[str]:
    """Yield the names of the blocks of this run, or of its part of them."""
    grid = ready.plan.grid
    return (grid.block_at(index).name for index in own_blocks(grid, ready.settings.shard_of))


def _records(ready: Prepared) -> list[BlockRecord]:
    """Return the records of the blocks of this run, or of its part of them."""
    return [record for name in _own_names(ready) if (record := ready.journal.record(name)) is not None]


def _summary(
    ready: Prepared, records: list[BlockRecord], clock: Clock, megapixels: float = 0.0, restored: int = 0
) -> RunSummary:
    said, settings = ready.method.describe(), ready.settings
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
        part=f"shard {settings.shard}"
        if settings.shard
        else "init"
        if settings.init_only
        else "finalize"
        if settings.finalize
        else "",
        device=str(said.get("device", "cpu")),
        precision=str(said.get("precision", "fp32")),
        maps=ready.plan.maps,
        damaged_px=sum(record.stats.get("damaged_px", 0) for record in records),
        filled_px=sum(record.stats.get("filled_px", 0) for record in records),
        input_failed=bool(failed) and all(record.input_fault for record in failed),
    )
