"""What every test needs: the logger as it was before."""

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
