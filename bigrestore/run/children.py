"""Starting processes of this package without modules of the current folder.

`python -m` puts the current folder first on the path of modules, and the data lie there: a `json.py` among them would
run in every process. So Python is started by `-P`, without that folder. An empty entry of PYTHONPATH means the same
folder and is dropped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import bigrestore

SAFE_PATH = "PYTHONSAFEPATH"
"""Environment variable that does what `-P` does, in every Python that is started further on."""


def python_command(module: str) -> list[str]:
    """Return the command to run a module of this package in a new process."""
    return [sys.executable, "-P", "-m", module]


def python_environment(further: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of such a process: this one's, with this package first on the path of modules.

    Parameters
    ----------
    further : mapping, optional
        Variables that the process has besides.
    """
    home = str(Path(bigrestore.__file__).resolve().parents[1])
    paths = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), SAFE_PATH: "1", **(further or {})}
