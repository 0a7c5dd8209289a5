"""The commands that open what a run wrote, printed at its end."""

from __future__ import annotations

import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from bigrestore.run.view.summary import RunSummary


def opening_rows(source: str, summary: RunSummary) -> list[tuple[str, str]]:
    """Return at most three commands that open the output, its input or its report; none for a part of a run.

    Parameters
    ----------
    source : str
        The input as it was given.
    summary : RunSummary
        Of the run.
    """
    if not (summary.blocks_done or summary.blocks_empty) or summary.part not in ("", "finalize"):
        return []
    output = str(summary.output)
    install = "" if find_spec("neuroglancer") else "pip install 'bigrestore[view]' && "
    commands = [install + shlex.join(["bigrestore", "view", output, "--before", source])]
    if output.lower().endswith(".zarr") or not Path(output).suffix:
        commands.append(f"{shlex.join(['napari', output])}  # needs napari-ome-zarr")
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    if summary.report.folder and shutil.which(opener):
        commands.append(shlex.join([opener, f"{summary.report.folder}/report.html"]))
    return [("open it", command) for command in commands]
