"""The degradation model: from a clean section to what a worn, blurred, noisy scan of it would look like.

`bigrestore.degrade` is a package and, for who calls it, a function too: Python binds the package to that
name as soon as anything in it is imported, so the package itself can be called and does what
`bigrestore.degrade.api.degrade` does.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package that can be called like its main function."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Make synthetic pairs; see `bigrestore.degrade.api.degrade`."""
        from bigrestore.degrade.api import degrade

        return degrade(*args, **options)


sys.modules[__name__].__class__ = _CallablePackage
