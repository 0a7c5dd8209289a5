"""`bigrestore models`: the checkpoints of the package, the contents of one, and the methods with their options."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bigrestore.cli.from_settings import Command, CommandGroup, add_command, arguments_command
from bigrestore.cli.log import configure_logging
from bigrestore.cli.table import print_rows, shorten

if TYPE_CHECKING:
    from bigrestore.settings.looking import ModelArguments, ModelCardArguments, ModelListArguments

LONGEST_TRAINING = 57
"""Characters of what is said of one stage of a training."""

models_app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help="List the shipped models and the methods, or show what is in a model.",
)


@arguments_command("ModelListArguments")
def list_models(asked: ModelListArguments) -> None:
    """List the shipped models and the parts of other methods: kind, scale, halo, prior and realness by default, size."""
    configure_logging(verbose=asked.verbose, quiet=False)
    from bigrestore.model.nets import checkpoint
    from bigrestore.model.nets.parts.part import shipped_parts

    facts = [
        {"model": name, **_listed_facts(checkpoint.read_checkpoint(path)[0])}
        for name, path in checkpoint.shipped_models().items()
    ]
    facts += [
        {"model": name, **_listed_facts(checkpoint.read_weights(path)[0])}
        for name, path in shipped_parts().items()
    ]
    if asked.as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    headings = ("model", "kind", "scale", "halo px", "prior", "realness", "parameters")
    _print_table(
        headings,
        [
            (
                each["model"],
                each["kind"],
                f"x{each['scale']}",
                each["halo_px"],
                "yes" if each["prior"] else "no",
                "" if each["realness"] is None else f"{each['realness']:g}",
                f"{each['parameters']:,}",
            )
            for each in facts
        ],
    )


@arguments_command("ModelListArguments")
def list_run_methods(asked: ModelListArguments) -> None:
    """List the methods of `run --method`, those of other packages included, and their options of `--set`."""
    configure_logging(verbose=asked.verbose, quiet=False)
    import logging

    from bigrestore.model.registry import list_methods

    methods: list[dict[str, Any]] = []
    options: list[dict[str, str]] = []
    for listed in list_methods():
        factory = listed.factory
        if factory is None:
            logging.getLogger(__name__).warning("%s", listed.problem)
            methods.append({"method": listed.name, "package": listed.package, "problem": listed.problem})
            continue
        methods.append(
            {
                "method": listed.name,
                "package": listed.package,
                "scales": list(factory.scales),
                "network": factory.needs_network,
                "maps": list(factory.maps),
                "MPx/s a core": factory.speed,
                "what it does": factory.summary,
            }
        )
        for option in factory.options:
            default = str(option.default).lower() if option.type is bool else str(option.default)
            options.append(
                {
                    "method": listed.name,
                    "option": option.name,
                    "default": default,
                    "takes": option.takes,
                    "help": option.help,
                }
            )
    if asked.as_json:
        typer.echo(json.dumps({"methods": methods, "options": options}, indent=1))
        return
    headings = ("method", "package", "scales", "network", "maps", "MPx/s a core", "what it does")
    _print_table(
        headings,
        [
            [_cell(each.get(name, "cannot be used" * (name == headings[-1]))) for name in headings]
            for each in methods
        ],
    )
    if options:
        _print_table(tuple(options[0]), [list(each.values()) for each in options])


def _listed_facts(info: dict[str, Any]) -> dict[str, Any]:
    """Return what a list says of a model or a part; a part has neither preset nor realness."""
    part = "kind" in info
    names = ("scale", "halo_px", "parameters")
    return {"kind": info.get("kind", "restorer"), "preset": info.get("preset")} | {
        **{name: info[name] for name in names},
        "prior": bool(info.get("prior")),
        "realness": None if part else info.get("realness", 0),
    }


def _cell(value: Any) -> str:
    """Return a fact as one cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _print_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table on standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))  # a name in square brackets is no markup
    Console().print(table)


