"""What flags take: checks and conversions of single values, each refusal a sentence that names flag, value and way out.

A check runs where the flag's name is still known, so that an absurd number is answered at once. A conversion turns
what a command line, a TOML file or a caller of the library gives into one kind of value, and leaves alone what it does
not know: that is the check's to refuse.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Literal

import attrs

from bigrestore.core.geometry import BLOCK_PX, CHUNK_PX
from bigrestore.core.urls import parse_options
from bigrestore.errors import UsageError

SCALES = (1, 2, 4)
DEVICE = re.compile(r"auto|cpu|mps|cuda(:(0|[1-9]\d{0,3}))?")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FORMATS = ("auto", "0.5", "0.4", "ome-tiff")
MAPS = ("residual", "invented", "uncertainty")
"""What may be written beside the image, in the order in which it is."""

FULL = "full"
"""In the place of two values: the range of the type is meant."""

PROGRESS = ("auto", "bar", "lines", "none", "tqdm")
CLUSTERS = ("slurm", "pbs", "lsf")
MOST_WORKERS = 4096
"""Workers or shards of one run, at most."""

SCHEDULER = re.compile(r"(tcp|tls|ws|wss|ucx|inproc)://\S+")

SCORE_STEP_PX = 96
"""Score tiles are multiples of NIQE's blocks."""

LARGEST_NUMBER = 1e300
"""Numbers beyond are no quantities; infinity and what is no number lie beyond as well."""

LARGEST_NOISE = 64
"""Standard deviation of the noise that a user may state, of 255."""

LONGEST_SHOWN = 80
"""Characters of a refused value that a message repeats."""

VoxelSize = tuple[float | None, float | None, float | None]
Span = tuple[int, int]
ValueRange = tuple[float, float] | Literal["full"]
Blur = tuple[float, float, float]
"""Sigma along a direction and across it in input pixels, and the direction in degrees from +x towards +y."""

Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def flag(attribute: attrs.Attribute[Any]) -> str:
    """Return the flag that an attribute is given by."""
    return "--" + attribute.name.replace("_", "-")


def refuse(attribute: attrs.Attribute[Any], value: object, way_out: str) -> None:
    """Raise the sentence that names flag, value and way out."""
    raise UsageError(f"{flag(attribute)} is {shown(value)}; {way_out}.")


def shown(value: object) -> str:
    """Return a refused value on one line: as it was given where it can be, its kind where it has none."""
    if not isinstance(value, str | int | float | bool | list | tuple | dict | None):
        return f"of the type {type(value).__name__}"
    if isinstance(value, tuple) and value and all(map(is_pair, value)):
        text = ",".join(f"{start}:{stop}" for start, stop in value)
    elif isinstance(value, tuple) and value and all(isinstance(item, int | float) for item in value):
        text = ",".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    else:
        text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def is_whole(value: object) -> bool:
    """Tell a whole number from all else, true and false included."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Tell a number of a sensible size from all else."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


def one_of(choices: tuple[Any, ...]) -> Check:
    """Return a check that takes certain values only."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if type(value) is not type(choices[0]) or value not in choices:
            refuse(attribute, value, f"choose one of {', '.join(map(str, choices))}")

    return check


