"""What a recipe may say, and the sentence when it says something else.

A recipe is a TOML file with one table per step of the degradation. Each table is a small class here, so
that the file, the defaults, the checks and the documentation cannot drift apart. A number that is drawn
is a `Range`; a step that does not always happen has a `probability`. Anything unknown, upside down or
out of bounds is refused with the name of the key.
"""

from __future__ import annotations

import math
import tomllib
import types
import typing
from importlib import resources
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from bigrestore.degrade.kernels import DOWNSAMPLING_FILTERS
from bigrestore.errors import InputMissingError, UsageError

BLUR_KINDS = ("gaussian", "anisotropic", "generalised", "plateau", "defocus", "motion", "thickness")
DAMAGE_KINDS = ("stripe", "scratch", "dust", "fold")


@attrs.frozen
class Range:
    """A number to be drawn.

    Attributes
    ----------
    low, high : float
        Bounds, both inside.
    law : str
        `uniform`, or `log` for a number whose logarithm is uniform.
    focus : (float, float) or None
        A part of the range that is drawn more often ...
    focus_share : float
        ... with this probability, by the same law; otherwise the whole range.
    """

    low: float
    high: float
    law: str = "uniform"
    focus: tuple[float, float] | None = None
    focus_share: float = 0.5

    def draw(self, rng: np.random.Generator) -> float:
        """Draw one number."""
        low, high = self.low, self.high
        if self.focus is not None and rng.random() < self.focus_share:
            low, high = self.focus
        if self.law == "log":
            return float(math.exp(rng.uniform(math.log(low), math.log(high))))
        return float(rng.uniform(low, high))


@attrs.frozen
class StainTable:
    """Gain and density of the stain, on both sides of a pair."""

    probability: float = 0.0
    gain: Range = Range(0.92, 1.04)
    density: Range = Range(0.75, 1.2)


@attrs.frozen
class IlluminationTable:
    """Uneven light; the period is in input pixels."""

    probability: float = 0.0
    amplitude: Range = Range(0.0, 0.08)
    period_px: Range = Range(256.0, 2048.0, "log")


@attrs.frozen
class SigmaTable:
    """Sigma of the Gaussian-like blurs in output pixels, by scale."""

    x1: Range = Range(0.3, 2.5)
    x2: Range = Range(0.4, 3.5)
    x4: Range = Range(0.6, 4.5)


@attrs.frozen
class BlurTable:
    """Blur: the weight of each kind and its parameters; lengths in output pixels.

    `shape` is the exponent of the generalised Gaussian, `plateau_shape` that of the plateau. A second,
    independent blur of the other kinds is composed with the first with probability `compose_probability`.
    """

    probability: float = 0.0
    kinds: dict[str, float] = attrs.field(factory=lambda: {"gaussian": 1.0})
    sigma_px: SigmaTable = SigmaTable()
    shape: Range = Range(0.5, 4.0, "log")
    plateau_shape: Range = Range(1.0, 2.0)
    defocus_radius_px: Range = Range(0.5, 4.0)
    motion_length_px: Range = Range(2.0, 12.0)
    compose_probability: float = 0.0


@attrs.frozen
class ThicknessTable:
    """Blur by the thickness of the section: the mean of defocus disks over its depth.

    A plane at distance z from the focus makes a disk of radius z * tan(asin(NA / n)); `focus` is where the
    focal plane lies between the two faces, 0..1.
    """

    thickness_um: Range = Range(2.0, 20.0)
    pixel_um: Range = Range(0.5, 2.0, "log")
    numerical_aperture: Range = Range(0.2, 0.5)
    refractive_index: float = 1.5
    focus: Range = Range(0.0, 1.0)


@attrs.frozen
class DownsamplingTable:
    """The weight of each downsampling filter; without a meaning at x1."""

    kinds: dict[str, float] = attrs.field(factory=lambda: {"area": 1.0})


