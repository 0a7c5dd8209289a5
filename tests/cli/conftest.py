"""The command line, called in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from bigrestore.cli import app as app_module


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Give a function that runs the command line on some arguments and returns its exit code."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["bigrestore", *map(str, arguments)])
        with pytest.raises(SystemExit) as info:
            app_module.main()
        code = info.value.code
        return code if isinstance(code, int) else 0

    return run
