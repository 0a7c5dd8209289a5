"""`bigrestore status OUTPUT`, `verify STORE` and `view OUTPUT`: the state of an output, and a look at it.

`status` reads the journal of a run, while it runs or after it. `verify` decodes every chunk and compares everything
stated twice. OME-Zarr 0.4 and TIFF hold no checksums: a flipped bit in them may decode without an error. It shows if a
level differs from the mean of the one before, or if the run's journal lies beside the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bigrestore.cli.from_settings import arguments_command
from bigrestore.cli.table import print_rows
from bigrestore.core.host.names import visible

if TYPE_CHECKING:
    from bigrestore.settings.looking import StatusArguments, VerifyArguments, ViewArguments


@arguments_command("StatusArguments")
def status(asked: StatusArguments) -> None:
    """Print how many blocks of a run are done, failed and background, how fast it is and how long it takes still.

    Exit codes: 0 for any run that was begun, 3 without one.
    """
    import json

    from bigrestore.cli.log import configure_logging
    from bigrestore.core.urls import local_path
    from bigrestore.run.view.status import run_status

    configure_logging(verbose=asked.verbose, quiet=False)
    progress = run_status(local_path(asked.output, "status"))
    if asked.as_json:
        typer.echo(json.dumps(progress.to_json(), indent=1))
    else:
        print_rows(progress.rows())


@arguments_command("VerifyArguments")
def verify(asked: VerifyArguments) -> None:
    """Decode every chunk of every level and check that scales, units and levels agree.

    Faults are listed, and the exit code is 6. Where the plan of the run lies beside the output, every file is compared
    with its checksum, and the metadata with what the run wrote; what --resume mends is said. OME-Zarr 0.4 and TIFF
    have no checksums: without the plan, a flipped bit that still decodes shows only as a level that differs from the
    mean of the one before.
    """
    import json

    import attrs

    from bigrestore.cli.log import configure_logging
    from bigrestore.core.urls import local_path
    from bigrestore.errors import CheckFailedError
    from bigrestore.run.state.checks import remedy, verify_output

    configure_logging(verbose=asked.verbose, quiet=False)
    place = local_path(asked.store, "verify")
    verified = verify_output(place)
    faults = verified.faults
    if asked.as_json:
        typer.echo(json.dumps({"store": asked.store} | attrs.asdict(verified), indent=1))
    elif faults:
        for fault in faults:
            typer.echo(
                visible(f"{fault.id}  {fault.location}: expected {fault.expected}, found {fault.actual}")
            )
    else:
        typer.echo(f"{visible(asked.store)}: no faults")
    if verified.unchecked and not asked.as_json:
        typer.echo(f"{visible(asked.store)}: {verified.unchecked}")
    if faults:
        raise CheckFailedError(
            f"{asked.store} has {len(faults)} fault(s), listed above; {remedy(place, faults)}."
        )


@arguments_command("ViewArguments")
def view(asked: ViewArguments) -> None:
    """Show an output, its maps and the input before it in the browser, until Ctrl-C or the terminal is closed.

    The page is served to browsers of this machine only, and needs the extra `view`. Its address is printed.
    """
    from bigrestore.cli.log import configure_logging
    from bigrestore.core.host.signals import ended_by_signal
    from bigrestore.io.store.display import section_name
    from bigrestore.io.viewer.images import shown_images
    from bigrestore.io.viewer.server import client_files, open_browser, serving_page

    configure_logging(verbose=asked.verbose, quiet=False)
    files = client_files()
    images = shown_images(asked.output, asked.before)
    title = section_name(asked.output)
    with ended_by_signal() as wait, serving_page(images, title, files, asked.port) as address:
        typer.echo(address)
        if asked.browser:
            open_browser(address)
        wait()
