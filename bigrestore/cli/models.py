"""`bigrestore models`: the checkpoints of the package, the contents of one, and the methods with their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from bigrestore.cli.from_settings import Command, CommandGroup, add_command, arguments_command
from bigrestore.cli.log import configure_logging

if TYPE_CHECKING:
    from bigrestore.settings.looking import ModelArguments, ModelCardArguments, ModelListArguments

models_app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True, help="List the shipped models and the methods, or show what is in a model."
)


@arguments_command("ModelListArguments")
def list_models(asked: ModelListArguments) -> None:
    """List the shipped models: name, preset, scale, halo, prior and realness by default, parameters."""
    configure_logging(verbose=asked.verbose, quiet=False)
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


@arguments_command("ModelListArguments")
def list_run_methods(asked: ModelListArguments) -> None:
    """List the methods of `run --method`, those of other packages included, and their options of `--set`."""
    configure_logging(verbose=asked.verbose, quiet=False)
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


@arguments_command("ModelArguments")
def model_path(asked: ModelArguments) -> None:
    """Print the file that a model lies in."""
    configure_logging(verbose=asked.verbose, quiet=False)
    from bigrestore.model.nets.checkpoint import find_model

    typer.echo(find_model(asked.name, None))


@arguments_command("ModelCardArguments")
def show_model(asked: ModelCardArguments) -> None:
    """Show what a checkpoint says of itself, after checking its hash."""
    configure_logging(verbose=asked.verbose, quiet=False)
    import json
    import sys

    from rich.console import Console
    from rich.markdown import Markdown

    from bigrestore.model.nets.checkpoint import find_model, read_checkpoint

    file = find_model(asked.name, None)
    info, _ = read_checkpoint(file)
    card = file.with_suffix(".md")
    if asked.as_json or not card.is_file():
        typer.echo(json.dumps(info, indent=2, sort_keys=True))
    elif sys.stdout.isatty():
        Console().print(Markdown(card.read_text(encoding="utf-8")))
    else:  # for a file or another program, as it is written
        typer.echo(card.read_text(encoding="utf-8"), nl=False)


@arguments_command("ModelArguments")
def verify_model(asked: ModelArguments) -> None:
    """Check a model's hash and that its weights fit its preset."""
    configure_logging(verbose=asked.verbose, quiet=False)
    from bigrestore.model.nets.checkpoint import load_model

    model = load_model(asked.name)
    typer.echo(f"{model.name}: sha256 {model.sha256} is right")


MODEL_COMMANDS: dict[str, Command[Any]] = {
    "list": list_models,
    "methods": list_run_methods,
    "path": model_path,
    "show": show_model,
    "verify": verify_model,
}
for name, function in MODEL_COMMANDS.items():
    add_command(models_app, name, function)
