"""What a recipe may say, and the sentence when it says something else.

A recipe is a TOML file with one table per step of the degradation (`bigrestore.degradation.tables`), so file,
defaults, checks and documentation cannot drift apart; or a mixture of other recipes. Unknown keys, reversed ranges
and values out of bounds are refused with the name of the key.
"""

from __future__ import annotations

import functools
import math
import tomllib
import types
import typing
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.kernels import DOWNSAMPLING_FILTERS
from bigrestore.core.regular import is_regular, read_text
from bigrestore.core.words import either, shown
from bigrestore.degradation.interpolators import ORDERS
from bigrestore.degradation.tables import (
    BLUR_KINDS,
    DAMAGE_KINDS,
    LARGEST_SHIFT_PX,
    BandingTable,
    BlurTable,
    DamageTable,
    DownsamplingTable,
    IlluminationTable,
    LinesTable,
    NoiseTable,
    Range,
    ResamplingTable,
    ScanningTable,
    SecondPassTable,
    SharpeningTable,
    StainTable,
    StorageTable,
    ThicknessTable,
)
from bigrestore.errors import InputMissingError, UsageError


@attrs.frozen
class Recipe:
    """All possible degradations: one table per step, in the order of the steps.

    Attributes
    ----------
    name : str
        Shown in tables and logs.
    identity_probability : float
        Share of undegraded pairs (but for the downsampling), with the clean image as target: do no harm.
    mix : tuple of MixPart
        Other recipes, one drawn for each pair; such a recipe has no table of its own.
    """

    name: str
    identity_probability: float = 0.0
    stain: StainTable = attrs.field(factory=StainTable)
    illumination: IlluminationTable = attrs.field(factory=IlluminationTable)
    blur: BlurTable = attrs.field(factory=BlurTable)
    thickness: ThicknessTable = attrs.field(factory=ThicknessTable)
    downsampling: DownsamplingTable = attrs.field(factory=DownsamplingTable)
    lines: LinesTable = attrs.field(factory=LinesTable)
    banding: BandingTable = attrs.field(factory=BandingTable)
    damage: DamageTable = attrs.field(factory=DamageTable)
    noise: NoiseTable = attrs.field(factory=NoiseTable)
    sharpening: SharpeningTable = attrs.field(factory=SharpeningTable)
    storage: StorageTable = attrs.field(factory=StorageTable)
    second_pass: SecondPassTable = attrs.field(factory=SecondPassTable)
    scanning: ScanningTable = attrs.field(factory=ScanningTable)
    resampling: ResamplingTable = attrs.field(factory=ResamplingTable)
    mix: tuple[MixPart, ...] = ()

    @classmethod
    def load(cls, name_or_path: str | Path) -> Recipe:
        """Read a shipped recipe by name (`default`, `bigbrain`) or any TOML file by path.

        Raises
        ------
        InputMissingError
            If there is neither such a recipe nor such a file.
        UsageError
            If the file is no TOML or holds an invalid recipe.
        """
        return cls.from_dict(*_loaded(str(name_or_path), ()))

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "recipe") -> Recipe:
        """Build and check a recipe from nested plain values, as TOML gives them."""
        recipe: Recipe = _build(cls, values, where)
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values for `from_dict`, without a `contrast_gain` of 0 and `sharpening` that never happens.

        Older versions do not know them, and a training that they began goes on under a recipe of the same draws.
        """
        return attrs.asdict(self, filter=_drawn)

    def always_degrading(self) -> Recipe:
        """Return the recipe without its share of undegraded pairs."""
        parts = tuple(attrs.evolve(part, recipe=part.recipe.always_degrading()) for part in self.mix)
        return attrs.evolve(self, identity_probability=0.0, mix=parts)


def _drawn(field: attrs.Attribute[Any], value: Any) -> bool:
    """Keep a field in the stated recipe, unless it is new and draws nothing."""
    if field.name == "sharpening":
        return bool(value.probability > 0)
    return field.name != "contrast_gain" or bool(value.high > 0)


@attrs.frozen
class MixPart:
    """A recipe in a mixture, and how often it is drawn, relative to the others."""

    weight: float
    recipe: Recipe


OLD_NAMES = {"bigbrain20": "bigbrain"}
"""Former names of shipped recipes."""


def shipped_recipes() -> dict[str, str]:
    """Return the text of every recipe in the package, by name."""
    folder = resources.files("bigrestore.degradation") / "recipes"
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return {entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8") for entry in files}


def _loaded(name: str, above: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """Return the values of a recipe and its name; the recipes of a mixture are inserted.

    `above` holds the recipes mixing this one.
    """
    shipped, path = shipped_recipes(), Path(name)
    if path.suffix == ".safetensors":
        raise UsageError(
            f"The recipe {path} was learned from pairs, and only shipped recipes and TOML files are mixed; give it alone by "
            "--recipe."
        )
    chosen = OLD_NAMES.get(name, name)
    if chosen in shipped:
        text, where = shipped[chosen], chosen
    elif is_regular(path):
        where = str(path)
        try:
            text = read_text(path)
        except UnicodeDecodeError as error:
            raise UsageError(f"The recipe {path} is not a text file in UTF-8; give a TOML file.") from error
    else:
        raise InputMissingError(
            f"The recipe {name!r} is no file, and no shipped one: {either(sorted(shipped))}."
        )
    identity = where if chosen in shipped else str(path.resolve())
    if identity in above:
        raise UsageError(f"The recipe {where} mixes itself; take it out of its [mix].")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The recipe {where} is not valid TOML ({error}); correct the file.") from error
    if "mix" in values:
        values["mix"] = _mix_parts(values, where, path.parent, (*above, identity))
    return {"name": path.stem, **values}, where


def _mix_parts(
    values: dict[str, Any], where: str, folder: Path, above: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return the parts of a mixture, files relative to `folder`, as `Recipe.from_dict` takes them."""
    others = sorted(set(values) - {"name", "mix"})
    if others:
        raise UsageError(
            f"In {where}, the key {others[0]!r} stands beside [mix]; a mixture has no table of its own."
        )
    weights = values["mix"]
    if not isinstance(weights, dict) or not weights:
        raise UsageError(
            f"In {where}: mix, a table of recipes and weights is expected, not {shown(weights)}."
        )
    parts = []
    for name, weight in weights.items():
        near = folder / name
        parts.append({"weight": weight, "recipe": _loaded(str(near) if is_regular(near) else name, above)[0]})
    return parts