def whole(smallest: int, largest: int, unit: str, *, optional: bool = True) -> Check:
    """Return a check that takes whole numbers of a range, and None where that is optional."""

    def check(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        if not (is_whole(value) and smallest <= value <= largest):
            refuse(attribute, value, f"it takes a whole number of {unit} from {smallest} to {largest}")

    return check


def yes_or_no(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take true and false only."""
    if not isinstance(value, bool):
        refuse(attribute, value, "it takes true or false, without quotation marks")


def text(takes: str, *, optional: bool = False) -> Check:
    """Return a check that takes words, and None where that is optional."""

    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is None and optional:
            return
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            refuse(attribute, value, f"it takes {takes}")

    return check


def check_device(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take the name of a device."""
    if not (isinstance(value, str) and DEVICE.fullmatch(value)):
        refuse(attribute, value, "choose auto, cpu, cuda, cuda:N for the GPU number N, or mps")


def check_realness(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take a number from 0 to 1, or None."""
    if value is not None and not (is_number(value) and 0.0 <= value <= 1.0):
        refuse(attribute, value, "it takes a number from 0 (nothing invented) to 1")


def check_maps(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take names of maps."""
    if not isinstance(value, tuple) or not all(name in MAPS for name in value):
        refuse(attribute, value, f"it takes one or more of {', '.join(MAPS)}, with commas between them")


def check_blur(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take two sigmas and an angle as `to_blur` makes them, or None."""
    if value is not None and _blur_of(value) is None:
        refuse(
            attribute,
            value,
            "it takes SIGMA or SIGMA,SIGMA_Y,ANGLE: input pixels, none negative (0: no blur), and degrees",
        )


def check_noise(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take a standard deviation in levels of 255, or None."""
    if value is not None and not (is_number(value) and 0 <= value <= LARGEST_NOISE):
        refuse(
            attribute,
            value,
            f"it takes the standard deviation of the noise in levels of 255, from 0 to {LARGEST_NOISE}",
        )


def check_block(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take the side of a block: a multiple of the chunk."""
    good = is_whole(value) and CHUNK_PX <= value <= 32 * CHUNK_PX and value % CHUNK_PX == 0
    if not good:
        refuse(attribute, value, f"it takes a multiple of {CHUNK_PX} output pixels, such as {BLOCK_PX}")


def check_overlap(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take an even number of pixels, or None."""
    if value is None:
        return
    if not (is_whole(value) and 0 <= value <= BLOCK_PX and value % 2 == 0):
        refuse(attribute, value, f"it takes an even number of output pixels from 0 to {BLOCK_PX}")


def to_range(value: object) -> object:
    """Turn two numbers, also as words of a command line, into a pair; one word that stands twice is one."""
    plain = to_plain(value)
    if not (isinstance(plain, tuple) and len(plain) == 2 and all(isinstance(item, str) for item in plain)):
        return plain
    try:
        return plain[0] if plain[0] == plain[1] == FULL else tuple(map(float, plain))
    except ValueError:
        return plain


def check_range(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take two rising numbers, `full`, or None."""
    if value is None or (isinstance(value, str) and value == FULL):
        return
    good = isinstance(value, tuple) and len(value) == 2 and all(map(is_number, value)) and value[0] < value[1]
    if not good:
        refuse(
            attribute,
            value,
            "it takes two numbers, the value of black and the larger value of white, or full for the range of the type",
        )


def check_voxels(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take a size per axis, each above zero or unknown, or None."""
    if value is None:
        return
    good = isinstance(value, tuple) and len(value) == 3
    if not good or not all(v is None or (is_number(v) and v > 0) for v in value):
        given = tuple(v for v in value if v is not None) if isinstance(value, tuple) else value
        refuse(attribute, given, "it takes one, two (y,x) or three (z,y,x) positive sizes in micrometres")


def check_roi(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take three spans, the first of which may be None, or None."""
    if value is None:
        return
    good = isinstance(value, tuple) and len(value) == 3 and all(map(is_span, value[1:]))
    if not good or not (value[0] is None or is_span(value[0])):
        given = value[1:] if isinstance(value, tuple) and value[:1] == (None,) else value
        refuse(
            attribute,
            given,
            "it takes y0:y1,x0:x1 (or z0:z1,y0:y1,x0:x1) in output pixels, each start below its stop and none "
            "negative",
        )


def is_pair(value: Any) -> bool:
    """Tell two whole numbers."""
    return isinstance(value, tuple) and len(value) == 2 and all(map(is_whole, value))


def is_span(value: Any) -> bool:
    """Return whether a value is a start and a larger stop, neither negative."""
    return is_pair(value) and 0 <= value[0] < value[1]


def check_cluster(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take the name of a batch system, or None."""
    if value is not None and value not in CLUSTERS:
        refuse(attribute, value, f"choose one of {', '.join(CLUSTERS)}")


def check_scheduler(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take the address of a scheduler, or None."""
    if value is not None and not (isinstance(value, str) and SCHEDULER.fullmatch(value)):
        refuse(attribute, value, "it takes the address of a dask scheduler, such as tcp://host:8786")


def check_shard(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take a part of a run, or None."""
    if value is not None:
        parse_shard(value)


def parse_shard(text: object) -> tuple[int, int]:
    """Read a shard `I/N`: the I-th of N parts of a run's blocks, counted from 1.

    Returns
    -------
    tuple of int
        I and N.

    Raises
    ------
    UsageError
        Where the text is of another form, or I is none of 1 to N.
    """
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text) if isinstance(text, str) else None
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= count <= MOST_WORKERS:
        raise UsageError(
            f"--shard is {shown(text)}; it takes I/N, the part I of N of the blocks with I from 1 to N and N at "
            f"most {MOST_WORKERS}."
        )
    return index, count


def to_options(value: object) -> object:
    """Turn JSON, or the name of a file of it, into a table."""
    return (parse_options(value) or None) if isinstance(value, str) else value


def check_options(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Take a table with names that are words, or None."""
    if value is not None and not (isinstance(value, dict) and all(isinstance(name, str) for name in value)):
        raise UsageError(f"{flag(attribute)} is no JSON object; give names and values.")


def to_method_options(value: object) -> object:
    """Turn texts NAME=VALUE into a table; the last of a name wins."""
    if isinstance(value, dict):
        return {name: to_plain(item) for name, item in value.items()} or None
    if not isinstance(value, list | tuple) or not all(
        isinstance(item, str) and "=" in item for item in value
    ):
        return value
    parts = (item.partition("=") for item in value)
    return {name.strip().replace("-", "_"): given for name, _, given in parts} or None


def check_method_options(_: object, __: attrs.Attribute[Any], value: object) -> None:
    """Take a table of names and single values, or None; the method checks them."""
    if value is None:
        return
    good = isinstance(value, dict) and all(
        isinstance(name, str) and name and isinstance(item, bool | int | float | str)
        for name, item in value.items()
    )
    if not good:
        raise UsageError(
            f"--set is {shown(value)}; it takes NAME=VALUE, an option of the method and one value."
        )


def check_condition(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take a condition on scores, or None."""
    text("a condition such as niqe.median > niqe_before.median", optional=True)(_, attribute, value)
    if value is not None:
        from bigrestore.report.table.condition import Condition

        Condition.parse(value)


def parse_roi(text: str) -> tuple[Span | None, Span, Span]:
    """Read a region of interest.

    Parameters
    ----------
    text : str
        `y0:y1,x0:x1` in output pixels of the whole run, with `z0:z1,` before it in a volume.

    Returns
    -------
    tuple
        (z, y, x) as (start, stop) each; z is None where the text names no z.

    Raises
    ------
    UsageError
        Where the text is of another form, or a span is empty or negative.
    """
    parts = text.split(",")
    try:
        spans = [tuple(int(number) for number in part.split(":")) for part in parts]
    except ValueError:
        spans = []
    if len(spans) not in (2, 3) or not all(len(s) == 2 and 0 <= s[0] < s[1] for s in spans):
        raise UsageError(
            f"--roi is {text!r}; it takes y0:y1,x0:x1 (or z0:z1,y0:y1,x0:x1) in output pixels, each start "
            "below its stop and none negative."
        )
    z, y, x = ([None, *spans] if len(spans) == 2 else spans)[:3]
    return (None if z is None else (z[0], z[1])), (y[0], y[1]), (x[0], x[1])  # type: ignore[index]


def parse_voxel_size(text: str) -> VoxelSize:
    """Read a voxel size in micrometres: one number for y and x, `y,x`, or `z,y,x`.

    Raises
    ------
    UsageError
        Where the text is of another form; the sizes themselves are checked by `RunSettings`.
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


def to_roi(value: object) -> object:
    """Turn `z0:z1,y0:y1,x0:x1`, or nested lists, into spans."""
    if isinstance(value, str):
        return parse_roi(value)
    plain = to_plain(value)
    return (None, *plain) if isinstance(plain, tuple) and len(plain) == 2 else plain


def to_voxels(value: object) -> object:
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


def to_blur(value: object) -> object:
    """Turn `SIGMA` or `SIGMA,SIGMA_Y,ANGLE`, a number or a list into two sigmas and an angle, 0 to 180 degrees."""
    blur = _blur_of(value)
    return value if blur is None else blur


def _blur_of(value: object) -> Blur | None:
    """Return a blur as two sigmas and an angle; None where a value is no blur."""
    if isinstance(value, str):
        try:
            plain: object = tuple(float(part) for part in value.split(","))
        except ValueError:
            return None
    else:
        plain = to_plain(value)
    parts = plain if isinstance(plain, tuple) else (plain,)
    if len(parts) not in (1, 3) or not all(map(is_number, parts)) or min(parts[:2]) < 0:
        return None
    along, across, angle = (float(part) for part in (parts if len(parts) == 3 else (*parts * 2, 0)))
    return along, across, 0.0 if along == across else angle % 180.0


def to_path_text(value: object) -> object:
    """Turn a path into its words."""
    return str(value) if isinstance(value, PurePath) else value


def check_tile(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take the side of a score tile."""
    largest = 100 * SCORE_STEP_PX
    if not is_whole(value) or not SCORE_STEP_PX <= value <= largest or value % SCORE_STEP_PX:
        step = f"a multiple of {SCORE_STEP_PX} pixels from {SCORE_STEP_PX} to {largest}"
        refuse(attribute, value, f"it takes {step}, such as {CHUNK_PX}")


def check_names(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Take names of metrics, or None."""
    if value is None:
        return
    if not isinstance(value, tuple) or not value or not all(isinstance(v, str) and v.strip() for v in value):
        refuse(attribute, value, "it takes names of metrics, such as brisque,niqe")


def to_maps(value: object) -> object:
    """Turn `a,b`, a list or None into names of maps, each once and in the order in which they are written."""
    names = () if value is None else to_names(value)
    known = isinstance(names, tuple) and names and all(name in MAPS for name in names)
    if value and not names:
        return value
    return tuple(name for name in MAPS if name in names) if known and isinstance(names, tuple) else names


def to_names(value: object) -> object:
    """Turn `a,b` or a list into names."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return to_plain(value)
