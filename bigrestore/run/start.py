"""The first step of a run: its output is taken, its plan stored, its store made; or it is joined.

The output is locked before the input is looked at, which may take a while. So two runs on one output meet at once,
`status` sees a run that is starting, and a place without permission is refused before any work. A refused run leaves
nothing behind.

A run holds its output alone, and so does the first step of a job array. The parts of the array join its output: they
change nothing under another part, and refuse where only the first step can make a missing file.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bigrestore.errors import OutputError, OutputExistsError, output_error
from bigrestore.report.state import forget_report
from bigrestore.run.output.owned import PLAN
from bigrestore.run.output.place import can_be_opened, prepare_store, remove_former, settle_existing
from bigrestore.run.prepared import Prepared
from bigrestore.run.state.journal import Journal
from bigrestore.run.state.lock import joint_writer, sole_writer
from bigrestore.run.tile.maps import images, outline_of


@contextlib.contextmanager
def take(ready: Prepared) -> Iterator[None]:
    """Lock the output of a run while the context lasts: alone, or beside the other parts.

    A missing folder beside the output is made, and removed again while it is empty.

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
            if not ready.going_on:
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
    """Begin or resume a run on its locked output: remove the former output, store the plan, make the store.

    Raises
    ------
    OutputError
        Where the place cannot be written.
    """
    journal = ready.journal
    if ready.going_on:
        _resume(ready)
    else:
        _require_left(journal)
        if ready.settings.overwrite:
            remove_former(ready.output, journal)
        journal.create()
        facts: dict[str, Any] = {
            "plan": ready.plan.facts,
            "fingerprint": ready.identity,
            "files": ready.files,
        }
        facts |= {"blocks": ready.plan.grid.block_total, "shape": list(ready.plan.grid.shape)}
        facts |= {"writes": outline_of(ready.plan).to_json()}
        if ready.destination is not None:
            facts |= {"run": secrets.token_hex(16), "replaces": ready.destination.replaces}
        journal.write(PLAN, facts | {"in_parts": ready.settings.init_only})
    prepare_store(ready.store, ready.plan, going_on=ready.going_on)


def _resume(ready: Prepared) -> None:
    """Reopen a run, and remove the leavings of a killed one."""
    journal = ready.journal
    journal.create()
    journal.sweep(ready.store)
    journal.drop_dead()
    journal.reopen()
    forget_report(journal)
    if not ready.store.exists():
        journal.forget_blocks()


def _require_left(journal: Journal) -> None:
    """Refuse to remove blocks under a worker of a former run."""
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
    if not all(can_be_opened(image.path) for image in images(ready.store, ready.plan)):
        raise OutputError(
            f"The store {ready.store} is missing, or its metadata are damaged; make it again by --init-only with the "
            "same settings."
        )
    ready.journal.create()
    ready.journal.drop_dead()
    ready.journal.reopen()
    forget_report(ready.journal)
    prepare_store(ready.store, ready.plan, going_on=True)
