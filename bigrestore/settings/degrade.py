"""`degrade`: the options of synthetic pairs, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from bigrestore.core.files import expand_home
from bigrestore.errors import UsageError
from bigrestore.settings.checks import (
    check_blur,
    check_noise,
    check_recipe,
    one_of,
    whole_number,
    yes_or_no,
)
from bigrestore.settings.option import argument, option, quiet_option, verbose_option
from bigrestore.settings.reading import Settings
from bigrestore.settings.shared import level_field, range_field, seed_field, series_field
from bigrestore.settings.values import (
    PROGRESS,
    SCALES,
    StatedBlur,
    ValueRange,
    to_blur,
    to_path_text,
    to_plain,
)

if TYPE_CHECKING:
    from bigrestore.degradation.schema import Recipe


@attrs.frozen(kw_only=True)
class DegradeSettings(Settings):
    """The settings of `degrade`, as asked for; each field has its meaning as help.

    Raises
    ------
    UsageError
        One sentence with the flag, its value and the remedy.
    """

    scale: int = attrs.field(
        default=1,
        converter=to_plain,
        validator=one_of(SCALES),
        metadata=option("Clean pixels per degraded pixel: 1, 2 or 4."),
    )
    count: int | None = attrs.field(
        default=None,
        converter=to_plain,
        validator=whole_number(1, 10_000_000, "patches"),
        metadata=option("Number of patches; give this or --whole."),
    )
    whole: bool = attrs.field(
        default=False,
        validator=yes_or_no,
        metadata=option("Degrade the whole section with one degradation."),
    )
    seed: int = seed_field("Seed of everything that is drawn.")
    recipe: str | Recipe = attrs.field(
        default="default",
        converter=to_path_text,
        validator=check_recipe,
        metadata=option("default, bigbrain, optics, noise, a TOML file, or a file of train degradation."),
    )
    blur: StatedBlur | None = attrs.field(
        default=None,
        converter=to_blur,
        validator=check_blur,
        metadata=option(
            "All blur of every pair, input pixels (degrees), the averaging of a pixel included; else drawn.",
            metavar="SIGMA[,SIGMA_Y,ANGLE]",
        ),
    )
    noise: float | None = attrs.field(
        default=None,
        converter=to_plain,
        validator=check_noise,
        metadata=option("Noise of every pair, standard deviation of 255; else drawn.", metavar="LEVELS"),
    )
    patch_px: int = attrs.field(
        default=128,
        converter=to_plain,
        validator=whole_number(8, 4096, "pixels", optional=False),
        metadata=option("Side of the degraded patches in pixels.", "--patch-size"),
    )
    level: int = level_field("Pyramid level of the input to take for clean.")
    series: int | None = series_field()
    input_range: ValueRange | None = range_field(
        "Values of black and white, where the input does not use the range of its type; or full: it does."
    )
    overwrite: bool = attrs.field(
        default=False,
        validator=yes_or_no,
        metadata=option("Replace what a former call made in OUTDIR."),
    )
    resume: bool = attrs.field(
        default=False,
        validator=yes_or_no,
        metadata=option("Go on with a whole section that was stopped."),
    )
    progress: str = attrs.field(
        default="auto",
        validator=one_of(PROGRESS),
        metadata=option("auto, bar, lines or none.", default="auto; none with -q"),
    )

    def __attrs_post_init__(self) -> None:
        if (self.count is None) == (not self.whole):
            raise UsageError(
                "Give either a number of patches (--count) or the whole section (--whole), not both."
            )
        if self.resume and not self.whole:
            raise UsageError(
                "Patches are quickly made anew; resume only a whole section, or give --overwrite."
            )
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite exclude each other; give one of them.")


@attrs.frozen(kw_only=True)
class DegradeArguments:
    """What `bigrestore degrade` takes beside the settings."""

    input: str = attrs.field(
        converter=expand_home,
        metadata=argument("Clean section or volume: a file, a store, a folder or a glob."),
    )
    outdir: Path = attrs.field(
        converter=expand_home, metadata=argument("Folder for lq/, hq/ (or lq.ome.zarr) and pairs.parquet.")
    )
    verbose: bool = attrs.field(default=False, metadata=verbose_option())
    quiet: bool = attrs.field(default=False, metadata=quiet_option())
