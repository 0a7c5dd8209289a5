"""What a run or a scoring was asked for: every flag once, validated before anything is opened.

`RunSettings` and `ScoreSettings` are what the command line, a TOML file and the Python API all end in. Values are
checked here, where the flag's name is still known, so that an absurd number is answered by a sentence and not by a stack
of frames an hour later. What the settings turn into (tile size, device, threads) is the plan's business.

Only part of the settings changes pixels: `pixel_facts` is that part, and it goes into the fingerprint by
which a run is resumed.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from bigrestore.errors import InputMissingError, UsageError
from bigrestore.geometry import BLOCK_PX, CHUNK_PX

SCALES = (1, 2, 4)
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FORMATS = ("auto", "0.5", "0.4", "ome-tiff")
PROGRESS = ("auto", "bar", "lines", "none", "tqdm")

SCORE_STEP_PX = 96
"""Score tiles are multiples of NIQE's blocks."""

VoxelSize = tuple[float | None, float | None, float | None]
Span = tuple[int, int]
Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _flag(attribute: attrs.Attribute[Any]) -> str:
    return "--" + attribute.name.replace("_", "-")


def _refuse(attribute: attrs.Attribute[Any], value: object, way_out: str) -> None:
    raise UsageError(f"{_flag(attribute)} is {value!r}; {way_out}.")


def _one_of(choices: tuple[Any, ...]) -> Check:
    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in choices or isinstance(value, bool):
            _refuse(attribute, value, f"choose one of {', '.join(map(str, choices))}")

    return check


