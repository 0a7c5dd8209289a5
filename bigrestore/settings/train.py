"""`train` and `adapt`: the options of a training, each said once.

Reading a folder of sections takes minutes and a training takes hours, so an absurd number is refused before anything
is loaded.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from bigrestore.core.files import expand_home
from bigrestore.settings.checks import (
    above_zero,
    one_of,
    seed_check,
    whole_number,
    yes_or_no,
)
from bigrestore.settings.option import argument, option, quiet_option, verbose_option
from bigrestore.settings.presets import BACKBONES, FUSIONS_OF_FEATURES, PRESETS
from bigrestore.settings.shared import series_field
from bigrestore.settings.values import DEVICES, SCALES

ADAPT_MINUTES = 15.0
"""Length of an adaptation without --minutes and --steps."""

NETWORK_MINUTES = 60.0
"""Length of `train degradation --network` without --minutes and --steps."""

ADAPT_RATE = 2e-4
"""Highest learning rate of an adaptation: a quarter of that of a training from the start."""


@attrs.frozen
class StageOptions:
    """The settings of one stage of training, as asked for; each field has its meaning as help.

    `device` and `precision` are resolved; "auto" is for the command line.

    Raises
    ------
    UsageError
        One sentence with the flag, its value and the remedy.
    """

    preset: str = attrs.field(
        default="tiny",
        validator=one_of(tuple(PRESETS)),
        metadata=option("Size of the network: nano, tiny, small, base, large."),
    )
    arch: str = attrs.field(
        default="unet",
        validator=one_of(tuple(BACKBONES)),
        metadata=option("Architecture: uformer, rft, hat (scale 2 alone) or unet."),
    )
    scale: int = attrs.field(
        default=1,
        validator=one_of(SCALES),
        metadata=option("Output pixels per input pixel: 1, 2 or 4."),
    )
    steps: int | None = attrs.field(
        default=None,
        validator=whole_number(1, 1_000_000_000, "steps"),
        metadata=option("Length of the training in steps."),
    )
    minutes: float | None = attrs.field(
        default=None,
        validator=above_zero,
        metadata=option("Length of the training in minutes; give this or --steps."),
    )
    device: str = attrs.field(
        default="cpu", metadata=option("auto, cpu, cuda, cuda:1 or mps.", words=DEVICES)
    )
    precision: str = attrs.field(
        default="fp32",
        validator=one_of(("fp32", "bf16")),
        metadata=option(
            "fp32 or bf16; auto takes bf16 where the hardware computes in it.", words=("auto", "fp32", "bf16")
        ),
    )
    recipe: str = attrs.field(
        default="default",
        converter=expand_home,
        metadata=option(
            "Degradations to train on: default, bigbrain, optics, noise, a TOML file, or a file of train "
            "degradation."
        ),
    )
    start: Path | None = attrs.field(
        default=None, converter=expand_home, metadata=option("Model to start from, instead of MODEL itself.")
    )
    prior: Path | None = attrs.field(
        default=None,
        converter=expand_home,
        metadata=option("Model whose prior to begin with, of the same or a smaller scale."),
    )
    model: str = attrs.field(
        default="tiny",
        converter=expand_home,
        metadata=option("Network that the part belongs to: a file, or the name of a shipped model."),
    )
    lpips_backbone: Path | None = attrs.field(
        default=None,
        converter=expand_home,
        metadata=option(
            "State dict of torchvision's AlexNet, VGG16 or SqueezeNet 1.1, to compare by LPIPS; without it, by texture."
        ),
    )
    features: Path | None = attrs.field(
        default=None,
        converter=expand_home,
        metadata=option(
            "State dict of torchvision's VGG19, to compare windows by; without it, the denoiser's own."
        ),
    )
    fusion: str = attrs.field(
        default="sft",
        validator=one_of(FUSIONS_OF_FEATURES),
        metadata=option(
            "How features join the prior: sft (half of its channels), or noise (in the place of noise, GPEN's way)."
        ),
    )
    seed: int = attrs.field(
        default=0, validator=seed_check, metadata=option("Seed of everything that is drawn.")
    )
    batch: int = attrs.field(
        default=0,
        validator=whole_number(0, 65_536, "pairs", optional=False),
        metadata=option("Pairs per step; 0 takes the stage's own number."),
    )
    rate: float = attrs.field(default=8e-4, validator=above_zero, metadata=option("Highest learning rate."))
    threads: int = attrs.field(
        default=0,
        validator=whole_number(0, 1024, "threads", optional=False),
        metadata=option("CPU threads; 0 takes all."),
    )
    resume: bool = attrs.field(
        default=False,
        validator=yes_or_no,
        metadata=option("Go on from the last training checkpoint.", "--resume/--no-resume"),
    )


@attrs.frozen(kw_only=True)
class TrainArguments:
    """What `bigrestore train STAGE` takes beside the settings."""

    data: Path = attrs.field(
        converter=expand_home,
        metadata=argument("Folder of clean images (PNG, JPEG, TIFF), or a packed .npz."),
    )
    output: Path = attrs.field(
        converter=expand_home, metadata=option("Model file to write, .safetensors.", "-o", "--output")
    )
    verbose: bool = attrs.field(default=False, metadata=verbose_option())
    quiet: bool = attrs.field(default=False, metadata=quiet_option())


@attrs.frozen(kw_only=True)
class LearnArguments:
    """What `bigrestore train degradation` takes beside the settings.

    Raises
    ------
    UsageError
        Neither a folder nor two sections are given, or both.
    """

    pairs: Path | None = attrs.field(
        default=None,
        converter=expand_home,
        metadata=argument("Folder with lq/ and hq/ of equal names, as degrade writes them.", "[PAIRS]"),
    )
    lq: str | None = attrs.field(
        default=None,
        converter=expand_home,
        metadata=option("Degraded section, in place of PAIRS.", metavar="FILE"),
    )
    hq: str | None = attrs.field(
        default=None,
        converter=expand_home,
        metadata=option("Clean section of the same place.", metavar="FILE"),
    )
    output: Path = attrs.field(
        converter=expand_home, metadata=option("Recipe file to write, .safetensors.", "-o", "--output")
    )
    network: bool | None = attrs.field(
        default=None,
        metadata=option(
            "Train a network beside the fit; the fit alone needs no --minutes.",
            "--network/--no-network",
            default="where --minutes or --steps is given",
            reads=bool,
        ),
    )
    verbose: bool = attrs.field(default=False, metadata=verbose_option())
    quiet: bool = attrs.field(default=False, metadata=quiet_option())


@attrs.frozen
class AdaptOptions:
    """The settings of an adaptation, as asked for; each field has its meaning as help.

    Attributes
    ----------
    training : StageOptions
        Length, device, precision, seed, batch, threads, rate and resume.
    """

    start: str = attrs.field(
        default="tiny-x1",
        converter=expand_home,
        metadata=option("Model to start from: a file, or the name of a shipped model."),
    )
    level: int = attrs.field(default=0, metadata=option("Pyramid level of the sections."))
    series: int | None = series_field(file="each section")
    input_range: tuple[float, float] | None = attrs.field(
        default=None,
        metadata=option("Values of black and white.", metavar="LO HI", reads=tuple[float, float]),
    )
    training: StageOptions = attrs.field(factory=lambda: StageOptions(minutes=ADAPT_MINUTES, rate=ADAPT_RATE))


ADAPT_TRAINING = ("steps", "minutes", "device", "precision", "seed", "batch", "rate", "threads", "resume")
"""Options of `StageOptions` that an adaptation takes."""


@attrs.frozen(kw_only=True)
class AdaptArguments:
    """What `bigrestore adapt` takes beside the settings."""

    sections: list[str] = attrs.field(
        converter=expand_home,
        metadata=argument("Files, stores, folders or patterns of sections.", "SECTIONS..."),
    )
    output: Path = attrs.field(
        converter=expand_home, metadata=option("Model file to write, .safetensors.", "-o", "--output")
    )
    verbose: bool = attrs.field(default=False, metadata=verbose_option())
    quiet: bool = attrs.field(default=False, metadata=quiet_option())
