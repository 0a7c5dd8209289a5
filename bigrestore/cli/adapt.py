"""`bigrestore adapt SECTIONS... -o MODEL`: fine-tune a model on sections of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bigrestore.cli.log import configure_logging
from bigrestore.cli.train import (
    Batch,
    Device,
    Precision,
    Quiet,
    Resume,
    Seed,
    Steps,
    Threads,
    Verbose,
    end_training,
    training_device,
)

Sections = Annotated[
    list[str], typer.Argument(metavar="SECTIONS...", help="Files, stores, folders or patterns of sections.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Model file to write, .safetensors.")]
Start = Annotated[str, typer.Option(help="Model to start from: a file, or the name of a shipped model.")]
Minutes = Annotated[
    float | None, typer.Option(help="Length of the training in minutes; 15 without this and --steps.")
]
Rate = Annotated[float, typer.Option(help="Highest learning rate.")]
Level = Annotated[int, typer.Option(help="Pyramid level of the sections.")]
InputRange = Annotated[
    tuple[float, float] | None, typer.Option(help="Values of black and white.", metavar="LO HI")
]


def adapt(
    sections: Sections,
    output: Output,
    start: Start = "tiny-x1",
    minutes: Minutes = None,
    steps: Steps = None,
    device: Device = "auto",
    precision: Precision = "auto",
    level: Level = 0,
    input_range: InputRange = None,
    seed: Seed = 0,
    batch: Batch = 0,
    rate: Rate = 2e-4,
    threads: Threads = 0,
    resume: Resume = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model on your own sections: sharp targets are the sections themselves, reduced."""
    from bigrestore.training.adaptation.adaptation import MINUTES, AdaptOptions
    from bigrestore.training.adaptation.adaptation import adapt as run_adaptation
    from bigrestore.training.loop.options import StageOptions
    from bigrestore.training.loop.signals import stopping_at_once

    configure_logging(verbose=verbose, quiet=quiet)
    chosen, computed = training_device(device, precision)
    training = StageOptions(
        minutes=MINUTES if minutes is None and steps is None else minutes,
        steps=steps,
        device=chosen,
        precision=computed,
        seed=seed,
        batch=batch,
        threads=threads,
        rate=rate,
        resume=resume,
    )
    options = AdaptOptions(start, level, input_range, training)
    with stopping_at_once(f"The training of {output}"):
        result = run_adaptation(sections, output, options)
    end_training(result, output, quiet=quiet)
