"""What every test of training needs: a command that was called leaves no log handler behind for the next test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_log_left_behind() -> Iterator[None]:
    yield
    logger = logging.getLogger("bigrestore")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
