"""`bigrestore train STAGE DATA -o MODEL` and `bigrestore adapt`: the network's training, on a laptop or a GPU.

The train commands come from the table of stages: help, rate, and the options left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bigrestore.cli.from_settings import Command, CommandGroup, Fields, GivenFlags, Part, add_command, command
from bigrestore.cli.log import configure_logging
from bigrestore.cli.table import note_output, print_rows
from bigrestore.training.stages.table import STAGES, StageRow

if TYPE_CHECKING:
    from bigrestore.settings.train import AdaptArguments, LearnArguments, TrainArguments
    from bigrestore.training.loop.schedule import TrainResult


AUTO = {"device": "auto", "precision": "auto"}

OF_RESTORERS, OF_PARTS = (
    ", ".join(name for name, row in STAGES.items() if (row.part is not None) == parts)
    for parts in (False, True)
)

train_app = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    help=f"Train the network: {OF_RESTORERS}, in this order; or a part of another method: {OF_PARTS}.",
)


def train_command(stage: str, row: StageRow) -> Command[TrainArguments]:
    """Return the command of a stage."""

    def load() -> Fields[TrainArguments]:
        from bigrestore.settings.train import StageOptions, TrainArguments

        defaults = AUTO | {"rate": row.rate, "recipe": row.recipe}
        return Fields(TrainArguments, Part(StageOptions, left_out=row.left_out, defaults=defaults))

    def train(asked: TrainArguments, given: GivenFlags) -> None:
        from bigrestore.degradation.recipe import load_recipe
        from bigrestore.settings.train import StageOptions
        from bigrestore.training.loop.options import check_model_place
        from bigrestore.training.loop.signals import stopping_at_once
        from bigrestore.training.stages.stage import train_stage

        configure_logging(verbose=asked.verbose, quiet=asked.quiet)
        on_device = resolve_device(given)
        scale = given.get("scale", row.scales[0])
        load_recipe(given.get("recipe", row.recipe), scale)  # before the images, which take minutes
        options = StageOptions(**on_device)
        check_model_place(stage, asked.output, resume=options.resume)
        with stopping_at_once(f"The training of {asked.output}"):
            result = train_stage(stage, asked.data, asked.output, options)
        end_training(result, asked.output, quiet=asked.quiet)

    return Command(load, train, row.help)


def learn_command(row: StageRow) -> Command[LearnArguments]:
    """Return the command that learns a degradation from pairs."""

    def load() -> Fields[LearnArguments]:
        from bigrestore.settings.train import LearnArguments, StageOptions

        defaults = AUTO | {"rate": row.rate}
        return Fields(LearnArguments, Part(StageOptions, left_out=row.left_out, defaults=defaults))

    def learn(asked: LearnArguments, given: GivenFlags) -> None:
        from bigrestore.settings.train import NETWORK_MINUTES, StageOptions
        from bigrestore.training.fitting.report import fit_rows
        from bigrestore.training.loop.options import check_model_place
        from bigrestore.training.loop.signals import stopping_at_once
        from bigrestore.training.stages.learning import learn_degradation

        configure_logging(verbose=asked.verbose, quiet=asked.quiet)
        if given.get("minutes") == 0:
            del given["minutes"]
            network = False
        else:
            network = "minutes" in given or "steps" in given if asked.network is None else asked.network
        if network and "minutes" not in given and "steps" not in given:
            given["minutes"] = NETWORK_MINUTES
        options = StageOptions(**resolve_device(given))
        check_model_place(row.name, asked.output, resume=options.resume or not network)
        with stopping_at_once(f"The training of {asked.output}"):
            learned = learn_degradation(
                asked.pairs, (asked.lq, asked.hq), asked.output, options, network=network
            )
        if not asked.quiet:
            facts = [fit.facts() for fit in learned.fit.fits]
            print_rows(fit_rows(facts, shared=learned.fit.shared, scale=learned.fit.scale))
        if learned.trained is not None:
            end_training(learned.trained, asked.output, quiet=asked.quiet)
        note_output(asked.output)

    return Command(load, learn, row.help)


for stage, row in STAGES.items():
    add_command(train_app, stage, learn_command(row) if stage == "degradation" else train_command(stage, row))


def _adapt_fields() -> Fields[AdaptArguments]:
    from bigrestore.settings.train import (
        ADAPT_MINUTES,
        ADAPT_RATE,
        ADAPT_TRAINING,
        AdaptArguments,
        AdaptOptions,
        StageOptions,
    )

    defaults = AUTO | {"rate": ADAPT_RATE}
    shown = {"minutes": f"{ADAPT_MINUTES:g} without --steps"}
    training = Part(StageOptions, only=ADAPT_TRAINING, defaults=defaults, shown=shown)
    return Fields(AdaptArguments, Part(AdaptOptions), training)


@command(_adapt_fields)
def adapt_command(asked: AdaptArguments, given: GivenFlags) -> None:
    """Fine-tune a model on your own sections: sharp targets are the sections themselves, reduced."""
    from bigrestore.settings.train import ADAPT_MINUTES, ADAPT_TRAINING, AdaptOptions, StageOptions
    from bigrestore.training.adaptation.adaptation import adapt as run_adaptation
    from bigrestore.training.loop.signals import stopping_at_once

    configure_logging(verbose=asked.verbose, quiet=asked.quiet)
    if "minutes" not in given and "steps" not in given:
        given["minutes"] = ADAPT_MINUTES
    training = {name: value for name, value in resolve_device(given).items() if name in ADAPT_TRAINING}
    own = {name: value for name, value in given.items() if name not in ADAPT_TRAINING}
    options = AdaptOptions(**own, training=StageOptions(**training))
    with stopping_at_once(f"The training of {asked.output}"):
        result = run_adaptation(asked.sections, asked.output, options)
    end_training(result, asked.output, quiet=asked.quiet)


def resolve_device(given: GivenFlags) -> GivenFlags:
    """Return settings of a training with `auto` resolved to a device and a precision."""
    from bigrestore.model.device import choose_device, choose_precision

    chosen = choose_device(given["device"])
    precision = choose_precision(given["precision"], chosen)
    if given["precision"] == "auto" and precision == "fp16":
        precision = "fp32"  # float16 would need its losses scaled; a GPU that old trains in float32.
    return given | {"device": str(chosen), "precision": precision}


def end_training(result: TrainResult, output: Path, *, quiet: bool) -> None:
    """Print how a training ended; a stop ends with 75, Ctrl-C with 130, and both say how to go on."""
    import signal

    from bigrestore.core.host.signals import signal_name
    from bigrestore.errors import StoppedError

    if result.status != "done":
        by = result.signal_number or signal.SIGTERM
        sentence = (
            f"The training of {output} was stopped by {signal_name(by)} after {result.steps} steps; go on with the same "
            "command and --resume."
        )
        raise KeyboardInterrupt(sentence) if by == signal.SIGINT else StoppedError(sentence)
    note_output(output)
    if quiet:
        return
    typer.echo(f"{output}: {result.steps} steps, {result.elapsed_s / 60:.1f} minutes")
    for name, value in result.figures.items():
        typer.echo(f"  {name} {value:.4g}")
