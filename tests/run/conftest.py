"""Real tissue for the engine's tests."""

from __future__ import annotations

import numpy as np
import pytest
from engine_toys import QuickScores
from skimage import data

from bigrestore.report.table.tiles import EngineSpec


@pytest.fixture
def quick_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the scores, which take half of the time of a run with a report."""
    monkeypatch.setattr(EngineSpec, "create", lambda self: QuickScores())


@pytest.fixture
def quick_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the page of a report, whose pictures and figures take most of a second."""
    monkeypatch.setattr("bigrestore.report.table.write.build_page", lambda *_: "<html></html>")


@pytest.fixture(scope="session")
def rgb() -> np.ndarray:
    return np.asarray(data.immunohistochemistry())


@pytest.fixture(scope="session")
def tissue(rgb: np.ndarray) -> np.ndarray:
    """Real tissue, 700 x 1030 pixels, uint8: larger than two blocks of 480 and no multiple of anything."""
    grey = np.rint(rgb @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return np.pad(grey, [(0, 188), (0, 518)], mode="reflect")
