"""A run from beginning to end: open, plan, settle the output, carry out the blocks, finalize.

Whatever maps tiles to tiles can be run: a restoration from the registry, or a degradation handed in. The steps
are idempotent, so a run that was killed anywhere is started again by the same call with `resume`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs

from bigrestore.engine.block import Job
from bigrestore.engine.finalize import finalize, note_run
from bigrestore.engine.input_files import files_seen, what_changed
from bigrestore.engine.journal import BlockRecord, Journal, sidecar
from bigrestore.engine.lock import sole_writer
from bigrestore.engine.mask import BackgroundMask, Masker, NoMask, UserMask
from bigrestore.engine.output import (
    check_place,
    output_path,
    prepare_store,
    remove_former,
    settle_existing,
    source_paths,
)
from bigrestore.engine.pipeline import Pipeline
from bigrestore.engine.plan import (
    Plan,
    differing,
    digest,
    fingerprint,
    left_open,
    make_plan,
    provenance,
    require_same,
)
from bigrestore.engine.profiles import Profiles
from bigrestore.engine.progress import Progress, make_progress
from bigrestore.engine.report_state import forget_report, former_report
from bigrestore.engine.run_report import RunReport, make_report
from bigrestore.engine.run_scores import RunScores
from bigrestore.engine.score_start import check_condition, closing_scores, start_scores
from bigrestore.engine.signals import StopFlag, listen
from bigrestore.engine.summary import RunSummary
from bigrestore.errors import OutputExistsError, UsageError, output_error
from bigrestore.files import remove_tree
from bigrestore.geometry import Block
from bigrestore.io.section import Section, open_section
from bigrestore.methods.base import Method
from bigrestore.methods.registry import create_method
from bigrestore.score.validity import TILE_PX
from bigrestore.settings import RunSettings

log = logging.getLogger(__name__)

Inputs = str | Path | Sequence[str | Path]


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
    going_on : bool
        Whether what is there is gone on with.
    identity : dict
        The fingerprint of the run.
    files : dict
        What is noted of the files of input and mask.
    """

    section: Section
    method: Method
    settings: RunSettings
    plan: Plan
    masker: Masker
    output: Path
    store: Path
    journal: Journal
    going_on: bool
    identity: dict[str, Any]
    files: dict[str, Any]

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

    def rounded(self) -> dict[str, float]:
        """Return the seconds of each phase, to the millisecond."""
        return {name: round(value, 3) for name, value in self.seconds.items()}


def prepare(
    inputs: Inputs,
    output: str | Path,
    settings: RunSettings,
    *,
    method: Method | None = None,
    guarded: Mapping[str, Path] | None = None,
) -> Prepared:
    """Open input and method, resolve the plan and settle what is at the place; nothing is written or removed.

    Parameters
    ----------
    inputs : str, Path or sequence of them
        What `open_section` takes.
    output : str or Path
        A store, or a TIFF by its name.
    settings : RunSettings
        What was asked for.
    method : Method, optional
        Used in place of the one that the settings name.
    guarded : mapping, optional
        Further files that the output must not touch, by what they are called.

    Raises
    ------
    BigrestoreError
        Of the kind of what is wrong.
    """
    inputs, path = _as_inputs(inputs), output_path(output)
    journal = Journal(path)
    section = open_section(
        inputs, level=settings.level, voxel_size_um=settings.voxel_size, input_range=settings.input_range
    )
    if section.channels == 3:
        log.info(
            "%s is colour: its luma is restored and its colour carried by interpolation.", section.source
        )
    others = {what: [file] for what, file in _files_read(settings, guarded or {}).items()}
    check_place(path, source_paths(inputs, section), others)
    check_condition(settings)
    method = method or create_method(settings)
    stored = journal.read("plan.json") if journal.begun else None
    plan = make_plan(section, method, settings, path, stored["plan"] if stored and settings.resume else None)
    masker = _masker(section, method, settings)
    drawn = masker.section if isinstance(masker, UserMask) else None
    if drawn is not None:
        check_place(path, [], {"mask": source_paths(settings.mask, drawn)})
    identity = fingerprint(plan, section, method, settings, drawn.fingerprint() if drawn else None)
    files = {"input": files_seen(section)} | ({"mask": files_seen(drawn)} if drawn else {})
    same = stored is not None and not differing(
        stored["fingerprint"], identity, left_open=left_open(settings)
    )
    going_on = settle_existing(
        path, journal, resume=settings.resume, overwrite=settings.overwrite, same_settings=same
    )
    if going_on and stored is not None:
        require_same(stored["fingerprint"], identity, path)
        _require_same_files(stored.get("files", {}), files, path)
    store = sidecar(path) / "store.ome.zarr" if plan.tiff else path
    return Prepared(section, method, settings, plan, masker, path, store, journal, going_on, identity, files)


def _require_same_files(then: dict[str, Any], now: dict[str, Any], output: Path) -> None:
    """Refuse to go on where a file of the input or the mask was written since the run was begun."""
    for what, seen in now.items():
        changed = what_changed(then.get(what, {}), seen)
        if changed:
            raise OutputExistsError(
                f"The {what} was changed since the output {output} was begun: {changed}; restore it as it was, or "
                "start anew with --overwrite."
            )


def _as_inputs(inputs: Inputs) -> str | Path | list[str | Path]:
    """Return the input as a path, pattern or list of paths.

    Raises
    ------
    UsageError
        Where it is none.
    """
    if isinstance(inputs, str | Path):
        return inputs
    if isinstance(inputs, os.PathLike):
        return Path(inputs)
    if isinstance(inputs, Sequence) and inputs and all(isinstance(item, str | Path) for item in inputs):
        return list(inputs)
    raise UsageError(
        f"The input is of the type {type(inputs).__name__}; give a path, a pattern, or a list of paths."
    )


