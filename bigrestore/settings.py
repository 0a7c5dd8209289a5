"""What a run or a scoring was asked for: every flag once, validated before anything is opened.

`RunSettings` and `ScoreSettings` are what the command line, a TOML file and the Python API all end in. Values are
checked here, where the flag's name is still known, so that an absurd number is answered by a sentence and not by a stack
of frames an hour later. What the settings turn into (tile size, device, threads) is the plan's business.

Only part of the settings changes pixels: `pixel_facts` is that part, and it goes into the fingerprint by
which a run is resumed.
"""

from __future__ import annotations

import numbers
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

import attrs

from bigrestore.errors import InputMissingError, UsageError
from bigrestore.geometry import BLOCK_PX, CHUNK_PX

SCALES = (1, 2, 4)
DEVICE = re.compile(r"auto|cpu|mps|cuda(:(0|[1-9]\d{0,3}))?")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FORMATS = ("auto", "0.5", "0.4", "ome-tiff")
PROGRESS = ("auto", "bar", "lines", "none", "tqdm")

SCORE_STEP_PX = 96
"""Score tiles are multiples of NIQE's blocks."""

LARGEST_NUMBER = 1e300
"""Numbers beyond are no quantities; infinity and what is no number lie beyond as well."""

LONGEST_SHOWN = 80
"""Characters of a refused value that a message repeats."""

VoxelSize = tuple[float | None, float | None, float | None]
Span = tuple[int, int]
Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _flag(attribute: attrs.Attribute[Any]) -> str:
    return "--" + attribute.name.replace("_", "-")


def _refuse(attribute: attrs.Attribute[Any], value: object, way_out: str) -> None:
    raise UsageError(f"{_flag(attribute)} is {_shown(value)}; {way_out}.")


def _shown(value: object) -> str:
    """Return a refused value on one line: as it was given where it can be, its kind where it has none."""
    if not isinstance(value, str | int | float | bool | list | tuple | dict | None):
        return f"of the type {type(value).__name__}"
    if isinstance(value, tuple) and value and all(map(_is_pair, value)):
        text = ",".join(f"{start}:{stop}" for start, stop in value)
    elif isinstance(value, tuple) and value and all(isinstance(item, int | float) for item in value):
        text = ",".join(f"{item:g}" if isinstance(item, float) else str(item) for item in value)
    else:
        text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_NUMBER


def _one_of(choices: tuple[Any, ...]) -> Check:
    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if type(value) is not type(choices[0]) or value not in choices:
            _refuse(attribute, value, f"choose one of {', '.join(map(str, choices))}")

    return check


