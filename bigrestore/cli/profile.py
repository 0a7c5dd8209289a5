"""`bigrestore profile`: the knowledge of a run before its first tile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bigrestore.cli.from_settings import Fields, GivenFlags, Part, command
from bigrestore.cli.log import configure_logging
from bigrestore.cli.table import encodable, note_output, print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bigrestore.io.section import Section
    from bigrestore.run.profile.section_profile import Profile, Sample
    from bigrestore.settings.looking import ProfileArguments
    from bigrestore.settings.run import RunSettings


def _profile_fields() -> Fields[ProfileArguments]:
    from bigrestore.settings.looking import PROFILE_SETTINGS, ProfileArguments
    from bigrestore.settings.run import RunSettings

    return Fields(ProfileArguments, Part(RunSettings, only=PROFILE_SETTINGS, panels=False))


@command(_profile_fields)
def profile(asked: ProfileArguments, given: GivenFlags) -> None:
    """Print what is read of a section, or of all of a volume, and what a run would do: blur, noise, tissue, gain."""
    import json

    from bigrestore.errors import UsageError
    from bigrestore.settings.run import RunSettings

    configure_logging(verbose=asked.verbose, quiet=False)
    if asked.output is not None:
        _require_known_ending(asked.output)
    settings = RunSettings.resolve(given, None)
    from bigrestore.io.conventions.range_check import check_range_used
    from bigrestore.io.open_section import open_section
    from bigrestore.model.registry import create_method
    from bigrestore.run.profile.section_profile import profile_windows, sample_section, warn_of_clipping
    from bigrestore.run.profile.words import sentence

    section = open_section(
        asked.input,
        level=settings.level,
        series=settings.series,
        channel=settings.channel,
        input_range=settings.input_range,
    )
    check_range_used(section, settings.input_range, profiled=True)
    z = asked.z or 0
    if z >= section.depth:
        raise UsageError(
            f"--z is {z}, but {asked.input} has {section.depth} section(s); choose one below that."
        )
    if asked.neighbours or asked.harmonise:
        _print_volume(asked, section, z)
        return
    if asked.z is None and section.depth > 1:
        _print_sections(asked, section, settings)
        return
    if asked.output is not None:
        others = {"model": settings.model, "kernel": settings.kernel}
        _require_place(asked.output, asked.input, section, others)
        _refuse_other_file(asked.output, overwrite=asked.overwrite)
    sample = sample_section(section, z)
    seen = profile_windows(sample, create_method(settings))
    warn_of_clipping(seen, section, z)
    said = sentence(seen.statistics, settings.scale)
    document = json.dumps(seen.to_json() | {"says": said}, indent=1)
    if asked.output is not None:
        name = section.source.rstrip("/").rsplit("/", 1)[-1]
        title = f"{name}, section {z}\n{said}" if section.depth > 1 else f"{name}\n{said}"
        _write_profile(asked.output, document, sample, seen, settings.scale, title)
        note_output(asked.output)
    if asked.as_json:
        typer.echo(document)
        return
    print_rows([*([("in words", said)] if said else []), *seen.rows()])


def _require_known_ending(output: Path) -> None:
    """Refuse a file name that tells neither a picture nor JSON."""
    from bigrestore.core.words import either
    from bigrestore.errors import UsageError
    from bigrestore.run.profile.figure import PICTURES

    if output.suffix.lower() not in ("", ".json", *PICTURES):
        raise UsageError(
            f"-o is {output}, and a profile is no {output.suffix} file; name it {either(PICTURES)} to have it drawn, or "
            ".json."
        )


def _print_volume(asked: ProfileArguments, section: Section, z: int) -> None:
    """Print the coherence of a section and the next one, or the tones of all sections."""
    import json

    from bigrestore.errors import UsageError

    if section.depth == 1:
        flag = "--neighbours" if asked.neighbours else "--harmonise"
        raise UsageError(
            f"{flag} compares the sections of a volume, and {asked.input} has one section; leave it out."
        )
    if asked.neighbours:
        from bigrestore.run.neighbours.coherence import coherence

        other = z + 1 if z + 1 < section.depth else z - 1
        seen = coherence(section, z, other)
        document, rows = seen.to_json() | {"sections": [z, other]}, seen.rows(section.voxel_size_um)
    else:
        from bigrestore.run.neighbours.harmony import find_tones, tones_to_json

        tones = find_tones(section, range(section.depth))
        document = {"tones": tones_to_json(tones)}
        rows = [
            (f"section {z}", f"white {tone.white:.3f}, distance from it times {tone.factor:.3f}")
            for z, tone in tones.items()
        ]
    if asked.as_json:
        typer.echo(json.dumps(document, indent=1))
        return
    print_rows(rows)


def _print_sections(asked: ProfileArguments, section: Section, settings: RunSettings) -> None:
    """Print a line for every section of a volume as it is read."""
    import json

    from bigrestore.errors import InputError, UsageError
    from bigrestore.model.registry import create_method
    from bigrestore.run.profile.triage import HEADER, triage

    if asked.output is not None:
        raise UsageError(
            f"-o {asked.output} takes the profile of one section, and {asked.input} has {section.depth}; choose one by "
            "--z, or keep the lines of all by --json > FILE."
        )
    zs = range(0, section.depth, asked.every)
    lines = triage(section, zs, create_method(settings), settings.scale, gain=asked.gain)
    if not asked.as_json:
        typer.echo(HEADER)
    any_readable = False
    for line in lines:
        typer.echo(json.dumps(line.to_json()) if asked.as_json else encodable(line.row()))
        any_readable |= line.readable
    if not any_readable:
        raise InputError(
            f"None of the {len(zs)} sections of {asked.input} can be read; restore the files from their source."
        )


def _write_profile(
    output: Path, document: str, seen: Sample, profile: Profile, scale: int, title: str
) -> None:
    """Write a profile as JSON, or draw it into a file named as a picture."""
    from bigrestore.core.files import whole_file
    from bigrestore.errors import InputError
    from bigrestore.run.profile.figure import PICTURES, draw_profile

    if output.suffix.lower() not in PICTURES:
        with whole_file(output, follow=True) as partial:
            partial.write_text(document + "\n", encoding="utf-8")
        return
    if not len(seen.windows):
        name = title.partition("\n")[0]
        raise InputError(
            f"{name} has no tissue, so there is no spectrum to draw; choose another section by --z."
        )
    with whole_file(output, follow=True) as partial:
        draw_profile(partial, output.suffix.lower()[1:], seen.windows, profile.statistics, scale, title)


def _require_place(
    output: Path, input: str, section: Section, others: Mapping[str, str | Path | None]
) -> None:
    """Refuse a place that cannot be written or holds an input, before any work."""
    from bigrestore.errors import OutputError
    from bigrestore.run.output.place import check_place, require_writable, source_paths

    read = {what: [Path(path)] for what, path in others.items() if path is not None and Path(path).exists()}
    check_place(output, source_paths(input, section), read)
    require_writable(output)
    if not output.parent.is_dir():
        raise OutputError(
            f"The output {output} cannot be written, as there is no folder {output.parent}; make it, or choose another "
            "place."
        )


def _refuse_other_file(output: Path, *, overwrite: bool) -> None:
    """Refuse to replace anything but a profile without --overwrite."""
    import json

    from bigrestore.errors import OutputError, OutputExistsError
    from bigrestore.run.profile.section_profile import Profile

    if not output.exists():
        return
    if not output.is_file():
        raise OutputError(f"The output {output} is no file; give the name of a file, or print by --json.")
    try:
        Profile.from_json(json.loads(output.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        if not overwrite:
            raise OutputExistsError(
                f"The output {output} exists and is no profile; give another name, or replace it by --overwrite."
            ) from error
