"""`bigrestore models`: the shipped checkpoints, one in detail, and the methods with their options."""

from __future__ import annotations

from typing import Annotated

import typer

from bigrestore.cli.log import configure_logging

models_app = typer.Typer(
    no_args_is_help=True, help="List the shipped models and the methods, or show what is in a model."
)

Name = Annotated[str, typer.Argument(help="Name of a shipped model, or a .safetensors file.")]
Json = Annotated[bool, typer.Option("--json", help="Print the metadata as JSON.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Debug log, tracebacks.")]


@models_app.command("list")
def list_models(verbose: Verbose = False) -> None:
    """List the shipped models: name, preset, scale, halo, prior and realness by default, parameters."""
    configure_logging(verbose=verbose, quiet=False)
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from bigrestore.model.nets.checkpoint import read_checkpoint, shipped_models

    table = Table("model", "preset", "scale", "halo px", "prior", "realness", "parameters")
    for name, path in shipped_models().items():
        info, _ = read_checkpoint(path)
        prior = "yes" if info.get("prior") else "no"
        sizes = f"x{info['scale']}", info["halo_px"], prior, f"{info.get('realness', 0):g}"
        row = (name, info["preset"], *sizes, f"{info['parameters']:,}")
        table.add_row(*(Text(str(cell)) for cell in row))  # a name in square brackets is no markup
    Console().print(table)


@models_app.command()
def methods(verbose: Verbose = False) -> None:
    """List the methods of `run --method`, those of other packages included, and their options of `--set`."""
    configure_logging(verbose=verbose, quiet=False)
    import logging

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from bigrestore.model.registry import list_methods

    table = Table("method", "package", "scales", "network", "maps", "what it does")
    options = Table("method", "option", "default", "takes", "help")
    for listed in list_methods():
        factory = listed.factory
        if factory is None:
            logging.getLogger(__name__).warning("%s", listed.problem)
            table.add_row(Text(listed.name), Text(listed.package), "", "", "", "cannot be used")
            continue
        scales, maps = ", ".join(map(str, factory.scales)), ", ".join(factory.maps)
        network = "yes" if factory.needs_network else "no"
        row = (listed.name, listed.package, scales, network, maps, factory.summary)
        table.add_row(*map(Text, row))  # square brackets are no markup
        for option in factory.options:
            default = str(option.default).lower() if option.type is bool else str(option.default)
            options.add_row(*map(Text, (listed.name, option.name, default, option.takes, option.help)))
    Console().print(table)
    if options.row_count:
        Console().print(options)


@models_app.command()
def path(name: Name, verbose: Verbose = False) -> None:
    """Print the file that a model lies in."""
    configure_logging(verbose=verbose, quiet=False)
    from bigrestore.model.nets.checkpoint import find_model

    typer.echo(find_model(name, None))


@models_app.command()
def show(name: Name, as_json: Json = False, verbose: Verbose = False) -> None:
    """Show what a checkpoint says of itself, after checking its hash."""
    configure_logging(verbose=verbose, quiet=False)
    import json
    import sys

    from rich.console import Console
    from rich.markdown import Markdown

    from bigrestore.model.nets.checkpoint import find_model, read_checkpoint

    file = find_model(name, None)
    info, _ = read_checkpoint(file)
    card = file.with_suffix(".md")
    if as_json or not card.is_file():
        typer.echo(json.dumps(info, indent=2, sort_keys=True))
    elif sys.stdout.isatty():
        Console().print(Markdown(card.read_text(encoding="utf-8")))
    else:  # for a file or another program, as it is written
        typer.echo(card.read_text(encoding="utf-8"), nl=False)


@models_app.command()
def verify(name: Name, verbose: Verbose = False) -> None:
    """Check a model's hash and that its weights fit its preset."""
    configure_logging(verbose=verbose, quiet=False)
    from bigrestore.model.nets.checkpoint import load_model

    model = load_model(name)
    typer.echo(f"{model.name}: sha256 {model.sha256} is right")
