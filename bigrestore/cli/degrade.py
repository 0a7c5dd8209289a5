"""`bigrestore degrade INPUT OUTDIR`: synthetic pairs of degraded and clean images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Input = Annotated[str, typer.Argument(help="Clean section or volume: a file, a store, a folder or a glob.")]
Outdir = Annotated[Path, typer.Argument(help="Folder for lq/, hq/ (or lq.ome.zarr) and pairs.parquet.")]
Scale = Annotated[int, typer.Option(help="Clean pixels per degraded pixel: 1, 2 or 4.")]
Count = Annotated[int | None, typer.Option(help="Number of patches; give this or --whole.")]
Whole = Annotated[bool, typer.Option("--whole", help="Degrade the whole section with one degradation.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
Recipe = Annotated[str, typer.Option(help="default, bigbrain, optics, or a TOML file.")]
Blur = Annotated[
    str | None,
    typer.Option(
        help="All blur of every pair, input pixels (degrees); else drawn.",
        metavar="SIGMA[,SIGMA_Y,ANGLE]",
    ),
]
Noise = Annotated[
    float | None,
    typer.Option(help="Noise of every pair, standard deviation of 255; else drawn.", metavar="LEVELS"),
]
Patch = Annotated[int, typer.Option("--patch-size", help="Side of the degraded patches in pixels.")]
Level = Annotated[int, typer.Option(help="Pyramid level of the input to take for clean.")]
InputRange = Annotated[
    tuple[str, str] | None,
    typer.Option(
        help="Values of black and white, where the input does not use the range of its type; or full: it does.",
        metavar="LO HI|full",
    ),
]
Show = Annotated[str, typer.Option("--progress", help="auto, bar, lines or none.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a whole section that was stopped.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Debug log, tracebacks.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Warnings and errors only.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what a former call made in OUTDIR.")]


def degrade(
    input: Input,
    outdir: Outdir,
    scale: Scale = 1,
    count: Count = None,
    whole: Whole = False,
    seed: Seed = 0,
    recipe: Recipe = "default",
    blur: Blur = None,
    noise: Noise = None,
    patch_size: Patch = 128,
    level: Level = 0,
    input_range: InputRange = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    progress: Show = "auto",
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Make pairs of degraded and clean images, with a table of everything that was drawn."""
    from rich.console import Console
    from rich.progress import Progress

    from bigrestore.cli.log import configure_logging
    from bigrestore.degradation.api import degrade as make_pairs
    from bigrestore.settings import RunSettings

    configure_logging(verbose=verbose, quiet=quiet)
    console = Console(stderr=True)
    shown = progress == "bar" or (progress == "auto" and console.is_terminal)
    try:
        with Progress(console=console, transient=True, disable=whole or not shown) as bar:
            task = bar.add_task("pairs", total=count)
            table = make_pairs(
                input,
                outdir,
                scale=scale,
                count=count,
                whole=whole,
                seed=seed,
                recipe=recipe,
                blur=blur,
                noise=noise,
                patch_px=patch_size,
                level=level,
                input_range=RunSettings(input_range=input_range).input_range,
                overwrite=overwrite,
                resume=resume,
                progress=progress,
                on_pair=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except KeyboardInterrupt as error:
        way_out = "go on with the same command and --resume" if whole else "start again with --overwrite"
        typer.echo(f"bigrestore: Stopped by Ctrl-C; {way_out}.", err=True)
        raise typer.Exit(130) from error
    made = "The whole section" if whole else f"{count} pair(s)"
    if not quiet:
        typer.echo(f"{made} at x{scale} in {outdir}, described by {table.name}")