@attrs.frozen
class LinesTable:
    """Jitter and gain of rows; pixels of the input grid."""

    probability: float = 0.0
    jitter_px: Range = Range(0.0, 0.4)
    memory: Range = Range(0.5, 0.9)
    row_gain: Range = Range(0.0, 0.01)


@attrs.frozen
class BandingTable:
    """Periodic bands; the period is in input pixels."""

    probability: float = 0.0
    amplitude: Range = Range(0.005, 0.04)
    period_px: Range = Range(6.0, 96.0, "log")


@attrs.frozen
class DamageTable:
    """Places without tissue information: how many, of which kind, how wide (input pixels)."""

    probability: float = 0.0
    count: Range = Range(1.0, 4.0)
    kinds: dict[str, float] = attrs.field(factory=lambda: dict.fromkeys(DAMAGE_KINDS, 1.0))
    width_px: Range = Range(1.0, 12.0, "log")


@attrs.frozen
class NoiseTable:
    """Noise of variance gain * x + read^2, x in 0..1; `read_255` is in grey levels of 8 bits."""

    probability: float = 0.0
    gain: Range = Range(1e-5, 4e-3, "log")
    read_255: Range = Range(0.3, 6.0, "log")
    correlated_share: Range = Range(1 / 3, 1 / 3)


@attrs.frozen
class StorageTable:
    """Rounding to 8 bits and JPEG compression."""

    eight_bit_probability: float = 0.0
    jpeg_probability: float = 0.0
    jpeg_quality: Range = Range(40.0, 95.0)


@attrs.frozen
class SecondPassTable:
    """The second, weaker pass: a small Gaussian (input pixels), noise and storage of its own."""

    probability: float = 0.0
    sigma_px: Range = Range(0.2, 0.7)
    noise: NoiseTable = NoiseTable()
    storage: StorageTable = StorageTable()


