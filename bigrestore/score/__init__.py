"""Scores of tiles: what can be said of an image without a reference, what that leaves out, and the page of both.

`bigrestore.score` is a package and, for who calls it, a function too: Python binds the package to that name
as soon as anything in it is imported, so the package itself can be called and does what
`bigrestore.engine.scores.scoring.score` does.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package that can be called like its main function."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Score an image, a pair or an image with a reference; see `bigrestore.engine.scores.scoring.score`."""
        from bigrestore.engine.scores.scoring import score

        return score(*args, **options)


sys.modules[__name__].__class__ = _CallablePackage
