"""`bigrestore profile`: what a run would know of a section before its first tile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bigrestore.cli.log import configure_logging
from bigrestore.cli.table import print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bigrestore.io.section import Section
    from bigrestore.run.profile.section_profile import Profile, Sample

Input = Annotated[
    str, typer.Argument(metavar="INPUT", help="File, store, folder or pattern of section files.")
]
Z = Annotated[int, typer.Option("--z", help="Section of a volume.", min=0)]
Level = Annotated[int, typer.Option(help="Pyramid level of the input.")]
Method = Annotated[str, typer.Option(help="Method that analyses: network, rational or catmull-rom.")]
Model = Annotated[str | None, typer.Option(help="Checkpoint, or name of a shipped model.")]
Scale = Annotated[int, typer.Option(help="Scale that the kernel is meant for: 1, 2 or 4.")]
Kernel = Annotated[Path | None, typer.Option(help="Known blur kernel (.npy or text); else estimated.")]
Blur = Annotated[
    str | None,
    typer.Option(help="Known blur, input pixels (degrees); else estimated.", metavar="SIGMA[,SIGMA_Y,ANGLE]"),
]
Noise = Annotated[
    float | None,
    typer.Option(help="Known noise, standard deviation of 255; else estimated.", metavar="LEVELS"),
]
InputRange = Annotated[
    tuple[str, str] | None,
    typer.Option(help="Values of black and white, or full: those of the type.", metavar="LO HI|full"),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Draw spectrum and kernel (.png, .pdf, .svg), or write JSON."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the file of -o though it is no profile, or a picture.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the profile as JSON.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Debug log, tracebacks.")]


def profile(
    input: Input,
    z: Z = 0,
    level: Level = 0,
    method: Method = "network",
    model: Model = None,
    scale: Scale = 1,
    kernel: Kernel = None,
    blur: Blur = None,
    noise: Noise = None,
    input_range: InputRange = None,
    output: Output = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Print what is read of a section, and what a run would do: background, tissue, blur kernel, noise."""
    import json

    from bigrestore.errors import UsageError
    from bigrestore.settings import RunSettings

    configure_logging(verbose=verbose, quiet=False)
    settings = RunSettings.resolve(
        {
            **{"method": method, "model": model, "scale": scale, "level": level, "input_range": input_range},
            **{"kernel": kernel, "blur": blur, "noise": noise},
        },
        None,
    )
    from bigrestore.io.range_check import check_range_used
    from bigrestore.io.section import open_section
    from bigrestore.model.registry import create_method
    from bigrestore.run.profile.section_profile import profile_windows, sample_section
    from bigrestore.run.profile.words import sentence

    section = open_section(input, level=settings.level, input_range=settings.input_range)
    check_range_used(section, settings.input_range)
    if z >= section.depth:
        raise UsageError(f"--z is {z}, but {input} has {section.depth} section(s); choose one below that.")
    if output is not None:
        _require_place(output, input, section, {"model": model, "kernel": kernel})
        _refuse_other_file(output, overwrite=overwrite)
    seen = sample_section(section, z)
    found = profile_windows(seen, create_method(settings))
    said = sentence(found.statistics, settings.scale)
    document = json.dumps(found.to_json() | {"says": said}, indent=1)
    if output is not None:
        name = section.source.rstrip("/").rsplit("/", 1)[-1]
        title = f"{name}, section {z}\n{said}" if section.depth > 1 else f"{name}\n{said}"
        _write(output, document, seen, found, settings.scale, title)
    if as_json:
        typer.echo(document)
        return
    print_rows([("in words", said), *found.rows()])


def _write(output: Path, document: str, seen: Sample, profile: Profile, scale: int, title: str) -> None:
    """Write a profile as JSON, or draw it where the file is a picture by its name."""
    from bigrestore.core.files import whole_file
    from bigrestore.errors import InputError
    from bigrestore.run.profile.figure import PICTURES, draw

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
        draw(partial, output.suffix.lower()[1:], seen.windows, profile.statistics, scale, title)


def _require_place(
    output: Path, input: str, section: Section, others: Mapping[str, str | Path | None]
) -> None:
    """Refuse a place that cannot be written, or that holds anything that is read, before any work."""
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
    """Refuse to replace what is no profile, such as a picture; a profile of before is replaced without being asked."""
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