def _files_read(settings: RunSettings, guarded: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files besides the input that a run reads, by what they are called."""
    named = {"model": settings.model, "kernel": settings.kernel}
    if settings.mask not in ("auto", "none"):
        named["mask"] = settings.mask
    found = {what: Path(name) for what, name in named.items() if name is not None} | dict(guarded)
    return {what: path for what, path in found.items() if path.exists()}


def execute(
    inputs: Inputs,
    output: str | Path,
    settings: RunSettings,
    *,
    method: Method | None = None,
    progress: Progress | None = None,
    guarded: Mapping[str, Path] | None = None,
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
    guarded : mapping, optional
        Further files that the output must not touch, by what they are called.

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
    with contextlib.ExitStack() as held:
        flag = held.enter_context(listen())
        with clock.phase("start-up"):
            ready = prepare(inputs, output, settings, method=method, guarded=guarded)
            if ready.journal.root.is_dir():
                held.enter_context(sole_writer(ready.journal.root, ready.output))
        if ready.going_on and (finished := _finished(ready)) is not None:
            log.info("%s is finished already.", ready.output)
            return _with_report(ready, finished, clock, shown, flag)
        folder = ready.journal.root / "profiles"
        job = ready.job(folder if ready.going_on else None)
        with clock.phase("profile"):
            job.profiles.of(ready.plan.grid.region.z0)
        with clock.phase("start-up"):
            _begin(ready, held)
            job.profiles.keep_in(folder)
            scores = held.enter_context(
                closing_scores(start_scores(job, ready.plan, settings, ready.journal))
            )
        log.info("%s", describe(ready))
        with clock.phase("blocks"):
            megapixels, restored = _blocks(ready, job, scores, flag, shown)
        flag.raise_if_set(f"go on with it by --resume; {restored} block(s) were finished")
        records = _records(ready)
        written = any(record.status != "failed" for record in records)
        if written:
            with clock.phase("finalize"):
                said = provenance(ready.plan, ready.section, ready.method, settings)
                finalize(ready.store, ready.output, ready.plan, ready.section.value_range, said, shown, flag)
        summary = _summary(ready, records, clock, megapixels, restored)
        _conclude(ready, summary)
        if scores is not None and written:
            summary = _report(ready, job, scores, summary, clock, shown, flag)
        if ready.plan.tiff and not summary.failed:
            _remove_passing_store(ready)
    return summary


def _begin(ready: Prepared, held: contextlib.ExitStack) -> None:
    """Take the output for this run: lock it, remove what is to be replaced, store the plan, make the store."""
    journal = ready.journal
    if not journal.root.is_dir():
        journal.create()
        held.enter_context(sole_writer(journal.root, ready.output))
        settle_existing(  # another run may have been quicker
            ready.output, journal, resume=False, overwrite=ready.settings.overwrite, same_settings=True
        )
    if ready.going_on:
        journal.sweep()
        journal.reopen()
        forget_report(journal)
        if not ready.store.exists():
            journal.forget_blocks()
    else:
        if ready.settings.overwrite:
            remove_former(ready.output, journal)
        journal.create()
        facts = {"plan": ready.plan.facts, "fingerprint": ready.identity, "digest": digest(ready.identity)}
        journal.write("plan.json", facts | {"files": ready.files})
    prepare_store(ready.store, ready.plan, going_on=ready.going_on)


def _conclude(ready: Prepared, summary: RunSummary) -> None:
    """Note what the run did, and what the finished output consists of; what follows can no longer cost it."""
    finished = not summary.failed
    if finished:
        ready.journal.note_files(ready.output)
    note_run(ready.journal, summary.to_json(), finished=finished)


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
        note_run(ready.journal, summary.to_json(), finished=not summary.failed)
    return summary


def _remove_passing_store(ready: Prepared) -> None:
    """Remove the store that a TIFF was streamed from."""
    try:
        remove_tree(ready.store)
    except OSError as error:
        raise output_error(ready.store, error) from error


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


def _finished(ready: Prepared) -> RunSummary | None:
    """Return the summary of a run that needs nothing more, None where something is to be done."""
    run = ready.journal.read("run.json")
    if run is None or not run.get("finished"):
        return None
    damaged = ready.journal.damaged(ready.output)
    if damaged:
        log.warning(
            "%s was finished, but %d file(s) of it are missing or damaged, first %s; what depends on them is "
            "done again.",
            ready.output,
            len(damaged),
            damaged[0],
        )
        return None
    if ready.plan.tiff:
        if ready.store.exists():
            _remove_passing_store(ready)
    elif any(ready.journal.intact(block.name, ready.store) is None for block in ready.plan.grid.blocks()):
        return None
    return _summary(ready, _records(ready), Clock({"start-up": 0.0, "blocks": 0.0}), 0.0, 0)


def _with_report(
    ready: Prepared, summary: RunSummary, clock: Clock, progress: Progress, flag: StopFlag
) -> RunSummary:
    """Return the summary of a finished run with its report, which is made where it is missing."""
    former = former_report(ready.journal, ready.plan, ready.method, ready.settings)
    if former is not None:
        return attrs.evolve(summary, report=former)
    log.info("Its report is missing, or was made otherwise, and is made now.")
    ready.journal.sweep()
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
        device=str(said.get("device", "cpu")),
        precision=str(said.get("precision", "fp32")),
        input_failed=bool(failed) and all(record.input_fault for record in failed),
    )
