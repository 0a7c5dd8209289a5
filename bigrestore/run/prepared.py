"""A run that is resolved and has written nothing yet: opened, planned, and its place looked at.

Whoever carries out any part of a run begins here: the command itself, a dry run, a process that has one part of the
blocks, a worker that is handed blocks one by one. All of them resolve the same settings against the same stored plan,
so that they either agree in every fact that changes a byte or refuse to begin.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs

from bigrestore.errors import OutputError, OutputExistsError, UsageError
from bigrestore.io.section import Section, open_section
from bigrestore.model.method import Method
from bigrestore.model.registry import create_method, method_facts
from bigrestore.report.metrics.validity import TILE_PX
from bigrestore.report.start import check_condition
from bigrestore.run.output.owned import PASSING_STORE
from bigrestore.run.output.place import check_place, output_path, settle_existing, source_paths
from bigrestore.run.plan import Plan, make_plan
from bigrestore.run.profile.kept import Profiles
from bigrestore.run.state.fingerprint import DESTINATION, differing, fingerprint, left_open, require_same
from bigrestore.run.state.input_files import files_seen, what_changed
from bigrestore.run.state.journal import Journal, sidecar
from bigrestore.run.tile.block import Job
from bigrestore.run.tile.maps import require_maps
from bigrestore.run.tile.mask import BackgroundMask, Masker, NoMask, UserMask
from bigrestore.run.tile.realness import RealnessMap
from bigrestore.settings import RunSettings

log = logging.getLogger(__name__)

Inputs = str | Path | Sequence[str | Path]


@attrs.frozen
class Destination:
    """Where an output that is made in a stage is copied to; part of what identifies its run.

    Attributes
    ----------
    url : str
        Without secrets.
    replaces : str
        Name of the run whose output is there and is to be replaced; empty where there is none.
    """

    url: str
    replaces: str = ""


@attrs.frozen(eq=False)
class Prepared:
    """A run that is resolved and has written nothing yet.

    Attributes
    ----------
    inputs : str, Path or list of them
        What `open_section` was given.
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
        What is noted of the files of input, mask and realness map.
    realness : RealnessMap or None
        The user's map of realness.
    destination : Destination or None
        Where the output is copied to; None where it stays.
    """

    inputs: str | Path | list[str | Path]
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
    realness: RealnessMap | None = None
    destination: Destination | None = None

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
            maps=self.plan.maps,
            realness=self.realness,
        )


def prepare(
    inputs: Inputs,
    output: str | Path,
    settings: RunSettings,
    *,
    method: Method | None = None,
    guarded: Mapping[str, Path] | None = None,
    destination: Destination | None = None,
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
    destination : Destination, optional
        Where the output is copied to.

    Raises
    ------
    BigrestoreError
        Of the kind of what is wrong.
    """
    inputs, path = _as_inputs(inputs), output_path(output)
    journal = Journal(path)
    section = _opened(inputs, settings)
    others = {what: [file] for what, file in _files_read(settings, guarded or {}).items()}
    check_place(path, source_paths(inputs, section), others)
    check_condition(settings)
    realness = _realness(section, settings, path)
    more_facts = {} if method else method_facts(settings)
    method = method or _method(settings, realness)
    require_maps(settings, method)
    stored = journal.plan
    goes_on = settings.goes_on or (settings.init_only and not settings.overwrite)
    plan = make_plan(section, method, settings, path, stored["plan"] if stored and goes_on else None)
    masker = _masker(section, method, settings)
    known = _maps_read(settings, masker, realness, path)
    prints = {what: found.fingerprint() for what, found in known.items()}
    identity = fingerprint(plan, section, method, settings, prints.get("mask"), prints.get("realness map"))
    identity |= {f"method.{name}": fact for name, fact in more_facts.items()}
    if destination is not None:
        identity[DESTINATION] = destination.url
    files = {what: files_seen(found) for what, found in {"input": section, **known}.items()}
    return Prepared(
        inputs=inputs,
        section=section,
        method=method,
        settings=settings,
        plan=plan,
        masker=masker,
        output=path,
        store=sidecar(path) / PASSING_STORE if plan.passing_store else path,
        journal=journal,
        going_on=_goes_on(path, journal, settings, stored, identity, files),
        identity=identity,
        files=files,
        realness=realness,
        destination=destination,
    )


