"""`bigrestore verify STORE`: decode everything and list what is wrong.

Exit code 0 says that every chunk decodes and that everything stated twice agrees; 6 that something does not; 3
that there is nothing to verify. OME-Zarr 0.4 and TIFF hold no checksums, so that a flipped bit in them may decode
without an error; it then shows where the mean of some pixels is no longer that of the next level, or by the journal
of the run, where that lies beside the output.
"""

from __future__ import annotations

from typing import Annotated

import typer


def verify(
    store: Annotated[str, typer.Argument(help="An OME-Zarr store or a pyramidal TIFF.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the faults as JSON.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Debug log, tracebacks.")] = False,
) -> None:
    """Decode every chunk of every level and check that scales, units and levels agree.

    Faults are listed, and the exit code is 6. OME-Zarr 0.4 and TIFF have no checksums: a flipped bit that still
    decodes is found there where it makes a level differ from the mean of the one before, or where the journal of the
    run lies beside the output and noted another checksum.
    """
    import json

    import attrs

    from bigrestore.cli.log import configure_logging
    from bigrestore.core.urls import local_path
    from bigrestore.errors import CheckFailedError
    from bigrestore.io.store.verify import verify_store
    from bigrestore.run.state.journal_check import journal_faults, remedy

    configure_logging(verbose=verbose, quiet=False)
    place = local_path(store, "verify")
    faults = verify_store(place) + journal_faults(place)
    if as_json:
        listed = [attrs.asdict(fault) for fault in faults]
        typer.echo(json.dumps({"store": str(store), "faults": listed}, indent=1))
    elif faults:
        for fault in faults:
            typer.echo(f"{fault.id}  {fault.location}: expected {fault.expected}, found {fault.actual}")
    else:
        typer.echo(f"{store}: no faults")
    if faults:
        raise CheckFailedError(f"{store} has {len(faults)} fault(s), listed above; {remedy(place, faults)}.")