def _whole(smallest: int, largest: int, unit: str, *, optional: bool = True) -> Check:
    def check(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value is None and optional:
            return
        if not (_is_whole(value) and smallest <= value <= largest):
            _refuse(attribute, value, f"it takes a whole number of {unit} from {smallest} to {largest}")

    return check


def _yes_or_no(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        _refuse(attribute, value, "it takes true or false, without quotation marks")


def _text(takes: str, *, optional: bool = False) -> Check:
    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is None and optional:
            return
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            _refuse(attribute, value, f"it takes {takes}")

    return check


def _device(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not (isinstance(value, str) and DEVICE.fullmatch(value)):
        _refuse(attribute, value, "choose auto, cpu, cuda, cuda:N for the GPU number N, or mps")


def _realness(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not (_is_number(value) and 0.0 <= value <= 1.0):
        _refuse(attribute, value, "it takes a number from 0 (nothing invented) to 1")


def _block(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    good = _is_whole(value) and CHUNK_PX <= value <= 32 * CHUNK_PX and value % CHUNK_PX == 0
    if not good:
        _refuse(attribute, value, f"it takes a multiple of {CHUNK_PX} output pixels, such as {BLOCK_PX}")


def _overlap(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not (_is_whole(value) and 0 <= value <= BLOCK_PX and value % 2 == 0):
        _refuse(attribute, value, f"it takes an even number of output pixels from 0 to {BLOCK_PX}")


def _range(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    good = (
        isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1]
    )
    if not good:
        _refuse(attribute, value, "it takes two numbers, the value of black and the larger value of white")


def _voxels(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    good = isinstance(value, tuple) and len(value) == 3
    if not good or not all(v is None or (_is_number(v) and v > 0) for v in value):
        given = tuple(v for v in value if v is not None) if isinstance(value, tuple) else value
        _refuse(attribute, given, "it takes one, two (y,x) or three (z,y,x) positive sizes in micrometres")


def _roi(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    good = isinstance(value, tuple) and len(value) == 3 and all(map(_is_span, value[1:]))
    if not good or not (value[0] is None or _is_span(value[0])):
        given = value[1:] if isinstance(value, tuple) and value[:1] == (None,) else value
        _refuse(
            attribute,
            given,
            "it takes y0:y1,x0:x1 (or z0:z1,y0:y1,x0:x1) in output pixels, each start below its stop and none "
            "negative",
        )


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_whole, value))


def _is_span(value: Any) -> bool:
    """Return whether a value is a start and a larger stop, neither negative."""
    return _is_pair(value) and 0 <= value[0] < value[1]


def _condition(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    _text("a condition such as niqe.median > niqe_before.median", optional=True)(_, attribute, value)
    if value is not None:
        from bigrestore.score.condition import Condition

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


def _to_plain(value: object) -> object:
    """Return numbers of other libraries as Python's, and lists as tuples; leave all else as it is."""
    if isinstance(value, list | tuple):
        return tuple(_to_plain(item) for item in value)
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def _to_roi(value: object) -> object:
    if isinstance(value, str):
        return parse_roi(value)
    plain = _to_plain(value)
    return (None, *plain) if isinstance(plain, tuple) and len(plain) == 2 else plain


def _to_voxels(value: object) -> object:
    if isinstance(value, str):
        return parse_voxel_size(value)
    plain = _to_plain(value)
    if isinstance(plain, tuple) and plain:
        sizes = plain * 2 if len(plain) == 1 else plain
        return (None,) * (3 - len(sizes)) + sizes
    if _is_number(plain):
        return None, float(plain), float(plain)  # type: ignore[arg-type]
    return plain


def _to_path_text(value: object) -> object:
    return str(value) if isinstance(value, PurePath) else value


def _to_pair(value: object) -> object:
    return _to_plain(value)


@attrs.frozen(kw_only=True)
class RunSettings:
    """The settings of `run`, as asked for.

    Attributes
    ----------
    method : str
        Name in the registry of methods.
    model : str, optional
        Checkpoint file, or the name of a shipped model; None: the one shipped for the scale.
    scale : int
        Output pixels per input pixel: 1, 2 or 4.
    realness : float
        0..1, how much the prior may add; 0: nothing.
    kernel : str, optional
        File with the blur kernel, where it is known; None: estimated.
    mask : str
        `auto`: flat background is found and interpolated; `none`: everything is restored; else a file: 0
        passes through, 2 is damage that passes through and is not looked at, anything else is tissue.
    tile_size, overlap, block_size : int, optional
        Output pixels; None: chosen by the plan.
    batch_size : int, optional
        Tiles handed to the method at once; None: 1.
    device, precision : str
        auto, cpu, cuda, cuda:N or mps, and one of `PRECISIONS`.
    voxel_size : tuple of 3, optional
        Micrometres (z, y, x), None where unknown; overrides what the input says.
    input_range : tuple of 2, optional
        Values of black and white, for input that does not use the range of its type.
    roi : tuple of 3, optional
        (z, y, x) spans in output pixels of the whole run; z may be None.
    level : int
        Pyramid level of the input to restore.
    format : str
        See `FORMATS`; `auto`: by the output's name, and the version of an OME-Zarr input.
    lock : bool
        Keep regional grey levels (low-frequency lock).
    resume, overwrite : bool
        What to do with an output that exists.
    deterministic : bool
        Refuse what would change bytes: a smaller tile after running out of memory.
    seed : int
        Seed of the hashed noise of the prior.
    threads : int, optional
        Tiles in flight; None: one for each processor that the process may use, two on a GPU.
    progress : str
        See `PROGRESS`.
    log_format : str
        `text` or `json`: the form of log and progress lines.
    report : bool
        Score every tile before and after, and write the report beside the output.
    report_sample : int, optional
        Score tiles that the report is made of, drawn over the tissue of all sections; None: all, or a sample
        above a size.
    fail_if : str, optional
        Condition on the report's summary under which the run ends with exit code 6.

    Raises
    ------
    UsageError
        One sentence with the flag, its value and what it takes.
    """

    method: str = attrs.field(default="network", validator=_text("the name of a method"))
    model: str | None = attrs.field(
        default=None,
        converter=_to_path_text,
        validator=_text("a file or the name of a shipped model", optional=True),
    )
    scale: int = attrs.field(default=1, converter=_to_plain, validator=_one_of(SCALES))
    realness: float = attrs.field(default=0.0, converter=_to_plain, validator=_realness)
    kernel: str | None = attrs.field(
        default=None, converter=_to_path_text, validator=_text("a file", optional=True)
    )
    mask: str = attrs.field(default="auto", converter=_to_path_text, validator=_text("auto, none or a file"))
    tile_size: int | None = attrs.field(
        default=None, converter=_to_plain, validator=_whole(32, 32 * CHUNK_PX, "output pixels")
    )
    overlap: int | None = attrs.field(default=None, converter=_to_plain, validator=_overlap)
    block_size: int = attrs.field(default=BLOCK_PX, converter=_to_plain, validator=_block)
    batch_size: int | None = attrs.field(
        default=None, converter=_to_plain, validator=_whole(1, 1024, "tiles")
    )
    device: str = attrs.field(default="auto", validator=_device)
    precision: str = attrs.field(default="auto", validator=_one_of(PRECISIONS))
    voxel_size: VoxelSize | None = attrs.field(default=None, converter=_to_voxels, validator=_voxels)
    input_range: tuple[float, float] | None = attrs.field(default=None, converter=_to_pair, validator=_range)
    roi: tuple[Span | None, Span, Span] | None = attrs.field(default=None, converter=_to_roi, validator=_roi)
    level: int = attrs.field(
        default=0, converter=_to_plain, validator=_whole(0, 32, "pyramid levels", optional=False)
    )
    format: str = attrs.field(default="auto", validator=_one_of(FORMATS))
    lock: bool = attrs.field(default=True, validator=_yes_or_no)
    resume: bool = attrs.field(default=False, validator=_yes_or_no)
    overwrite: bool = attrs.field(default=False, validator=_yes_or_no)
    deterministic: bool = attrs.field(default=False, validator=_yes_or_no)
    seed: int = attrs.field(
        default=0, converter=_to_plain, validator=_whole(0, 2**31 - 1, "the seed", optional=False)
    )
    threads: int | None = attrs.field(default=None, converter=_to_plain, validator=_whole(1, 4096, "threads"))
    progress: str = attrs.field(default="auto", validator=_one_of(PROGRESS))
    log_format: str = attrs.field(default="text", validator=_one_of(("text", "json")))
    report: bool = attrs.field(default=True, validator=_yes_or_no)
    report_sample: int | None = attrs.field(
        default=None, converter=_to_plain, validator=_whole(1, 10_000_000, "score tiles")
    )
    fail_if: str | None = attrs.field(default=None, validator=_condition)

    def __attrs_post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite exclude each other; give one of them.")
        if not self.report and self.fail_if is not None:
            raise UsageError("--fail-if needs the report; leave --no-report out.")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str) -> RunSettings:
        """Build settings from names and values; `source` (a file or a function) is named in errors.

        Raises
        ------
        UsageError
            Where a name is unknown or a value is refused.
        """
        return cls(**_tidy(cls, values, source))

    @classmethod
    def resolve(cls, flags: Mapping[str, Any], config: Path | None) -> RunSettings:
        """Merge flags over a TOML file over the defaults; a flag that is None was not given."""
        values = load_config(config) if config is not None else {}
        values |= {name: value for name, value in flags.items() if value is not None}
        return cls.from_mapping(values, f"The configuration {config}" if config else "The command line")

    def pixel_facts(self) -> dict[str, Any]:
        """Return the settings that change what is written, JSON-able, for fingerprint and provenance."""
        left_out = {"resume", "overwrite", "threads", "progress", "log_format", "model", "kernel", "mask"}
        left_out |= {"device", "precision", "tile_size", "overlap", "batch_size", "deterministic"}
        left_out |= {"report", "report_sample", "fail_if"}
        facts = attrs.asdict(self, filter=lambda field, _: field.name not in left_out)
        facts["mask"] = self.mask if self.mask in ("auto", "none") else "file"
        return {name: _plain(value) for name, value in facts.items()}


def _tile(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    good = _is_whole(value) and SCORE_STEP_PX <= value <= 100 * SCORE_STEP_PX and value % SCORE_STEP_PX == 0
    if not good:
        _refuse(attribute, value, f"it takes a multiple of {SCORE_STEP_PX} pixels, such as {CHUNK_PX}")


def _names(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, tuple) or not value or not all(isinstance(v, str) and v.strip() for v in value):
        _refuse(attribute, value, "it takes names of metrics, such as brisque,niqe")


def _to_names(value: object) -> object:
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return _to_plain(value)


@attrs.frozen(kw_only=True)
class ScoreSettings:
    """The settings of `score`, as asked for.

    Attributes
    ----------
    engine : str
        `native` or `pyiqa`.
    metrics : tuple of str, optional
        Names, also as one text with commas; None: brisque, niqe and piqe.
    niqe_model : str, optional
        File of `score fit-niqe` that NIQE compares with.
    tile_size : int
        Side of a tile of the image, a multiple of 96; scores of different sizes are not compared.
    sample : int, optional
        Tiles that are drawn over the tissue of all sections; None: all.
    seed : int
        Of the sample.
    level : int
        Pyramid level of the image.
    voxel_size : tuple of 3, optional
        Micrometres (z, y, x) of the image; overrides what the file says.
    input_range, before_range, reference_range : tuple of 2, optional
        Values of black and white of each image; the first also holds for the others where they have its type.
    any_placement : bool
        Compare although voxel sizes or offsets say that the images show different places.
    fail_if : str, optional
        Condition on the summary under which the command ends with exit code 6.
    csv : bool
        Write the tiles as CSV, too.
    overwrite : bool
        Replace a report that is there.
    threads : int, optional
        Tiles at work at once; None: one for each processor that the process may use.
    progress, log_format : str
        As for a run.

    Raises
    ------
    UsageError
        One sentence with the flag, its value and what it takes.
    """

    engine: str = attrs.field(default="native", validator=_one_of(("native", "pyiqa")))
    metrics: tuple[str, ...] | None = attrs.field(default=None, converter=_to_names, validator=_names)
    niqe_model: str | None = attrs.field(
        default=None, converter=_to_path_text, validator=_text("a file", optional=True)
    )
    tile_size: int = attrs.field(default=CHUNK_PX, converter=_to_plain, validator=_tile)
    sample: int | None = attrs.field(
        default=None, converter=_to_plain, validator=_whole(1, 10_000_000, "tiles")
    )
    seed: int = attrs.field(
        default=0, converter=_to_plain, validator=_whole(0, 2**31 - 1, "the seed", optional=False)
    )
    level: int = attrs.field(
        default=0, converter=_to_plain, validator=_whole(0, 32, "pyramid levels", optional=False)
    )
    voxel_size: VoxelSize | None = attrs.field(default=None, converter=_to_voxels, validator=_voxels)
    input_range: tuple[float, float] | None = attrs.field(default=None, converter=_to_pair, validator=_range)
    before_range: tuple[float, float] | None = attrs.field(default=None, converter=_to_pair, validator=_range)
    reference_range: tuple[float, float] | None = attrs.field(
        default=None, converter=_to_pair, validator=_range
    )
    any_placement: bool = attrs.field(default=False, validator=_yes_or_no)
    fail_if: str | None = attrs.field(default=None, validator=_condition)
    csv: bool = attrs.field(default=False, validator=_yes_or_no)
    overwrite: bool = attrs.field(default=False, validator=_yes_or_no)
    threads: int | None = attrs.field(default=None, converter=_to_plain, validator=_whole(1, 4096, "threads"))
    progress: str = attrs.field(default="auto", validator=_one_of(PROGRESS))
    log_format: str = attrs.field(default="text", validator=_one_of(("text", "json")))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str) -> ScoreSettings:
        """Build settings from names and values; `source` is named in errors.

        Raises
        ------
        UsageError
            Where a name is unknown or a value is refused.
        """
        return cls(**_tidy(cls, values, source))


def _tidy(cls: type[attrs.AttrsInstance], values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return names and values with the names as Python spells them; refuse what is no setting."""
    known = {field.name for field in attrs.fields(cls)}
    tidy = {name.replace("-", "_"): value for name, value in values.items()}
    for name in tidy:
        if name not in known:
            raise UsageError(
                f"{source} has no setting {name!r}; the settings are {', '.join(sorted(known))}."
            )
    return tidy


def load_config(path: Path) -> dict[str, Any]:
    """Read a TOML file of settings: flat, or under one table `run`; names as the flags, `-` or `_`.

    Raises
    ------
    InputMissingError
        Where there is no such file.
    UsageError
        Where it is no TOML.
    """
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError as error:
        raise InputMissingError(f"The configuration {path} does not exist; check the path.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The configuration {path} is no TOML ({error}); correct it.") from error
    except OSError as error:
        raise UsageError(f"The configuration {path} cannot be read ({error.strerror}); check it.") from error
    run = values.get("run", values)
    if not isinstance(run, dict):
        raise UsageError(f"The configuration {path} has a value named run; make it a table, [run].")
    outside = [name for name, value in values.items() if run is not values and not isinstance(value, dict)]
    if outside:
        raise UsageError(
            f"The configuration {path} has {outside[0]!r} outside of its table [run]; move it in."
        )
    found: dict[str, Any] = {}
    for name, value in run.items():
        if name.replace("-", "_") in found:
            raise UsageError(f"The configuration {path} names {name!r} twice, with - and with _; keep one.")
        found[name.replace("-", "_")] = value
    return found


def _plain(value: Any) -> Any:
    """Turn tuples into lists, as JSON would, so that a stored fact equals a fresh one."""
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
