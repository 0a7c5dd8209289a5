"""`bigrestore score IMAGE`: scores and a page of them for any image; `bigrestore score fit-niqe`: a NIQE model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bigrestore.cli.table import print_rows

COMPARE, HOW, SAYS = "What it is compared with", "How", "What is said"
FIT_NAME = "score fit-niqe"
"""The second command, registered under both words."""


def _option(help_text: str, *names: str, metavar: str | None = None, panel: str | None = None) -> Any:
    # Rich reads square brackets as markup and would swallow the defaults that stand in them.
    text = help_text.replace("[", "\\[")
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel=panel, show_default=False)


Range = tuple[str, str] | None
Image = Annotated[
    str, typer.Argument(metavar="IMAGE", help="File, store, folder or pattern of section files.")
]
Output = Annotated[Path, _option("Folder for report.html, summary.json and tiles.parquet.", "--output", "-o")]
Before = Annotated[
    str | None,
    _option("What IMAGE was made of, as large or 2 or 4 times smaller.", metavar="IMAGE", panel=COMPARE),
]
Reference = Annotated[
    str | None, _option("Clean image: PSNR, SSIM, MS-SSIM.", metavar="IMAGE", panel=COMPARE)
]
BeforeRange = Annotated[
    Range, _option("Values of black and white before.", metavar="LO HI|full", panel=COMPARE)
]
ReferenceRange = Annotated[
    Range, _option("Values of black and white of the reference.", metavar="LO HI|full", panel=COMPARE)
]
AnyPlacement = Annotated[
    bool, _option("Compare though voxel sizes or offsets differ.", "--any-placement", panel=COMPARE)
]
Engine = Annotated[str | None, _option("native or pyiqa.  [native]", panel=HOW)]
Metrics = Annotated[
    str | None, _option("Names with commas.  [brisque,niqe,piqe]", metavar="NAME,...", panel=HOW)
]
NiqeModel = Annotated[Path | None, _option("NIQE model of score fit-niqe.", metavar="FILE", panel=HOW)]
TileSize = Annotated[int | None, _option("Side of a tile, a multiple of 96.  [480]", metavar="PX", panel=HOW)]
Sample = Annotated[
    int | None, _option("Score so many tiles, drawn over the tissue.  [all]", metavar="N", panel=HOW)
]
Seed = Annotated[int | None, _option("Seed of the sample.  [0]", panel=HOW)]
Level = Annotated[int | None, _option("Pyramid level of IMAGE.  [0]", panel=HOW)]
VoxelSize = Annotated[str | None, _option("Micrometres of IMAGE: SIZE, Y,X or Z,Y,X.", panel=HOW)]
InputRange = Annotated[Range, _option("Values of black and white of IMAGE.", metavar="LO HI|full", panel=HOW)]
StorageOptions = Annotated[
    str | None,
    _option("JSON object, or @FILE: keys and endpoints of a URL.", metavar="JSON", panel=HOW),
]
Threads = Annotated[int | None, _option("Tiles at work.  [processors at hand]", panel=HOW)]
FailIf = Annotated[
    str | None,
    _option("Exit 6 where true, e.g. 'niqe.median > niqe_before.median'.", metavar="EXPR", panel=SAYS),
]
Csv = Annotated[bool, _option("Write tiles.csv, too.", "--csv", panel=SAYS)]
Overwrite = Annotated[bool, _option("Replace what is there.", "--overwrite", panel=SAYS)]
AsJson = Annotated[bool, _option("Print the summary as JSON.", "--json", panel=SAYS)]
Progress = Annotated[str | None, _option("auto, bar, lines or none.  [auto]", panel=SAYS)]
LogFormat = Annotated[str | None, _option("text or json.  [text]", panel=SAYS)]
Verbose = Annotated[bool, _option("Debug log, tracebacks.", "-v", "--verbose", panel=SAYS)]
Quiet = Annotated[bool, _option("Warnings and errors only.", "-q", "--quiet", panel=SAYS)]
Good = Annotated[
    list[str], typer.Argument(metavar="GOOD...", help="Sections whose tissue is as good as it should be.")
]
ModelFile = Annotated[Path, _option("Model to write, .npz.", "--output", "-o")]


def score(
    image: Image,
    output: Output,
    before: Before = None,
    reference: Reference = None,
    before_range: BeforeRange = None,
    reference_range: ReferenceRange = None,
    any_placement: AnyPlacement = False,
    engine: Engine = None,
    metrics: Metrics = None,
    niqe_model: NiqeModel = None,
    tile_size: TileSize = None,
    sample: Sample = None,
    seed: Seed = None,
    level: Level = None,
    voxel_size: VoxelSize = None,
    input_range: InputRange = None,
    storage_options: StorageOptions = None,
    threads: Threads = None,
    fail_if: FailIf = None,
    csv: Csv = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    progress: Progress = None,
    log_format: LogFormat = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Score IMAGE tile by tile, alone, against what it was made of, or against a clean reference.

    The scores (BRISQUE, NIQE, PIQE: lower is better) were trained on photographs: use them for the same field before
    and after. A NIQE model of your own good histology is made by `bigrestore score fit-niqe`.

    Exit codes: 0 done, 2 usage or images that cannot be compared, 3 input, 4 output refused, 6 --fail-if is true.
    """
    beside = {"image", "output", "before", "reference", "as_json", "verbose", "quiet"}
    flags = {name: value for name, value in locals().items() if name not in beside and name != "beside"}
    from bigrestore.cli.log import asked_format, configure_logging
    from bigrestore.settings import ScoreSettings

    flags["log_format"] = log_format or asked_format()
    given = {name: value for name, value in flags.items() if value is not None}
    settings = ScoreSettings.from_mapping(given, "The command line")
    configure_logging(verbose=verbose, quiet=quiet, log_format=settings.log_format)
    from bigrestore.report.of_images import execute_score

    found = execute_score(image, output, settings, before=before, reference=reference)
    if as_json:
        import json

        typer.echo(json.dumps(found.summary, indent=1))
    elif not quiet:
        print_rows(found.rows())
    found.raise_if_failed()


def fit_niqe(
    good: Good,
    output: ModelFile,
    input_range: InputRange = None,
    overwrite: Overwrite = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Fit a NIQE model to sections that are GOOD, for `--niqe-model`.

    By the recipe of NIQE's authors: blocks of 96 pixels whose mean local contrast exceeds three quarters of the
    section's largest.
    """
    from bigrestore.cli.log import configure_logging

    configure_logging(verbose=verbose, quiet=quiet)
    from bigrestore.report.fit import fit_niqe_model
    from bigrestore.settings import ScoreSettings

    stated = ScoreSettings.from_mapping({"input_range": input_range}, "The command line").input_range
    model = fit_niqe_model(good, output, input_range=stated, overwrite=overwrite)
    if not quiet:
        facts = [(name.replace("_", " "), str(value)) for name, value in model.facts.items()]
        print_rows([("model", str(output)), ("sha256", model.sha256), *facts])
