"""`bigrestore doctor`: whether this machine can do a run, and remedies if not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bigrestore.cli.from_settings import arguments_command
from bigrestore.cli.table import print_rows

if TYPE_CHECKING:
    from bigrestore.settings.looking import DoctorArguments


@arguments_command("DoctorArguments")
def doctor(asked: DoctorArguments) -> None:
    """Print versions, device, memory, disks and their speed, and restore one tile.

    Exit codes: 0 if a run would work, hints or not; 6 if it would not; 2 if the folder is none.
    """
    import json
    import logging

    import attrs

    from bigrestore.cli.log import configure_logging
    from bigrestore.errors import CheckFailedError, UsageError
    from bigrestore.run.view.doctor import examine

    configure_logging(verbose=asked.verbose, quiet=True)
    folder = asked.folder
    if not folder.is_dir():
        raise UsageError(f"--folder is {str(folder)!r}, which is no folder; name one that exists.")
    logging.getLogger(__name__).debug("Examining this machine, outputs in %s.", folder)
    findings = list(examine(folder.resolve()))
    if asked.as_json:
        typer.echo(json.dumps([attrs.asdict(finding) for finding in findings], indent=1))
    else:
        print_rows(
            (finding.name, f"{finding.verdict:5} {finding.value}" + (f" ({remedy})" if remedy else ""))
            for finding in findings
            for remedy in [finding.way_out]
        )
    faults = [finding for finding in findings if finding.verdict == "fault"]
    if faults:
        raise CheckFailedError(
            f"{len(faults)} check(s) failed, first {faults[0].name}: {faults[0].value.rstrip('.')}; mend it and "
            "start bigrestore doctor again."
        )
