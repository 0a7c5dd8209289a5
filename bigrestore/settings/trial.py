"""The options of `try`: what is varied, and the settings of a run that hold for every variant."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.files import expand_home
from bigrestore.errors import UsageError
from bigrestore.settings.option import METHOD, argument, option, quiet_option, verbose_option
from bigrestore.settings.run import RunSettings
from bigrestore.settings.values import NamesInput, to_names, to_plain

VARIED = ("method", "realness", "blur", "sharpened")
"""Settings of a run that `try` takes several values of, in the order of the sheet."""

TRY_SETTINGS = (
    *("model", "options", "scale", "kernel", "noise", "mask", "lock", "seed"),
    *("realness_map", "objective_model"),
    *("input_range", "roi", "level", "series", "channel", "storage_options"),
    *("device", "precision", "tile_size", "threads"),
)
"""Settings of a run that hold for every variant."""

MOST_VARIANTS = 12
"""Variants on one sheet."""


def _to_methods(value: NamesInput) -> object:
    """Return names of methods, of words with commas or a list."""
    return to_names(value)


def _to_realness(value: Any) -> Any:
    """Return values of realness: of words with commas, of a list, or of a single number."""
    named = to_names(value) if isinstance(value, str | list | tuple) else (value,)
    return tuple(_as_number(item) for item in named) if isinstance(named, tuple) else named


def _as_number(value: object) -> object:
    """Return the number in a word; anything else as it is, for the check of the run's setting."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _to_values(value: Any) -> Any:
    """Return blurs or masks as a tuple: each a number, words of its option, or several numbers."""
    plain = to_plain(value)
    return () if plain is None else plain if isinstance(plain, tuple) else (plain,)


@attrs.frozen(kw_only=True)
class Varied:
    """The values of the settings of a run that are compared; empty where a setting is left to the run."""

    realness: tuple[float, ...] = attrs.field(
        default=(),
        converter=_to_realness,
        metadata=option(
            "Values of --realness of `run` to compare.",
            metavar="VALUE[,VALUE...]",
            panel=METHOD,
            default="0,0.5,1 of a model with a prior",
            reads=str,
        ),
    )
    method: tuple[str, ...] = attrs.field(
        default=(),
        converter=_to_methods,
        metadata=option(
            "Methods to compare.",
            metavar="NAME[,NAME...]",
            panel=METHOD,
            default="network; wiener too where its model has no prior",
            reads=str,
        ),
    )
    blur: tuple[Any, ...] = attrs.field(
        default=(),
        converter=_to_values,
        metadata=option(
            "A known blur to compare, as --blur of `run`; repeatable.",
            metavar="SIGMA[,SIGMA_Y,ANGLE]",
            panel=METHOD,
            default="estimated",
            reads=list[str],
        ),
    )

    sharpened: tuple[Any, ...] = attrs.field(
        default=(),
        converter=_to_values,
        metadata=option(
            "An unsharp mask to undo and compare, as --sharpened of `run`; repeatable.",
            metavar="AMOUNT,RADIUS",
            panel=METHOD,
            default="not sharpened",
            reads=list[str],
        ),
    )

    def values(self) -> dict[str, Sequence[Any]]:
        """Return the values by the names of the settings."""
        return {name: getattr(self, name) for name in VARIED}


@attrs.frozen(kw_only=True)
class TryArguments(Varied):
    """What `bigrestore try` takes beside settings of a run."""

    input: str = attrs.field(
        converter=expand_home, metadata=argument("File, store, folder or pattern of section files.", "INPUT")
    )
    output: Path | None = attrs.field(
        default=None,
        converter=expand_home,
        metadata=option(
            "The sheet, a PNG.", "-o", "--output", metavar="FILE.png", default="INPUT-try.png, here"
        ),
    )
    as_json: bool = attrs.field(default=False, metadata=option("Print the scores as JSON.", "--json"))
    quiet: bool = attrs.field(default=False, metadata=quiet_option())
    verbose: bool = attrs.field(default=False, metadata=verbose_option())

    def __attrs_post_init__(self) -> None:
        if self.output is not None and self.output.suffix.lower() != ".png":
            raise UsageError(f"-o is {self.output}, and a sheet is a PNG; name it .png.")


def variants_of(
    common: RunSettings, varied: dict[str, Sequence[Any]]
) -> list[tuple[dict[str, Any], RunSettings]]:
    """Return each combination of the varied settings with the settings of its run; one variant where none is varied.

    Raises
    ------
    UsageError
        For too many, or where a setting refuses a value.
    """
    names = [name for name in VARIED if varied.get(name)]
    values = [tuple(dict.fromkeys(varied[name])) for name in names]
    combined = [dict(zip(names, chosen, strict=True)) for chosen in product(*values)]
    if len(combined) > MOST_VARIANTS:
        counts = " x ".join(str(len(items)) for items in values)
        raise UsageError(
            f"{counts} variants are {len(combined)}, and a sheet holds {MOST_VARIANTS}; give fewer values of "
            f"{' and '.join(f'--{name}' for name in names)}."
        )
    return [(chosen, attrs.evolve(common, **chosen)) for chosen in combined]
