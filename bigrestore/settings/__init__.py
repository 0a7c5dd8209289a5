"""Settings said once: one attrs class per command, one field per option.

A field carries type, default, help, panel, metavar, converter and check. From it are made the option of the command
line (`bigrestore.cli.from_settings`), the name in a TOML file, and the keyword of Python. To add an option to
`restore`, add one field to `RunSettings` and one line to `RunKeywords`, its type as Python gives it.

This package imports neither torch, numpy, zarr nor dask, to keep `--help` fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bigrestore.settings.degrade import DegradeSettings
    from bigrestore.settings.keywords import (
        ArrayKeywords,
        DegradeKeywords,
        RunKeywords,
        ScoreKeywords,
        TryKeywords,
    )
    from bigrestore.settings.run import RunSettings
    from bigrestore.settings.score import ScoreSettings

_MODULES = {
    "ArrayKeywords": "keywords",
    "DegradeKeywords": "keywords",
    "DegradeSettings": "degrade",
    "RunKeywords": "keywords",
    "RunSettings": "run",
    "ScoreKeywords": "keywords",
    "ScoreSettings": "score",
    "TryKeywords": "keywords",
}

__all__ = [
    "ArrayKeywords",
    "DegradeKeywords",
    "DegradeSettings",
    "RunKeywords",
    "RunSettings",
    "ScoreKeywords",
    "ScoreSettings",
    "TryKeywords",
]


def __getattr__(name: str) -> object:
    """Import a settings class on first use: one command needs one of them."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"bigrestore.settings.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'bigrestore.settings' has no attribute {name!r}")
