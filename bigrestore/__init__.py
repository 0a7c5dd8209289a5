"""bigrestore restores large brain-histology sections and volumes, blindly and tile by tile.

The public names are imported on first use, so that `import bigrestore` costs nothing and the command
line can answer `--help` without loading torch, zarr or dask.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from bigrestore.degrade.api import degrade
    from bigrestore.engine.api import restore
    from bigrestore.engine.scores.scoring import score
    from bigrestore.io.section import open_section
    from bigrestore.nn.checkpoint import load_model

_HOME = {
    "degrade": "bigrestore.degrade.api",
    "load_model": "bigrestore.nn.checkpoint",
    "open_section": "bigrestore.io.section",
    "restore": "bigrestore.engine.api",
    "score": "bigrestore.engine.scores.scoring",
}

__all__ = ["__version__", "degrade", "load_model", "open_section", "restore", "score"]


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'bigrestore' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
