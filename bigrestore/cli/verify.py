"""`bigrestore verify STORE`: decode everything and list what is wrong.

Exit code 0 says that every chunk decodes and that everything stated twice agrees; 6 that something does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    store: Annotated[Path, typer.Argument(help="An OME-Zarr store or a pyramidal TIFF.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the faults as JSON.")] = False,
) -> None:
    """Decode every chunk of every level and check that scales, units and levels agree.

    Faults are listed, and the exit code is 6.
    """
    import json

    import attrs
    from rich.console import Console

    from bigrestore.errors import CheckFailedError
    from bigrestore.io.verify import verify_store

    faults = verify_store(store)
    console = Console()
    if as_json:
        console.print_json(
            json.dumps({"store": str(store), "faults": [attrs.asdict(fault) for fault in faults]})
        )
    elif faults:
        for fault in faults:
            line = f"{fault.id}  {fault.location}: expected {fault.expected}, found {fault.actual}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(f"{store}: no faults", markup=False, highlight=False, soft_wrap=True)
    if faults:
        raise CheckFailedError(
            f"{store} has {len(faults)} fault(s), listed above; write it again from its source."
        )
