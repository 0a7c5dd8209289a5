"""`bigrestore run`: restore a section or volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bigrestore.cli.table import print_rows

if TYPE_CHECKING:
    from bigrestore.run.view.dry_run import Estimate
    from bigrestore.run.view.summary import RunSummary
    from bigrestore.settings import RunSettings

Text = str | None
Number = int | None


def _option(help_text: str, *names: str, metavar: str | None = None, panel: str | None = None) -> Any:
    # Rich reads square brackets as markup and would swallow the defaults that stand in them.
    text = help_text.replace("[", "\\[")
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel=panel, show_default=False)


WHAT, HOW, WHERE, SAYS = "What is restored", "How", "Existing output", "What is said"
WHO = "By whom"
Input = Annotated[
    str, typer.Argument(metavar="INPUT", help="File, store, URL, folder or pattern of section files.")
]
Output = Annotated[
    str,
    typer.Argument(
        metavar="OUTPUT", help="OME-Zarr store, OME-TIFF where it ends in .ome.tif, or an s3 URL."
    ),
]
Model = Annotated[Text, _option("Checkpoint, or name of a shipped model.  [tiny]", panel=HOW)]
Method = Annotated[Text, _option("One of `bigrestore models methods`.  [network]", panel=HOW)]
Options = Annotated[
    list[str] | None,
    _option("Option of the method; repeatable.", "--set", metavar="NAME=VALUE", panel=HOW),
]
Scale = Annotated[Number, _option("Output pixels per input pixel: 1, 2 or 4.  [1]", panel=HOW)]
Realness = Annotated[
    float | None,
    _option("How much the prior may add, 0 to 1.  [the model's own; 1 with --realness-map]", panel=HOW),
]
RealnessMap = Annotated[
    Path | None,
    _option(
        "Image of INPUT's shape, uint8 or float32 0 to 1, multiplied with --realness.",
        metavar="FILE",
        panel=HOW,
    ),
]
Maps = Annotated[
    Text,
    _option(
        "Maps beside the image, in OUTPUT/maps: residual, invented, uncertainty.  [none]",
        metavar="NAME[,NAME...]",
        panel=WHERE,
    ),
]
Kernel = Annotated[Path | None, _option("Known blur kernel (.npy or text); else estimated.", panel=HOW)]
Blur = Annotated[
    Text,
    _option(
        "Known blur, input pixels (degrees), the averaging of a pixel included; 0: real softness; else estimated.",
        metavar="SIGMA[,SIGMA_Y,ANGLE]",
        panel=HOW,
    ),
]
Noise = Annotated[
    float | None,
    _option("Known noise, standard deviation of 255; else estimated.", metavar="LEVELS", panel=HOW),
]
Mask = Annotated[
    Text,
    _option(
        "auto: interpolate flat background; none: restore all; or a file: 0 passes through, 2 damage.  [auto]",
        metavar="auto|none|FILE",
        panel=WHAT,
    ),
]
TileSize = Annotated[Number, _option("Largest core of a tile, output pixels.  [chosen]", panel=HOW)]
Overlap = Annotated[Number, _option("Cross-fade of neighbouring tiles, output pixels.  [0]", panel=HOW)]
BlockSize = Annotated[Number, _option("Unit of work, output pixels, multiple of 480.  [3840]", panel=HOW)]
BatchSize = Annotated[Number, _option("Tiles handed to the method at once.  [1]", panel=HOW)]
Device = Annotated[Text, _option("auto, cpu, cuda, cuda:N or mps.  [auto]", panel=HOW)]
Precision = Annotated[Text, _option("auto, fp32, bf16 or fp16.  [auto]", panel=HOW)]
Threads = Annotated[
    Number, _option("Tiles in flight, of each worker.  [its processors; 2 on a GPU]", panel=HOW)
]
Seed = Annotated[Number, _option("Seed of the prior's noise.  [0]", panel=HOW)]
Lock = Annotated[bool | None, _option("Keep regional grey levels.  [lock]", "--lock/--no-lock", panel=HOW)]
Deterministic = Annotated[
    bool | None, _option("Refuse what would change bytes.", "--deterministic", panel=HOW)
]
VoxelSize = Annotated[Text, _option("Micrometres: SIZE, Y,X or Z,Y,X; overrides the file.", panel=WHAT)]
InputRange = Annotated[
    tuple[str, str] | None,
    _option("Values of black and white, or full: those of the type.", metavar="LO HI|full", panel=WHAT),
]
Roi = Annotated[Text, _option("Output pixels [z0:z1,]y0:y1,x0:x1 of the whole run.", panel=WHAT)]
Level = Annotated[Number, _option("Pyramid level of the input.  [0]", panel=WHAT)]
Format = Annotated[Text, _option("auto, 0.5, 0.4 or ome-tiff.  [auto: by name and input]", panel=WHERE)]
Resume = Annotated[
    bool | None, _option("Go on after the last finished block.", "--resume/--no-resume", panel=WHERE)
]
Overwrite = Annotated[bool | None, _option("Replace an existing output.", "--overwrite", panel=WHERE)]
CheckAll = Annotated[
    bool | None,
    _option(
        "With --resume: read all blocks back, redo those of another input.",
        "--check-all",
        panel=WHERE,
    ),
]
Workers = Annotated[Number, _option("Processes, or jobs of --cluster.  [1]", panel=WHO)]
Scheduler = Annotated[Text, _option("Address of a dask scheduler.", metavar="tcp://HOST:PORT", panel=WHO)]
Cluster = Annotated[Text, _option("Start workers as jobs: slurm, pbs or lsf.", panel=WHO)]
InitOnly = Annotated[
    bool | None, _option("Store the plan, make the empty output, no more.", "--init-only", panel=WHO)
]
Shard = Annotated[
    Text, _option("Only part I of N of the blocks; after --init-only.", metavar="I/N", panel=WHO)
]
Finalize = Annotated[
    bool | None,
    _option("Only pyramid, metadata and report; when all shards are done.", "--finalize", panel=WHO),
]
DryRun = Annotated[bool, _option("Say what would be done, write nothing.", "--dry-run", panel=SAYS)]
AsJson = Annotated[bool, _option("Dry run or summary as JSON.", "--json", panel=SAYS)]
Config = Annotated[
    Path | None, _option("TOML file of what is restored, how and where; flags override it.", panel=HOW)
]
Progress = Annotated[Text, _option("auto, bar, lines, tqdm or none.  [auto; none with -q]", panel=SAYS)]
LogFormat = Annotated[Text, _option("text or json.  [text]", panel=SAYS)]
Report = Annotated[
    bool | None, _option("Score the tiles before and after.  [report]", "--report/--no-report", panel=SAYS)
]
ReportSample = Annotated[
    Number,
    _option("Score so many tiles, drawn over the tissue.  [all; 65536 above]", metavar="N", panel=SAYS),
]
FailIf = Annotated[
    Text, _option("Exit 6 where true, e.g. 'niqe.median > niqe_before.median'.", metavar="EXPR", panel=SAYS)
]
StorageOptions = Annotated[
    Text, _option("JSON object, or @FILE: keys and endpoints of a URL.", metavar="JSON", panel=WHAT)
]
Stage = Annotated[
    Text, _option("Folder in which an OUTPUT behind a URL is made first.  [.]", metavar="DIR", panel=WHERE)
]
Verbose = Annotated[bool, _option("Debug log, tracebacks.", "-v", "--verbose", panel=SAYS)]
Quiet = Annotated[bool, _option("Warnings and errors only.", "-q", "--quiet", panel=SAYS)]


def run(
    input: Input,
    output: Output,
    model: Model = None,
    method: Method = None,
    options: Options = None,
    scale: Scale = None,
    realness: Realness = None,
    realness_map: RealnessMap = None,
    kernel: Kernel = None,
    blur: Blur = None,
    noise: Noise = None,
    mask: Mask = None,
    tile_size: TileSize = None,
    overlap: Overlap = None,
    block_size: BlockSize = None,
    batch_size: BatchSize = None,
    device: Device = None,
    precision: Precision = None,
    voxel_size: VoxelSize = None,
    input_range: InputRange = None,
    roi: Roi = None,
    level: Level = None,
    storage_options: StorageOptions = None,
    format: Format = None,
    maps: Maps = None,
    stage: Stage = None,
    lock: Lock = None,
    resume: Resume = None,
    overwrite: Overwrite = None,
    check_all: CheckAll = None,
    deterministic: Deterministic = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    init_only: InitOnly = None,
    shard: Shard = None,
    finalize: Finalize = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: Config = None,
    progress: Progress = None,
    log_format: LogFormat = None,
    seed: Seed = None,
    threads: Threads = None,
    report: Report = None,
    report_sample: ReportSample = None,
    fail_if: FailIf = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Restore INPUT into OUTPUT, block by block, and build its pyramid.

    Exit codes: 0 done, 2 usage, 3 input, 4 output refused, 5 finished with failed blocks, 6 --fail-if is true,
    75 stopped by a signal (go on with --resume), 130 Ctrl-C.
    """
    beside = {"input", "output", "dry_run", "as_json", "config", "verbose", "quiet"}
    flags = {name: value for name, value in locals().items() if name not in beside and name != "beside"}
    from bigrestore.cli.log import asked_format, configure_logging
    from bigrestore.settings import RunSettings

    flags["log_format"] = log_format or asked_format()
    settings = RunSettings.resolve(
        flags | ({"progress": "none"} if quiet and progress is None else {}), config
    )
    configure_logging(verbose=verbose, quiet=quiet, log_format=settings.log_format)
    guarded = {} if config is None else {"configuration": config}
    if dry_run:
        _estimated(input, output, settings, guarded, as_json=as_json)
        return
    summary = _restored(input, output, settings, guarded)
    _show_summary(summary, as_json=as_json, quiet=quiet)
    summary.raise_if_failed()