@functools.cache
def _types_of(cls: Any) -> dict[str, Any]:
    """Return the types of the fields of a table; a recipe has a hundred ranges."""
    return typing.get_type_hints(cls)


def _build(cls: Any, values: Any, where: str) -> Any:
    """Build one table from a dictionary, checking every key and every value."""
    if not isinstance(values, dict):
        kinds = "a number, two of them or a table" if cls is Range else "a table of keys"
        raise UsageError(f"In {where}, {kinds} is expected, not {shown(values)}.")
    fields = {field.name: field for field in attrs.fields(cls)}
    hints = _types_of(cls)
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise UsageError(f"In {where}, the key {unknown[0]!r} is unknown; known are {', '.join(fields)}.")
    built = {key: _converted(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    missing = [n for n, f in fields.items() if f.default is attrs.NOTHING and n not in built]
    if missing:
        raise UsageError(f"In {where}, the key {missing[0]!r} is missing; add it.")
    table = cls(**built)
    for key in built:
        _check_entry(cls, key, getattr(table, key), f"{where}: {key}")
    if cls is Range:
        _check_order(table, where)
    return table


def _converted(hint: Any, value: Any, where: str) -> Any:
    """Convert one plain value to the type of its field."""
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = typing.get_args(hint)[0]
    if hint is Range and isinstance(value, int | float) and not isinstance(value, bool):
        return _build(Range, {"low": value, "high": value}, where)
    if hint is Range and isinstance(value, list | tuple) and len(value) == 2:
        return _build(Range, {"low": value[0], "high": value[1]}, where)
    if attrs.has(hint):
        return _build(hint, value, where)
    if hint is str:
        if not isinstance(value, str):
            raise UsageError(f"In {where}, a text is expected, not {shown(value)}.")
        return value
    if hint is float:
        return _finite(value, where)
    if typing.get_origin(hint) is tuple and typing.get_args(hint)[1] is Ellipsis:
        if not isinstance(value, list | tuple):
            raise UsageError(f"In {where}, a list of recipes is expected, not {shown(value)}.")
        return tuple(_build(typing.get_args(hint)[0], part, where) for part in value)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise UsageError(f"In {where}, two numbers are expected, not {shown(value)}.")
        return (_finite(value[0], where), _finite(value[1], where))
    if not isinstance(value, dict) or not value:
        raise UsageError(f"In {where}, a table of weights is expected, not {shown(value)}.")
    return {key: _finite(weight, f"{where}: {key}") for key, weight in value.items()}


def _finite(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"In {where}, a finite number is expected, not {shown(value)}.")
    return float(value)


def _check_order(drawn: Range, where: str) -> None:
    if drawn.low > drawn.high:
        raise UsageError(f"In {where}, low {drawn.low:g} is above high {drawn.high:g}; swap them.")
    if drawn.law not in ("uniform", "log"):
        raise UsageError(f"In {where}, the law {drawn.law!r} is unknown; choose uniform or log.")
    if drawn.law == "log" and drawn.low <= 0.0:
        raise UsageError(f"In {where}, low {drawn.low:g} must be above zero for the law log.")
    if drawn.focus is not None and not drawn.low <= drawn.focus[0] <= drawn.focus[1] <= drawn.high:
        raise UsageError(f"In {where}, the focus {list(drawn.focus)} must lie inside the range and ascend.")


_KNOWN: dict[tuple[Any, str], Sequence[str]] = {
    (BlurTable, "kinds"): BLUR_KINDS,
    (DownsamplingTable, "kinds"): DOWNSAMPLING_FILTERS,
    (DamageTable, "kinds"): DAMAGE_KINDS,
    (ScanningTable, "factors"): ("1", "2", "4"),
    (ResamplingTable, "passes"): ("1", "2"),
    (ResamplingTable, "orders"): ORDERS,
}
"""What may be named in a table of weights."""

_BOUNDS: dict[str, tuple[float, float]] = {
    "gain": (0.0, 2.0),
    "density": (0.0, 3.0),
    "amplitude": (0.0, 0.5),
    "period_px": (2.0, 1e6),
    "x1": (0.05, 10.0),
    "x2": (0.05, 10.0),
    "x4": (0.05, 20.0),
    "shape": (0.2, 10.0),
    "plateau_shape": (0.5, 10.0),
    "defocus_radius_px": (0.0, 9.0),
    "motion_length_px": (0.0, 18.0),
    "thickness_um": (0.0, 200.0),
    "pixel_um": (0.05, 100.0),
    "numerical_aperture": (0.01, 0.99),
    "refractive_index": (1.0, 2.0),
    "focus": (0.0, 1.0),
    "jitter_px": (0.0, 0.5),
    "memory": (0.0, 0.95),
    "row_gain": (0.0, 0.2),
    "count": (1.0, 64.0),
    "width_px": (0.5, 64.0),
    "read_255": (0.0, 64.0),
    "correlated_share": (0.0, 1.0),
    "contrast_gain": (0.0, 4.0),
    "amount": (0.0, 3.0),
    "radius_px": (0.3, 2.5),
    "amplitude_px": (0.0, LARGEST_SHIFT_PX),
    "jpeg_quality": (1.0, 100.0),
    "sigma_px": (0.05, 1.5),
}


def _check_entry(cls: Any, key: str, value: Any, where: str) -> None:
    """Refuse probabilities outside 0..1, unknown kinds and numbers beyond the step's limits."""
    if key.endswith(("probability", "focus_share")) and not 0.0 <= value <= 1.0:
        raise UsageError(f"In {where}, the probability {value:g} is outside 0..1; give a share of one.")
    if cls is MixPart and key == "weight" and not 0.0 < value < math.inf:
        raise UsageError(f"In {where}, the weight {value:g} is not above zero; leave the recipe out instead.")
    known = _KNOWN.get((cls, key))
    if known is not None:
        unknown = sorted(set(value) - set(known))
        if unknown:
            raise UsageError(f"In {where}, {unknown[0]!r} is unknown; known are {', '.join(known)}.")
        if min(value.values()) < 0.0 or sum(value.values()) <= 0.0:
            raise UsageError(f"In {where}, the weights must not be negative and not all zero.")
    if cls is Range or key not in _BOUNDS or (attrs.has(type(value)) and not isinstance(value, Range)):
        return
    low, high = (value.low, value.high) if isinstance(value, Range) else (value, value)
    least, most = _BOUNDS[key]
    if low < least or high > most:
        raise UsageError(f"In {where}, {low:g} to {high:g} leaves what is possible, {least:g} to {most:g}.")
