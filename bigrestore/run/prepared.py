"""A run before it writes anything: opened, planned, and its output looked at.

Every process of a run begins here: the command, a dry run, one part of a job array, a worker. All resolve the same
settings against the same stored plan, so they agree in every fact behind a byte or refuse to begin.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from bigrestore.core.files import expand_home
from bigrestore.errors import OutputError, OutputExistsError, UsageError, gpu_failures
from bigrestore.io.access.versions import UNREADABLE
from bigrestore.io.conventions.direction import require_same_direction
from bigrestore.io.conventions.provenance import provenance_of, restored_by
from bigrestore.io.open_section import open_section
from bigrestore.io.section import Section
from bigrestore.model.method import Method
from bigrestore.model.registry import create_method, find_factory, method_facts, require_region
from bigrestore.run.neighbours.harmony import Tones, find_tones, tones_from_json, tones_to_json
from bigrestore.run.output.owned import TEMPORARY_STORE
from bigrestore.run.output.place import check_place, output_path, settle_existing, source_paths
from bigrestore.run.plan import Plan, SinkNeeds, is_tiff_name, make_plan
from bigrestore.run.profile.kept import Profiles
from bigrestore.run.state.fingerprint import (
    DESTINATION,
    DETAIL,
    HARMONY,
    differing,
    fingerprint,
    left_open,
    require_same_run,
)
from bigrestore.run.state.input_files import input_file_facts, what_changed
from bigrestore.run.state.journal import Journal, sidecar
from bigrestore.run.tile.block import Job
from bigrestore.run.tile.maps import require_maps
from bigrestore.run.tile.mask import BackgroundMask, Masker, NoMask, UserMask
from bigrestore.run.tile.realness import RealnessMap
from bigrestore.settings import RunSettings
from bigrestore.settings.values import AUTO_MAP, UNLIKELY_MAP

if TYPE_CHECKING:
    from bigrestore.run.neighbours.fill import Filler

log = logging.getLogger(__name__)

Inputs = str | Path | Sequence[str | Path]


@attrs.frozen
class Destination:
    """The target of an output made in a stage; part of its run's identity.

    Attributes
    ----------
    url : str
        Without secrets.
    replaces : str
        Name of the run behind the output to be replaced; empty without one.
    """

    url: str
    replaces: str = ""


@attrs.frozen(eq=False)
class Prepared:
    """A run before it writes anything.

    Attributes
    ----------
    inputs : str, Path or list of them
        What `open_section` was given.
    section, method : Section, Method
        Input and method.
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
    resuming : bool
        Whether an existing output is resumed.
    identity : dict
        The fingerprint of the run.
    files : dict
        What is noted of the files of input, mask and realness map.
    realness : RealnessMap or None
        The user's map of realness.
    destination : Destination or None
        Target of the finished output's copy; None: it stays.
    tally_px : int
        Side of the tiles for sums of residuals and seams, output pixels; 0: none.
    sink_factories : tuple of str
        What makes the followers of the run in a worker.
    tones : mapping of int to Tone
        Tones that sections are brought to.
    filler : Filler or None
        Fills damage from neighbouring sections.
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
    resuming: bool
    identity: dict[str, Any]
    files: dict[str, Any]
    realness: RealnessMap | None = None
    destination: Destination | None = None
    tally_px: int = 0
    sink_factories: tuple[str, ...] = ()
    tones: Tones = attrs.field(factory=dict)
    filler: Filler | None = None

    def job(self, folder: Path | None) -> Job:
        """Return the job of all blocks; profiles are kept in `folder`."""
        return Job(
            section=self.section,
            method=self.method,
            grid=self.plan.grid,
            masker=self.masker,
            profiles=Profiles(self.section, self.method, folder),
            batch_size=self.plan.batch_size,
            deterministic=self.settings.deterministic,
            score_tile_px=self.tally_px if self.plan.grid.scale.denominator == 1 else 0,
            maps=self.plan.maps,
            realness=self.realness,
            tones=self.tones,
            filler=self.filler,
        )


