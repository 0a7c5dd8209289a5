"""The windows that a section is judged by: also where it is narrower than one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from bigrestore.io.open_section import open_section
from bigrestore.model.method import WINDOW_PX, SectionStatistics
from bigrestore.model.methods.interpolate import InterpolateMethod
from bigrestore.model.registry import create_method
from bigrestore.run.profile.section_profile import profile_section
from bigrestore.settings import RunSettings

SAMPLE = Path(__file__).parents[2] / "examples/section.png"


@pytest.mark.parametrize(
    ("height", "width", "count"), [(118, 500, 3), (500, 118, 3), (40, 40, 1), (300, 300, 4)]
)
def test_a_strip_is_judged_along_its_whole_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int, width: int, count: int
) -> None:
    """A strip lower than a window was judged by its first window alone."""
    grey = np.random.default_rng(0).integers(60, 200, (height, width), np.uint8)
    Image.fromarray(grey).save(tmp_path / "strip.png")
    seen: list[NDArray[np.float32]] = []
    analyse = InterpolateMethod.analyse

    def watched(method: InterpolateMethod, windows: NDArray[np.float32]) -> SectionStatistics:
        seen.append(windows)
        return analyse(method, windows)

    monkeypatch.setattr(InterpolateMethod, "analyse", watched)
    section = open_section(tmp_path / "strip.png")
    profile = profile_section(section, 0, InterpolateMethod("catmull-rom", 1))
    assert seen[0].shape == (count, WINDOW_PX, WINDOW_PX)
    assert profile.windows == count
    last = seen[0][-1]
    y, x = (side - side % WINDOW_PX - (WINDOW_PX if side >= WINDOW_PX else 0) for side in (height, width))
    inside = grey[y : y + WINDOW_PX, x : x + WINDOW_PX] / np.float32(255)
    np.testing.assert_allclose(last[: inside.shape[0], : inside.shape[1]], inside, atol=1e-6)


@pytest.mark.parametrize("thin", [1, 2, 4, 8, 9])
@pytest.mark.parametrize("lying", [True, False])
def test_a_strip_thinner_than_a_jpeg_block_is_not_read_as_jpeg_or_as_blurred(
    tmp_path: Path, thin: int, lying: bool
) -> None:
    grey = np.asarray(Image.open(SAMPLE).convert("L"))[100 : 100 + thin]
    Image.fromarray(grey if lying else grey.T).save(tmp_path / "strip.png")
    profile = profile_section(open_section(tmp_path / "strip.png"), 0, create_method(RunSettings()))
    read = profile.statistics.details
    assert profile.windows == (3 if thin == 9 else 0)
    assert read.get("jpeg_quality", 0) == 0
    assert thin < 9 or 0.5 < read["sigma_px"] < 1.5  # of the whole sample it is 1.04
