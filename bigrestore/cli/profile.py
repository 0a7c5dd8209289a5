"""`bigrestore profile`: what a run would know of a section before its first tile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    tuple[float, float] | None, typer.Option(help="Values of black and white.", metavar="LO HI")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write the profile as JSON.")]
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
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Print what is estimated of a section: background, tissue, blur kernel, noise."""
    import json

    from bigrestore.cli.log import configure_logging
    from bigrestore.errors import OutputError, UsageError
    from bigrestore.settings import RunSettings

    configure_logging(verbose=verbose, quiet=False)
    settings = RunSettings(method=method, model=model, scale=scale, level=level, input_range=input_range)
    from bigrestore.io.section import open_section
    from bigrestore.methods.registry import create_method
    from bigrestore.profile import profile_section

    section = open_section(input, level=settings.level, input_range=settings.input_range)
    if z >= section.depth:
        raise UsageError(f"--z is {z}, but {input} has {section.depth} section(s); choose one below that.")
    found = profile_section(section, z, create_method(settings))
    document = json.dumps(found.to_json(), indent=1)
    if output is not None:
        try:
            output.write_text(document + "\n")
        except OSError as error:
            raise OutputError(
                f"The profile cannot be written to {output} ({error.strerror}); choose another place."
            ) from error
    if as_json:
        typer.echo(document)
        return
    print_rows(found.rows())