def prepare(
    inputs: Inputs,
    output: str | Path,
    settings: RunSettings,
    *,
    method: Method | None = None,
    guarded: Mapping[str, Path] | None = None,
    destination: Destination | None = None,
    sinks: Sequence[SinkNeeds] = (),
) -> Prepared:
    """Open input and method, resolve the plan and judge the output; nothing is written or removed.

    Parameters
    ----------
    inputs, output, settings, method, guarded, destination, sinks
        As in `bigrestore.run.execute.execute`.

    Raises
    ------
    BigrestoreError
        Of the kind of what is wrong.
    """
    inputs, path = _as_inputs(inputs), output_path(output)
    journal = Journal(path)
    section = _open_input(inputs, settings)
    others = {what: [file] for what, file in _files_read(settings, guarded or {}).items()}
    check_place(path, source_paths(inputs, section), others)
    realness = _open_realness(section, settings, path)
    handed_in = method is not None
    settings = settings if handed_in else _with_default_maps(settings, path)
    more_facts = {} if handed_in else method_facts(settings)
    method = _with_likelihood(method or _method(settings, realness), settings)
    method = _without_sharpening(method, settings)
    require_maps(settings, method)
    warn_of_restored(section, method)
    stored = journal.plan
    resumable = settings.goes_on or (settings.init_only and not settings.overwrite)
    former = stored["plan"] if stored and resumable else None
    plan = make_plan(section, method, settings, path, former, sinks)
    if not handed_in:
        require_region(settings, math.prod(plan.grid.shape))
    _require_volume(section, settings)
    masker = masker_of(section, method, settings)
    known = _maps_read(settings, masker, realness, path)
    require_same_direction(section, known)
    prints = {what: image.fingerprint() for what, image in known.items()}
    identity = fingerprint(plan, section, method, settings, prints.get("mask"), prints.get("realness map"))
    identity |= {f"method.{name}": fact for name, fact in more_facts.items()}
    if destination is not None:
        identity[DESTINATION] = destination.url
    kept = {} if stored is None or settings.overwrite else stored["fingerprint"]
    identity |= {name: kept[name] for name in (HARMONY, DETAIL) if name in kept}
    files = {what: input_file_facts(image) for what, image in {"input": section, **known}.items()}
    resuming = _resumes(path, journal, settings, stored, identity, files)
    # Last, as both read sections of the volume: an output that is refused costs none of that.
    tones = _tones(section, plan, settings, kept if resuming else None, journal)
    filler = _filler(section, settings, masker, kept.get(DETAIL))
    if tones:
        identity[HARMONY] = tones_to_json(tones)
    if filler is not None:
        identity[DETAIL] = filler.sigma_px
    return Prepared(
        inputs=inputs,
        section=section,
        method=method,
        settings=settings,
        plan=plan,
        masker=masker,
        output=path,
        store=sidecar(path) / TEMPORARY_STORE if plan.temporary_store else path,
        journal=journal,
        resuming=resuming,
        identity=identity,
        files=files,
        realness=realness,
        destination=destination,
        tally_px=max((sink.tally_side(plan.score_tile_px) for sink in sinks), default=0),
        sink_factories=tuple(sink.factory for sink in sinks),
        tones=tones,
        filler=filler,
    )


def _require_volume(section: Section, settings: RunSettings) -> None:
    """Refuse options that compare the sections of a volume, for a single section."""
    if section.depth > 1:
        return
    if settings.harmonise:
        raise UsageError(
            f"--harmonise evens out the sections of a volume, and {section.source} is one section; leave it out."
        )
    if settings.neighbours:
        raise UsageError(
            f"--neighbours is {settings.neighbours}, and {section.source} is one section; leave it out, or give a volume."
        )


def _tones(
    section: Section, plan: Plan, settings: RunSettings, kept: Mapping[str, Any] | None, journal: Journal
) -> Tones:
    """Return the tones of the run's sections: those of the run that is resumed, else found now; none without --harmonise."""
    if not settings.harmonise:
        return {}
    if kept is not None:
        tones = tones_from_json(kept.get(HARMONY, {}))
        _warn_of_repaired(plan, tones, journal)
        return tones
    return find_tones(section, plan.grid.region.sections)


