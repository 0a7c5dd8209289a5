"""`bigrestore train STAGE DATA -o MODEL`: the network's stages, on a laptop or a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bigrestore.cli.log import configure_logging

if TYPE_CHECKING:
    from bigrestore.training.loop.options import StageOptions
    from bigrestore.training.loop.schedule import TrainResult

train_app = typer.Typer(
    no_args_is_help=True, help="Train the network: estimator, fidelity, prior, bridge, polish, in this order."
)

Data = Annotated[Path, typer.Argument(help="Folder of clean images (PNG, JPEG, TIFF), or a packed .npz.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Model file to write, .safetensors.")]
Preset = Annotated[str, typer.Option(help="Size of the network: nano, tiny, small, base, large.")]
Scale = Annotated[int, typer.Option(help="Output pixels per input pixel: 1, 2 or 4.")]
Steps = Annotated[int | None, typer.Option(help="Length of the training in steps.")]
Minutes = Annotated[
    float | None, typer.Option(help="Length of the training in minutes; give this or --steps.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[
    str, typer.Option(help="fp32 or bf16; auto takes bf16 where the hardware computes in it.")
]
Recipe = Annotated[
    str, typer.Option(help="Degradations to train on: default, bigbrain, optics, or a TOML file.")
]
Start = Annotated[Path | None, typer.Option(help="Model to start from, instead of MODEL itself.")]
Prior = Annotated[
    Path | None, typer.Option(help="Model whose prior to begin with, of the same or a smaller scale.")
]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
Batch = Annotated[int, typer.Option(help="Pairs per step; 0 takes the stage's own number.")]
Rate = Annotated[float, typer.Option(help="Highest learning rate.")]
Threads = Annotated[int, typer.Option(help="CPU threads; 0 takes all.")]
Resume = Annotated[bool, typer.Option(help="Go on from the last training checkpoint.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Debug log, tracebacks.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Warnings and errors only.")]


@train_app.command()
def estimator(
    data: Data,
    output: Output,
    preset: Preset = "tiny",
    scale: Scale = 1,
    steps: Steps = None,
    minutes: Minutes = None,
    device: Device = "auto",
    precision: Precision = "auto",
    recipe: Recipe = "default",
    start: Start = None,
    seed: Seed = 0,
    batch: Batch = 0,
    rate: Rate = 1e-3,
    threads: Threads = 0,
    resume: Resume = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Stage 0: learn to read blur and noise off windows of tissue."""
    _train("estimator", locals())


@train_app.command()
def fidelity(
    data: Data,
    output: Output,
    preset: Preset = "tiny",
    scale: Scale = 1,
    steps: Steps = None,
    minutes: Minutes = None,
    device: Device = "auto",
    precision: Precision = "auto",
    recipe: Recipe = "default",
    start: Start = None,
    seed: Seed = 0,
    batch: Batch = 0,
    rate: Rate = 8e-4,
    threads: Threads = 0,
    resume: Resume = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Stage 1: learn to undo a known degradation; starts from a model with a trained estimator."""
    _train("fidelity", locals())


@train_app.command()
def prior(
    data: Data,
    output: Output,
    preset: Preset = "tiny",
    scale: Scale = 1,
    steps: Steps = None,
    minutes: Minutes = None,
    device: Device = "auto",
    precision: Precision = "auto",
    start: Start = None,
    prior: Prior = None,
    seed: Seed = 0,
    batch: Batch = 0,
    rate: Rate = 2e-3,
    threads: Threads = 0,
    resume: Resume = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Stage 2: learn what tissue looks like, as a GAN on clean windows; starts from a model with fidelity."""
    _train("prior", locals())


@train_app.command()
def bridge(
    data: Data,
    output: Output,
    preset: Preset = "tiny",
    scale: Scale = 1,
    steps: Steps = None,
    minutes: Minutes = None,
    device: Device = "auto",
    precision: Precision = "auto",
    recipe: Recipe = "default",
    start: Start = None,
    prior: Prior = None,
    seed: Seed = 0,
    batch: Batch = 0,
    rate: Rate = 5e-4,
    threads: Threads = 0,
    resume: Resume = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Stage 3: let the prior say what the data say; starts from a model with a trained prior."""
    _train("bridge", locals())


@train_app.command()
def polish(
    data: Data,
    output: Output,
    preset: Preset = "tiny",
    scale: Scale = 1,
    steps: Steps = None,
    minutes: Minutes = None,
    device: Device = "auto",
    precision: Precision = "auto",
    recipe: Recipe = "default",
    start: Start = None,
    seed: Seed = 0,
    batch: Batch = 0,
    rate: Rate = 1e-4,
    threads: Threads = 0,
    resume: Resume = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Stage 4: all that lies between data and prior, and the prior, at a small rate; starts from a bridged model."""
    _train("polish", locals())


def _options(asked: dict[str, Any]) -> StageOptions:
    """Return the options of a stage; a recipe that is none is better known before the images are read than after."""
    from bigrestore.degradation.schema import Recipe
    from bigrestore.training.loop.options import StageOptions

    device, precision = training_device(asked["device"], asked["precision"])
    Recipe.load(asked.get("recipe", "default"))
    return StageOptions(**asked | {"device": device, "precision": precision})


def training_device(device: str, precision: str) -> tuple[str, str]:
    """Return the device and the precision that a training uses for what was asked for."""
    from bigrestore.model.network import choose_device, choose_precision

    chosen = choose_device(device)
    computed = choose_precision(precision, chosen)
    if precision == "auto" and computed == "fp16":
        computed = "fp32"  # float16 would need its losses scaled; a GPU that old trains in float32.
    return str(chosen), computed


def _train(stage: str, asked: dict[str, Any]) -> None:
    """Train one stage."""
    from bigrestore.training.loop.options import check_model_place
    from bigrestore.training.loop.signals import stopping_at_once
    from bigrestore.training.stages.stage import train_stage

    data, output, verbose, quiet = (asked.pop(name) for name in ("data", "output", "verbose", "quiet"))
    configure_logging(verbose=verbose, quiet=quiet)
    options = _options(asked)
    check_model_place(stage, output, resume=options.resume)
    with stopping_at_once(f"The training of {output}"):
        result = train_stage(stage, data, output, options)
    end_training(result, output, quiet=quiet)


def end_training(result: TrainResult, output: Path, *, quiet: bool) -> None:
    """Print how a training ended; a stop ends with 75, Ctrl-C with 130, and both say how to go on."""
    import signal

    from bigrestore.errors import StoppedError

    if result.status != "done":
        by = signal.Signals(result.signal_number or signal.SIGTERM)
        name = "Ctrl-C" if by == signal.SIGINT else by.name
        sentence = (
            f"The training of {output} was stopped by {name} after {result.steps} steps; go on with the same command "
            "and --resume."
        )
        if by != signal.SIGINT:
            raise StoppedError(sentence)
        typer.echo(f"bigrestore: {sentence}", err=True)
        raise typer.Exit(130)
    if quiet:
        return
    typer.echo(f"{output}: {result.steps} steps, {result.elapsed_s / 60:.1f} minutes")
    for name, value in result.figures.items():
        typer.echo(f"  {name} {value:.4g}")
