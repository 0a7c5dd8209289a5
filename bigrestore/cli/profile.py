"""`bigrestore profile`: what a run would know of a section before its first tile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bigrestore.cli.log import configure_logging
from bigrestore.cli.table import print_rows

Input = Annotated[
    str, typer.Argument(metavar="INPUT", help="File, store, folder or pattern of section files.")
]
Z = Annotated[int, typer.Option("--z", help="Section of a volume.", min=0)]
Level = Annotated[int, typer.Option(help="Pyramid level of the input.")]
Method = Annotated[str, typer.Option(help="Method that analyses: network, rational or catmull-rom.")]
Model = Annotated[str | None, typer.Option(help="Checkpoint, or name of a shipped model.")]
Scale = Annotated[int, typer.Option(help="Scale that the kernel is meant for: 1, 2 or 4.")]
InputRange = Annotated[
    tuple[str, str] | None,
    typer.Option(help="Values of black and white, or full: those of the type.", metavar="LO HI|full"),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the profile as JSON.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the file of -o though it holds something else.")
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
    input_range: InputRange = None,
    output: Output = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Print what is estimated of a section: background, tissue, blur kernel, noise."""
    import json

    from bigrestore.errors import UsageError
    from bigrestore.files import whole_file
    from bigrestore.settings import RunSettings

    configure_logging(verbose=verbose, quiet=False)
    settings = RunSettings(method=method, model=model, scale=scale, level=level, input_range=input_range)
    from bigrestore.io.range_check import check_range
    from bigrestore.io.section import open_section
    from bigrestore.methods.registry import create_method
    from bigrestore.profile import profile_section

    section = open_section(input, level=settings.level, input_range=settings.input_range)
    check_range(section, settings.input_range)
    if z >= section.depth:
        raise UsageError(f"--z is {z}, but {input} has {section.depth} section(s); choose one below that.")
    if output is not None:
        from bigrestore.engine.output import check_place, source_paths

        models = [Path(model)] if model is not None and Path(model).exists() else []
        check_place(output, source_paths(input, section), {"model": models})
        _refuse_other_file(output, overwrite=overwrite)
    found = profile_section(section, z, create_method(settings))
    document = json.dumps(found.to_json(), indent=1)
    if output is not None:
        with whole_file(output, follow=True) as partial:
            partial.write_text(document + "\n", encoding="utf-8")
    if as_json:
        typer.echo(document)
        return
    print_rows(found.rows())


def _refuse_other_file(output: Path, *, overwrite: bool) -> None:
    """Refuse to replace what is no profile; a profile of before is replaced without being asked."""
    import json

    from bigrestore.errors import OutputError, OutputExistsError
    from bigrestore.profile import Profile

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
