"""`bigrestore status OUTPUT`: how far a run is, while it runs or after it."""

from __future__ import annotations

from typing import Annotated

import typer

from bigrestore.cli.table import print_rows


def status(
    output: Annotated[
        str, typer.Argument(help="The output that a run was told to write.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Debug log, tracebacks.")] = False,
) -> None:
    """Print how many blocks of a run are done, failed and background, how fast it is and how long it takes still.

    Exit codes: 0 for any run that was begun, 3 where there is none.
    """
    import json

    from bigrestore.cli.log import configure_logging
    from bigrestore.core.urls import local_path
    from bigrestore.run.view.status import run_status

    configure_logging(verbose=verbose, quiet=False)
    found = run_status(local_path(output, "status"))
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=1))
    else:
        print_rows(found.rows())
