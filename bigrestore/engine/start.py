"""The first step of a run: its output is taken, its plan stored, its store made; or it is joined.

A run, or the step that prepares it for a job array, holds the output alone while it does so. The parts of the array
then join what is there: they change nothing that another part may be reading, and refuse where something is missing
that only the first step can make.
"""

from __future__ import annotations

import contextlib
from typing import Any

from bigrestore.engine.fingerprint import digest
from bigrestore.engine.journal import Journal
from bigrestore.engine.lock import joint_writer, sole_writer
from bigrestore.engine.maps import images
from bigrestore.engine.output import can_be_opened, prepare_store, remove_former, settle_existing
from bigrestore.engine.prepared import Prepared
from bigrestore.engine.scores.report_state import forget_report
from bigrestore.errors import OutputError, OutputExistsError


def lock(ready: Prepared) -> contextlib.AbstractContextManager[None]:
    """Return what holds the output of a run: alone, or beside the other parts where it is one of several.

    Raises
    ------
    OutputExistsError
        Where somebody else holds it.
    """
    hold = joint_writer if ready.settings.shard else sole_writer
    return hold(ready.journal.root, ready.output)


def begin(ready: Prepared, held: contextlib.ExitStack) -> None:
    """Take the output for this run: lock it, remove what is to be replaced, store the plan, make the store.

    Raises
    ------
    OutputError
        Where the place cannot be written, or another run is writing it.
    """
    journal = ready.journal
    if not journal.root.is_dir():
        journal.create()
        held.enter_context(sole_writer(journal.root, ready.output))
        settle_existing(  # another run may have been quicker
            ready.output, journal, resume=False, overwrite=ready.settings.overwrite, same_settings=True
        )
    if ready.going_on:
        _go_on(ready)
    else:
        _require_left(journal)
        if ready.settings.overwrite:
            remove_former(ready.output, journal)
        journal.create()
        facts: dict[str, Any] = {
            "plan": ready.plan.facts,
            "fingerprint": ready.identity,
            "digest": digest(ready.identity),
        }
        facts |= {"blocks": ready.plan.grid.block_total, "shape": list(ready.plan.grid.shape)}
        journal.write("plan.json", facts | {"files": ready.files})
    prepare_store(ready.store, ready.plan, going_on=ready.going_on)


def _go_on(ready: Prepared) -> None:
    """Take back that the run is finished, and sweep up what a killed one left."""
    journal = ready.journal
    journal.create()
    journal.sweep(ready.store)
    journal.reopen()
    forget_report(journal)
    if not ready.store.exists():
        journal.forget_blocks()


def _require_left(journal: Journal) -> None:
    """Refuse to remove what a worker still writes whose run is gone."""
    busy = journal.in_hand()
    if busy:
        raise OutputExistsError(
            f"The block {busy[0]} of {journal.root} is still in the hands of a worker of a former run; wait until it is "
            "done, or stop that worker."
        )


def join(ready: Prepared) -> None:
    """Join a run that was begun, as one of its parts.

    Raises
    ------
    OutputError
        Where its store is missing or damaged.
    """
    if not all(can_be_opened(image.path) for image in images(ready.store, ready.plan)):
        raise OutputError(
            f"The store {ready.store} is missing, or its metadata are damaged; make it again by --init-only with the "
            "same settings."
        )
    ready.journal.reopen()
    forget_report(ready.journal)
    prepare_store(ready.store, ready.plan, going_on=True)
