"""What the command line shows of a setting: help, flags, panel, and how its words are read.

A setting is one field of an attrs class. Type, default, converter and check are attrs' own; the rest of the option is
this metadata: flags, TOML names and Python keywords all come from the one field.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

OPTION_KEY = "option"

METHOD, HARDWARE = "Restoration", "Tiles and hardware"
INPUT, OUTPUT = "Input", "Output"
WORKERS, SAYS = "Workers and job arrays", "Report, progress and log"
SCORES, COMPARE = "Scores and tiles", "Images to compare with"

WORD_TYPES = {"bool": bool, "int": int, "float": float, "Path": Path, "list[str]": list[str]}
"""Types of words on the command line; every other field takes a text and converts it itself."""


@attrs.frozen
class Option:
    """How the command line shows and reads one field.

    Attributes
    ----------
    help : str
        One sentence without the default.
    flags : tuple of str
        As typed, such as `--lock/--no-lock`; empty: the field's name with dashes.
    panel : str, optional
        Heading of the option in the help.
    metavar : str, optional
        Placeholder of the value in the help.
    default : str, optional
        Words for the default in place of the field's value, such as "chosen".
    reads : type, optional
        Type of the words; None: by the field's own type.
    positional : bool
        Whether it is an argument instead of an option.
    words : tuple of str
        Values that a shell offers; those of a choice are known from its check.
    """

    help: str
    flags: tuple[str, ...] = ()
    panel: str | None = None
    metavar: str | None = None
    default: str | None = None
    reads: Any = None
    positional: bool = False
    words: tuple[str, ...] = ()


def option(
    help: str,
    *flags: str,
    panel: str | None = None,
    metavar: str | None = None,
    default: str | None = None,
    reads: Any = None,
    words: tuple[str, ...] = (),
) -> dict[str, Option]:
    """Return the metadata of an option; see `Option`."""
    return {OPTION_KEY: Option(help, flags, panel, metavar, default, reads, words=words)}


def argument(help: str, metavar: str | None = None, reads: Any = None) -> dict[str, Option]:
    """Return the metadata of a positional argument."""
    return {OPTION_KEY: Option(help, metavar=metavar, reads=reads, positional=True)}


def verbose_option(panel: str | None = None) -> dict[str, Option]:
    """Return the metadata of `-v`."""
    return option("Debug log, tracebacks.", "-v", "--verbose", panel=panel)


def quiet_option(panel: str | None = None) -> dict[str, Option]:
    """Return the metadata of `-q`."""
    return option("Warnings and errors only.", "-q", "--quiet", panel=panel)


def option_of(attribute: attrs.Attribute[Any]) -> Option:
    """Return how the command line shows and reads a field."""
    stated: Option = attribute.metadata[OPTION_KEY]
    return stated


def flags_of(attribute: attrs.Attribute[Any]) -> tuple[str, ...]:
    """Return the flags of a field as Typer takes them."""
    stated: Option | None = attribute.metadata.get(OPTION_KEY)
    flags = () if stated is None else stated.flags
    return flags or ("--" + attribute.name.replace("_", "-"),)


def flag(attribute: attrs.Attribute[Any]) -> str:
    """Return the flag of a field as an error names it: the long one of two, the first of a pair."""
    return flags_of(attribute)[-1].partition("/")[0]


def words_offered(attribute: attrs.Attribute[Any]) -> tuple[str, ...]:
    """Return the values of a field that a shell offers: stated ones, or those of a choice."""
    choices = getattr(attribute.validator, "choices", ())
    return option_of(attribute).words or tuple(map(str, choices))


def is_required(attribute: attrs.Attribute[Any]) -> bool:
    """Return whether a field has no default."""
    return attribute.default is attrs.NOTHING


def words_type(attribute: attrs.Attribute[Any]) -> Any:
    """Return the type of a field's words on the command line."""
    return option_of(attribute).reads or WORD_TYPES.get(str(attribute.type).removesuffix(" | None"), str)


def default_shown(attribute: attrs.Attribute[Any], default: object) -> str:
    """Return a default as the help shows it; "" if there is nothing to show."""
    stated = option_of(attribute)
    if stated.default is not None:
        return stated.default
    if isinstance(default, bool):
        on, pair, off = flags_of(attribute)[-1].partition("/")
        return (on if default else off).removeprefix("--") if pair else ""
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if isinstance(default, int | str) else ""