def _restored(input: str, output: str, settings: RunSettings, guarded: dict[str, Path]) -> RunSummary:
    """Restore; the framework knows the exit code of Ctrl-C, but not the way out."""
    from bigrestore.run.output.remote import execute_to

    try:
        return execute_to(input, output, settings, guarded=guarded)
    except KeyboardInterrupt as error:
        way_out = f"; {error}" if str(error) else ""
        typer.echo(f"bigrestore: Stopped by Ctrl-C{way_out}.", err=True)
        raise


def _estimated(
    input: str, output: str, settings: RunSettings, guarded: dict[str, Path], *, as_json: bool
) -> None:
    """Do a dry run."""
    from bigrestore.run.output.remote import settle_output
    from bigrestore.run.view.dry_run import estimate

    place, destination = settle_output(input, output, settings)
    estimated = estimate(input, place, settings, guarded=guarded, destination=destination)
    _show_estimate(estimated, as_json=as_json)


def _show_estimate(found: Estimate, *, as_json: bool) -> None:
    """Print a dry run as a table or as JSON."""
    import json

    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
        return
    print_rows(found.rows())


def _show_summary(summary: RunSummary, *, as_json: bool, quiet: bool) -> None:
    """Print what a run came to, as a table or as JSON."""
    import json

    if as_json:
        typer.echo(json.dumps(summary.to_json(), indent=1))
    elif not quiet:
        print_rows(summary.rows())
