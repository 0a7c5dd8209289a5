"""`run`: the options of a restoration, each said once.

The command line, a TOML file and Python's `restore()` all end in `RunSettings`. The plan turns it into tile size,
device and threads. Only part of it changes pixels: `pixel_facts` goes into the fingerprint of the output, checked
when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.files import expand_home
from bigrestore.core.sizes import BLOCK_PX, CHUNK_PX
from bigrestore.errors import UsageError
from bigrestore.settings.checks import (
    check_block,
    check_blur,
    check_cluster,
    check_device,
    check_maps,
    check_method_options,
    check_noise,
    check_overlap,
    check_realness,
    check_realness_map,
    check_roi,
    check_run_judges,
    check_scheduler,
    check_score_tile,
    check_shard,
    check_sharpening,
    one_of,
    text,
    whole_number,
    yes_or_no,
)
from bigrestore.settings.option import (
    HARDWARE,
    INPUT,
    METHOD,
    OUTPUT,
    SAYS,
    WORKERS,
    argument,
    option,
    quiet_option,
    verbose_option,
)
from bigrestore.settings.reading import Settings
from bigrestore.settings.shared import (
    channel_field,
    fail_if_field,
    level_field,
    likelihood_model_field,
    log_format_field,
    objective_model_field,
    range_field,
    ranking_model_field,
    seed_field,
    series_field,
    storage_options_field,
    threads_field,
    voxel_size_field,
)
from bigrestore.settings.values import (
    AUTO_MAP,
    CLUSTERS,
    DEVICES,
    FILLED,
    FORMATS,
    MAPS,
    MOST_NEIGHBOURS,
    MOST_WORKERS,
    PRECISIONS,
    PROGRESS,
    RUN_JUDGES,
    SCALES,
    Roi,
    StatedBlur,
    StatedSharpening,
    ValueRange,
    VoxelSize,
    parse_shard,
    to_blur,
    to_maps,
    to_method_options,
    to_path_text,
    to_plain,
    to_roi,
    to_run_judges,
    to_sharpening,
)


@attrs.frozen(kw_only=True)
class RunSettings(Settings):
    """The settings of `run`, as asked for; each field has its meaning as help.

    Raises
    ------
    UsageError
        One sentence with the flag, its value and the remedy.
    """

    model: str | None = attrs.field(
        default=None,
        converter=to_path_text,
        validator=text("a file or the name of a shipped model", optional=True),
        metadata=option("File of a network, or name of a shipped model.", panel=METHOD, default="tiny"),
    )
    method: str = attrs.field(
        default="network",
        validator=text("the name of a method"),
        metadata=option("One of `bigrestore models methods`; latent invents, for a --roi.", panel=METHOD),
    )
    options: dict[str, Any] | None = attrs.field(
        default=None,
        converter=to_method_options,
        validator=check_method_options,
        metadata=option(
            "Option of the method; repeatable.", "--set", metavar="NAME=VALUE", panel=METHOD, reads=list[str]
        ),
    )
    scale: int = attrs.field(
        default=1,
        converter=to_plain,
        validator=one_of(SCALES),
        metadata=option("Output pixels per input pixel: 1, 2 or 4.", panel=METHOD),
    )
    realness_map: str | None = attrs.field(
        default=None,
        converter=to_path_text,
        validator=check_realness_map,
        metadata=option(
            "Multiplied with --realness: an image of INPUT's shape, uint8 or float32 0 to 1; auto: learned.",
            metavar="auto|FILE",
            panel=METHOD,
            words=(AUTO_MAP,),
        ),
    )
    objective_model: str | None = objective_model_field(METHOD)
    realness: float | None = attrs.field(
        converter=to_plain,
        validator=check_realness,
        metadata=option(
            "How much the prior may add, 0 to 1.",
            panel=METHOD,
            default="the model's own; 1 with --realness-map",
        ),
    )
    kernel: str | None = attrs.field(
        default=None,
        converter=to_path_text,
        validator=text("a file", optional=True),
        metadata=option("Known blur kernel (.npy or text); else estimated.", panel=METHOD, reads=Path),
    )
    blur: StatedBlur | None = attrs.field(
        default=None,
        converter=to_blur,
        validator=check_blur,
        metadata=option(
            "Known blur, input pixels (degrees), the averaging of a pixel included; 0: real softness; else estimated.",
            metavar="SIGMA[,SIGMA_Y,ANGLE]",
            panel=METHOD,
        ),
    )
    noise: float | None = attrs.field(
        default=None,
        converter=to_plain,
        validator=check_noise,
        metadata=option(
            "Known noise, standard deviation of 255; else estimated.", metavar="LEVELS", panel=METHOD
        ),
    )
    sharpened: StatedSharpening | None = attrs.field(
        default=None,
        converter=to_sharpening,
        validator=check_sharpening,
        metadata=option(
            "Unsharp mask that the scanner's program applied, undone first: its amount, and the sigma of its Gaussian in "
            "input pixels.",
            metavar="AMOUNT,RADIUS",
            panel=METHOD,
        ),
    )
    mask: str = attrs.field(
        default="auto",
        converter=to_path_text,
        validator=text("auto, none or a file"),
        metadata=option(
            "auto: interpolate flat background; none: restore all; or a file: 0 passes through, 2 damage.",
            metavar="auto|none|FILE",
            panel=INPUT,
            words=("auto", "none"),
        ),
    )
    tile_size: int | None = attrs.field(
        default=None,
        converter=to_plain,
        validator=whole_number(32, 32 * CHUNK_PX, "output pixels"),
        metadata=option("Largest core of a tile, output pixels.", panel=HARDWARE, default="chosen"),
    )
    overlap: int | None = attrs.field(
        default=None,
        converter=to_plain,
        validator=check_overlap,
        metadata=option("Cross-fade of neighbouring tiles, output pixels.", panel=HARDWARE, default="0"),
    )
    block_size: int = attrs.field(
        default=BLOCK_PX,
        converter=to_plain,
        validator=check_block,
        metadata=option(f"Unit of work, output pixels, multiple of {CHUNK_PX}.", panel=HARDWARE),
    )
    batch_size: int | None = attrs.field(
        default=None,
        converter=to_plain,
        validator=whole_number(1, 1024, "tiles"),
        metadata=option("Tiles handed to the method at once.", panel=HARDWARE, default="1"),
    )
    device: str = attrs.field(
        default="auto",
        validator=check_device,
        metadata=option("auto, cpu, cuda, cuda:N or mps.", panel=HARDWARE, words=DEVICES),
    )
    precision: str = attrs.field(
        default="auto",
        validator=one_of(PRECISIONS),
        metadata=option("auto, fp32, bf16 or fp16.", panel=HARDWARE),
    )
    voxel_size: VoxelSize | None = voxel_size_field(
        "Micrometres: SIZE, Y,X or Z,Y,X; overrides the file.", INPUT
    )
    input_range: ValueRange | None = range_field(
        "Values of black and white, or full: those of the type.", INPUT
    )
    roi: Roi | None = attrs.field(
        default=None,
        converter=to_roi,
        validator=check_roi,
        metadata=option("Output pixels [z0:z1,]y0:y1,x0:x1 of the whole run.", panel=INPUT),
    )
    level: int = level_field("Pyramid level of the input.", INPUT)
    series: int | None = series_field(INPUT)
    channel: int | None = channel_field(INPUT)
    storage_options: dict[str, Any] | None = storage_options_field(INPUT)
    format: str = attrs.field(
        default="auto",
        validator=one_of(FORMATS),
        metadata=option("auto, 0.5, 0.4 or ome-tiff.", panel=OUTPUT, default="auto: by name and input"),
    )
    maps: tuple[str, ...] = attrs.field(
        default=(),
        converter=to_maps,
        validator=check_maps,
        metadata=option(
            "Maps beside the image, in OUTPUT/maps: residual, invented, uncertainty, realness, unlikely, filled.",
            metavar="NAME[,NAME...]",
            panel=OUTPUT,
            default="none",
            words=MAPS,
        ),
    )
    likelihood_model: str | None = likelihood_model_field(SAYS)
    stage: str | None = attrs.field(
        default=None,
        converter=to_path_text,
        validator=text("a folder", optional=True),
        metadata=option(
            "Folder in which an OUTPUT behind a URL is made first.", metavar="DIR", panel=OUTPUT, default="."
        ),
    )
    lock: bool = attrs.field(
        default=True,
        validator=yes_or_no,
        metadata=option("Keep regional grey levels.", "--lock/--no-lock", panel=METHOD),
    )
    harmonise: bool = attrs.field(
        default=False,
        validator=yes_or_no,
        metadata=option("Take jumps of brightness between the sections of a volume out.", panel=METHOD),
    )
    neighbours: int = attrs.field(
        default=0,
        converter=to_plain,
        validator=whole_number(0, MOST_NEIGHBOURS, "sections", optional=False),
        metadata=option(
            "Fill damage of --mask FILE, without detail, from up to N sections before and after.",
            metavar="N",
            panel=METHOD,
        ),
    )
    resume: bool = attrs.field(
        default=False,
        validator=yes_or_no,
        metadata=option("Go on after the last finished block.", "--resume/--no-resume", panel=OUTPUT),
    )
    overwrite: bool = attrs.field(
        default=False, validator=yes_or_no, metadata=option("Replace an existing output.", panel=OUTPUT)
    )
    check_all: bool = attrs.field(
        default=False,
        validator=yes_or_no,
        metadata=option("With --resume: read all blocks back, redo those of another input.", panel=OUTPUT),
    )
    deterministic: bool = attrs.field(
        default=False, validator=yes_or_no, metadata=option("Refuse what would change bytes.", panel=HARDWARE)
    )
    workers: int | None = attrs.field(
        default=None,
        converter=to_plain,
        validator=whole_number(1, MOST_WORKERS, "workers"),
        metadata=option("Processes, or jobs of --cluster.", panel=WORKERS, default="1"),
    )
    scheduler: str | None = attrs.field(
        default=None,
        validator=check_scheduler,
        metadata=option("Address of a dask scheduler.", metavar="tcp://HOST:PORT", panel=WORKERS),
    )
    cluster: str | None = attrs.field(
        default=None,
        validator=check_cluster,
        metadata=option("Start workers as jobs: slurm, pbs or lsf.", panel=WORKERS, words=CLUSTERS),
    )
    init_only: bool = attrs.field(
        default=False,
        validator=yes_or_no,
        metadata=option("Store the plan, make the empty output, no more.", panel=WORKERS),
    )
    shard: str | None = attrs.field(
        default=None,
        validator=check_shard,
        metadata=option("Only part I of N of the blocks; after --init-only.", metavar="I/N", panel=WORKERS),
    )
    finalize: bool = attrs.field(
        default=False,
        validator=yes_or_no,
        metadata=option("Only pyramid, metadata and report; when all shards are done.", panel=WORKERS),
    )
    seed: int = seed_field("Seed of the prior's noise.", METHOD)
    threads: int | None = threads_field(
        "Tiles in flight, of each worker.", HARDWARE, "its processors; 2 on a GPU"
    )
    progress: str = attrs.field(
        default="auto",
        validator=one_of(PROGRESS),
        metadata=option("auto, bar, lines, tqdm or none.", panel=SAYS, default="auto; none with -q"),
    )
    log_format: str = log_format_field()
    report: bool = attrs.field(
        default=True,
        validator=yes_or_no,
        metadata=option("Score the tiles before and after.", "--report/--no-report", panel=SAYS),
    )
    report_sample: int | None = attrs.field(
        default=None,
        converter=to_plain,
        validator=whole_number(1, 10_000_000, "score tiles"),
        metadata=option(
            "Score so many tiles, drawn over the tissue.",
            metavar="N",
            panel=SAYS,
            default="all; 65536 above",
        ),
    )
    score_tile_size: int | None = attrs.field(
        default=None,
        converter=to_plain,
        validator=check_score_tile,
        metadata=option(
            "Side of a score tile, a multiple of 96.",
            metavar="PX",
            panel=SAYS,
            default="480; less for small sections",
        ),
    )
    judges: tuple[str, ...] = attrs.field(
        default=(),
        converter=to_run_judges,
        validator=check_run_judges,
        metadata=option(
            "Scores by a trained network, beside the others: likelihood, rankiqa.",
            metavar="NAME[,NAME...]",
            panel=SAYS,
            default="none",
            words=RUN_JUDGES,
        ),
    )
    ranking_model: str | None = ranking_model_field(SAYS)
    fail_if: str | None = fail_if_field()

    @realness.default
    def _realness(self) -> float | None:
        return None if self.realness_map is None else 1.0

    def __attrs_post_init__(self) -> None:
        if self.realness_map not in (None, AUTO_MAP) and self.realness == 0:
            raise UsageError(
                "--realness is 0, which --realness-map is multiplied with; leave the one or the other out."
            )
        if self.objective_model is not None and self.realness_map != AUTO_MAP:
            raise UsageError(
                f"--objective-model is {self.objective_model}, and nothing asks for it; give --realness-map auto, too."
            )
        if self.neighbours and self.mask in ("auto", "none"):
            raise UsageError(
                f"--neighbours is {self.neighbours}, but --mask is {self.mask} and names no damage; give --mask FILE with "
                "2 where the section is damaged."
            )
        if FILLED in self.maps and not self.neighbours:
            raise UsageError(
                "the map `filled` shows what --neighbours filled; give --neighbours N, or leave it out."
            )
        if self.kernel is not None and self.blur is not None:
            raise UsageError("--blur and --kernel both say what the blur is; give one of them.")
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite exclude each other; give one of them.")
        if not self.report and self.fail_if is not None:
            raise UsageError("--fail-if needs the report; leave --no-report out.")
        if not self.report and self.judges:
            raise UsageError(
                f"--judges {','.join(self.judges)} are scores of the report; leave --no-report out."
            )
        self._check_judges()
        self._check_steps()

    def _check_judges(self) -> None:
        """Refuse the model of a judge that is not asked for."""
        if self.likelihood_model is not None and not ("likelihood" in self.judges or "unlikely" in self.maps):
            raise UsageError(
                f"--likelihood-model is {self.likelihood_model}, and nothing asks for it; give --judges likelihood or "
                "--maps unlikely, too."
            )

        if self.ranking_model is not None and "rankiqa" not in self.judges:
            raise UsageError(
                f"--ranking-model is {self.ranking_model}, and nothing asks for it; give --judges rankiqa, too."
            )

    def _check_steps(self) -> None:
        """Refuse contradictory steps and workers."""
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
        dask_flag = "--scheduler" if self.scheduler else "--cluster" if self.cluster else ""
        if dask_flag and self.shard:
            raise UsageError(f"--shard shares the blocks out without dask; leave {dask_flag} out.")

    @property
    def goes_on(self) -> bool:
        """Whether to continue an existing output: as asked, or implied by the step."""
        return self.resume or self.finalize or self.shard is not None

    @property
    def shard_of(self) -> tuple[int, int] | None:
        """The part of the blocks to carry out, (I, N); None: all."""
        return None if self.shard is None else parse_shard(self.shard)

    def pixel_facts(self) -> dict[str, Any]:
        """Return the settings affecting pixels, JSON-able, for fingerprint and provenance."""
        left_out = {"resume", "overwrite", "threads", "progress", "log_format", "model", "kernel", "mask"}
        # The method says what its realness came to, and by which head.
        left_out |= {"realness", "realness_map", "objective_model"}
        left_out |= {"device", "precision", "tile_size", "overlap", "batch_size", "deterministic"}
        left_out |= {"report", "report_sample", "score_tile_size", "fail_if", "check_all"}
        left_out |= {"workers", "scheduler", "cluster", "shard", "init_only", "finalize"}
        left_out |= {"judges", "likelihood_model", "ranking_model"}  # the method names the model of its map
        left_out |= {"storage_options", "stage", "options"}  # options: see `model.registry.method_facts`
        left_out |= {
            name
            for name in ("blur", "noise", "sharpened", "series", "channel")
            if getattr(self, name) is None
        }
        left_out |= {name for name in ("harmonise", "neighbours") if not getattr(self, name)}
        facts = attrs.asdict(self, filter=lambda field, _: field.name not in left_out)
        facts["mask"] = self.mask if self.mask in ("auto", "none") else "file"
        facts["realness_map"] = self.realness_map if self.realness_map in (None, AUTO_MAP) else "file"
        return {name: _as_lists(value) for name, value in facts.items()}


def _as_lists(value: Any) -> Any:
    """Turn tuples into lists, as JSON would: a stored fact equals a fresh one."""
    return [_as_lists(item) for item in value] if isinstance(value, tuple | list) else value


def _to_paths(words: Sequence[str]) -> tuple[str, ...]:
    """Return paths with `~` replaced by the home folder."""
    return tuple(expand_home(word) for word in words)


@attrs.frozen(kw_only=True)
class RunArguments:
    """What `bigrestore run` takes beside the settings."""

    paths: tuple[str, ...] = attrs.field(
        converter=_to_paths,
        metadata=argument(
            "INPUT: file, store, URL, folder or pattern of section files. OUTPUT: OME-Zarr store, in one file where it "
            "ends in .ozx, OME-TIFF where in .ome.tif, or an s3 URL. With --output-folder all are inputs.",
            "INPUT... OUTPUT",
            reads=list[str],
        ),
    )
    output_folder: str | None = attrs.field(
        default=None,
        converter=expand_home,
        metadata=option(
            "Restore each INPUT by itself into this folder, under its own name.", metavar="DIR", panel=OUTPUT
        ),
    )
    config: Path | None = attrs.field(
        default=None,
        converter=expand_home,
        metadata=option("TOML file of what is restored, how and where; flags override it.", panel=METHOD),
    )
    dry_run: bool = attrs.field(
        default=False, metadata=option("Say what would be done, write nothing.", panel=SAYS)
    )
    sbatch: bool = attrs.field(
        default=False,
        metadata=option(
            "With --dry-run: print a job of Slurm with the memory and time of the plan.", panel=SAYS
        ),
    )
    as_json: bool = attrs.field(
        default=False, metadata=option("Dry run or summary as JSON.", "--json", panel=SAYS)
    )
    verbose: bool = attrs.field(default=False, metadata=verbose_option(SAYS))
    quiet: bool = attrs.field(default=False, metadata=quiet_option(SAYS))

    def __attrs_post_init__(self) -> None:
        if self.sbatch and not self.dry_run:
            raise UsageError("--sbatch prints the job that --dry-run estimates; give --dry-run, too.")
        if self.sbatch and self.as_json:
            raise UsageError("--sbatch and --json print one thing each; give one of them.")
        if self.output_folder is not None:
            return
        if len(self.paths) == 1:
            raise UsageError(
                f"{self.paths[0]} is INPUT, and OUTPUT is missing; name one, such as restored.ome.zarr, or give "
                "--output-folder."
            )
        if len(self.paths) > 2:
            raise UsageError(
                f"{len(self.paths)} paths are given, and one INPUT and one OUTPUT are taken; restore several inputs by "
                "--output-folder DIR, or quote a pattern of section files, which is one volume."
            )

    @property
    def input(self) -> str:
        """The input of a run of one."""
        return self.paths[0]

    @property
    def output(self) -> str:
        """The output of a run of one."""
        return self.paths[1]