def _warn_of_repaired(plan: Plan, tones: Tones, journal: Journal) -> None:
    """Warn of the sections that could not be read when the tones were found, and can be restored now."""
    failed = {record.name for record in journal.records() if record.input_fault}
    without = {block.z for block in plan.grid.blocks() if block.name in failed and block.z not in tones}
    if without:
        log.warning(
            "Section(s) %s keep their brightness under --harmonise, because they could not be read when the run was begun; "
            "to even them out, too, start anew with --overwrite.",
            ", ".join(map(str, sorted(without))),
        )


def _filler(section: Section, settings: RunSettings, masker: Masker, sigma_px: float | None) -> Filler | None:
    """Return the filler of damage by neighbouring sections, None without --neighbours; a resumed run gives `sigma_px`."""
    if not settings.neighbours or not isinstance(masker, UserMask):
        return None
    from bigrestore.run.neighbours.coherence import detail_sigma  # scipy.signal, which is slow to import
    from bigrestore.run.neighbours.fill import Filler

    if sigma_px is None:
        sigma_px = detail_sigma(section, section.depth // 2)
    return Filler(section, masker, settings.neighbours, sigma_px)


def _open_input(inputs: str | Path | list[str | Path], settings: RunSettings) -> Section:
    """Open the input as the settings say."""
    section = open_section(
        inputs,
        level=settings.level,
        series=settings.series,
        channel=settings.channel,
        voxel_size_um=settings.voxel_size,
        input_range=settings.input_range,
        storage_options=settings.storage_options,
    )
    if section.channels == 3:
        log.info(
            "%s is colour: the method works on its luma, and its colour is carried by interpolation.",
            section.source,
        )
    return section


def warn_of_restored(section: Section, method: Method) -> None:
    """Warn where the input of a restoration is an output of one."""
    by = restored_by(provenance_of(section.details))
    if by is not None and "degradation" not in method.describe():
        log.warning(
            "%s was restored before, by bigrestore (%s): restored again, its noise and errors are sharpened twice; give "
            "the image that it was made of.",
            section.source,
            by,
        )


def _maps_read(
    settings: RunSettings, masker: Masker, realness: RealnessMap | None, path: Path
) -> dict[str, Section]:
    """Return the sections of mask and realness map, if given; refuse an output inside the mask."""
    known = {}
    if isinstance(masker, UserMask):
        known["mask"] = masker.section
        check_place(path, [], {"mask": source_paths(settings.mask, masker.section)})
    if realness is not None:
        known["realness map"] = realness.section
    return known


def _method(settings: RunSettings, realness: RealnessMap | None) -> Method:
    """Make the method; under an all-zero map the one of realness 0, with its smaller tiles."""
    if realness is not None and realness.blank():
        settings = attrs.evolve(settings, realness=0.0, realness_map=None)
    with gpu_failures():
        return create_method(settings)


def _with_default_maps(settings: RunSettings, output: Path) -> RunSettings:
    """Add the default maps of the method, unless maps are asked for or the output is a TIFF, which holds none."""
    maps = find_factory(settings.method).default_maps
    if settings.maps or not maps or is_tiff_name(output):
        return settings
    return attrs.evolve(settings, maps=maps)


def _with_likelihood(method: Method, settings: RunSettings) -> Method:
    """Let the method give the map `unlikely` too, if asked for."""
    if UNLIKELY_MAP not in settings.maps:
        return method
    from bigrestore.model.likelihood import Likelihood, WithUnlikely

    device = str(method.describe().get("device", "cpu"))
    return WithUnlikely(method, Likelihood.load(int(method.scale), settings.likelihood_model, device))


def _without_sharpening(method: Method, settings: RunSettings) -> Method:
    """Let the method be given sections as they were before a stated unsharp mask."""
    if settings.sharpened is None:
        return method
    from bigrestore.model.sharpening import without_sharpening  # torch

    return without_sharpening(method, settings.sharpened)


def _open_realness(section: Section, settings: RunSettings, output: Path) -> RealnessMap | None:
    """Open the user's map of realness, if given, and keep the output off it."""
    realness = RealnessMap.asked_for(settings.realness_map, section.shape)
    if realness is None or settings.realness_map is None:
        return None
    check_place(output, [], {"realness map": source_paths(settings.realness_map, realness.section)})
    return realness


def _resumes(
    path: Path,
    journal: Journal,
    settings: RunSettings,
    stored: dict[str, Any] | None,
    identity: dict[str, Any],
    files: dict[str, Any],
) -> bool:
    """Return whether the output is resumed; refuse one neither resumable nor free."""
    same = stored is not None and not differing(
        stored["fingerprint"], identity, left_open=left_open(settings)
    )
    if stored is not None and settings.init_only and not settings.overwrite:
        require_same_run(stored["fingerprint"], identity, path)
    resume = settings.goes_on or (settings.init_only and same and not settings.overwrite)
    resuming = settle_existing(path, journal, resume=resume, overwrite=settings.overwrite, same_settings=same)
    if not resuming and (settings.finalize or settings.shard):
        raise OutputError(
            f"The output {path} has no stored plan to work by; make it by --init-only with the same settings first."
        )
    if resuming and stored is not None:
        require_same_run(stored["fingerprint"], identity, path)
        _require_same_files(stored, files, path, journal)
    return resuming


def _require_same_files(stored: dict[str, Any], now: dict[str, Any], output: Path, journal: Journal) -> None:
    """Refuse to resume after a file of the input or the mask was written.

    An unreadable input is meant to be repaired. It may change then: its sampled pixels were compared already, those
    behind finished blocks are next.
    """
    then = stored.get("files", {})
    for what, seen in now.items():
        changed = what_changed(then.get(what, {}), seen)
        if changed and what == "input" and _had_unreadable_parts(stored, journal):
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


def _had_unreadable_parts(stored: dict[str, Any], journal: Journal) -> bool:
    """Tell whether the input could not be read everywhere: when the run was planned, or by a block."""
    sampled = stored["fingerprint"].get("input.windows_blake2b") or []
    return UNREADABLE in sampled or any(record.input_fault for record in journal.records())


def _as_inputs(inputs: Inputs) -> str | Path | list[str | Path]:
    """Return the input as a path, pattern or list of paths.

    Raises
    ------
    UsageError
        Where it is none.
    """
    if isinstance(inputs, str | os.PathLike):
        path: str | Path = expand_home(inputs if isinstance(inputs, str | Path) else Path(inputs))
        return path
    if isinstance(inputs, Sequence) and inputs and all(isinstance(item, str | Path) for item in inputs):
        paths: list[str | Path] = expand_home(list(inputs))
        return paths
    what = f"of the type {type(inputs).__name__}" if inputs or isinstance(inputs, bytes) else "empty"
    raise UsageError(f"The input is {what}; give a path, a pattern, or a list of paths.")


def _files_read(settings: RunSettings, guarded: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files a run reads besides the input, by their role."""
    named = {"model": settings.model, "objective": settings.objective_model, "kernel": settings.kernel}
    if settings.mask not in ("auto", "none"):
        named["mask"] = settings.mask
    if settings.realness_map != AUTO_MAP:
        named["realness map"] = settings.realness_map
    files = {what: Path(name) for what, name in named.items() if name is not None} | dict(guarded)
    return {what: path for what, path in files.items() if path.exists()}


def masker_of(section: Section, method: Method, settings: RunSettings) -> Masker:
    """Return the masker asked for."""
    scale = Fraction(method.scale)
    if settings.mask == "none":
        return NoMask()
    if settings.mask == "auto":
        return BackgroundMask(scale, (section.height, section.width), section.value_range)
    return UserMask.open(settings.mask, section.shape, scale)
