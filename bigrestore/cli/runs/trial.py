"""`bigrestore try`: one crop under several settings, on one sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bigrestore.cli.from_settings import Fields, GivenFlags, Part, command
from bigrestore.cli.table import note_output, print_rows

if TYPE_CHECKING:
    from pathlib import Path

    from bigrestore.settings.run import RunSettings
    from bigrestore.settings.trial import TryArguments


def _try_fields() -> Fields[TryArguments]:
    from bigrestore.settings.run import RunSettings
    from bigrestore.settings.trial import TRY_SETTINGS, TryArguments

    return Fields(TryArguments, Part(RunSettings, only=TRY_SETTINGS))


@command(_try_fields)
def try_command(asked: TryArguments, given: GivenFlags) -> None:
    """Restore one crop of INPUT under several settings, score it, and lay it out on one sheet.

    Each combination of --realness, --method, --blur and --sharpened is a variant. Without --roi the crop is the
    liveliest 512 px of the middle section.
    """
    import json

    from bigrestore.cli.log import asked_format, configure_logging
    from bigrestore.settings.run import RunSettings

    configure_logging(verbose=asked.verbose, quiet=not asked.verbose)
    settings = RunSettings.resolve(given, None)
    sheet = _sheet_path(asked)
    from bigrestore.run.view.progress import make_progress, phase_shown

    shown = make_progress("none" if asked.quiet else "auto", asked_format() or "text")
    with phase_shown(shown, "start-up"):  # imports take seconds
        from bigrestore.trial import carry_out_trial

        _require_sheet_place(sheet, asked, settings)
        made = carry_out_trial(asked.input, settings, asked, shown)
    made.save(sheet)
    note_output(sheet)
    if asked.as_json:
        typer.echo(json.dumps(made.to_json() | {"sheet": str(sheet)}, indent=1))
    elif not asked.quiet:
        print_rows([*made.rows(), ("sheet", str(sheet))])


def _sheet_path(asked: TryArguments) -> Path:
    """Return the file of the sheet: as asked for, or named after the input, in the current folder."""
    from pathlib import Path

    from bigrestore.core.urls import without_secrets
    from bigrestore.io.store.display import section_name

    if asked.output is not None:
        return asked.output
    return Path(f"{section_name(without_secrets(asked.input).split('?')[0])}-try.png")


def _require_sheet_place(sheet: Path, asked: TryArguments, settings: RunSettings) -> None:
    """Refuse a place that cannot be written, or holds an input or a picture of another program."""
    from pathlib import Path

    from bigrestore.core.files import is_picture_of
    from bigrestore.errors import OutputError, OutputExistsError
    from bigrestore.report.page.contact_sheet import SHEET_SOFTWARE
    from bigrestore.run.output.place import check_place, require_writable

    read = {"model": settings.model, "kernel": settings.kernel}
    others = {what: [Path(path)] for what, path in read.items() if path is not None and Path(path).exists()}
    check_place(sheet, [Path(asked.input)] if Path(asked.input).exists() else [], others)
    if not sheet.parent.is_dir():
        raise OutputError(
            f"The sheet {sheet} cannot be written, as there is no folder {sheet.parent}; make it, or choose another place."
        )
    if sheet.exists() and not is_picture_of(sheet, SHEET_SOFTWARE):
        raise OutputExistsError(
            f"The sheet would replace {sheet}, which is no sheet of `bigrestore try`; give another name by -o."
        )
    require_writable(sheet)