@attrs.frozen
class Recipe:
    """Everything that a degradation may be: one table per step, in the order of the steps.

    Attributes
    ----------
    name : str
        Shown in tables and logs.
    identity_probability : float
        Share of pairs that are not degraded at all (but for the downsampling), with the clean image as
        target: do no harm.
    """

    name: str
    identity_probability: float = 0.0
    stain: StainTable = StainTable()
    illumination: IlluminationTable = IlluminationTable()
    blur: BlurTable = BlurTable()
    thickness: ThicknessTable = ThicknessTable()
    downsampling: DownsamplingTable = DownsamplingTable()
    lines: LinesTable = LinesTable()
    banding: BandingTable = BandingTable()
    damage: DamageTable = DamageTable()
    noise: NoiseTable = NoiseTable()
    storage: StorageTable = StorageTable()
    second_pass: SecondPassTable = SecondPassTable()

    @classmethod
    def load(cls, name_or_path: str | Path) -> Recipe:
        """Read a shipped recipe by name (`default`, `bigbrain20`) or any TOML file by path.

        Raises
        ------
        InputMissingError
            If there is neither such a recipe nor such a file.
        UsageError
            If the file is no TOML or says something that a recipe cannot say.
        """
        shipped = shipped_recipes()
        path = Path(name_or_path)
        if str(name_or_path) in shipped:
            text, where = shipped[str(name_or_path)], str(name_or_path)
        elif path.is_file():
            text, where = _read_text(path), str(path)
        else:
            raise InputMissingError(
                f"The recipe {str(name_or_path)!r} is neither a file nor one of {', '.join(sorted(shipped))}."
            )
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"The recipe {where} is not valid TOML ({error}); correct the file.") from error
        return cls.from_dict({"name": path.stem, **values}, where)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "recipe") -> Recipe:
        """Build and check a recipe from nested plain values, as TOML gives them."""
        recipe: Recipe = _build(cls, values, where)
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values that `from_dict` takes."""
        return attrs.asdict(self)


def shipped_recipes() -> dict[str, str]:
    """Return the text of every recipe in the package, by name."""
    folder = resources.files("bigrestore.degrade") / "recipes"
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return {entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8") for entry in files}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"The recipe {path} is not a text file in UTF-8; give a TOML file.") from error


def _build(cls: Any, values: Any, where: str) -> Any:
    """Build one table from a dictionary, checking every key and every value."""
    if not isinstance(values, dict):
        raise UsageError(f"In {where}, a table of keys is expected, not {values!r}.")
    fields = {field.name: field for field in attrs.fields(cls)}
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise UsageError(f"In {where}, the key {unknown[0]!r} is unknown; known are {', '.join(fields)}.")
    built = {key: _value(hints[key], value, f"{where}: {key}") for key, value in values.items()}
    missing = [n for n, f in fields.items() if f.default is attrs.NOTHING and n not in built]
    if missing:
        raise UsageError(f"In {where}, the key {missing[0]!r} is missing; add it.")
    table = cls(**built)
    for key in built:
        _check(cls, key, getattr(table, key), f"{where}: {key}")
    if cls is Range:
        _check_range(table, where)
    return table


def _value(hint: Any, value: Any, where: str) -> Any:
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
            raise UsageError(f"In {where}, a text is expected, not {value!r}.")
        return value
    if hint is float:
        return _number(value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise UsageError(f"In {where}, two numbers are expected, not {value!r}.")
        return (_number(value[0], where), _number(value[1], where))
    if not isinstance(value, dict) or not value:
        raise UsageError(f"In {where}, a table of weights is expected, not {value!r}.")
    return {key: _number(weight, f"{where}: {key}") for key, weight in value.items()}


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"In {where}, a finite number is expected, not {value!r}.")
    return float(value)


def _check_range(drawn: Range, where: str) -> None:
    if drawn.low > drawn.high:
        raise UsageError(f"In {where}, low {drawn.low:g} is above high {drawn.high:g}; swap them.")
    if drawn.law not in ("uniform", "log"):
        raise UsageError(f"In {where}, the law {drawn.law!r} is unknown; choose uniform or log.")
    if drawn.law == "log" and drawn.low <= 0.0:
        raise UsageError(f"In {where}, low {drawn.low:g} must be above zero for the law log.")
    if drawn.focus is not None and not drawn.low <= drawn.focus[0] <= drawn.focus[1] <= drawn.high:
        raise UsageError(f"In {where}, the focus {list(drawn.focus)} must lie inside the range and ascend.")


_KINDS = {BlurTable: BLUR_KINDS, DownsamplingTable: DOWNSAMPLING_FILTERS, DamageTable: DAMAGE_KINDS}

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
    "jpeg_quality": (1.0, 100.0),
    "sigma_px": (0.05, 1.5),
}


def _check(cls: Any, key: str, value: Any, where: str) -> None:
    """Refuse probabilities outside 0..1, unknown kinds and numbers outside what the step can do."""
    if key.endswith(("probability", "focus_share")) and not 0.0 <= value <= 1.0:
        raise UsageError(f"In {where}, the probability {value:g} is outside 0..1; give a share of one.")
    if key == "kinds":
        unknown = sorted(set(value) - set(_KINDS[cls]))
        if unknown:
            raise UsageError(f"In {where}, {unknown[0]!r} is unknown; known are {', '.join(_KINDS[cls])}.")
        if min(value.values()) < 0.0 or sum(value.values()) <= 0.0:
            raise UsageError(f"In {where}, the weights must not be negative and not all zero.")
    if cls is Range or key not in _BOUNDS or (attrs.has(type(value)) and not isinstance(value, Range)):
        return
    low, high = (value.low, value.high) if isinstance(value, Range) else (value, value)
    least, most = _BOUNDS[key]
    if low < least or high > most:
        raise UsageError(f"In {where}, {low:g} to {high:g} leaves what is possible, {least:g} to {most:g}.")
