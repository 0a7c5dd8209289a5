"""bigrestore restores large brain-histology sections and volumes, blindly and tile by tile.

The public names are imported on first use, so that `import bigrestore` costs nothing and the command
line can answer `--help` without loading torch, zarr or dask.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from bigrestore._version import __version__

if TYPE_CHECKING:
    from bigrestore.api import restore
    from bigrestore.degradation.api import degrade
    from bigrestore.io.open_section import open_section
    from bigrestore.model.nets.checkpoint import load_model
    from bigrestore.report.of_images import score
    from bigrestore.trial import try_variants

_HOME = {
    "degrade": "bigrestore.degradation.api",
    "load_model": "bigrestore.model.nets.checkpoint",
    "open_section": "bigrestore.io.open_section",
    "restore": "bigrestore.api",
    "score": "bigrestore.report.of_images",
    "try_variants": "bigrestore.trial",
}

__all__ = ["__version__", "degrade", "load_model", "open_section", "restore", "score", "try_variants"]


def __getattr__(name: str) -> object:
    """Import a public function from its home on first use; its errors show no frames of the package."""
    if name in _HOME:
        from bigrestore.errors import without_frames

        function = without_frames(getattr(importlib.import_module(_HOME[name]), name))
        function.__module__ = __name__  # it is pickled by this name
        globals()[name] = function
        return function
    raise AttributeError(f"module 'bigrestore' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
