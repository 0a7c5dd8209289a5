"""What a run or a scoring was asked for: every flag once, validated before anything is opened.

`RunSettings` and `ScoreSettings` are what the command line, a TOML file and the Python API all end in. Values are
checked here, where the flag's name is still known, so that an absurd number is answered by a sentence and not by a stack
of frames an hour later. What the settings turn into (tile size, device, threads) is the plan's business.

Only part of the settings changes pixels: `pixel_facts` is that part, and it goes into the fingerprint by
which a run is resumed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.geometry import BLOCK_PX, CHUNK_PX
from bigrestore.errors import InputMissingError, UsageError
from bigrestore.flags import (
    FORMATS,
    MOST_WORKERS,
    PRECISIONS,
    PROGRESS,
    SCALES,
    Blur,
    Span,
    ValueRange,
    VoxelSize,
    check_block,
    check_blur,
    check_cluster,
    check_condition,
    check_device,
    check_maps,
    check_method_options,
    check_names,
    check_noise,
    check_options,
    check_overlap,
    check_range,
    check_realness,
    check_roi,
    check_scheduler,
    check_shard,
    check_tile,
    check_voxels,
    one_of,
    parse_shard,
    text,
    to_blur,
    to_maps,
    to_method_options,
    to_names,
    to_options,
    to_path_text,
    to_plain,
    to_range,
    to_roi,
    to_voxels,
    whole,
    yes_or_no,
)


@attrs.frozen(kw_only=True)
class RunSettings:
    """The settings of `run`, as asked for.

    Attributes
    ----------
    method : str
        Name in the registry of methods.
    options : dict, optional
        Options of the method by name; also texts NAME=VALUE. The method checks them.
    model : str, optional
        Checkpoint file, or the name of a shipped model; None: the one shipped for the scale.
    scale : int
        Output pixels per input pixel: 1, 2 or 4.
    realness : float, optional
        0..1, how much the prior may add; 0: nothing. None: what the model states, or 1 where a map of it is given.
    realness_map : str, optional
        Image of the input's shape, uint8 or float32 0..1, that realness is multiplied with per pixel.
    maps : tuple of str
        Maps that are written beside the image, of `MAPS`; also as one text with commas.
    kernel : str, optional
        File with the blur kernel, where it is known; None: estimated.
    blur : tuple of 3, optional
        All blur together, where it is known: sigma along a direction and across it in input pixels, and the
        direction in degrees; also one sigma, or as text with commas. None: estimated.
    noise : float, optional
        Standard deviation of the noise, of 255, where it is known; None: estimated.
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
    input_range : tuple of 2 or "full", optional
        Values of black and white, for input that does not use the range of its type; "full": it does, dark as it is.
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
    workers : int, optional
        Processes that carry out blocks; with `cluster` the jobs asked for; None: this process alone.
    scheduler : str, optional
        Address of a dask scheduler whose workers carry out the blocks.
    cluster : str, optional
        Batch system whose jobs carry out the blocks, one of `CLUSTERS`.
    shard : str, optional
        `I/N`: carry out the I-th of N parts of the blocks and nothing else, beside other processes.
    init_only : bool
        Store the plan and make the empty output, no more.
    finalize : bool
        Make a whole output of blocks that are done, no more.
    check_all : bool
        Read back every finished block of a run that is gone on with, not only those whose files changed; blocks that were
        made of other pixels than the input has now are done again.
    storage_options : dict, optional
        What fsspec needs to reach an input or output behind a URL: keys, endpoints; never logged or stored.
    stage : str, optional
        Folder in which an output behind a URL is made before it is copied; None: the working directory.
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

    method: str = attrs.field(default="network", validator=text("the name of a method"))
    options: dict[str, Any] | None = attrs.field(
        default=None, converter=to_method_options, validator=check_method_options
    )
    model: str | None = attrs.field(
        default=None,
        converter=to_path_text,
        validator=text("a file or the name of a shipped model", optional=True),
    )
    scale: int = attrs.field(default=1, converter=to_plain, validator=one_of(SCALES))
    realness_map: str | None = attrs.field(
        default=None, converter=to_path_text, validator=text("a file", optional=True)
    )
    realness: float | None = attrs.field(converter=to_plain, validator=check_realness)
    maps: tuple[str, ...] = attrs.field(default=(), converter=to_maps, validator=check_maps)
    kernel: str | None = attrs.field(
        default=None, converter=to_path_text, validator=text("a file", optional=True)
    )
    blur: Blur | None = attrs.field(default=None, converter=to_blur, validator=check_blur)
    noise: float | None = attrs.field(default=None, converter=to_plain, validator=check_noise)
    mask: str = attrs.field(default="auto", converter=to_path_text, validator=text("auto, none or a file"))
    tile_size: int | None = attrs.field(
        default=None, converter=to_plain, validator=whole(32, 32 * CHUNK_PX, "output pixels")
    )
    overlap: int | None = attrs.field(default=None, converter=to_plain, validator=check_overlap)
    block_size: int = attrs.field(default=BLOCK_PX, converter=to_plain, validator=check_block)
    batch_size: int | None = attrs.field(default=None, converter=to_plain, validator=whole(1, 1024, "tiles"))
    device: str = attrs.field(default="auto", validator=check_device)
    precision: str = attrs.field(default="auto", validator=one_of(PRECISIONS))
    voxel_size: VoxelSize | None = attrs.field(default=None, converter=to_voxels, validator=check_voxels)
    input_range: ValueRange | None = attrs.field(default=None, converter=to_range, validator=check_range)
    roi: tuple[Span | None, Span, Span] | None = attrs.field(
        default=None, converter=to_roi, validator=check_roi
    )
    level: int = attrs.field(
        default=0, converter=to_plain, validator=whole(0, 32, "pyramid levels", optional=False)
    )
    format: str = attrs.field(default="auto", validator=one_of(FORMATS))
    lock: bool = attrs.field(default=True, validator=yes_or_no)
    resume: bool = attrs.field(default=False, validator=yes_or_no)
    overwrite: bool = attrs.field(default=False, validator=yes_or_no)
    deterministic: bool = attrs.field(default=False, validator=yes_or_no)
    seed: int = attrs.field(
        default=0, converter=to_plain, validator=whole(0, 2**31 - 1, "the seed", optional=False)
    )
    threads: int | None = attrs.field(default=None, converter=to_plain, validator=whole(1, 4096, "threads"))
    workers: int | None = attrs.field(
        default=None, converter=to_plain, validator=whole(1, MOST_WORKERS, "workers")
    )
    scheduler: str | None = attrs.field(default=None, validator=check_scheduler)
    cluster: str | None = attrs.field(default=None, validator=check_cluster)
    shard: str | None = attrs.field(default=None, validator=check_shard)
    init_only: bool = attrs.field(default=False, validator=yes_or_no)
    finalize: bool = attrs.field(default=False, validator=yes_or_no)
    check_all: bool = attrs.field(default=False, validator=yes_or_no)
    storage_options: dict[str, Any] | None = attrs.field(
        default=None, converter=to_options, validator=check_options, repr=False
    )
    stage: str | None = attrs.field(
        default=None, converter=to_path_text, validator=text("a folder", optional=True)
    )
    progress: str = attrs.field(default="auto", validator=one_of(PROGRESS))
    log_format: str = attrs.field(default="text", validator=one_of(("text", "json")))
    report: bool = attrs.field(default=True, validator=yes_or_no)
    report_sample: int | None = attrs.field(
        default=None, converter=to_plain, validator=whole(1, 10_000_000, "score tiles")
    )
    fail_if: str | None = attrs.field(default=None, validator=check_condition)

    @realness.default
    def _realness(self) -> float | None:
        return None if self.realness_map is None else 1.0

    def __attrs_post_init__(self) -> None:
        if self.realness_map is not None and self.realness == 0:
            raise UsageError(
                "--realness is 0, which --realness-map is multiplied with; leave the one or the other out."
            )
        if self.kernel is not None and self.blur is not None:
            raise UsageError("--blur and --kernel both say what the blur is; give one of them.")
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite exclude each other; give one of them.")
        if not self.report and self.fail_if is not None:
            raise UsageError("--fail-if needs the report; leave --no-report out.")
        self._check_steps()

    def _check_steps(self) -> None:
        """Refuse steps and workers that exclude each other."""
        steps = {"--init-only": self.init_only, "--shard": self.shard, "--finalize": self.finalize}
        asked = [flag for flag, value in steps.items() if value]
        if len(asked) > 1:
            raise UsageError(f"{asked[0]} and {asked[1]} are steps of their own; give one at a time.")
        if self.overwrite and asked and asked[0] != "--init-only":
            raise UsageError(f"{asked[0]} goes on with an output; give --overwrite to --init-only instead.")
        if self.scheduler and self.cluster:
            raise UsageError("--scheduler names a cluster that runs, --cluster starts one; give one of them.")
        if self.scheduler and self.workers:
            raise UsageError(
                "--workers is how many are started here, but those of --scheduler run; leave it out."
            )
        far = "--scheduler" if self.scheduler else "--cluster" if self.cluster else ""
        if far and self.shard:
            raise UsageError(f"--shard shares the blocks out without dask; leave {far} out.")

    @property
    def goes_on(self) -> bool:
        """Whether an output that was begun is gone on with: asked for, or because the step implies it."""
        return self.resume or self.finalize or self.shard is not None

    @property
    def shard_of(self) -> tuple[int, int] | None:
        """The part of the blocks that is asked for, (I, N); None for all of them."""
        return None if self.shard is None else parse_shard(self.shard)

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
        given = {name: value for name, value in flags.items() if value is not None}
        options = to_method_options(given.get("options"))
        if isinstance(options, dict) and isinstance(values.get("options"), dict):
            given["options"] = values["options"] | options
        values |= given
        return cls.from_mapping(values, f"The configuration {config}" if config else "The command line")

    def pixel_facts(self) -> dict[str, Any]:
        """Return the settings that change what is written, JSON-able, for fingerprint and provenance."""
        left_out = {"resume", "overwrite", "threads", "progress", "log_format", "model", "kernel", "mask"}
        left_out |= {"realness", "realness_map"}  # the method says what its realness came to
        left_out |= {"device", "precision", "tile_size", "overlap", "batch_size", "deterministic"}
        left_out |= {"report", "report_sample", "fail_if", "check_all"}
        left_out |= {"workers", "scheduler", "cluster", "shard", "init_only", "finalize"}
        left_out |= {
            "storage_options",
            "stage",
            "options",
        }  # options: see `bigrestore.model.registry.method_facts`
        left_out |= {name for name in ("blur", "noise") if getattr(self, name) is None}
        facts = attrs.asdict(self, filter=lambda field, _: field.name not in left_out)
        facts["mask"] = self.mask if self.mask in ("auto", "none") else "file"
        facts["realness_map"] = None if self.realness_map is None else "file"
        return {name: _plain(value) for name, value in facts.items()}


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
    input_range, before_range, reference_range : tuple of 2 or "full", optional
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
    storage_options : dict, optional
        What fsspec needs to reach an image behind a URL; never logged or stored.
    progress, log_format : str
        As for a run.

    Raises
    ------
    UsageError
        One sentence with the flag, its value and what it takes.
    """

    engine: str = attrs.field(default="native", validator=one_of(("native", "pyiqa")))
    metrics: tuple[str, ...] | None = attrs.field(default=None, converter=to_names, validator=check_names)
    niqe_model: str | None = attrs.field(
        default=None, converter=to_path_text, validator=text("a file", optional=True)
    )
    tile_size: int = attrs.field(default=CHUNK_PX, converter=to_plain, validator=check_tile)
    sample: int | None = attrs.field(
        default=None, converter=to_plain, validator=whole(1, 10_000_000, "tiles")
    )
    seed: int = attrs.field(
        default=0, converter=to_plain, validator=whole(0, 2**31 - 1, "the seed", optional=False)
    )
    level: int = attrs.field(
        default=0, converter=to_plain, validator=whole(0, 32, "pyramid levels", optional=False)
    )
    voxel_size: VoxelSize | None = attrs.field(default=None, converter=to_voxels, validator=check_voxels)
    input_range: ValueRange | None = attrs.field(default=None, converter=to_range, validator=check_range)
    before_range: ValueRange | None = attrs.field(default=None, converter=to_range, validator=check_range)
    reference_range: ValueRange | None = attrs.field(default=None, converter=to_range, validator=check_range)
    any_placement: bool = attrs.field(default=False, validator=yes_or_no)
    fail_if: str | None = attrs.field(default=None, validator=check_condition)
    csv: bool = attrs.field(default=False, validator=yes_or_no)
    overwrite: bool = attrs.field(default=False, validator=yes_or_no)
    threads: int | None = attrs.field(default=None, converter=to_plain, validator=whole(1, 4096, "threads"))
    storage_options: dict[str, Any] | None = attrs.field(
        default=None, converter=to_options, validator=check_options, repr=False
    )
    progress: str = attrs.field(default="auto", validator=one_of(PROGRESS))
    log_format: str = attrs.field(default="text", validator=one_of(("text", "json")))

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

    A table `method` has the options of the method, and its name as `name`.

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
    method = values.pop("method") if isinstance(values.get("method"), dict) else {}
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
    return found | _method_table(method, found, path)


def _method_table(method: dict[str, Any], run: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the table `method` of a configuration as settings."""
    options = {name.replace("-", "_"): value for name, value in method.items()}
    table = {"method": options.pop("name")} if "name" in options else {}
    table |= {"options": options} if options else {}
    twice = sorted(table.keys() & run.keys())
    if twice:
        raise UsageError(f"The configuration {path} has a table [method] and {twice[0]!r} besides; keep one.")
    return table


def _plain(value: Any) -> Any:
    """Turn tuples into lists, as JSON would, so that a stored fact equals a fresh one."""
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
