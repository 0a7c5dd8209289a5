"""The judges that ship, on images that no training saw; skipped where none ships yet, or without real images."""

from __future__ import annotations

import os

import numpy as np
import pytest

from bigrestore.model.likelihood import Likelihood
from bigrestore.model.nets.parts.part import load_part, shipped_parts
from tests.bench.judges import WINDOWED_PX, cut_windows, likelihood_figures, of_one_size, ranking_figures
from tests.bench.material import validation_images

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("BIGRESTORE_DATA"), reason="BIGRESTORE_DATA is not set"),
]


@pytest.fixture(scope="module")
def likelihood() -> dict[str, float]:
    if "likelihood-x1" not in shipped_parts():
        pytest.skip("no likelihood ships")
    return likelihood_figures(Likelihood.load(1), of_one_size(validation_images(144))[:8])


def test_the_truth_is_likely_and_another_image_is_not(likelihood: dict[str, float]) -> None:
    assert likelihood["paired"] < likelihood["floor"] + 0.5
    assert likelihood["unpaired_alone"] - likelihood["paired_alone"] >= 3
    # With the pixels before one in view an input explains itself after a few of them: it costs less than 3 bits.
    assert likelihood["unpaired"] - likelihood["paired"] >= 1.5
    assert likelihood["shifted"] > likelihood["paired"] + 0.5


def test_cells_that_were_invented_are_marked_and_the_truth_is_not(likelihood: dict[str, float]) -> None:
    assert likelihood["auc"] >= 0.95
    assert likelihood["false"] < 0.005


def test_sharpness_is_not_ranked(likelihood: dict[str, float]) -> None:
    """A score that cannot tell these apart must not be used to choose among restorations."""
    assert likelihood["soft"] < likelihood["paired"] + 0.5
    assert likelihood["unrestored"] < likelihood["paired"] + 0.5


def test_neighbouring_levels_are_in_order_also_those_of_other_programs() -> None:
    if "ranking-x1" not in shipped_parts():
        pytest.skip("no ranking ships")
    order = ranking_figures(load_part("ranking", 1).network, cut_windows(validation_images(WINDOWED_PX)))
    assert {"jpeg by Pillow", "blur by SciPy", "invented"} < order.keys()
    for name, (neighbours, two_apart) in order.items():
        assert neighbours >= 0.9, name
        assert two_apart >= 0.9, name
    # Ringing on soft tissue, which it takes for sharpness at times, and two others stay below 0.97 by themselves.
    assert np.mean([two_apart for _, two_apart in order.values()]) >= 0.97
