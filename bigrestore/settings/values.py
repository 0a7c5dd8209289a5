"""What options take: choices, types, and conversions of single values.

A conversion turns the words of a command line, a TOML file or a caller of the library into one kind of value. It
leaves alone anything unknown, for the field's check to refuse by the flag's name.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

from bigrestore.core.files import expand_home
from bigrestore.core.urls import parse_options
from bigrestore.core.words import shown
from bigrestore.errors import UsageError

SCALES = (1, 2, 4)
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FORMATS = ("auto", "0.5", "0.4", "ome-tiff")
LOG_FORMATS = ("text", "json")
UNLIKELY_MAP = "unlikely"
"""The map that is not made by the method but by a trained likelihood, so of any method."""

FILLED = "filled"
"""Map of damage filled from neighbouring sections; others but `unlikely` are the method's."""

REALNESS_FACTOR = "realness"
"""Map of what the prior's detail was multiplied with."""

MAPS = ("residual", "invented", "uncertainty", REALNESS_FACTOR, UNLIKELY_MAP, FILLED)
"""Maps beside the image, in the order of writing."""

AUTO_MAP = "auto"
"""In place of a map of realness: the one of a trained head of objectives."""

FULL = "full"
"""In place of two values: the range of the type."""

RUN_JUDGES = ("likelihood", "rankiqa")
"""Scores by a trained network that a run may take beside the others, in the order of the columns."""

PROGRESS = ("auto", "bar", "lines", "none", "tqdm")
DEVICES = ("auto", "cpu", "cuda", "mps")
"""The devices without those of a number."""

CLUSTERS = ("slurm", "pbs", "lsf")
MOST_WORKERS = 4096
"""Workers or shards of one run, at most."""

MOST_NEIGHBOURS = 5
"""Sections before and after one that may fill its damage, at most."""

VoxelSize = tuple[float | None, float | None, float | None]
PixelRange = tuple[int, int]
"""Start and stop in output pixels."""

Roi = tuple[PixelRange | None, PixelRange, PixelRange]
ValueRange = tuple[float, float] | Literal["full"]
StatedBlur = tuple[float, float, float]
"""Sigma along a direction and across it in input pixels, and the direction in degrees from +x towards +y."""

StatedSharpening = tuple[float, float]
"""Amount of an unsharp mask, and the sigma of its Gaussian in input pixels."""

MOST_SHARPENING = (3.0, 10.0)
"""Largest amount and radius."""

LEAST_RADIUS_PX = 0.3

LARGEST_NUMBER = 1e300
"""Larger numbers are no quantities; infinity and NaN fail the comparison as well."""

PathInput = str | Path
NamesInput = str | Sequence[str]
"""Names in a list, or in one text with commas."""

BlurInput = float | str | Sequence[float]
"""One sigma, a `StatedBlur`, or either as text with commas."""

SharpeningInput = str | Sequence[float]
"""A `StatedSharpening`, or as text with a comma."""

VoxelSizeInput = float | str | Sequence[float | None]
"""Micrometres: one for y and x, (y, x), (z, y, x), or text with commas."""

RangeInput = Sequence[float] | Literal["full"]
RoiInput = str | Sequence[Sequence[int] | None]
"""(y, x) or (z, y, x) starts and stops, z may be None; or `z0:z1,y0:y1,x0:x1`."""

OptionsInput = str | dict[str, Any]
"""A table, or JSON of one, or `@FILE` with JSON."""
MethodOptionsInput = Mapping[str, bool | int | float | str] | Sequence[str]
"""A table of option and value, or texts NAME=VALUE."""


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Return whether a value is a number of a sensible size; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


def is_pair(value: Any) -> bool:
    """Return whether a value is a tuple of two whole numbers."""
    return isinstance(value, tuple) and len(value) == 2 and all(map(is_whole, value))


def to_range(value: RangeInput | None) -> object:
    """Turn two numbers, or two words of a command line, into a pair; `full` twice is `full`."""
    plain = to_plain(value)
    if not (isinstance(plain, tuple) and len(plain) == 2 and all(isinstance(item, str) for item in plain)):
        return plain
    try:
        return plain[0] if plain[0] == plain[1] == FULL else tuple(map(float, plain))
    except ValueError:
        return plain


