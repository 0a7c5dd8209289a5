"""A Typer command out of settings: each field becomes an argument or an option.

Typer reads the signature and the annotations of a function. Both are made here from the fields of attrs classes, so
an option is said once, in `bigrestore.settings`. A flag not given stays None here: the configuration's value, or the
class's default, holds.

The fields are loaded only for the command in use: `bigrestore --help` shows twenty commands and needs none of them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, TypeVar

import typer
import typer.core

from bigrestore.cli.log import say_error

if TYPE_CHECKING:
    import attrs

Arguments = TypeVar("Arguments", bound="attrs.AttrsInstance")
GivenFlags = dict[str, Any]
"""Names and values of the settings given on the command line, and the command's own defaults."""


class Part(NamedTuple):
    """Some options of a settings class, as one command offers them.

    Attributes
    ----------
    settings : type
        The attrs class.
    only : sequence of str, optional
        Fields offered; None: all.
    left_out : sequence of str
        Fields not offered.
    defaults : mapping
        Defaults of the command in place of the class's; handed on as if given.
    shown : mapping
        Words in the help for a default.
    panels : bool
        Whether the help has headings.
    """

    settings: type[attrs.AttrsInstance]
    only: Sequence[str] | None = None
    left_out: Sequence[str] = ()
    defaults: Mapping[str, Any] = {}
    shown: Mapping[str, str] = {}
    panels: bool = True

    def parameters(self) -> Iterator[inspect.Parameter]:
        """Yield the parameters of the command's function."""
        import attrs

        from bigrestore.settings.option import OPTION_KEY

        for field in attrs.fields(self.settings):
            offered = self.only is None or field.name in self.only
            if OPTION_KEY in field.metadata and offered and field.name not in self.left_out:
                yield self._parameter(field)

    def _parameter(self, field: attrs.Attribute[Any]) -> inspect.Parameter:
        """Return the parameter of one field; a required one has no default."""
        from bigrestore.settings.option import (
            default_shown,
            flags_of,
            is_required,
            option_of,
            words_offered,
            words_type,
        )

        stated, required = option_of(field), is_required(field) and field.name not in self.defaults
        words = words_type(field) if required else words_type(field) | None
        offered = completion(field.name, words_offered(field))
        if stated.positional:
            info = typer.Argument(metavar=stated.metavar, help=stated.help, autocompletion=offered)
        else:
            default = self.defaults.get(field.name, field.default)
            shown = self.shown.get(field.name) or default_shown(field, default)
            text = f"{stated.help}  [{shown}]" if shown else stated.help
            info = typer.Option(
                *flags_of(field),
                help=text.replace("[", "\\["),  # rich reads square brackets as markup
                metavar=stated.metavar,
                rich_help_panel=stated.panel if self.panels else None,
                show_default=False,
                autocompletion=offered,
            )
        return inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD if required else inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if required else None,
            annotation=Annotated[words, info],
        )


class Fields(Generic[Arguments]):
    """The fields of one command: settings, and the arguments beside them."""

    def __init__(self, arguments: type[Arguments], *parts: Part) -> None:
        self.arguments, self.parts = arguments, parts

    def parameters(self) -> list[inspect.Parameter]:
        """Return the parameters of the command's function, required ones first."""
        listed = [p for part in (*self.parts, Part(self.arguments)) for p in part.parameters()]
        return sorted(listed, key=lambda parameter: parameter.kind)

    def read(self, words: Mapping[str, Any]) -> tuple[Arguments, GivenFlags]:
        """Return the arguments and the given settings."""
        given = {name: value for name, value in words.items() if value is not None}
        own = {p.name for p in Part(self.arguments).parameters()}
        settings = {name: value for part in self.parts for name, value in part.defaults.items()}
        settings |= {name: value for name, value in given.items() if name not in own}
        return self.arguments(**{name: value for name, value in given.items() if name in own}), settings