@arguments_command("ModelArguments")
def model_path(asked: ModelArguments) -> None:
    """Print the file that a model lies in."""
    configure_logging(verbose=asked.verbose, quiet=False)
    from bigrestore.model.nets.parts.part import find_weights

    typer.echo(find_weights(asked.name))


@arguments_command("ModelCardArguments")
def show_model(asked: ModelCardArguments) -> None:
    """Show what a checkpoint says of itself, after checking its hash."""
    configure_logging(verbose=asked.verbose, quiet=False)
    from bigrestore.errors import InputMissingError
    from bigrestore.model.nets.checkpoint import read_weights, require_restorer
    from bigrestore.model.nets.parts.part import PART_FORMAT, find_weights

    file = find_weights(asked.name)
    info, _ = read_weights(file)
    if info.get("format") != PART_FORMAT:
        require_restorer(file, info)
    card = file.with_suffix(".md")
    if asked.as_json:
        typer.echo(json.dumps(info, indent=2, sort_keys=True))
    elif not asked.card:
        print_rows(_model_rows(file, info, card if card.is_file() else None))
    elif not card.is_file():
        raise InputMissingError(f"There is no model card {card}; see the metadata by --json.")
    elif sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        text = card.read_text(encoding="utf-8")
        head, end, body = text.partition("\n---\n")
        Console().print(Markdown(body if end and head.startswith("---\n") else text))
    else:  # for a file or another program, as it is written
        typer.echo(card.read_text(encoding="utf-8"), nl=False)


def _model_rows(file: Path, info: dict[str, Any], card: Path | None) -> list[tuple[str, str]]:
    """Return a model as names and values for people."""
    rows = [("model", file.stem), ("file", str(file)), ("scale", f"x{info['scale']}")]
    parameters = f"{info['parameters']:,} parameters"
    if "kind" in info:
        sizes = ", ".join(
            f"{name} {_cell(value)}" for name, value in info["sizes"].items() if name != "scale"
        )
        rows += [("kind", f"{info['kind']}, a part of other methods"), ("size", f"{sizes}; {parameters}")]
    else:
        prior = (
            f"yes, used at realness {info.get('realness', 0):g} unless told" if info.get("prior") else "no"
        )
        prior += ", joined in the place of noise" if info.get("fusion") == "noise" else ""
        rows += [("size", f"{info['preset']}, {parameters}"), ("prior", prior)]
    rows += [("halo", f"{info['halo_px']} px of the input"), ("sha256", info["sha256"])]
    for stage, said in (info.get("training") or {}).items():
        rows.append((f"trained, {stage}", shorten(_training_text(said), LONGEST_TRAINING)))
    return [*rows, ("more", f"{f'{card}, by --card; ' if card else ''}all metadata by --json")]


def _training_text(said: dict[str, Any]) -> str:
    """Return one stage of a training: its length and its data."""
    minutes = sum(each.get("seconds", 0) for each in (said, *said.get("earlier", ()))) / 60
    groups = ", ".join(said.get("groups", ()))
    data = f" on {said['files']} files of {groups}" if said.get("files") and groups else ""
    return f"{minutes:.0f} minutes{data}"


@arguments_command("ModelArguments")
def verify_model(asked: ModelArguments) -> None:
    """Check a model's hash and that its weights fit its preset, or those of a part its sizes."""
    configure_logging(verbose=asked.verbose, quiet=False)
    from bigrestore.model.nets.checkpoint import build_model, read_weights, require_restorer
    from bigrestore.model.nets.parts.part import PART_FORMAT, build_part, find_weights

    file = find_weights(asked.name)
    info, tensors = read_weights(file)
    if info.get("format") == PART_FORMAT:
        build_part(file, info, tensors)
    else:
        require_restorer(file, info)
        build_model(file, info, tensors)
    typer.echo(f"{file.stem}: sha256 {info['sha256']} is right")


MODEL_COMMANDS: dict[str, Command[Any]] = {
    "list": list_models,
    "methods": list_run_methods,
    "path": model_path,
    "show": show_model,
    "verify": verify_model,
}
for name, function in MODEL_COMMANDS.items():
    add_command(models_app, name, function)