def _whole(smallest: int, largest: int, unit: str, *, optional: bool = True) -> Check:
    def check(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value is None and optional:
            return
        good = isinstance(value, int) and not isinstance(value, bool) and smallest <= value <= largest
        if not good:
            _refuse(attribute, value, f"it takes a whole number of {unit} from {smallest} to {largest}")

    return check


def _realness(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not (isinstance(value, int | float) and 0.0 <= value <= 1.0):
        _refuse(attribute, value, "it takes a number from 0 (nothing invented) to 1")


def _block(_: object, attribute: attrs.Attribute[Any], value: int) -> None:
    good = isinstance(value, int) and CHUNK_PX <= value <= 32 * CHUNK_PX and value % CHUNK_PX == 0
    if not good:
        _refuse(attribute, value, f"it takes a multiple of {CHUNK_PX} output pixels, such as {BLOCK_PX}")


def _overlap(_: object, attribute: attrs.Attribute[Any], value: int | None) -> None:
    if value is None:
        return
    if not (isinstance(value, int) and 0 <= value <= BLOCK_PX and value % 2 == 0):
        _refuse(attribute, value, f"it takes an even number of output pixels from 0 to {BLOCK_PX}")


def _range(_: object, attribute: attrs.Attribute[Any], value: tuple[float, float] | None) -> None:
    if value is None:
        return
    if len(value) != 2 or not all(map(math.isfinite, value)) or value[0] >= value[1]:
        _refuse(attribute, value, "it takes two numbers, the value of black and the larger value of white")


def _voxels(_: object, attribute: attrs.Attribute[Any], value: VoxelSize | None) -> None:
    if value is None:
        return
    if len(value) != 3 or not all(v is None or (math.isfinite(v) and v > 0) for v in value):
        _refuse(attribute, value, "it takes one, two (y,x) or three (z,y,x) positive sizes in micrometres")


def _condition(_: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
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


def _to_roi(value: object) -> object:
    return parse_roi(value) if isinstance(value, str) else value


def _to_voxels(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (None, float(value), float(value))
    if isinstance(value, list | tuple):
        return (None,) * (3 - len(value)) + tuple(value)
    return parse_voxel_size(value) if isinstance(value, str) else value


def _to_path_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _to_pair(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


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
        See `DEVICES` and `PRECISIONS`.
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

    method: str = attrs.field(default="network", validator=attrs.validators.instance_of(str))
    model: str | None = attrs.field(default=None, converter=_to_path_text)
    scale: int = attrs.field(default=1, validator=_one_of(SCALES))
    realness: float = attrs.field(default=0.0, validator=_realness)
    kernel: str | None = attrs.field(default=None, converter=_to_path_text)
    mask: str = attrs.field(default="auto", converter=_to_path_text)
    tile_size: int | None = attrs.field(default=None, validator=_whole(32, 32 * CHUNK_PX, "output pixels"))
    overlap: int | None = attrs.field(default=None, validator=_overlap)
    block_size: int = attrs.field(default=BLOCK_PX, validator=_block)
    batch_size: int | None = attrs.field(default=None, validator=_whole(1, 1024, "tiles"))
    device: str = attrs.field(default="auto", validator=_one_of(DEVICES))
    precision: str = attrs.field(default="auto", validator=_one_of(PRECISIONS))
    voxel_size: VoxelSize | None = attrs.field(default=None, converter=_to_voxels, validator=_voxels)
    input_range: tuple[float, float] | None = attrs.field(default=None, converter=_to_pair, validator=_range)
    roi: tuple[Span | None, Span, Span] | None = attrs.field(default=None, converter=_to_roi)
    level: int = attrs.field(default=0, validator=_whole(0, 32, "pyramid levels", optional=False))
    format: str = attrs.field(default="auto", validator=_one_of(FORMATS))
    lock: bool = True
    resume: bool = False
    overwrite: bool = False
    deterministic: bool = False
    seed: int = attrs.field(default=0, validator=_whole(0, 2**31 - 1, "the seed", optional=False))
    threads: int | None = attrs.field(default=None, validator=_whole(1, 4096, "threads"))
    progress: str = attrs.field(default="auto", validator=_one_of(PROGRESS))
    log_format: str = attrs.field(default="text", validator=_one_of(("text", "json")))
    report: bool = True
    report_sample: int | None = attrs.field(default=None, validator=_whole(1, 10_000_000, "score tiles"))
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


def _tile(_: object, attribute: attrs.Attribute[Any], value: int) -> None:
    good = (
        isinstance(value, int)
        and SCORE_STEP_PX <= value <= 100 * SCORE_STEP_PX
        and value % SCORE_STEP_PX == 0
    )
    if not good:
        _refuse(attribute, value, f"it takes a multiple of {SCORE_STEP_PX} pixels, such as {CHUNK_PX}")


def _to_names(value: object) -> object:
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return None if value is None else tuple(value)  # type: ignore[arg-type]


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
    metrics: tuple[str, ...] | None = attrs.field(default=None, converter=_to_names)
    niqe_model: str | None = attrs.field(default=None, converter=_to_path_text)
    tile_size: int = attrs.field(default=CHUNK_PX, validator=_tile)
    sample: int | None = attrs.field(default=None, validator=_whole(1, 10_000_000, "tiles"))
    seed: int = attrs.field(default=0, validator=_whole(0, 2**31 - 1, "the seed", optional=False))
    level: int = attrs.field(default=0, validator=_whole(0, 32, "pyramid levels", optional=False))
    voxel_size: VoxelSize | None = attrs.field(default=None, converter=_to_voxels, validator=_voxels)
    input_range: tuple[float, float] | None = attrs.field(default=None, converter=_to_pair, validator=_range)
    before_range: tuple[float, float] | None = attrs.field(default=None, converter=_to_pair, validator=_range)
    reference_range: tuple[float, float] | None = attrs.field(
        default=None, converter=_to_pair, validator=_range
    )
    any_placement: bool = False
    fail_if: str | None = attrs.field(default=None, validator=_condition)
    csv: bool = False
    overwrite: bool = False
    threads: int | None = attrs.field(default=None, validator=_whole(1, 4096, "threads"))
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
    return {name.replace("-", "_"): value for name, value in run.items()}


def _plain(value: Any) -> Any:
    """Turn tuples into lists, as JSON would, so that a stored fact equals a fresh one."""
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
