"""A web server of a folder on this machine, for every test of remote input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Behaviour, serving

from bigrestore.io.access import remote_requests


@pytest.fixture
def behaviour(monkeypatch: pytest.MonkeyPatch) -> Behaviour:
    monkeypatch.setattr(remote_requests, "REQUEST_WAITS_SECONDS", (0.01, 0.01))
    return Behaviour()


@pytest.fixture
def server(tmp_path: Path, behaviour: Behaviour) -> Iterator[str]:
    with serving(tmp_path, behaviour) as url:
        yield url