def _opened(inputs: str | Path | list[str | Path], settings: RunSettings) -> Section:
    """Open the input as the settings say."""
    section = open_section(
        inputs,
        level=settings.level,
        voxel_size_um=settings.voxel_size,
        input_range=settings.input_range,
        storage_options=settings.storage_options,
    )
    if section.channels == 3:
        log.info(
            "%s is colour: its luma is restored and its colour carried by interpolation.", section.source
        )
    return section


def _maps_read(
    settings: RunSettings, masker: Masker, realness: RealnessMap | None, path: Path
) -> dict[str, Section]:
    """Return the sections of mask and realness map, where they are given; the output must not lie in the mask."""
    known = {}
    if isinstance(masker, UserMask):
        known["mask"] = masker.section
        check_place(path, [], {"mask": source_paths(settings.mask, masker.section)})
    if realness is not None:
        known["realness map"] = realness.section
    return known


def _method(settings: RunSettings, realness: RealnessMap | None) -> Method:
    """Make the method; under a map that is 0 all over, the one of realness 0, whose tiles are smaller."""
    if realness is not None and realness.blank():
        settings = attrs.evolve(settings, realness=0.0, realness_map=None)
    return create_method(settings)


def _realness(section: Section, settings: RunSettings, output: Path) -> RealnessMap | None:
    """Open the user's map of realness, where there is one, and keep the output off it."""
    if settings.realness_map is None:
        return None
    found = RealnessMap.open(settings.realness_map, section.shape)
    check_place(output, [], {"realness map": source_paths(settings.realness_map, found.section)})
    return found


def _goes_on(
    path: Path,
    journal: Journal,
    settings: RunSettings,
    stored: dict[str, Any] | None,
    identity: dict[str, Any],
    files: dict[str, Any],
) -> bool:
    """Return whether what is at the place is gone on with; refuse a place that is neither that nor free."""
    same = stored is not None and not differing(
        stored["fingerprint"], identity, left_open=left_open(settings)
    )
    if stored is not None and settings.init_only and not settings.overwrite:
        require_same(stored["fingerprint"], identity, path)
    resume = settings.goes_on or (settings.init_only and same and not settings.overwrite)
    going_on = settle_existing(path, journal, resume=resume, overwrite=settings.overwrite, same_settings=same)
    if not going_on and (settings.finalize or settings.shard):
        raise OutputError(
            f"The output {path} has no stored plan to work by; make it by --init-only with the same settings first."
        )
    if going_on and stored is not None:
        require_same(stored["fingerprint"], identity, path)
        _require_same_files(stored.get("files", {}), files, path, journal)
    return going_on


def _require_same_files(then: dict[str, Any], now: dict[str, Any], output: Path, journal: Journal) -> None:
    """Refuse to go on where a file of the input or the mask was written since the run was begun.

    An input that could not be read everywhere is meant to be mended. It may be another one then, as long as the
    sampled pixels are those that they were, which was asked before, and those that blocks were made of, which is next.
    """
    for what, seen in now.items():
        changed = what_changed(then.get(what, {}), seen)
        if changed and what == "input" and any(record.input_fault for record in journal.records()):
            log.warning(
                "The input of %s was changed since it was begun (%s), which is taken for the repair of what could not be "
                "read; blocks that are done stay as they are where they were made of the same pixels.",
                output,
                changed,
            )
        elif changed:
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
    named["realness map"] = settings.realness_map
    found = {what: Path(name) for what, name in named.items() if name is not None} | dict(guarded)
    return {what: path for what, path in found.items() if path.exists()}


def _masker(section: Section, method: Method, settings: RunSettings) -> Masker:
    """Return what decides which pixels are restored."""
    scale = Fraction(method.scale)
    if settings.mask == "none":
        return NoMask()
    if settings.mask == "auto":
        return BackgroundMask(scale, (section.height, section.width), section.value_range)
    return UserMask.open(settings.mask, section.shape, scale)
