"""What tests of every room need: the logger as it was before, and the command line called in this process."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator

import pytest

from bigrestore.cli import app as app_module


@pytest.fixture(autouse=True)
def no_log_left_behind() -> Iterator[None]:
    yield
    logger = logging.getLogger("bigrestore")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


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
