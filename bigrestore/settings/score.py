"""`score`: the options of a scoring of images, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from bigrestore.core.files import expand_home
from bigrestore.errors import UsageError
from bigrestore.settings.checks import (
    check_names,
    check_score_tile,
    one_of,
    text,
    whole_number,
    yes_or_no,
)
from bigrestore.settings.option import (
    COMPARE,
    INPUT,
    SAYS,
    SCORES,
    argument,
    option,
    quiet_option,
    verbose_option,
)
from bigrestore.settings.reading import Settings
from bigrestore.settings.shared import (
    fail_if_field,
    level_field,
    likelihood_model_field,
    log_format_field,
    range_field,
    ranking_model_field,
    seed_field,
    series_field,
    storage_options_field,
    threads_field,
    voxel_size_field,
)
from bigrestore.settings.values import (
    PROGRESS,
    ValueRange,
    VoxelSize,
    to_names,
    to_path_text,
    to_plain,
)

FILE_OF_JUDGE = {"likelihood": "likelihood_model", "rankiqa": "ranking_model", "lpips": "lpips_backbone"}
"""Setting with the file of a score by a trained network."""


@attrs.frozen(kw_only=True)
class ScoreSettings(Settings):
    """The settings of `score`, as asked for; each field has its meaning as help.

    Scores of tiles of different sizes are not compared. `input_range` also holds for the other images of its type.

    Raises
    ------
    UsageError
        One sentence with the flag, its value and the remedy.
    """

    before_range: ValueRange | None = range_field("Values of black and white before.", COMPARE)
    reference_range: ValueRange | None = range_field("Values of black and white of the reference.", COMPARE)
    before_series: int | None = series_field(COMPARE, "a --before", "the one that IMAGE was made of")
    reference_series: int | None = series_field(COMPARE, "a --reference")
    any_placement: bool = attrs.field(
        default=False,
        validator=yes_or_no,
        metadata=option("Compare though voxel sizes or offsets differ.", panel=COMPARE),
    )
    force: bool = attrs.field(
        default=False,
        validator=yes_or_no,
        metadata=option("Compare though the images show different tissue.", panel=COMPARE),
    )
    engine: str = attrs.field(
        default="native",
        validator=one_of(("native", "pyiqa")),
        metadata=option("native or pyiqa.", panel=SCORES),
    )
    metrics: tuple[str, ...] | None = attrs.field(
        default=None,
        converter=to_names,
        validator=check_names,
        metadata=option(
            "Names with commas; also likelihood, rankiqa, lpips.",
            metavar="NAME,...",
            panel=SCORES,
            default="brisque,niqe,piqe",
        ),
    )
    niqe_model: str | None = attrs.field(
        default=None,
        converter=to_path_text,
        validator=text("a file", optional=True),
        metadata=option("NIQE model of score fit-niqe.", metavar="FILE", panel=SCORES),
    )
    likelihood_model: str | None = likelihood_model_field(SCORES)
    ranking_model: str | None = ranking_model_field(SCORES)
    lpips_backbone: str | None = attrs.field(
        default=None,
        converter=to_path_text,
        validator=text("a file", optional=True),
        metadata=option(
            "torchvision's state dict of AlexNet, VGG16 or SqueezeNet 1.1, for lpips.",
            metavar="FILE",
            panel=SCORES,
        ),
    )
    tile_size: int | None = attrs.field(
        default=None,
        converter=to_plain,
        validator=check_score_tile,
        metadata=option(
            "Side of a tile, a multiple of 96.",
            metavar="PX",
            panel=SCORES,
            default="480; less for small images",
        ),
    )
    sample: int | None = attrs.field(
        default=None,
        converter=to_plain,
        validator=whole_number(1, 10_000_000, "tiles"),
        metadata=option(
            "Score so many tiles, drawn over the tissue.", metavar="N", panel=SCORES, default="all"
        ),
    )
    seed: int = seed_field("Seed of the sample.", SCORES)
    level: int = level_field("Pyramid level of IMAGE.", INPUT)
    series: int | None = series_field(INPUT, "an IMAGE")
    voxel_size: VoxelSize | None = voxel_size_field("Micrometres of IMAGE: SIZE, Y,X or Z,Y,X.", INPUT)
    input_range: ValueRange | None = range_field("Values of black and white of IMAGE.", INPUT)
    storage_options: dict[str, Any] | None = storage_options_field(INPUT)
    threads: int | None = threads_field("Tiles at work.", SCORES, "processors at hand")
    fail_if: str | None = fail_if_field()
    csv: bool = attrs.field(
        default=False, validator=yes_or_no, metadata=option("Write tiles.csv, too.", panel=SAYS)
    )
    overwrite: bool = attrs.field(
        default=False, validator=yes_or_no, metadata=option("Replace what is there.", panel=SAYS)
    )
    progress: str = attrs.field(
        default="auto",
        validator=one_of(PROGRESS),
        metadata=option("auto, bar, lines or none.", panel=SAYS, default="auto; none with -q"),
    )
    log_format: str = log_format_field()

    def __attrs_post_init__(self) -> None:
        asked = self.metrics or ()
        for name, field in FILE_OF_JUDGE.items():
            file = getattr(self, field)
            if file is not None and name not in asked:
                raise UsageError(
                    f"--{field.replace('_', '-')} is {file}, and nothing asks for it; add {name} to --metrics."
                )


@attrs.frozen(kw_only=True)
class ScoreArguments:
    """What `bigrestore score` takes beside the settings."""

    image: str = attrs.field(
        converter=expand_home, metadata=argument("File, store, folder or pattern of section files.", "IMAGE")
    )
    output: Path = attrs.field(
        converter=expand_home,
        metadata=option("Folder for report.html, summary.json and tiles.parquet.", "-o", "--output"),
    )
    before: str | None = attrs.field(
        default=None,
        converter=expand_home,
        metadata=option(
            "What IMAGE was made of, as large or 2 or 4 times smaller.", metavar="IMAGE", panel=COMPARE
        ),
    )
    reference: str | None = attrs.field(
        default=None,
        converter=expand_home,
        metadata=option("Clean image: PSNR, SSIM, MS-SSIM.", metavar="IMAGE", panel=COMPARE),
    )
    as_json: bool = attrs.field(
        default=False, metadata=option("Print the summary as JSON.", "--json", panel=SAYS)
    )
    verbose: bool = attrs.field(default=False, metadata=verbose_option(SAYS))
    quiet: bool = attrs.field(default=False, metadata=quiet_option(SAYS))


@attrs.frozen(kw_only=True)
class FitArguments:
    """What `bigrestore score fit-niqe` takes."""

    good: list[str] = attrs.field(
        converter=expand_home,
        metadata=argument("Sections whose tissue is as good as it should be.", "GOOD..."),
    )
    output: Path = attrs.field(
        converter=expand_home, metadata=option("Model to write, .npz.", "-o", "--output")
    )
    input_range: ValueRange | None = range_field("Values of black and white of GOOD.", INPUT)
    series: int | None = series_field(INPUT, "each GOOD")
    overwrite: bool = attrs.field(default=False, metadata=option("Replace what is there.", panel=SAYS))
    verbose: bool = attrs.field(default=False, metadata=verbose_option(SAYS))
    quiet: bool = attrs.field(default=False, metadata=quiet_option(SAYS))
