"""The first step of a run: its output is taken, its plan stored, its store made; or it is joined.

The output is taken before the slow look at the input: two runs on one output meet at once, `status` sees one starting,
and an unwritable place is refused before any work. A refused run leaves nothing behind.

A run, or the step before a job array, holds the output alone. The parts of the array then join: they change nothing
another part may be reading, and refuse a store only the first step can make.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bigrestore.core.host.command import typed_command
from bigrestore.errors import OutputError, OutputExistsError, output_error
from bigrestore.run.output.owned import PLAN, remove_report
from bigrestore.run.output.place import is_as_planned, prepare_store, remove_former, settle_existing
from bigrestore.run.prepared import Prepared
from bigrestore.run.state.input_files import what_changed
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.lock import joint_writer, sole_writer
from bigrestore.run.tile.maps import images, outline_of


@contextlib.contextmanager
def take(ready: Prepared) -> Iterator[None]:
    """Hold the output of a run: alone, or beside the other parts of a job array.

    The folder beside the output is made if missing, and removed again if still empty.

    Raises
    ------
    OutputError
        Where the place cannot be written.
    OutputExistsError
        Where somebody else holds it.
    """
    journal = ready.journal
    hold = joint_writer if ready.settings.shard else sole_writer
    made = _make_folders(journal.root)
    try:
        with hold(journal.root, ready.output):
            journal.refuse_links()
            if not ready.resuming:
                settle_existing(  # another run may have been quicker
                    ready.output,
                    journal,
                    resume=False,
                    overwrite=ready.settings.overwrite,
                    same_settings=True,
                )
            yield
    finally:
        with contextlib.suppress(OSError):  # what holds something is kept
            for folder in made:
                folder.rmdir()


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; return the new ones, the innermost first."""
    made = list(itertools.takewhile(lambda path: not path.is_dir(), (folder, *folder.parents)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(folder, error) from error
    return made


def begin(ready: Prepared) -> None:
    """Begin or resume a run after `take`: remove the former output, store the plan, make the store.

    Raises
    ------
    OutputError
        Where the place cannot be written.
    """
    journal = ready.journal
    if ready.resuming:
        _resume(ready)
    else:
        _require_left(journal)
        if ready.settings.overwrite:
            remove_former(ready.output, journal)
        journal.create()
        journal.sweep(ready.store)  # a process may have died before it stored its plan
        facts: dict[str, Any] = {
            "plan": ready.plan.facts | {"score_tile_px": ready.plan.score_tile_px},
            "fingerprint": ready.identity,
            "files": ready.files,
        }
        facts |= {"blocks": ready.plan.grid.block_total, "shape": list(ready.plan.grid.shape)}
        facts |= {"writes": outline_of(ready.plan).to_json()}
        if ready.destination is not None:
            facts |= {"run": secrets.token_hex(16), "replaces": ready.destination.replaces}
        facts |= {"command": typed_command()}
        journal.write(PLAN, facts | {"in_parts": ready.settings.init_only})
    prepare_store(ready.store, ready.plan, resuming=ready.resuming)


def _resume(ready: Prepared) -> None:
    """Mark a finished run as unfinished, and sweep up after a killed one."""
    journal = ready.journal
    journal.create()
    _store_repair(ready)
    journal.sweep(ready.store)
    journal.drop_dead()
    journal.reopen()
    remove_report(journal.root)
    if not ready.store.exists():
        journal.forget_blocks()


def _store_repair(ready: Prepared) -> None:
    """Put the files of a repaired input into the plan.

    Once the failed blocks are done, only the plan tells the other processes and later steps that this is the same input.
    """
    stored = ready.journal.plan
    if stored is None or not what_changed(stored.get("files", {}).get("input", {}), ready.files["input"]):
        return
    ready.journal.write(PLAN, stored | {"files": stored["files"] | {"input": ready.files["input"]}})


def _require_left(journal: Journal) -> None:
    """Refuse to remove a block still written by a worker of a dead run."""
    busy = journal.in_progress()
    if busy:
        raise OutputExistsError(
            f"The block {busy[0]} of {journal.root} is still in the hands of a worker of a former run; wait until it is "
            "done, or stop that worker."
        )


def join(ready: Prepared) -> None:
    """Join a run as one of its parts.

    Raises
    ------
    OutputError
        Where its store is missing or damaged.
    """
    if not all(is_as_planned(image) for image in images(ready.store, ready.plan)):
        raise OutputError(
            f"The store {ready.store} is missing, or its metadata are damaged; make it again by --init-only with the "
            "same settings."
        )
    ready.journal.create()
    _store_repair(ready)
    ready.journal.drop_dead()
    ready.journal.reopen()
    remove_report(ready.journal.root)
    prepare_store(ready.store, ready.plan, resuming=True)