def _paragraphs(text: str) -> str:
    """Return a docstring with each paragraph on one line: the terminal breaks lines at its own width."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text))


class Command(Generic[Arguments]):
    """The function of a command as Typer takes it, with a signature made of fields.

    Parameters
    ----------
    load : callable
        Imports the settings and returns the fields.
    body : callable
        Takes the arguments and the given settings.
    help : str, optional
        Help of the command; None: the docstring of the body.
    """

    def __init__(
        self,
        load: Callable[[], Fields[Arguments]],
        body: Callable[[Arguments, GivenFlags], None],
        help: str | None = None,
    ) -> None:
        self.load, self._body = load, body
        self.__name__, self.__doc__ = body.__name__, _paragraphs(help or body.__doc__ or "")

    @cached_property
    def __signature__(self) -> inspect.Signature:
        return inspect.Signature(self.load().parameters())

    @property
    def __annotations__(self) -> dict[str, Any]:  # type: ignore[override]
        return {p.name: p.annotation for p in self.__signature__.parameters.values()}

    def __call__(self, **words: Any) -> None:
        """Run the command with the words read by Typer, which would lose the sentence of a KeyboardInterrupt."""
        try:
            self._body(*self.load().read(words))
        except KeyboardInterrupt as stop:
            from bigrestore.core.urls import without_secrets

            say_error(without_secrets(str(stop)) or "Stopped by Ctrl-C", 130)
            raise typer.Exit(130) from stop


def command(
    load: Callable[[], Fields[Arguments]],
) -> Callable[[Callable[[Arguments, GivenFlags], None]], Command[Arguments]]:
    """Make a command of a function of arguments and given settings."""
    return lambda body: Command(load, body)


def arguments_command(
    name: str,
) -> Callable[[Callable[[Arguments], None]], Command[Arguments]]:
    """Make a command of a function of arguments alone; `name` is their class in `bigrestore.settings.looking`."""

    def load() -> Fields[Arguments]:
        from bigrestore.settings import looking

        return Fields(getattr(looking, name))

    def decorate(body: Callable[[Arguments], None]) -> Command[Arguments]:
        made: Command[Arguments] = Command(load, lambda asked, _: body(asked), body.__doc__)
        made.__name__ = body.__name__
        return made

    return decorate


class _PlainFlags:
    """Shows flags in the help without the type `<bool>`, which no flag takes."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, the help option included."""
        listed: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in listed:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return listed


class CommandGroup(_PlainFlags, typer.core.TyperGroup):
    """A group of commands."""


class LazyCommand(_PlainFlags, typer.core.TyperCommand):
    """A command of Typer, built when its parameters are first asked for."""

    source: Command[Any]

    @cached_property
    def _built(self) -> Any:
        alone = typer.Typer(add_completion=False)
        alone.command(self.name)(self.source)
        return typer.main.get_command(alone)

    @property
    def params(self) -> list[Any]:
        """The arguments and options."""
        listed: list[Any] = self._built.params
        return listed

    @params.setter
    def params(self, value: list[Any]) -> None:
        """Ignore the empty list set by Typer."""

    def invoke(self, ctx: Any) -> Any:
        """Run the function of the command."""
        return self._built.invoke(ctx)


def add_command(app: typer.Typer, name: str, source: Command[Any]) -> None:
    """Add a command to a Typer application without loading its fields."""

    def nothing() -> None:
        """Stand in for the function of the command, built later."""

    kind = type("LazyCommand", (LazyCommand,), {"source": source})
    app.command(name, cls=kind, help=source.__doc__)(nothing)


def completion(name: str, words: Iterable[str]) -> Callable[[str], list[str]] | None:
    """Return what completes the value of an option; None: the shell offers files.

    Parameters
    ----------
    name : str
        Of the field.
    words : iterable of str
        Its stated values.
    """
    values = tuple(words)
    names = NAMES.get(name)
    if not values and names is None:
        return None

    def complete(incomplete: str) -> list[str]:
        """Return the values that begin so; of a list with commas the last one is completed."""
        before, comma, last = incomplete.rpartition(",")
        return [
            before + comma + word for word in (values or (names() if names else ())) if word.startswith(last)
        ]

    return complete


def _model_names() -> list[str]:
    return [name.removesuffix(".safetensors") for name in _names_in("bigrestore", "weights", ".safetensors")]


def _recipe_names() -> list[str]:
    return [name.removesuffix(".toml") for name in _names_in("bigrestore.degradation", "recipes", ".toml")]


def _method_names() -> list[str]:
    from importlib.metadata import entry_points

    from bigrestore.model.methods.table import METHODS
    from bigrestore.model.registry import METHOD_GROUP

    return [*METHODS, *(entry.name for entry in entry_points(group=METHOD_GROUP))]


def _names_in(package: str, folder: str, ending: str) -> list[str]:
    from importlib.resources import files

    entries = (files(package) / folder).iterdir()
    return sorted(entry.name for entry in entries if entry.name.endswith(ending))


NAMES: dict[str, Callable[[], list[str]]] = {
    "model": _model_names,
    "name": _model_names,
    "start": _model_names,
    "recipe": _recipe_names,
    "method": _method_names,
}
"""Names for the fields of these names."""