def parse_shard(text: object) -> tuple[int, int]:
    """Read a shard `I/N`: the I-th of N parts of a run's blocks, counted from 1.

    Returns
    -------
    tuple of int
        I and N.

    Raises
    ------
    UsageError
        If the text is of another form, or I is none of 1 to N.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text) if isinstance(text, str) else None
    index, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= index <= count <= MOST_WORKERS:
        raise UsageError(
            f"--shard is {shown(text)}; it takes I/N, the part I of N of the blocks with I from 1 to N and N at "
            f"most {MOST_WORKERS}."
        )
    return index, count


def to_method_options(value: MethodOptionsInput | None) -> object:
    """Turn texts NAME=VALUE into a table; the last of a name wins."""
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()} or None
    if not isinstance(value, list | tuple) or not all(
        isinstance(item, str) and "=" in item for item in value
    ):
        return value
    parts = (item.partition("=") for item in value)
    return {name.strip().replace("-", "_"): given for name, _, given in parts} or None


def to_options(value: OptionsInput | None) -> object:
    """Turn JSON, or `@FILE` with JSON, into a table."""
    return (parse_options(value) or None) if isinstance(value, str) else value


def parse_roi(text: str) -> Roi:
    """Read a region of interest.

    Parameters
    ----------
    text : str
        `y0:y1,x0:x1` in output pixels of the whole run, with `z0:z1,` before it in a volume.

    Returns
    -------
    tuple
        (z, y, x) as (start, stop) each; z is None if the text names no z.

    Raises
    ------
    UsageError
        If the text is of another form, or a range is empty or negative.
    """
    parts = text.split(",")
    try:
        ranges = [tuple(int(number) for number in part.split(":")) for part in parts]
    except ValueError:
        ranges = []
    if len(ranges) not in (2, 3) or not all(len(s) == 2 and 0 <= s[0] < s[1] for s in ranges):
        raise UsageError(
            f"--roi is {text!r}; it takes y0:y1,x0:x1 (or z0:z1,y0:y1,x0:x1) in output pixels, each start "
            "below its stop and none negative."
        )
    z, y, x = ([None, *ranges] if len(ranges) == 2 else ranges)[:3]
    return (None if z is None else (z[0], z[1])), (y[0], y[1]), (x[0], x[1])  # type: ignore[index]


def parse_voxel_size(text: str) -> VoxelSize:
    """Read a voxel size in micrometres: one number for y and x, `y,x`, or `z,y,x`.

    Raises
    ------
    UsageError
        If the text is of another form; the field's check looks at the sizes.
    """
    try:
        sizes = [float(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) == 1:
        return None, sizes[0], sizes[0]
    if len(sizes) == 2:
        return None, sizes[0], sizes[1]
    if len(sizes) == 3:
        return sizes[0], sizes[1], sizes[2]
    raise UsageError(f"--voxel-size is {text!r}; it takes micrometres as SIZE, Y,X or Z,Y,X.")


def to_plain(value: object) -> object:
    """Return numbers of other libraries as Python's, and lists as tuples; leave all else as it is."""
    if isinstance(value, list | tuple):
        return tuple(to_plain(item) for item in value)
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def to_roi(value: RoiInput | None) -> object:
    """Turn `z0:z1,y0:y1,x0:x1`, or nested lists, into ranges."""
    if isinstance(value, str):
        return parse_roi(value)
    plain = to_plain(value)
    return (None, *plain) if isinstance(plain, tuple) and len(plain) == 2 else plain


def to_voxels(value: VoxelSizeInput | None) -> object:
    """Turn `z,y,x`, one number or a list into a size per axis."""
    if isinstance(value, str):
        return parse_voxel_size(value)
    plain = to_plain(value)
    if isinstance(plain, tuple) and plain:
        sizes = plain * 2 if len(plain) == 1 else plain
        return (None,) * (3 - len(sizes)) + sizes
    if is_number(plain):
        return None, float(plain), float(plain)  # type: ignore[arg-type]
    return plain


def to_blur(value: BlurInput | None) -> object:
    """Turn `SIGMA` or `SIGMA,SIGMA_Y,ANGLE`, a number or a list into two sigmas and an angle, 0 to 180 degrees."""
    blur = blur_of(value)
    return value if blur is None else blur


def blur_of(value: object) -> StatedBlur | None:
    """Return a blur as two sigmas and an angle; None if the value is no blur."""
    parts = _numbers_in(value)
    if len(parts) not in (1, 3) or min(parts[:2]) < 0:
        return None
    along, across, angle = parts if len(parts) == 3 else (*parts * 2, 0.0)
    return along, across, 0.0 if along == across else angle % 180.0


def to_sharpening(value: SharpeningInput | None) -> object:
    """Turn `AMOUNT,RADIUS` or a list into two numbers."""
    stated = sharpening_of(value)
    return value if stated is None else stated


def sharpening_of(value: object) -> StatedSharpening | None:
    """Return an unsharp mask as amount and radius; None if the value is none."""
    parts = _numbers_in(value)
    if len(parts) != 2:
        return None
    amount, radius = parts
    fits = 0 <= amount <= MOST_SHARPENING[0] and LEAST_RADIUS_PX <= radius <= MOST_SHARPENING[1]
    return (amount, radius) if fits else None


def _numbers_in(value: object) -> tuple[float, ...]:
    """Return the numbers of a text with commas, a list or a number; none where anything else is among them."""
    try:
        plain = tuple(map(float, value.split(","))) if isinstance(value, str) else to_plain(value)
    except ValueError:
        return ()
    parts = plain if isinstance(plain, tuple) else (plain,)
    return tuple(map(float, parts)) if all(map(is_number, parts)) else ()


def to_path_text(value: PathInput | None) -> object:
    """Turn a path into text, with `~` replaced by the home folder; an empty one is left to the check of its setting."""
    return (
        value
        if isinstance(value, str) and not value
        else expand_home(str(value) if isinstance(value, PurePath) else value)
    )


def to_maps(value: NamesInput | None) -> object:
    """Turn `a,b`, a list or None into names of maps, each once and in the order of writing."""
    return _in_stated_order(value, MAPS)


def to_run_judges(value: NamesInput | None) -> object:
    """Turn `a,b`, a list or None into names of `RUN_JUDGES`, each once and in their order."""
    return _in_stated_order(value, RUN_JUDGES)


def _in_stated_order(value: NamesInput | None, known: tuple[str, ...]) -> object:
    """Return known names once each and in their order; others as they are, for the check."""
    names = () if value is None else to_names(value)
    if value and not names:
        return value
    if not (isinstance(names, tuple) and all(name in known for name in names)):
        return names
    return tuple(name for name in known if name in names)


def to_names(value: NamesInput | None) -> object:
    """Turn `a,b` or a list into names."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return to_plain(value)
