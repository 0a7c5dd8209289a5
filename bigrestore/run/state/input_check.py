"""Refusing a run whose input has changed since its blocks were made.

Every block notes what it read (`io.access.versions`). When a run is gone on with, and before it is finished, the versions of
all files that were read are compared with those that are there; where one differs (a copy, a file that was touched, one
that was written to) the window is read again and its pixels are compared. A section's profile has the version of the
section and a checksum of what was read for it; where both differ the profile is made again and compared.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from bigrestore.core.files import read_sealed
from bigrestore.core.host.resources import give_threads_back, one_thread_per_tile
from bigrestore.errors import InputError, OutputExistsError
from bigrestore.io.access.versions import UNREADABLE, Read, checksum_of
from bigrestore.io.section import Section
from bigrestore.run.prepared import Prepared
from bigrestore.run.profile.kept import profile_differs
from bigrestore.run.tile.block import NEIGHBOURS
from bigrestore.run.tile.mask import UserMask

log = logging.getLogger(__name__)


def require_input_of(ready: Prepared, names: Iterable[str], check: Callable[[], None]) -> bool:
    """Refuse to resume with blocks of other pixels than those of now; with --check-all forget them.

    Blocks beside a section that could not be read, and was repaired, are forgotten in any case.

    Parameters
    ----------
    ready : Prepared
        The resumed run.
    names : iterable of str
        Its blocks.
    check : callable
        Called before each block; its error ends the comparison.

    Returns
    -------
    bool
        Whether blocks were forgotten, to be done again.

    Raises
    ------
    OutputExistsError
        Naming the first difference.
    """
    names = list(names)
    beside = _blocks_beside_repairs(ready, names)
    if beside:
        log.warning(
            "%d block(s) looked at neighbouring sections that could not be read and were repaired, first %s; they are "
            "done again.",
            len(beside),
            beside[0],
        )
        ready.journal.forget(beside)
    other = _other_blocks(ready, names, check, first_only=not ready.settings.check_all)
    if other and ready.settings.check_all:
        log.warning(
            "%d block(s) were made of other pixels than there are now, first %s (%s); they are done again.",
            *(len(other), *next(iter(other.items()))),
        )
        ready.journal.forget(other)
    elif other:
        raise OutputExistsError(_other_pixels(other, f"since the output {ready.output} was begun"))
    stale = _stale_profile(ready)
    if stale is not None:
        raise OutputExistsError(_other_profile(stale, f"since the output {ready.output} was begun"))
    return bool(other or beside)


def require_steady_input(ready: Prepared, names: Iterable[str], check: Callable[[], None]) -> None:
    """Refuse to finish an output after its input was written to.

    Raises
    ------
    InputError
        Naming the first difference.
    """
    other = _other_blocks(ready, names, check, first_only=True)
    if other:
        raise InputError(_other_pixels(other, f"while {ready.output} was made of it"))
    stale = _stale_profile(ready)
    if stale is not None:
        raise InputError(_other_profile(stale, f"while {ready.output} was made of it"))


def _other_pixels(other: dict[str, str], when: str) -> str:
    """Return the first block of other pixels in words, with the remedies."""
    name, where = next(iter(other.items()))
    what = where.split(" at ")[0].replace(NEIGHBOURS, "input")
    return (
        f"The {what} was changed {when}: block {name} was made of other pixels than there are now in the {where}; restore "
        "it as it was, do the blocks that differ again by --resume --check-all, or start anew with --overwrite."
    )


def _other_profile(z: int, when: str) -> str:
    """Return the outdated profile of a section in words, with the remedies."""
    return (
        f"The input was changed {when}: section {z} would have another profile; restore it as it was, or start anew with "
        "--overwrite."
    )


def _other_blocks(
    ready: Prepared, names: Iterable[str], check: Callable[[], None], *, first_only: bool
) -> dict[str, str]:
    """Return the blocks of other pixels than those of now, each with the place of the difference."""
    sections, other, again = _sections_read(ready), dict[str, str](), 0
    for name in names:
        check()
        record = ready.journal.record(name)
        if record is None or record.status == "failed":
            continue
        reads = ((what, Read.from_json(items)) for what, windows in record.reads.items() for items in windows)
        for what, read in reads:
            section = sections.get(what)
            if section is None or section.version(*read.window, fresh=True) == read.version:
                continue
            again += 1
            if _differs(section, read):
                z, y0, y1, x0, x1 = read.window
                other[name] = f"{what} at z={z}, y={y0}:{y1}, x={x0}:{x1}"
                break
        if other and first_only:
            break
    if again and not other:
        log.info("%d window(s) of files with other times were read again, and hold what they held.", again)
    return other


def _blocks_beside_repairs(ready: Prepared, names: Iterable[str]) -> list[str]:
    """List the finished blocks with a neighbouring section that could not be read, and now can be."""

    def repaired(read: Read) -> bool:
        if read.pixels != UNREADABLE or ready.section.version(*read.window, fresh=True) == read.version:
            return False
        return _differs(ready.section, read)

    if ready.filler is None:  # no block looks at its neighbours
        return []
    records = (ready.journal.record(name) for name in names)
    return [
        record.name
        for record in records
        if record is not None
        and record.status != "failed"
        and any(repaired(Read.from_json(items)) for items in record.reads.get(NEIGHBOURS, []))
    ]


def _differs(section: Section, read: Read) -> bool:
    """Tell whether a window holds other pixels than it held, or can be read only once of the two times."""
    try:
        return checksum_of(section.read(*read.window)) != read.pixels
    except InputError:
        log.debug("%s cannot be read again.", section.source, exc_info=True)
        return read.pixels != UNREADABLE


def _sections_read(ready: Prepared) -> dict[str, Section]:
    """Return input, mask and realness map by their names in messages."""
    sections = {"input": ready.section, NEIGHBOURS: ready.section}
    if isinstance(ready.masker, UserMask):
        sections["mask"] = ready.masker.section
    if ready.realness is not None:
        sections["realness map"] = ready.realness.section
    return sections


def _stale_profile(ready: Prepared) -> int | None:
    """Return the first section with an outdated profile, None if there is none."""
    for path in ready.journal.profile_files():
        stored = read_sealed(path)
        if stored is None:
            continue
        z, before = int(path.stem[1:]), one_thread_per_tile()
        try:
            stale = profile_differs(ready.section, z, ready.method, stored)
        except InputError:
            stale = True
        finally:
            give_threads_back(before)
        if stale:
            return z
    return None
